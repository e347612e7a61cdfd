"""The UIDL guard: which listed message is which, when unique-ids cannot be trusted.

A unique-id ought to name one message for as long as it exists (RFC 1939 s.7). But
servers give all of them anew (a move to other software, a restored backup), use message
numbers for them, give one to several messages, or have none, for once or for ever. Then
old messages look new, or new ones old. The guard finds out before anything is delivered
or deleted, by asking for what tells: headers (TOP) first, contents (RETR) where a header
cannot tell or be had.

In the common case, where every known message is listed with its size and the rest is
new to an otherwise known maildrop, it asks for nothing.

`judge` is a generator: it yields what to look at, and is sent what was seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mailferry.model import (
    KnownMessage,
    ListedMessage,
    MessageId,
    MessageRecord,
    MessageState,
    Uidl,
)
from mailferry.policy.fingerprint import Fingerprint, Pool, is_same
from mailferry.policy.plan import FetchOrder, Identified, identity_from_digest
from mailferry.policy.vanishing import Circumstances, after_vanishing, in_sight_again


@dataclass(frozen=True, slots=True)
class Look:
    """Something to be asked for: a message's header, or the whole of it."""

    listed: ListedMessage
    whole: bool


Seen = Mapping[int, Fingerprint]
"""Fingerprints by message number; what could not be had is not in it."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What can be looked at.

    Attributes:
        has_top: whether the server shows headers alone.
        max_size_octets: what is listed larger is not fetched; 0 for no limit.
        avoid: message numbers that are not to be asked for (they broke a session).
        may_fetch: whether contents may be fetched at all.
    """

    has_top: bool
    max_size_octets: int = 0
    avoid: Collection[int] = frozenset()
    may_fetch: bool = True

    def first_look(self, listed: ListedMessage) -> list[Look]:
        """Return the cheapest look at a message that there is, if any."""
        if self.has_top and listed.message_number not in self.avoid:
            return [Look(listed, whole=False)]
        return self.full_look(listed)

    def full_look(self, listed: ListedMessage) -> list[Look]:
        """Return a look at the content, if it may be fetched."""
        too_large = 0 < self.max_size_octets < listed.size_octets
        forbidden = too_large or not self.may_fetch or listed.message_number in self.avoid
        return [] if forbidden else [Look(listed, whole=True)]


@dataclass(slots=True)
class Verdict:
    """What the guard found.

    Attributes:
        identified: listed messages whose identity is clear, in listing order.
        unidentified: without a usable unique-id and not looked at.
        held: listed under a known unique-id, and perhaps another message: to be left alone.
        known: what the ledger will know once `adopted` is written, by unique-id.
        adopted: rows to be written before anything else is done; unique-ids change hands.
        vanished: rows of messages that are not listed, where they changed.
        recognised: messages now listed under another unique-id than before, or shown
            again after they were missing: the present and the former identity.
        renamed: how many of these have another unique-id of the server's.
        unrecognised: how many known messages are not listed, under whatever unique-id.
    """

    identified: list[Identified] = field(default_factory=list)
    unidentified: list[ListedMessage] = field(default_factory=list)
    held: list[ListedMessage] = field(default_factory=list)
    known: Mapping[Uidl, KnownMessage] = field(default_factory=dict)
    adopted: list[MessageRecord] = field(default_factory=list)
    vanished: list[MessageRecord] = field(default_factory=list)
    recognised: list[tuple[Uidl, Uidl]] = field(default_factory=list)
    renamed: int = 0
    unrecognised: int = 0


class Names:
    """Makes identities for messages without a usable unique-id, none of them twice."""

    def __init__(self, taken: Collection[Uidl]) -> None:
        self._taken = taken
        self._made: Counter[bytes] = Counter()

    def make(self, digest: bytes) -> Uidl:
        """Return a new identity for a message with this digest."""
        while True:
            self._made[digest] += 1
            uidl = identity_from_digest(digest, self._made[digest])
            if uidl not in self._taken:
                return uidl


def is_made(uidl: Uidl) -> bool:
    """Whether an identity is of our making rather than the server's."""
    return uidl.startswith(b" ")


class UidlGuard:
    """Judges one listing: run `judge` to its end, then ask for the `verdict`."""

    def __init__(
        self, messages: Sequence[ListedMessage], known: Mapping[Uidl, KnownMessage], abilities: Abilities
    ) -> None:
        self.pool = Pool()
        """Known messages that are not listed, as far as nobody has claimed them."""
        self.names = Names(known)
        self._known = known
        self._abilities = abilities
        self._sure: list[Identified] = []
        self._confirmed: list[Identified] = []
        self._doubtful: list[Identified] = []
        self._fresh: list[ListedMessage] = []
        self._held: list[ListedMessage] = []
        self._displaced: dict[MessageId, KnownMessage] = {}
        self._listed_uidls: set[Uidl] = set()
        self._seen: dict[int, Fingerprint] = {}
        self._shows_something = bool(messages)
        self._left_open = False
        self._sort(messages)

    def _sort(self, messages: Sequence[ListedMessage]) -> None:
        """Tell apart what is known for sure, what is known but doubtful, and what is fresh."""
        # RFC 1939 s.7 lets two identical copies share one unique-id, and some servers
        # give one to different messages: a repeated one identifies nothing.
        count = Counter(message.uidl for message in messages)
        if len(count) == len(messages):
            usable = {uidl for uidl in count if uidl is not None}
        else:
            usable = {uidl for uidl, number in count.items() if uidl is not None and number == 1}
        self._listed_uidls = usable
        self._unlisted = [entry for uidl, entry in self._known.items() if uidl not in usable]
        made_sizes = {row.message.size_octets for row in self._unlisted if is_made(row.message.uidl)}
        for message in messages:
            uidl = message.uidl
            entry = self._known.get(uidl) if uidl is not None and uidl in usable else None
            if uidl is None or entry is None:
                self._fresh.append(message)
            elif _is_doubtful(entry.message, message.size_octets, made_sizes):
                self._doubtful.append(Identified(message, uidl))
            else:
                self._sure.append(Identified(message, uidl))

    # What to look at

    def judge(self) -> Generator[list[Look], Seen, None]:
        """Yield what to look at and be sent what was seen, until all is clear that can be."""
        yield from self._confirm(self._doubtful, lenient=False)
        if self._displaced:
            # These unique-ids do not hold what they promise: equal sizes prove nothing either.
            trusted, self._sure = self._sure, []
            yield from self._confirm(trusted, lenient=True)
        self.pool = Pool([*self._unlisted, *self._displaced.values()])
        yield from self._look_at_fresh()

    def _confirm(self, doubtful: Sequence[Identified], *, lenient: bool) -> Generator[list[Look], Seen, None]:
        """Compare messages with the rows of their unique-ids; `lenient` lets an equal header do."""
        rows = [(message, self._known[message.uidl].message) for message in doubtful]
        yield from self._look(look for m, row in rows if row.header_digest for look in self._first(m.listed))
        if not lenient:
            unclear = [m.listed for m, row in rows if row.header_digest and self._is_unclear(m.listed, row)]
            yield from self._look(look for listed in unclear for look in self._abilities.full_look(listed))
        for message, row in rows:
            match self._compare(message.listed, row, lenient=lenient):
                case True:
                    self._confirmed.append(message)
                case False:
                    self._displaced[row.message_id] = self._known[message.uidl]
                    self._fresh.append(message.listed)
                case None:
                    self._held.append(message.listed)

    def _is_unclear(self, listed: ListedMessage, row: MessageRecord) -> bool:
        seen = self._seen.get(listed.message_number)
        return seen is None or is_same(seen, row) is None

    def _compare(self, listed: ListedMessage, row: MessageRecord, *, lenient: bool) -> bool | None:
        if not row.header_digest:  # nothing to compare with: of a message that nobody has fetched
            return row.state is not MessageState.DELETE_PENDING or row.size_octets == listed.size_octets
        seen = self._seen.get(listed.message_number)
        if seen is None:
            return None
        same = is_same(seen, row)
        return True if same is None and lenient else same

    def _look_at_fresh(self) -> Generator[list[Look], Seen, None]:
        # With as much out of sight as in it, sizes may have changed with the unique-ids.
        suspicious = len(self.pool) >= len(self._sure) + len(self._confirmed)
        concerned = [listed for listed in self._fresh if self._may_be_known(listed, suspicious=suspicious)]
        unseen = [listed for listed in concerned if listed.message_number not in self._seen]
        yield from self._look(look for listed in unseen for look in self._first(listed))
        unclear = [listed for listed in concerned if self._is_open(listed)]
        yield from self._look(look for listed in unclear for look in self._abilities.full_look(listed))
        self._left_open = any(self._is_open(listed) for listed in unclear)

    def _may_be_known(self, listed: ListedMessage, *, suspicious: bool) -> bool:
        """Whether a fresh message may be a known one, or needs a look to be named at all."""
        if listed.uidl not in self._listed_uidls:
            # While nothing is out of sight all are new, and without TOP named on arrival.
            return self._abilities.has_top or self.pool.recognisable
        return self.pool.recognisable and (suspicious or self.pool.has_size(listed.size_octets))

    def _is_open(self, listed: ListedMessage) -> bool:
        """Whether what was seen of a message does not tell if it is a known one."""
        seen = self._seen.get(listed.message_number)
        return seen is None or self.pool.wants_content(seen)

    def _first(self, listed: ListedMessage) -> list[Look]:
        return self._abilities.first_look(listed)

    def _look(self, looks: Iterable[Look]) -> Generator[list[Look], Seen, None]:
        wanted = list(looks)
        if wanted:
            self._seen |= yield wanted

    # What follows from it

    def verdict(self, circumstances: Circumstances) -> Verdict:
        """Decide, after `judge`."""
        decision = _Decision(self.names, self._known, circumstances)
        decision.verdict.identified += self._sure
        for message in self._confirmed:
            decision.known_as_before(message)
        for listed in self._fresh:
            self._decide_fresh(decision, listed)
        verdict = decision.verdict
        verdict.held = self._held
        verdict.unrecognised = len(self.pool)
        verdict.identified.sort(key=lambda message: message.listed.message_number)
        certain = circumstances.complete and not verdict.unidentified
        self._dismiss(decision, certain=certain)
        verdict.known = decision.known()
        return verdict

    def _decide_fresh(self, decision: _Decision, listed: ListedMessage) -> None:
        seen = self._seen.get(listed.message_number)
        claimed = self.pool.claim(seen) if seen is not None else None
        uidl = listed.uidl if listed.uidl in self._listed_uidls else None
        if claimed is not None:
            decision.claimed(listed, uidl, claimed, self._name_for(uidl, claimed))
        elif uidl is not None:
            decision.new(listed, uidl)
        elif seen is not None:
            decision.new(listed, self.names.make(seen.header))
        else:
            decision.verdict.unidentified.append(listed)

    def recognise(
        self, order: FetchOrder, seen: Fingerprint, circumstances: Circumstances
    ) -> tuple[FetchOrder, Uidl | None]:
        """Give an order the identity that its content gives: the last chance to find a message known.

        Returns:
            The order; if a row was claimed, with that and its former identity.
        """
        claimed = self.pool.claim(seen)
        if claimed is None:
            named = order if order.uidl is not None else replace(order, uidl=self.names.make(seen.header))
            return named, None
        uidl = self._name_for(order.uidl, claimed)
        known = in_sight_again(claimed, uidl, order.listed.size_octets, circumstances)
        return replace(order, uidl=uidl, known=known), claimed.message.uidl

    def _name_for(self, uidl: Uidl | None, claimed: KnownMessage) -> Uidl:
        """Return the server's unique-id for a message, else the one it had, if that is still free."""
        if uidl is not None:
            return uidl
        row = claimed.message
        return self.names.make(row.header_digest) if row.uidl in self._listed_uidls else row.uidl

    def _dismiss(self, decision: _Decision, *, certain: bool) -> None:
        """Say what becomes of the rows that nobody has claimed."""
        proven = certain and not self._held and not self._left_open
        for entry in self.pool.unclaimed():
            if entry.message.message_id in self._displaced:
                decision.make_way(entry, deletion_certain=proven)
            elif certain:
                # An empty listing may be that of a folder which was not mounted.
                decision.dismiss(entry, deletion_certain=proven and self._shows_something)


class _Decision:
    """Puts a verdict together."""

    def __init__(
        self, names: Names, known: Mapping[Uidl, KnownMessage], circumstances: Circumstances
    ) -> None:
        self.verdict = Verdict()
        self._names = names
        self._before = known
        self._circumstances = circumstances
        self._dropped: set[Uidl] = set()
        self._changed: dict[Uidl, KnownMessage] = {}

    def known_as_before(self, message: Identified) -> None:
        self._place(message.listed, message.uidl, self._before[message.uidl])

    def claimed(self, listed: ListedMessage, shown: Uidl | None, entry: KnownMessage, uidl: Uidl) -> None:
        """A listed message (the server shows it as `shown`) is one that we know, and is called `uidl` now."""
        self.verdict.renamed += shown is not None and shown != entry.message.uidl
        self._place(listed, uidl, entry)

    def new(self, listed: ListedMessage, uidl: Uidl) -> None:
        self.verdict.identified.append(Identified(listed, uidl))

    def make_way(self, entry: KnownMessage, *, deletion_certain: bool) -> None:
        """Dismiss a row whose unique-id now stands for another message."""
        row = after_vanishing(entry, self._circumstances, deletion_certain=deletion_certain)
        self._dropped.add(entry.message.uidl)
        if row.state is not MessageState.GONE:
            row = replace(row, uidl=self._names.make(row.header_digest))
        self.verdict.adopted.append(row)

    def dismiss(self, entry: KnownMessage, *, deletion_certain: bool) -> None:
        row = after_vanishing(entry, self._circumstances, deletion_certain=deletion_certain)
        if row != entry.message:
            self.verdict.vanished.append(row)

    def known(self) -> Mapping[Uidl, KnownMessage]:
        if not self._changed and not self._dropped:
            return self._before
        kept = {uidl: entry for uidl, entry in self._before.items() if uidl not in self._dropped}
        return kept | self._changed

    def _place(self, listed: ListedMessage, uidl: Uidl, entry: KnownMessage) -> None:
        """A listed message is one that we know, under this identity from now on."""
        self.verdict.identified.append(Identified(listed, uidl))
        now_known = in_sight_again(entry, uidl, listed.size_octets, self._circumstances)
        if now_known is entry:
            return
        self._dropped.add(entry.message.uidl)
        self._changed[uidl] = now_known
        self.verdict.adopted.append(now_known.message)
        if uidl != entry.message.uidl or entry.message.state is MessageState.MISSING:
            self.verdict.recognised.append((uidl, entry.message.uidl))


def _is_doubtful(row: MessageRecord, size_octets: int, made_sizes: Collection[int]) -> bool:
    """Whether a known unique-id may stand for another message now.

    It may after a deletion that was not confirmed and when the message was out of
    sight, since servers may give a unique-id again; with another size; and where a
    message of this size once had no unique-id, or had to share one.
    """
    if row.state is MessageState.MISSING or row.state is MessageState.DELETE_PENDING:
        return True
    if not row.header_digest:
        return False  # nothing to compare with, and nothing was delivered
    return row.size_octets != size_octets or size_octets in made_sizes
