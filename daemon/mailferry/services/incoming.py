"""One message that came in by SMTP, on its way to every destination that lacks it.

Works by callbacks, as the pipeline of a poll does, and comes to its end whether
anybody waits for it or not: what a destination has accepted must be written down.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from mailferry.errors import StoreError
from mailferry.message.received import message_name
from mailferry.model import (
    Delivery,
    DeliveryRecord,
    DeliveryReport,
    DeliveryState,
    DestinationName,
    FetchedMessage,
    LedgerRecord,
    MessageRecord,
    MessageState,
    PermanentFailure,
    Scope,
)
from mailferry.policy.reception import NOT_KEPT, reply_to, report_for, settled_before
from mailferry.protocol.smtp_replies import SmtpReply
from mailferry.services.context import MaildropPolicy, Surroundings
from mailferry.services.handover import hand_over
from mailferry.services.parcel import Parcel
from mailferry.services.story import Story

_bugs = logging.getLogger("mailferry.bugs")


class Incoming:
    """Carries one message to its destinations, with one parcel and one row for each recipient.

    Args:
        message: for all of the recipients that lack it.
        parcels: by recipient, as the envelope has it.
    """

    def __init__(
        self,
        message: FetchedMessage,
        parcels: Mapping[str, Parcel],
        policy: MaildropPolicy,
        surroundings: Surroundings,
        session_id: str,
    ) -> None:
        self._message = message
        self._parcels = parcels
        self._policy = policy
        self._around = surroundings
        self._ways = {name: surroundings.destinations[name] for name in policy.destinations}
        self._story = Story(policy.maildrop, session_id, surroundings.emit)
        self._reports: list[DeliveryReport] = []
        self._failure: Exception | None = None
        self._open_steps = 1  # `deliver` itself, until all orders are out
        self._finished = asyncio.Event()

    async def deliver(self, loop: str | None) -> SmtpReply:
        """Deliver, and return what the sender is told.

        Args:
            loop: why it must go nowhere (RFC 5321 s.6.3); None when there is no reason.
        """
        self._settle_complete()
        for name in self._policy.destinations:
            lacking = {r: p for r, p in self._parcels.items() if not _has(p, name)}
            if not lacking:
                continue
            self._open_steps += 1
            reported = partial(self._reported, name, lacking)
            if loop is not None:
                reported(DeliveryReport(PermanentFailure(Scope.MESSAGE, loop)))
            else:
                self._hand_over(name, lacking, reported)
        self._step_done()
        await self._finished.wait()
        if self._failure is not None:
            return NOT_KEPT
        return reply_to(self._reports, message_name(self._message.message_id))

    def _settle_complete(self) -> None:
        """Write down who lacks nothing any more, since the configuration has lost what was missing."""
        names, now = self._policy.destinations, self._around.clock()
        complete = [p for p in self._parcels.values() if all(_has(p, name) for name in names)]
        if complete:
            self._commit([self._settled(parcel, now) for parcel in complete], ())

    def _hand_over(
        self, name: DestinationName, lacking: Mapping[str, Parcel], reported: Callable[[DeliveryReport], None]
    ) -> None:
        has_it = [recipient for recipient in self._parcels if recipient not in lacking]
        earlier = [_delivery_of(parcel, name) for parcel in lacking.values()]
        attempt = 1 + max(parcel.attempt_at(name) for parcel in lacking.values())
        settled = settled_before(has_it, earlier)
        hand_over(self._ways[name], Delivery(self._message, reported, settled, attempt))

    def _reported(self, name: DestinationName, lacking: Mapping[str, Parcel], report: DeliveryReport) -> None:
        self._reports.append(report)
        try:
            self._write_down(name, lacking, report)
        except Exception as error:  # noqa: BLE001  the caller is another room's machine, and not to blame
            _bugs.exception("report of %s on message %s", name, self._message.message_id)
            self._failure = self._failure or error
        self._step_done()

    def _write_down(
        self, name: DestinationName, lacking: Mapping[str, Parcel], report: DeliveryReport
    ) -> None:
        """Write what a destination said, for each recipient; note first, then commit."""
        now, chance = self._around.clock(), self._around.chance()
        rows: list[LedgerRecord] = []
        told: list[tuple[Parcel, DeliveryRecord]] = []
        for recipient, parcel in lacking.items():
            own = report_for(recipient, self._parcels, report)
            delivery = parcel.take_report(name, own, now, chance)
            if delivery is not None:
                rows += (self._settled(parcel, now), delivery)
                told.append((parcel, delivery))
        if not rows:
            return
        try:
            self._around.ledger.note(rows)
        except StoreError as error:
            self._failure = self._failure or error  # the commit below is still tried
        self._commit(rows, told)

    def _settled(self, parcel: Parcel, now: float) -> MessageRecord:
        """Return a recipient's row; accepted everywhere means gone, since nothing is kept here."""
        record = parcel.settle(self._policy, now)
        if record.state is MessageState.DELETE_PENDING:
            return replace(record, state=MessageState.GONE)
        return record

    def _commit(self, rows: Sequence[LedgerRecord], told: Sequence[tuple[Parcel, DeliveryRecord]]) -> None:
        self._open_steps += 1

        def done(error: Exception | None) -> None:
            if error is None:
                for parcel, delivery in told:
                    self._story.delivery(parcel.message, delivery, parcel.record.first_seen_at)
            else:
                self._failure = self._failure or error
            self._step_done()

        try:
            self._around.ledger.commit(rows, done)
        except Exception as error:  # noqa: BLE001  a fault of ours, too: the step must come to its end
            if not isinstance(error, StoreError):
                _bugs.exception("rows of message %s", self._message.message_id)
            done(error)

    def _step_done(self) -> None:
        self._open_steps -= 1
        if self._open_steps == 0:
            self._finished.set()


def _delivery_of(parcel: Parcel, name: DestinationName) -> DeliveryRecord | None:
    return next((each for each in parcel.deliveries if each.destination == name), None)


def _has(parcel: Parcel, name: DestinationName) -> bool:
    """Whether a destination had accepted a message for a recipient before."""
    delivery = _delivery_of(parcel, name)
    return delivery is not None and delivery.state is DeliveryState.ACCEPTED
