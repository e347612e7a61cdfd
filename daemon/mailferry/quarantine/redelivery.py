"""Delivering what lies in the quarantine, after all.

Each destination that has not accepted is asked once, for its recipients that have
not. Its yes is written into the reason and synced in the very callback that brings
it; only when all have said yes is the message removed. So a crash, or a second
destination that still refuses, doubles nothing, but for the one gap that nobody can
close from one side (RFC 1047): between the destination's 250 and that write.

A failure of the route is no word on the message (promise 5): nothing is written
about it, and the messages after it are not tried there. One in the middle of a
message's own transaction may be that message's fault, so the next one is tried; after
a second in a row none is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from mailferry.errors import QuarantineError
from mailferry.message.digest import content_digest
from mailferry.message.spool import Spool
from mailferry.model import (
    Content,
    Deferred,
    Delivered,
    Delivery,
    DeliveryRecord,
    DeliveryReport,
    DeliveryState,
    DestinationName,
    FetchedMessage,
    Outcome,
    QuarantineEntry,
    Scope,
    Summary,
)
from mailferry.ports import Destination
from mailferry.quarantine.reader import StoredMessage
from mailferry.quarantine.store import QuarantineStore


class Answer(StrEnum):
    """What came of asking a destination."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    DEFERRED = "deferred"
    IN_DOUBT = "in-doubt"
    NOT_REACHED = "not-reached"
    """Its route is down, or it was left away after another failure."""
    UNKNOWN = "unknown"
    """No such destination is configured."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One destination's answer, in its own words where it had some."""

    destination: DestinationName
    answer: Answer
    words: str


@dataclass(frozen=True, slots=True)
class Retried:
    """What came of one message.

    Attributes:
        answers: of the destinations that were to be asked.
        removed: every destination has it, and it has left the quarantine.
        accepted: the rows of all destinations that have it, for the ledger.
        problem: why nothing could be tried, or "".
    """

    name: str
    answers: tuple[Answered, ...] = ()
    removed: bool = False
    accepted: tuple[DeliveryRecord, ...] = ()
    problem: str = ""


class Redelivery:
    """Delivers messages of the quarantine, one after the other; hold `QuarantineStore.exclusive` meanwhile."""

    def __init__(
        self,
        store: QuarantineStore,
        destinations: Mapping[DestinationName, Destination],
        *,
        memory_octets: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`memory_octets`: a message above that is spooled, as the daemon does it."""
        self._store = store
        self._destinations = destinations
        self._spool = Spool(store.path / "tmp", memory_octets)
        self._clock = clock
        self._failed: dict[DestinationName, str] = {}
        self._suspect: set[DestinationName] = set()
        """Those that failed in the middle of the last transaction."""

    async def retry(self, stored: StoredMessage, only: DestinationName | None = None) -> Retried:
        """Deliver a message to those who have not accepted it, or to one of them.

        Raises:
            QuarantineError: an answer could not be written down, or the message not
                be removed: go on with nothing before that is mended.
        """
        entry, problem = stored.entry, stored.problem
        if entry is not None and not problem:
            problem = _nothing_to_ask(entry, only)
        if entry is None or problem:
            return Retried(stored.name, problem=problem)
        try:
            content = await asyncio.to_thread(self._content, stored, entry)
        except QuarantineError as error:
            return Retried(stored.name, problem=str(error))
        notebook = _Notebook(self._store, entry, self._clock)
        answers = [
            await self._ask(each, _message(entry, content), notebook)
            for each in entry.deliveries
            if each.state is not DeliveryState.ACCEPTED and only in (None, each.destination)
        ]
        return await self._conclude(stored, notebook, tuple(answers))

    def _content(self, stored: StoredMessage, entry: QuarantineEntry) -> Content:
        with self._store.opened(stored) as pieces:
            if stored.size_octets <= self._spool.threshold_octets:
                content: Content = b"".join(pieces)
            else:
                content = self._spooled(pieces)
        if content_digest(content) != entry.message.content_digest:
            raise QuarantineError(
                "its octets are not those that were fetched (a mail reader, or the disk, has changed them): "
                "see `show --raw`, hand it on yourself, and drop it"
            )
        return content

    def _spooled(self, pieces: Iterable[bytes]) -> Content:
        file = self._spool.new_file()
        for piece in pieces:
            file.write(piece)
        content = file.content()
        if content is None:
            raise QuarantineError(file.failure)
        return content

    async def _ask(self, earlier: DeliveryRecord, message: FetchedMessage, notebook: _Notebook) -> Answered:
        name = earlier.destination
        destination = self._destinations.get(name)
        if notebook.failure is not None:
            return Answered(
                name, Answer.NOT_REACHED, "what another destination said could not be written down"
            )
        if destination is None:
            return Answered(name, Answer.UNKNOWN, "no such destination is configured, or it is disabled")
        if name in self._failed:
            return Answered(name, Answer.NOT_REACHED, f"it takes no mail now: {self._failed[name]}")
        answered: asyncio.Future[DeliveryReport] = asyncio.get_running_loop().create_future()

        def done(report: DeliveryReport) -> None:
            notebook.write_down(earlier, report)
            if not answered.done():  # whoever waited may have been interrupted
                answered.set_result(report)

        settled = frozenset(earlier.accepted_recipients)
        destination.submit(Delivery(message, done, settled, earlier.attempts + 1))
        outcome = (await answered).outcome
        self._learn(name, outcome)
        return _answered(name, outcome)

    def _learn(self, name: DestinationName, outcome: Outcome) -> None:
        if not isinstance(outcome, Deferred) or not (outcome.scope is Scope.NEXT_HOP or outcome.in_doubt):
            self._suspect.discard(name)
            return
        if name in self._suspect or not (outcome.in_transaction or outcome.in_doubt):
            self._failed[name] = outcome.reason
        self._suspect.add(name)

    async def _conclude(
        self, stored: StoredMessage, notebook: _Notebook, answers: tuple[Answered, ...]
    ) -> Retried:
        """Remove what has reached every goal: that is the strongest note of all."""
        accepted = tuple(d for d in notebook.entry.deliveries if d.state is DeliveryState.ACCEPTED)
        done = len(accepted) == len(notebook.entry.deliveries)
        if done:
            await asyncio.to_thread(self._store.remove, stored)
        elif notebook.failure is not None:
            raise notebook.failure
        return Retried(stored.name, answers, removed=done, accepted=accepted)


class _Notebook:
    """Keeps an entry's reason up to date; its callers are other rooms' machines, so it never raises."""

    def __init__(self, store: QuarantineStore, entry: QuarantineEntry, clock: Callable[[], float]) -> None:
        self.entry = entry
        self.failure: QuarantineError | None = None
        self._store = store
        self._clock = clock

    def write_down(self, earlier: DeliveryRecord, report: DeliveryReport) -> None:
        """Write what a destination said, synced, before anything else is done about it."""
        if _leaves_no_trace(report):
            return
        record = _after(earlier, report, self._clock())
        deliveries = tuple(record if each is earlier else each for each in self.entry.deliveries)
        self.entry = replace(self.entry, deliveries=deliveries)
        try:
            self._store.save_reason(self.entry)
        except Exception as error:  # noqa: BLE001  whatever it is, nothing may go on as if it were written
            words = f"what {earlier.destination} said of {self.entry.name} could not be written down"
            if record.state is DeliveryState.ACCEPTED:
                words = (
                    f"{earlier.destination} has accepted {self.entry.name}, which could not be written down: "
                    "another retry would double it there"
                )
            self.failure = QuarantineError(f"{words}: {error}")


def _nothing_to_ask(entry: QuarantineEntry, only: DestinationName | None) -> str:
    if not entry.deliveries:
        return "no destination is named in its reason"
    if only is None:
        return ""
    found = [each for each in entry.deliveries if each.destination == only]
    if not found:
        return f"it was never meant for {only}"
    return f"{only} has accepted it" if found[0].state is DeliveryState.ACCEPTED else ""


def _message(entry: QuarantineEntry, content: Content) -> FetchedMessage:
    record = entry.message
    return FetchedMessage(
        maildrop=record.maildrop,
        message_id=record.message_id,
        uidl=record.uidl,
        content=content,
        header_digest=record.header_digest,
        content_digest=record.content_digest,
        envelope_sender=entry.envelope_sender,
        envelope_recipients=entry.envelope_recipients,
        summary=Summary(record.sender, record.recipient, record.subject),
        fetched_at=entry.fetched_at,
        fetched_from=entry.fetched_from,
        fetched_with=entry.fetched_with,
    )


def _answered(name: DestinationName, outcome: Outcome) -> Answered:
    if isinstance(outcome, Delivered):
        return Answered(name, Answer.ACCEPTED, outcome.receipt)
    if not isinstance(outcome, Deferred):
        return Answered(name, Answer.REFUSED, outcome.reason)
    if outcome.in_doubt:
        return Answered(name, Answer.IN_DOUBT, outcome.reason)
    tried = outcome.attempted and outcome.scope is not Scope.NEXT_HOP
    return Answered(name, Answer.DEFERRED if tried else Answer.NOT_REACHED, outcome.reason)


def _leaves_no_trace(report: DeliveryReport) -> bool:
    outcome = report.outcome
    if not isinstance(outcome, Deferred) or outcome.in_doubt:
        return False
    settled_some = report.accepted_recipients or report.refused_recipients
    return not settled_some and (not outcome.attempted or outcome.scope is Scope.NEXT_HOP)


def _after(earlier: DeliveryRecord, report: DeliveryReport, now: float) -> DeliveryRecord:
    """Return the delivery's row after one more attempt."""
    outcome = report.outcome
    accepted = tuple(dict.fromkeys(earlier.accepted_recipients + report.accepted_recipients))
    record = replace(
        earlier,
        attempts=earlier.attempts + 1,
        next_attempt_at=0.0,
        updated_at=max(now, earlier.updated_at),
        accepted_recipients=accepted,
    )
    if isinstance(outcome, Delivered):
        # Who refused before and was not asked now is no recipient of this destination any more.
        return replace(
            record, state=DeliveryState.ACCEPTED, receipt=outcome.receipt, error="", refused_recipients=()
        )
    refused = dict.fromkeys(earlier.refused_recipients + report.refused_recipients)
    record = replace(
        record, error=outcome.reason, refused_recipients=tuple(r for r in refused if r not in accepted)
    )
    if not isinstance(outcome, Deferred):
        return replace(record, state=DeliveryState.REJECTED)
    return replace(record, state=DeliveryState.IN_DOUBT if outcome.in_doubt else DeliveryState.DEFERRED)
