"""How a poll ends: told to stop, left waiting, cancelled."""

from __future__ import annotations

import asyncio
import logging

import pytest

from mailferry.events import MessageFetchFailed
from mailferry.model import Deferred, DeliveryReport, Scope
from mailferry.services.poll import LINGER_SECONDS, Poll
from support.fakes import FakeMail, mail
from support.rig import Rig
from support.virtual_time import settle, timeless


def mails(count: int) -> list[FakeMail]:
    return [mail(f"u{n}") for n in range(1, count + 1)]


# -- stop ------------------------------------------------------------------------


@timeless
async def test_stop_before_the_poll_fetches_nothing() -> None:
    rig = Rig(*mails(3))
    poll = rig.poll()
    poll.stop()
    report = await poll.run()
    assert (report.failure, report.waiting) == (None, 3)
    assert rig.effects == ["login", "quit"]


@timeless
async def test_stop_during_the_login_fetches_nothing() -> None:
    rig = Rig(*mails(3))
    poll = rig.poll()

    async def stop() -> None:
        poll.stop()

    rig.maildrop.before_open = stop
    await poll.run()
    assert rig.effects == ["login", "quit"]


@timeless
async def test_stop_while_the_first_rows_are_written_fetches_nothing() -> None:
    rig = Rig(*mails(3))
    poll = rig.poll()
    rig.ledger.held = True
    task = asyncio.create_task(poll.run())
    await settle()
    poll.stop()
    rig.ledger.sync()
    report = await task
    assert (report.failure, rig.effects) == (None, ["login", "quit"])


@timeless
async def test_stop_finishes_what_is_on_its_way() -> None:
    rig = Rig(*mails(9)).set(prefetch=2)
    rig.to["office"].when = "held"
    poll = rig.poll()
    task = asyncio.create_task(poll.run())
    await settle()
    poll.stop()
    poll.stop()
    while rig.to["office"].held:
        rig.to["office"].answer()
    report = await task
    assert rig.did("retr", "submit") == ["retr u1", "retr u2", "submit office u1", "submit office u2"]
    assert (report.failure, report.relayed, report.deleted, report.waiting) == (None, 2, 2, 7)


@timeless
async def test_stop_while_memory_is_awaited_gives_the_place_up() -> None:
    rig = Rig(*mails(2), budget=10)
    assert rig.budget.take(10, lambda: None)
    poll = rig.poll()
    task = asyncio.create_task(poll.run())
    await settle()
    poll.stop()
    report = await task
    assert (report.failure, rig.effects) == (None, ["login", "quit"])
    rig.budget.give_back(10)
    assert rig.budget.in_use_octets == 0


@timeless
async def test_a_link_that_breaks_after_stop_blames_no_message() -> None:
    rig = Rig(*mails(3))
    rig.maildrop.held = True
    poll = rig.poll()
    task = asyncio.create_task(poll.run())
    await settle()
    poll.stop()
    rig.maildrop.dies_at = ("retr", 1)
    rig.maildrop.session.answer()
    report = await task
    assert "reset" in str(report.failure)
    assert (rig.ledger.messages, rig.told(MessageFetchFailed)) == ({}, [])


@timeless
async def test_stop_while_quit_is_awaited_changes_nothing() -> None:
    rig = Rig(mail("u1"))
    rig.maildrop.held = True
    poll = rig.poll()
    task = asyncio.create_task(poll.run())
    for _ in range(2):  # RETR, DELE
        await settle()
        rig.maildrop.session.answer()
    await settle()
    assert rig.effects[-1] == "quit"
    poll.stop()
    rig.maildrop.session.answer()
    report = await task
    assert (report.failure, report.deleted) == (None, 1)


@pytest.mark.parametrize("answers", range(4))
@timeless
async def test_a_cancelled_poll_drops_the_link_blames_nobody_and_gives_memory_back(answers: int) -> None:
    rig = Rig(*mails(3)).set(prefetch=2)
    rig.maildrop.held = True
    task = asyncio.create_task(rig.poll().run())
    for _ in range(answers):
        await settle()
        rig.maildrop.session.answer()
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await settle()
    assert rig.maildrop.session.failure is not None
    assert rig.budget.in_use_octets == 0
    assert rig.told(MessageFetchFailed) == []
    assert len(rig.maildrop.mails) == 3


# -- linger ----------------------------------------------------------------------


async def silent_office(count: int, prefetch: int = 32) -> tuple[Rig, asyncio.Task[object]]:
    rig = Rig(*mails(count)).set(prefetch=prefetch)
    rig.to["office"].when = "held"
    task: asyncio.Task[object] = asyncio.create_task(rig.run_poll())
    await settle()
    return rig, task


@timeless
async def test_a_silent_destination_does_not_hold_the_maildrop() -> None:
    rig, task = await silent_office(1)
    await asyncio.sleep(LINGER_SECONDS - 1)
    assert "quit" not in rig.effects
    await asyncio.sleep(LINGER_SECONDS)
    assert rig.effects[-1] == "quit"
    assert not task.done()  # the turn is not over: another poll would deliver it again
    rig.to["office"].answer()
    await task
    assert rig.did("dele") == []
    assert rig.ledger.states() == {"u1": "delete-pending"}
    report = await rig.run_poll()
    assert (report.deleted, len(rig.to["office"].submitted)) == (1, 1)


@timeless
async def test_a_silent_destination_with_more_to_fetch_does_not_hold_the_maildrop() -> None:
    rig, task = await silent_office(5, prefetch=2)
    await asyncio.sleep(2 * LINGER_SECONDS)
    assert rig.effects[-1] == "quit"
    assert rig.did("retr") == ["retr u1", "retr u2"]
    while rig.to["office"].held:
        rig.to["office"].answer()
    await task
    assert rig.maildrop.session.failure is not None


@timeless
async def test_an_answer_begins_the_wait_anew() -> None:
    rig, task = await silent_office(2)
    for _ in range(2):
        await asyncio.sleep(LINGER_SECONDS - 1)
        assert "quit" not in rig.effects
        rig.to["office"].answer()
    await task
    assert rig.did("dele") == ["dele u1", "dele u2"]


@timeless
async def test_a_slow_server_is_not_taken_for_a_silent_destination() -> None:
    rig = Rig(mail("u1"))
    rig.maildrop.held = True
    task = asyncio.create_task(rig.run_poll())
    await asyncio.sleep(10 * LINGER_SECONDS)
    assert rig.did("quit") == []
    rig.maildrop.held = False
    rig.maildrop.session.answer()
    assert (await task).deleted == 1


@timeless
async def test_what_is_accepted_while_quit_is_awaited_is_not_marked_any_more() -> None:
    rig, task = await silent_office(1)
    rig.maildrop.held = True
    await asyncio.sleep(2 * LINGER_SECONDS)
    assert rig.effects[-1] == "quit"
    rig.to["office"].answer()
    await settle()
    assert rig.did("dele") == []
    rig.maildrop.session.answer()
    await task
    assert rig.ledger.states() == {"u1": "delete-pending"}


@timeless
async def test_a_refusal_after_the_session_ended_is_written_down() -> None:
    rig, task = await silent_office(1)
    await asyncio.sleep(2 * LINGER_SECONDS)
    rig.to["office"].answer(DeliveryReport(Deferred(Scope.MESSAGE, "451")))
    await task
    assert rig.ledger.of("u1").reason == "451"


@timeless
async def test_a_ledger_that_is_silent_does_not_hold_the_maildrop() -> None:
    rig = Rig(mail("u1"))
    rig.to["office"].when = "held"
    task = asyncio.create_task(rig.run_poll())
    await settle()
    rig.ledger.held = True
    rig.to["office"].answer()
    await asyncio.sleep(2 * LINGER_SECONDS)
    assert rig.effects[-1] == "quit"
    rig.ledger.held = False
    rig.ledger.sync()
    await task
    assert rig.did("dele") == []


# -- a fault of ours -------------------------------------------------------------


@timeless
async def test_a_fault_of_ours_leaves_poll_with_its_counts_and_without_blame(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(*mails(3)).set(prefetch=2)
    rig.to["office"].when = "held"

    async def wrong(self: Poll, pipeline: object) -> None:
        await settle()
        rig.to["office"].answer()
        await settle()
        raise LookupError("a bug")

    monkeypatch.setattr(Poll, "_wait_for", wrong)
    poll = rig.poll()
    with caplog.at_level(logging.ERROR), pytest.raises(LookupError):
        await poll.run()
    assert poll.report.relayed == 1
    await settle()
    assert rig.told(MessageFetchFailed) == []
