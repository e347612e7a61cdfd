from __future__ import annotations

import asyncio
import email
import logging
from dataclasses import replace

import pytest

from mailferry.events import LedgerFailed, MaildropAuthRejected, NoticeFailed, NoticeSent
from mailferry.message.notice import NoticeEnvelope
from mailferry.model import (
    Deferred,
    Delivery,
    DeliveryReport,
    PermanentFailure,
    Scope,
    StandingKind,
    StandingRecord,
)
from mailferry.services.notice import (
    CLOSE_SECONDS,
    DRAIN_SECONDS,
    LOOK_SECONDS,
    STANDING_NAME,
    NoticePolicy,
    NoticeService,
)
from mailferry.services.notice_board import NoticeBoard
from support.fakes import FakeDestination
from support.rig import Rig
from support.virtual_time import START, timeless

HOUR = 3600.0
ENVELOPE = NoticeEnvelope("relay.example.org", "operator@example.org")
LATER = DeliveryReport(Deferred(Scope.NEXT_HOP, "421 not now"))
NEVER = DeliveryReport(PermanentFailure(Scope.RECIPIENT, "550 no such user"))
MAX_LATENESS = 60 + LOOK_SECONDS


class Office:
    """A service with its board, and a destination that does as it is told."""

    def __init__(self, destination: FakeDestination | None = None, last_at: float | None = None) -> None:
        self.rig = Rig()
        self.to = destination or FakeDestination("notice", self.rig.effects)
        self.board = NoticeBoard(ENVELOPE, self.rig.clock, lambda: asyncio.get_running_loop().time())
        standing = (
            StandingRecord(StandingKind.NOTICE, STANDING_NAME, last_at) if last_at is not None else None
        )
        policy = NoticePolicy(ENVELOPE, HOUR)
        self.service = NoticeService(policy, self.board, self.to, self.rig.around, standing)

    def begin(self) -> None:
        self.service.start()

    def fail(self, error: str = "disk full") -> None:
        """Let something happen that is told."""
        self.board(LedgerFailed(error))

    def answer_with(self, *reports: DeliveryReport | Exception) -> None:
        self.to.script[b"notice"] = list(reports)

    @property
    def sent(self) -> int:
        return len(self.to.submitted)

    @property
    def complaints(self) -> list[str]:
        return [event.error for event in self.rig.told(NoticeFailed)]

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()


@timeless
async def test_nothing_to_tell_is_no_mail() -> None:
    office = Office()
    office.begin()
    await asyncio.sleep(2 * HOUR)
    await office.service.close()
    assert (office.sent, office.complaints, office.to.drained) == (0, [], True)


@timeless
async def test_a_burst_is_one_mail_soon_and_what_comes_after_waits_its_time() -> None:
    office = Office()
    office.begin()
    for n in range(50):
        office.fail(f"error {n}")
        await asyncio.sleep(1)
    await asyncio.sleep(MAX_LATENESS)
    assert office.sent == 1
    office.fail()
    await asyncio.sleep(HOUR - 2 * MAX_LATENESS)
    assert office.sent == 1, "at most one in this time"
    await asyncio.sleep(3 * MAX_LATENESS)
    assert office.sent == 2
    await office.service.close()
    assert [event.items for event in office.rig.told(NoticeSent)] == [1, 1]


@timeless
async def test_the_message_has_the_null_sender_and_says_that_it_came_from_here() -> None:
    office = Office()
    office.begin()
    office.fail()
    await asyncio.sleep(MAX_LATENESS)
    await office.service.close()
    (delivery,) = office.to.submitted
    message = delivery.message
    assert (message.envelope_sender, message.fetched_from, message.fetched_with) == (
        "", "relay.example.org", "local",
    )  # fmt: skip
    assert isinstance(message.content, bytes)
    header = email.message_from_bytes(message.content)
    assert (header["To"], header["Auto-Submitted"]) == ("operator@example.org", "auto-generated")
    (sent,) = office.rig.told(NoticeSent)
    assert (sent.recipient, sent.receipt) == ("operator@example.org", "250 notice")


# -- failures --------------------------------------------------------------------------------


@pytest.mark.parametrize("report", [LATER, NEVER, RuntimeError("a bug")])
@timeless
async def test_what_is_not_taken_is_told_as_an_event_and_tried_again(report: DeliveryReport) -> None:
    office = Office()
    office.answer_with(report)
    office.begin()
    office.fail()
    await asyncio.sleep(MAX_LATENESS)
    assert (office.sent, len(office.complaints)) == (1, 1)
    await asyncio.sleep(2 * MAX_LATENESS)
    assert office.sent == 2
    assert len(office.rig.told(NoticeSent)) == 1
    await office.service.close()
    assert len(office.complaints) == 1


@timeless
async def test_attempts_are_spread_and_nothing_is_forgotten() -> None:
    office = Office()
    office.answer_with(*[LATER] * 30)
    office.begin()
    office.fail()
    await asyncio.sleep(6 * HOUR)
    assert 9 <= office.sent <= 11, "often at first, then once per `every`"
    office.to.script.clear()
    await asyncio.sleep(HOUR + MAX_LATENESS)
    assert len(office.rig.told(NoticeSent)) == 1
    await office.service.close()


@timeless
async def test_a_failure_of_the_summary_is_nothing_to_tell_in_a_summary() -> None:
    office = Office()
    office.answer_with(LATER)
    office.begin()
    office.fail()
    await asyncio.sleep(MAX_LATENESS)
    for event in office.rig.told(NoticeFailed):
        office.board(event)
    assert office.board.batch().count == 1
    await office.service.close()


@timeless
async def test_a_bug_in_the_composing_does_not_end_all_later_summaries(
    caplog: pytest.LogCaptureFixture,
) -> None:
    office = Office()
    office.rig.around = office.service._around = replace(office.rig.around, new_message_id=lambda: 1 // 0)  # type: ignore[arg-type,return-value]
    office.begin()
    office.fail()
    with caplog.at_level(logging.ERROR, "mailferry.bugs"):
        await asyncio.sleep(MAX_LATENESS)
    assert "ZeroDivisionError" in caplog.text
    assert "internal error" in office.complaints[0]
    office.service._around = replace(office.rig.around, new_message_id=lambda: 1)  # type: ignore[arg-type,return-value]
    await asyncio.sleep(2 * MAX_LATENESS)
    assert len(office.rig.told(NoticeSent)) == 1
    await office.service.close()


# -- restarts ----------------------------------------------------------------------------------


@timeless
async def test_the_last_summary_is_remembered_over_a_restart() -> None:
    office = Office()
    office.begin()
    office.fail()
    await office.service.close()
    (row,) = office.rig.ledger.standing_rows.values()
    assert row == StandingRecord(StandingKind.NOTICE, STANDING_NAME, START)

    office = Office(last_at=START - 600)
    office.begin()
    office.fail()
    await asyncio.sleep(HOUR - 600 - LOOK_SECONDS)
    assert office.sent == 0
    await asyncio.sleep(2 * LOOK_SECONDS)
    assert office.sent == 1
    await office.service.close()


@pytest.mark.parametrize("last_at", [START - 2 * HOUR, START + 10**8])
@timeless
async def test_a_summary_of_long_ago_or_of_the_future_holds_none_back(last_at: float) -> None:
    office = Office(last_at=last_at)
    office.begin()
    office.fail()
    await asyncio.sleep(MAX_LATENESS)
    assert office.sent == 1
    await office.service.close()


@timeless
async def test_a_ledger_that_cannot_be_written_does_not_end_the_summaries() -> None:
    office = Office()
    office.rig.ledger.fails = lambda _: True
    office.begin()
    for _ in range(2):
        office.fail()
        await asyncio.sleep(HOUR + MAX_LATENESS)
    assert office.sent == 2
    await office.service.close()


# -- the end -------------------------------------------------------------------------------------


@timeless
async def test_the_end_tells_at_once_what_there_is() -> None:
    office = Office()
    office.begin()
    office.fail()
    await office.service.close()
    assert (office.now, office.sent, office.complaints) == (0.0, 1, [])


@timeless
async def test_the_end_is_no_reason_for_a_second_summary_too_soon_but_says_what_is_lost() -> None:
    office = Office(last_at=START - 600)
    office.begin()
    office.fail()
    await office.service.close()
    assert office.sent == 0
    assert office.complaints == ["the daemon ended first: 1 items are only in the log"]


@timeless
async def test_what_will_happen_again_is_not_lost() -> None:
    office = Office(last_at=START - 600)
    office.begin()
    office.board(MaildropAuthRejected("alice", "-ERR", 1))
    await office.service.close()
    assert (office.sent, office.complaints) == (0, [])


class Stuck(FakeDestination):
    def submit(self, delivery: Delivery) -> None:
        self.submitted.append(delivery)

    async def drain(self) -> None:
        await asyncio.sleep(10**6)


@pytest.mark.parametrize("wait", [0.0, MAX_LATENESS])
@timeless
async def test_a_destination_that_says_nothing_does_not_hold_up_the_end(wait: float) -> None:
    office = Office(Stuck("notice", []))
    office.begin()
    office.fail()
    await asyncio.sleep(wait)
    await office.service.close()
    assert office.now <= wait + CLOSE_SECONDS + DRAIN_SECONDS
    assert office.complaints == ["the daemon ended first: 1 items are only in the log"]


class Broken(FakeDestination):
    async def drain(self) -> None:
        raise ZeroDivisionError("a bug")


@timeless
async def test_a_drain_that_raises_is_told_as_a_bug(caplog: pytest.LogCaptureFixture) -> None:
    office = Office(Broken("notice", []))
    office.begin()
    with caplog.at_level(logging.ERROR, "mailferry.bugs"):
        await office.service.close()
    assert "a bug" in caplog.text


@timeless
async def test_what_was_never_begun_ends_at_once() -> None:
    await Office().service.close()
