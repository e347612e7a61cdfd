"""Carries out the UIDL guard on a session: asks for what it wants to see, keeps what is left open.

Nothing that was seen here is delivered, and of a content only the fingerprint is kept;
while one is fetched, it counts in the memory budget like any other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from mailferry.message.digest import content_digest, header_digest
from mailferry.message.headers import first_field, header_of, split_header
from mailferry.model import Content, KnownMessage, ListedMessage, Uidl
from mailferry.policy.fingerprint import Fingerprint
from mailferry.policy.plan import FetchOrder
from mailferry.policy.uidl_guard import Abilities, Look, Seen, UidlGuard, Verdict
from mailferry.policy.vanishing import Circumstances
from mailferry.ports import MaildropListing, MaildropSession
from mailferry.services.context import MaildropPolicy, Surroundings
from mailferry.services.memory import PollMemory, Trouble, Troubles

FETCHED_AT_ONCE = 32
"""Contents that are asked for in one group."""

T = TypeVar("T")
_bugs = logging.getLogger("mailferry.bugs")


def fingerprint_of(content: Content) -> Fingerprint:
    """Return the fingerprint of a whole message.

    Raises:
        OSError: it lies in a file that cannot be read.
    """
    header = header_of(content)
    return _shown(header, content_digest(content))


def _shown(header: bytes, content: bytes = b"") -> Fingerprint:
    traced = first_field(header, b"Received") is not None
    return Fingerprint(header_digest(header), traced, content)


class _Questions(Generic[T]):
    """Requests whose answers are awaited together."""

    def __init__(self) -> None:
        self.died_at: ListedMessage | None = None
        """The message whose answer did not come because the session died."""
        self._open = 0
        self._idle = asyncio.Event()

    def answer_to(
        self, listed: ListedMessage, shown: Callable[[ListedMessage, T], None]
    ) -> Callable[[T | None, str], None]:
        """Return what takes the answer to one request."""
        self._open += 1

        def done(octets: T | None, why: str) -> None:
            if octets is not None:
                self._show(listed, octets, shown)
            elif not why and self.died_at is None:
                self.died_at = listed
            self._open -= 1
            if not self._open:
                self._idle.set()

        return done

    def _show(self, listed: ListedMessage, octets: T, shown: Callable[[ListedMessage, T], None]) -> None:
        try:
            shown(listed, octets)
        except Exception:  # noqa: BLE001  a bug, or a file that cannot be read: the message stays unseen
            _bugs.exception("message %d", listed.message_number)

    async def answered(self) -> None:
        """Wait until every request has its answer."""
        while self._open:
            self._idle.clear()
            await self._idle.wait()


class Recognition:
    """Which message is which, in one poll."""

    def __init__(
        self,
        policy: MaildropPolicy,
        surroundings: Surroundings,
        session: MaildropSession,
        memory: PollMemory,
        listing: MaildropListing,
    ) -> None:
        self.troubles = Troubles(memory, listing.messages)
        self._policy = policy
        self._around = surroundings
        self._session = session
        self._memory = memory
        self._listing = listing
        self._guard = UidlGuard([], {}, Abilities(has_top=False))

    async def judge(self, known: Mapping[Uidl, KnownMessage]) -> Verdict:
        """Look at what has to be looked at, and decide.

        Raises:
            Exception: the session's failure, when it died meanwhile.
        """
        messages = self._listing.messages
        has_top, max_size = self._session.traits.has_top, self._policy.max_size_octets
        abilities = Abilities(has_top, max_size, self._to_avoid(known), self._may_fetch())
        self._guard = guard = UidlGuard(messages, known, abilities)
        steps = guard.judge()
        seen: Seen | None = None
        try:
            while True:
                looks = next(steps) if seen is None else steps.send(seen)
                seen = await self._look(looks)
        except StopIteration:
            self._memory.seen.clear()
        return guard.verdict(self._circumstances(complete=self._listing.complete))

    def recognise(self, order: FetchOrder, content: Content) -> tuple[FetchOrder, Uidl | None]:
        """Let the content of a message that nobody has looked at tell which it is.

        Returns:
            The order with its identity; and if it is a message that we have, with what is
            known of it, and the identity that it had.
        """
        self.troubles.forgive(order.listed.message_number)
        return self._guard.recognise(order, fingerprint_of(content), self._circumstances())

    def concerns(self, order: FetchOrder) -> bool:
        """Whether the content of a message that is fetched can tell something of its identity."""
        if order.uidl is None:
            return True
        never_seen = order.known is None or not order.known.message.header_digest
        return never_seen and not order.header_only and self._guard.pool.recognisable

    def blame(self, listed: ListedMessage) -> Trouble | None:
        """Take note that a message could not be had and that no row can say so."""
        return self.troubles.blame(listed.message_number, self._around.clock(), self._around.chance())

    def _may_fetch(self) -> bool:
        """Whether a content may be fetched only to be looked at.

        Not from a server that takes what was fetched for delivered (RFC 2449 s.6.7,
        EXPIRE 0), and not while there is nowhere to deliver to.
        """
        destinations = self._around.destinations
        has_open_way = any(destinations[name].available for name in self._policy.destinations)
        return has_open_way and self._session.traits.expire_days != 0

    def _circumstances(self, *, complete: bool = True) -> Circumstances:
        now = self._around.clock()
        return Circumstances(self._policy.destinations, now, complete, self._around.ages_count)

    def _to_avoid(self, known: Mapping[Uidl, KnownMessage]) -> set[int]:
        """Return what must not be asked for here: it may break the session once more.

        New messages are fetched last and alone, and looked at then. But one that stands
        under a known unique-id is not touched until it was compared: after a pause.
        """
        if not self.troubles.by_number:
            return set()
        not_due = self.troubles.not_due(self._around.clock())
        uidls = {message.message_number: message.uidl for message in self._listing.messages}
        return {
            number for number in self.troubles.by_number if number in not_due or uidls[number] not in known
        }

    # Looking

    async def _look(self, looks: Sequence[Look]) -> Seen:
        seen: dict[int, Fingerprint] = {}
        wanted: list[Look] = []
        for look in looks:
            before = self._memory.seen_before(look.listed, whole=look.whole)
            if before is not None:
                seen[look.listed.message_number] = before
            else:
                wanted.append(look)
        failures = self.troubles.failures
        wanted.sort(key=lambda look: failures.get(look.listed.message_number, 0))
        await self._look_at_headers([look.listed for look in wanted if not look.whole], seen)
        await self._look_at_contents([look.listed for look in wanted if look.whole], seen)
        return seen

    async def _look_at_headers(self, messages: Sequence[ListedMessage], seen: dict[int, Fingerprint]) -> None:
        def shown(listed: ListedMessage, header: bytes) -> None:
            self._saw(listed, _shown(split_header(header)[0]), seen)

        questions: _Questions[bytes] = _Questions()
        for listed in messages:
            self._session.top(listed, questions.answer_to(listed, shown))
        await questions.answered()
        self._go_on(questions)

    async def _look_at_contents(
        self, messages: Sequence[ListedMessage], seen: dict[int, Fingerprint]
    ) -> None:
        for first in range(0, len(messages), FETCHED_AT_ONCE):
            questions: _Questions[Content] = _Questions()
            for listed in messages[first : first + FETCHED_AT_ONCE]:
                await self._ask_for_content(listed, questions, seen)
            await questions.answered()
            self._go_on(questions)

    async def _ask_for_content(
        self, listed: ListedMessage, questions: _Questions[Content], seen: dict[int, Fingerprint]
    ) -> None:
        octets = self._around.budget.share_of(max(listed.size_octets, 1))
        await self._around.budget.reserve(octets)

        def fetched(listed: ListedMessage, content: Content) -> None:
            if len(content) > 0 or listed.size_octets == 0:
                self._saw(listed, fingerprint_of(content), seen)

        take = questions.answer_to(listed, fetched)

        def done(content: Content | None, why: str) -> None:
            self._around.budget.give_back(octets)
            take(content, why)

        self._session.retrieve(listed, done)

    def _saw(self, listed: ListedMessage, fingerprint: Fingerprint, seen: dict[int, Fingerprint]) -> None:
        seen[listed.message_number] = fingerprint
        self._memory.keep_seen(listed, fingerprint)

    def _go_on(self, questions: _Questions[bytes] | _Questions[Content]) -> None:
        """Go on if the session lives; blame the message at which it died."""
        if self._session.failure is not None:
            if questions.died_at is not None:
                self.blame(questions.died_at)
            raise self._session.failure
