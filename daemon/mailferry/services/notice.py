"""Sends the operator's summary: rarely, off the main path, and never about itself.

A summary that cannot be handed over is an event and is tried again later; it delays
neither mail nor, by more than a few seconds, the end of the daemon.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace

from mailferry.errors import StoreError
from mailferry.events import NoticeFailed, NoticeSent
from mailferry.message.notice import NoticeEnvelope, compose_notice
from mailferry.model import (
    Delivered,
    Delivery,
    DeliveryReport,
    FetchedMessage,
    MaildropName,
    StandingKind,
    StandingRecord,
    Summary,
    Uidl,
)
from mailferry.policy.backoff import MESSAGE_BACKOFF
from mailferry.ports import Destination
from mailferry.services.context import Surroundings
from mailferry.services.handover import hand_over
from mailferry.services.notice_board import Batch, NoticeBoard

_bugs = logging.getLogger("mailferry.bugs")

LOOK_SECONDS = 15.0
"""How often to see whether there is something to tell."""
CLOSE_SECONDS = 5.0
"""The longest that a last summary may hold up the end."""
DRAIN_SECONDS = 1.0

STANDING_NAME = "operator"


@dataclass(frozen=True, slots=True)
class NoticePolicy:
    """Who gets the summary, and how often at most."""

    envelope: NoticeEnvelope
    every_seconds: float


class NoticeService:
    """Tells the operator what the board has collected.

    `destination` takes messages for the operator only, with the null reverse-path.
    """

    def __init__(
        self,
        policy: NoticePolicy,
        board: NoticeBoard,
        destination: Destination,
        surroundings: Surroundings,
        standing: StandingRecord | None,
    ) -> None:
        self.standing = standing or StandingRecord(StandingKind.NOTICE, STANDING_NAME)
        self._policy = policy
        self._board = board
        self._destination = destination
        self._around = surroundings
        self._failures = 0
        self._not_before = 0.0
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; the last summary before a restart counts for how often there may be one."""
        loop = asyncio.get_running_loop()
        ago = self._around.clock() - (self.standing.last_success_at or 0.0)
        if 0 <= ago < self._policy.every_seconds:  # the future is no time to go by
            self._not_before = loop.time() + self._policy.every_seconds - ago
        self._task = loop.create_task(self._run(), name="notices")

    async def close(self) -> None:
        """Tell what is left if its time has come, and end; takes a few seconds at most."""
        if self._task is None:
            return
        self._closing.set()
        await _within(CLOSE_SECONDS, self._task)
        await _within(DRAIN_SECONDS, asyncio.ensure_future(self._destination.drain()))
        if self._board.untold:
            self._failed(f"the daemon ended first: {self._board.untold} items are only in the log")

    async def _run(self) -> None:
        closing = False
        while not closing:
            closing = await self._closing_within(LOOK_SECONDS)
            allowed = asyncio.get_running_loop().time() >= self._not_before
            if allowed and (closing or self._board.is_due()):
                await self._tell()

    async def _closing_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._closing.wait()
        except TimeoutError:
            return False

    async def _tell(self) -> None:
        batch = self._board.batch()
        if not batch.count:
            return
        try:
            outcome = (await self._submit(batch)).outcome
        except Exception as error:  # noqa: BLE001  a fault of ours here must not end all later summaries
            _bugs.exception("summary for the operator")
            self._put_off(f"internal error: {error!r}")
            return
        if isinstance(outcome, Delivered):
            await self._delivered(batch, outcome.receipt)
        else:
            self._put_off(outcome.reason)

    async def _submit(self, batch: Batch) -> DeliveryReport:
        answered: asyncio.Future[DeliveryReport] = asyncio.get_running_loop().create_future()

        def done(report: DeliveryReport) -> None:
            if not answered.done():  # it is when the end of the daemon could not wait
                answered.set_result(report)

        hand_over(self._destination, Delivery(self._message(batch), done, attempt=self._failures + 1))
        return await answered

    def _message(self, batch: Batch) -> FetchedMessage:
        """Put the summary into the form that destinations take; nobody fetched it."""
        envelope, now, number = self._policy.envelope, self._around.clock(), self._around.new_message_id()
        return FetchedMessage(
            maildrop=MaildropName("notice"),
            message_id=number,
            uidl=Uidl(b"notice"),
            content=compose_notice(envelope, batch.all, batch.more, number=number, now=now),
            header_digest=b"",
            content_digest=b"",
            envelope_sender="",
            summary=Summary(),
            fetched_at=now,
            fetched_from=envelope.host,
            fetched_with="local",
        )

    async def _delivered(self, batch: Batch, receipt: str) -> None:
        self._failures = 0
        self._not_before = asyncio.get_running_loop().time() + self._policy.every_seconds
        self._board.told(batch)
        self._around.emit(NoticeSent(self._policy.envelope.recipient, batch.count, receipt))
        self.standing = replace(self.standing, last_success_at=self._around.clock())
        try:
            await self._around.ledger.save([self.standing])
        except StoreError:
            return  # told by the ledger as an event; a restart may then bring a summary too soon

    def _put_off(self, reason: str) -> None:
        self._failures += 1
        pause = MESSAGE_BACKOFF.pause_seconds(self._failures, self._around.chance())
        self._not_before = asyncio.get_running_loop().time() + min(pause, self._policy.every_seconds)
        self._failed(reason)

    def _failed(self, reason: str) -> None:
        self._around.emit(NoticeFailed(self._policy.envelope.recipient, reason))


async def _within(seconds: float, task: asyncio.Future[None]) -> None:
    """Wait for a task; cancel it when the time is over."""
    done, late = await asyncio.wait({task}, timeout=seconds)
    for each in late:
        each.cancel()
        await asyncio.wait({each}, timeout=seconds)
    for each in done:
        if not each.cancelled() and (error := each.exception()) is not None:
            _bugs.error("end of the summaries", exc_info=error)
