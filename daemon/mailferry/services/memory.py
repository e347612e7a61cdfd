"""What the process keeps in mind about a maildrop from one poll to the next.

Nothing here is needed to lose no mail; it keeps one bad message from holding up the
others, and a session that breaks off in the middle of a long comparison from making the
next one begin anew. A new start of the daemon forgets it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mailferry.model import ListedMessage, Uidl
from mailferry.policy.backoff import FETCH_BACKOFF, is_due
from mailferry.policy.fingerprint import Fingerprint

MAX_SEEN = 100_000
"""Fingerprints that are kept for the next poll: about 30 MB, and only after a broken session."""
MAX_TROUBLES = 1_000

TroubleKey = Uidl | tuple[int, int]
"""A unique-id; without one, the size and which of the messages of that size it is."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """How often a message broke its session, and when it may be asked for again."""

    failures: int
    not_before: float


@dataclass(slots=True)
class PollMemory:
    """One maildrop's; hand the same to each of its polls."""

    seen: dict[Uidl, tuple[int, Fingerprint]] = field(default_factory=dict)
    """Sizes and fingerprints of listed messages, while a comparison has not come to its end."""
    troubles: dict[TroubleKey, Trouble] = field(default_factory=dict)
    told_expire_days: int | None = None
    """The server's EXPIRE of which it was told that it is too short."""
    left_out: bool = False
    """The last poll left out what may break its session, and had no second session for it."""

    def hurry(self, now: float) -> int:
        """Let messages that broke their session be due; how often they did still counts. Returns how many waited."""
        waiting = {key: each for key, each in self.troubles.items() if each.not_before > now}
        self.troubles.update((key, Trouble(each.failures, 0.0)) for key, each in waiting.items())
        return len(waiting)

    def keep_seen(self, listed: ListedMessage, seen: Fingerprint) -> None:
        """Keep what was seen of a message, if that can be found again."""
        if listed.uidl is not None and len(self.seen) < MAX_SEEN:
            self.seen[listed.uidl] = (listed.size_octets, seen)

    def seen_before(self, listed: ListedMessage, *, whole: bool) -> Fingerprint | None:
        """Return what was seen of a message in a session that broke off."""
        if listed.uidl is None:
            return None
        size_octets, seen = self.seen.get(listed.uidl, (0, None))
        fits = seen is not None and size_octets == listed.size_octets and (seen.content or not whole)
        return seen if fits else None


class Troubles:
    """The troubles of the messages of one listing."""

    def __init__(self, memory: PollMemory, messages: Sequence[ListedMessage]) -> None:
        self._memory = memory
        self._messages = messages
        self._keys: dict[int, TroubleKey] = {}
        self.by_number: Mapping[int, Trouble] = self._find() if memory.troubles else {}

    @property
    def failures(self) -> dict[int, int]:
        """How often messages broke their session, by message number."""
        return {number: trouble.failures for number, trouble in self.by_number.items()}

    def not_due(self, now: float) -> set[int]:
        """Return the numbers of those that are not to be asked for yet."""
        return {
            number
            for number, trouble in self.by_number.items()
            if not is_due(trouble.not_before, now, FETCH_BACKOFF)
        }

    def blame(self, message_number: int, now: float, chance: float) -> Trouble | None:
        """Take note that a message broke its session; None when there is no more room."""
        key = self._key_of(message_number)
        troubles = self._memory.troubles
        if key is None or (key not in troubles and len(troubles) >= MAX_TROUBLES):
            return None
        failures = troubles[key].failures + 1 if key in troubles else 1
        trouble = Trouble(failures, now + FETCH_BACKOFF.pause_seconds(failures, chance))
        troubles[key] = trouble
        return trouble

    def forgive(self, message_number: int) -> None:
        """A message came through after all, or a row remembers it from now on."""
        if self._memory.troubles:
            key = self._key_of(message_number)
            if key is not None:
                self._memory.troubles.pop(key, None)

    def _find(self) -> dict[int, Trouble]:
        """Find the troubles of this listing and forget all others."""
        found = {
            number: (key, trouble)
            for number, key in self._all_keys().items()
            if (trouble := self._memory.troubles.get(key)) is not None
        }
        self._memory.troubles = dict(found.values())
        return {number: trouble for number, (_, trouble) in found.items()}

    def _key_of(self, message_number: int) -> TroubleKey | None:
        return self._all_keys().get(message_number)

    def _all_keys(self) -> dict[int, TroubleKey]:
        if not self._keys:
            self._keys = dict(_keys(self._messages))
        return self._keys


def _keys(messages: Iterable[ListedMessage]) -> Iterable[tuple[int, TroubleKey]]:
    occurrences: dict[int, int] = {}
    for message in messages:
        if message.uidl is not None:
            yield message.message_number, message.uidl
        else:
            occurrences[message.size_octets] = occurrences.get(message.size_octets, 0) + 1
            yield message.message_number, (message.size_octets, occurrences[message.size_octets])
