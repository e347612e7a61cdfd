"""What breaks stays small: nothing lost, nobody else blamed, nobody waits for ever."""

from __future__ import annotations

import asyncio
import logging

import pytest

from mailferry.errors import ConnectError, ReadTimeoutError, RemoteProtocolError, SecretError
from mailferry.events import (
    MessageDeferred,
    MessageFetchFailed,
    MessageInDoubt,
    MessageRejected,
    MessageRelayed,
    PollStarted,
)
from mailferry.model import (
    Deferred,
    Delivered,
    Delivery,
    DeliveryReport,
    DeliveryState,
    PermanentFailure,
    Scope,
)
from mailferry.policy.backoff import FETCH_BACKOFF, MESSAGE_BACKOFF
from mailferry.services import arrival
from support.fakes import FakeDestination, FakeMail, mail
from support.rig import Rig
from support.virtual_time import START, settle, timeless


def mails(count: int) -> list[FakeMail]:
    return [mail(f"u{n}") for n in range(1, count + 1)]


def said(outcome: object, **recipients: tuple[str, ...]) -> DeliveryReport:
    return DeliveryReport(outcome, **recipients)  # type: ignore[arg-type]


# -- the session -----------------------------------------------------------------


@timeless
async def test_a_session_that_dies_blames_only_the_message_that_was_being_handed_over() -> None:
    rig = Rig(*mails(5))
    rig.maildrop.dies_at = ("retr", 3)
    report = await rig.run_poll()
    assert "reset at retr 3" in str(report.failure)
    assert rig.ledger.states() == {"u3": "deferred", "u1": "delete-pending", "u2": "delete-pending"}
    blamed = rig.ledger.of("u3")
    pause = FETCH_BACKOFF.pause_seconds(1, 0.5)
    assert (blamed.fetch_attempts, blamed.next_fetch_at, blamed.reason) == (
        1,
        START + pause,
        "reset at retr 3",
    )
    assert [event.uidl for event in rig.told(MessageFetchFailed)] == ["u3"]
    assert [event.uidl for event in rig.told(MessageRelayed)] == ["u1", "u2"]
    assert report.relayed == 2
    assert rig.did("quit") == []


@timeless
async def test_what_broke_the_session_comes_last_and_only_when_its_pause_is_over() -> None:
    rig = Rig(*mails(3))
    rig.maildrop.dies_at = ("retr", 1)
    await rig.run_poll()
    rig.effects.clear()
    await rig.run_poll()
    assert rig.did("retr", "dele") == ["retr u2", "retr u3", "dele u2", "dele u3"]
    rig.clock.base += 3600
    rig.maildrop.mails.append(mail("u4"))
    rig.maildrop.dies_at = None
    rig.effects.clear()
    await rig.run_poll()
    assert rig.did("retr") == ["retr u4", "retr u1"]


@timeless
async def test_what_was_accepted_when_the_link_broke_is_deleted_next_time_not_delivered() -> None:
    rig = Rig(*mails(2))
    rig.maildrop.dies_at = ("retr", 2)
    await rig.run_poll()
    rig.maildrop.dies_at = None
    rig.effects.clear()
    await rig.run_poll()
    assert rig.did("dele", "submit", "retr") == ["dele u1"]


@timeless
async def test_a_session_that_dies_while_destinations_work_waits_for_them() -> None:
    """Else the next poll would deliver once more what is still under way."""
    rig = Rig(*mails(2))
    rig.to["office"].when = "held"
    rig.maildrop.dies_at = ("retr", 2)
    task = asyncio.create_task(rig.run_poll())
    await asyncio.sleep(200)  # longer than a session lingers
    assert not task.done()
    rig.to["office"].answer()
    report = await task
    assert "reset at retr 2" in str(report.failure)
    assert rig.ledger.states()["u1"] == "delete-pending"
    assert rig.did("dele") == []


@timeless
async def test_a_link_that_dies_while_nothing_is_asked_of_it_blames_no_message() -> None:
    rig = Rig(*mails(3)).set(prefetch=1)
    rig.to["office"].when = "held"
    task = asyncio.create_task(rig.run_poll())
    await settle()
    rig.maildrop.session.die(ReadTimeoutError("autologout"))
    rig.to["office"].answer()
    report = await task
    assert str(report.failure) == "autologout"
    assert rig.ledger.states() == {"u1": "delete-pending"}
    assert rig.told(MessageFetchFailed) == []


@timeless
async def test_a_link_that_dies_while_memory_is_awaited_blames_no_message() -> None:
    rig = Rig(*mails(2), budget=10)
    assert rig.budget.take(10, lambda: None)
    task = asyncio.create_task(rig.poll().run())
    await settle()
    rig.maildrop.session.die(ReadTimeoutError("autologout"))
    rig.budget.give_back(10)
    report = await task
    assert str(report.failure) == "autologout"
    assert rig.ledger.states() == {}
    assert rig.budget.in_use_octets == 0


@timeless
async def test_one_message_that_the_server_refuses_stops_no_other() -> None:
    rig = Rig(*mails(3))
    rig.maildrop.refuses.add(("retr", 2))
    report = await rig.run_poll()
    assert report.failure is None
    assert rig.ledger.states() == {"u1": "gone", "u3": "gone", "u2": "deferred"}
    assert rig.ledger.of("u2").reason == "RETR refused: no"
    rig.effects.clear()
    await rig.run_poll()
    assert rig.did("retr") == []  # its pause is not over
    rig.maildrop.refuses.clear()
    rig.clock.base += 3600
    await rig.run_poll()
    assert rig.ledger.states()["u2"] == "gone"
    assert rig.ledger.of("u2").fetch_attempts == 0


@timeless
async def test_a_message_that_comes_empty_though_it_is_listed_with_octets_is_not_relayed() -> None:
    rig = Rig(mail("u1", octets=500), mail("u2"))
    whole, rig.maildrop.mails[0].content = rig.maildrop.mails[0].content, b""
    await rig.run_poll()
    assert rig.ledger.states() == {"u1": "deferred", "u2": "gone"}
    assert "handed over empty" in rig.ledger.of("u1").reason
    rig.maildrop.mails[0].content = whole
    rig.clock.base += 3600
    await rig.run_poll()
    assert rig.ledger.states()["u1"] == "gone"


@timeless
async def test_the_link_that_breaks_at_dele_or_quit_deletes_later() -> None:
    for dies_at in (("dele", 1), ("quit", 0)):
        rig = Rig(mail("u1"))
        rig.maildrop.dies_at = dies_at
        await rig.run_poll()
        assert rig.ledger.states() == {"u1": "delete-pending"}
        rig.maildrop.dies_at = None
        report = await rig.run_poll()
        assert (report.deleted, rig.to["office"].submitted[1:]) == (1, [])


@pytest.mark.parametrize(
    "error", [ConnectError("refused"), SecretError("no file"), ConnectionResetError(), TimeoutError()]
)
@timeless
async def test_no_session_is_told_as_the_failure(error: Exception) -> None:
    rig = Rig(mail("u1"))
    rig.maildrop.open_error = error
    report = await rig.run_poll()
    assert report.failure is error
    assert [event.poll_id for event in rig.told(PollStarted)] == [report.poll_id]


@timeless
async def test_a_listing_that_contradicts_itself_touches_no_mail() -> None:
    rig = Rig(mail("u1"))
    rig.maildrop.listing_error = RemoteProtocolError("two messages are number 1")
    report = await rig.run_poll()
    assert report.failure is rig.maildrop.listing_error
    assert rig.effects == ["login"]


@timeless
async def test_a_cut_listing_makes_nothing_gone() -> None:
    rig = Rig(*mails(2))
    rig.to["office"].script = {b"u1": [said(PermanentFailure(Scope.MESSAGE, "554"))]}
    await rig.run_poll()
    rig.maildrop.mails.clear()
    rig.maildrop.complete = False
    await rig.run_poll()
    assert rig.ledger.states()["u1"] == "rejected"
    rig.maildrop.complete = True
    await rig.run_poll()
    assert rig.ledger.states()["u1"] == "gone"


# -- destinations ----------------------------------------------------------------


@timeless
async def test_a_failure_of_the_next_hop_leaves_no_row() -> None:
    rig = Rig(mail("u1"))
    rig.to["office"].script[b"u1"] = [said(Deferred(Scope.NEXT_HOP, "421"))]
    report = await rig.run_poll()
    assert (report.failure, report.deferred, report.waiting) == (None, 1, 1)
    assert (rig.ledger.messages, rig.ledger.deliveries) == ({}, {})
    assert rig.told(MessageDeferred) == []
    report = await rig.run_poll()
    assert (report.relayed, rig.to["office"].submitted[-1].attempt) == (1, 1)


@timeless
async def test_nothing_is_fetched_for_a_route_that_goes_down_meanwhile() -> None:
    rig = Rig(*mails(5)).set(prefetch=1)

    def down(delivery: Delivery) -> None:
        rig.to["office"].available = False
        delivery.done(said(Deferred(Scope.NEXT_HOP, "421")))

    rig.to["office"].submit = down  # type: ignore[method-assign]
    report = await rig.run_poll()
    assert (rig.did("retr"), report.failure, report.waiting) == (["retr u1"], None, 5)


@timeless
async def test_a_delivery_in_doubt_is_written_down_and_told() -> None:
    rig = Rig(mail("u1"))
    rig.to["office"].script[b"u1"] = [said(Deferred(Scope.MESSAGE, "lost at the dot", in_doubt=True))]
    await rig.run_poll()
    row = rig.ledger.delivery("u1", "office")
    assert row is not None
    pause = MESSAGE_BACKOFF.pause_seconds(1, 0.5)
    assert (row.state, row.next_attempt_at) == (DeliveryState.IN_DOUBT, START + pause)
    assert [(event.uidl, event.reason) for event in rig.told(MessageInDoubt)] == [("u1", "lost at the dot")]
    assert rig.did("note", "dele") == ["note u1=deferred office=in-doubt"]


@timeless
async def test_a_refused_message_is_kept_and_not_tried_again() -> None:
    rig = Rig(mail("u1"))
    rig.to["office"].script[b"u1"] = [said(PermanentFailure(Scope.MESSAGE, "554 spam"))]
    report = await rig.run_poll()
    assert (report.rejected, report.waiting, rig.did("dele")) == (1, 1, [])
    assert [event.reason for event in rig.told(MessageRejected)] == ["554 spam"]
    rig.clock.base += 10**6
    rig.effects.clear()
    await rig.run_poll()
    assert rig.effects == ["login", "quit"]


@timeless
async def test_recipients_settled_earlier_are_not_asked_again() -> None:
    rig = Rig(mail("u1"))
    rig.to["office"].script[b"u1"] = [
        said(Deferred(Scope.RECIPIENT, "450 c@x"), accepted_recipients=("a@x",), refused_recipients=("b@x",)),
        said(Delivered("250"), accepted_recipients=("c@x",)),
    ]
    await rig.run_poll()
    rig.clock.base += 3600
    await rig.run_poll()
    first, second = rig.to["office"].submitted
    assert (first.settled_recipients, second.settled_recipients) == (frozenset(), frozenset({"a@x", "b@x"}))
    row = rig.ledger.delivery("u1", "office")
    assert row is not None
    assert (row.state, row.accepted_recipients, row.refused_recipients) == (
        DeliveryState.REJECTED, ("a@x", "c@x"), ("b@x",),
    )  # fmt: skip
    assert rig.did("dele") == []


@pytest.mark.parametrize("when", ["now", "soon"])
@timeless
async def test_destinations_may_answer_at_once_or_later(when: str) -> None:
    rig = Rig(*mails(40), to=("office", "vault")).set(prefetch=3)
    for destination in rig.to.values():
        destination.when = when
    report = await rig.run_poll()
    assert (report.failure, report.relayed, report.deleted) == (None, 40, 40)


@timeless
async def test_a_destination_that_raises_defers_that_message(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(*mails(3), to=("office", "vault"))
    rig.to["office"].when = "now"
    rig.to["office"].script[b"u2"] = [ValueError("a bug")]
    with caplog.at_level(logging.ERROR, "mailferry.bugs"):
        report = await rig.run_poll()
    assert (report.failure, report.relayed, report.deferred) == (None, 2, 1)
    assert "internal error" in rig.ledger.of("u2").reason
    assert "a bug" in caplog.text


@timeless
async def test_a_destination_that_answers_twice_gives_nothing_back_twice(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Twice(FakeDestination):
        def submit(self, delivery: Delivery) -> None:
            super().submit(delivery)
            asyncio.get_running_loop().call_soon(delivery.done, said(Delivered("again")))

    rig = Rig(*mails(3))
    rig.around.destinations["office"] = rig.to["office"] = Twice("office", rig.effects)  # type: ignore[index]
    with caplog.at_level(logging.ERROR, "mailferry.bugs"):
        report = await rig.run_poll()
    assert (report.failure, report.relayed, report.deleted) == (None, 3, 3)
    assert caplog.text.count("twice") == 3


@timeless
async def test_a_message_that_trips_a_bug_is_put_off_and_stops_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    right = arrival.summarise

    def wrong(header: bytes) -> object:
        if b"Subject: u2" in header:
            raise RecursionError("a bug")
        return right(header)

    monkeypatch.setattr(arrival, "summarise", wrong)
    rig = Rig(*mails(3))
    with caplog.at_level(logging.ERROR, "mailferry.bugs"):
        report = await rig.run_poll()
    assert (report.failure, report.relayed) == (None, 2)
    row = rig.ledger.of("u2")
    pause = FETCH_BACKOFF.pause_seconds(1, 0.5)
    assert (row.state, row.fetch_attempts, row.next_fetch_at) == ("deferred", 1, START + pause)
    assert row.reason == "internal error: RecursionError('a bug')"
    assert [event.uidl for event in rig.told(MessageFetchFailed)] == ["u2"]
    assert "message 2 of alice" in caplog.text


@timeless
async def test_a_report_that_trips_a_bug_ends_the_poll_and_not_the_destination(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(*mails(2))

    def wrong(_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(rig.ledger, "note", wrong)
    with caplog.at_level(logging.ERROR, "mailferry.bugs"), pytest.raises(ZeroDivisionError):
        await rig.poll().run()
    assert rig.budget.in_use_octets == 0
    assert rig.did("dele") == []
