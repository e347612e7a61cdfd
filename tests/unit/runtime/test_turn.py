from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import pytest

from mailferry.errors import (
    AuthenticationRejectedError,
    ConnectError,
    LoginDelayedError,
    MailferryError,
)
from mailferry.events import MaildropAuthRejected, MaildropRecovered, PollFailed, PollFinished
from mailferry.model import (
    Deferred,
    Delivery,
    DeliveryReport,
    FetchedMessage,
    MessageId,
    Scope,
    StandingKind,
    StandingRecord,
    Summary,
    Uidl,
)
from mailferry.policy.backoff import AUTH_BACKOFF, MAILDROP_BACKOFF
from mailferry.runtime.caps import SessionCaps
from mailferry.runtime.turn import Maildrop, Turns, without_pause
from mailferry.services.poll import LINGER_SECONDS
from mailferry.services.route import Route, RouteStandings
from support.fakes import ALICE, FakeDestination, mail
from support.rig import Rig
from support.virtual_time import START, settle, timeless

FIRST_PAUSE = MAILDROP_BACKOFF.pause_seconds(1, 0.5)


def turns_of(rig: Rig, standing: StandingRecord | None = None, caps: SessionCaps | None = None) -> Turns:
    maildrop = Maildrop(rig.policy, rig.maildrop)
    return Turns(maildrop, rig.around, caps or SessionCaps(10, 10), RouteStandings({}), standing)


def turns_with_a_route(rig: Rig) -> tuple[Turns, RouteStandings]:
    """A maildrop whose route has just been paused."""
    inner = FakeDestination("office", [], when="now")
    inner.script[b"u1"] = [DeliveryReport(Deferred(Scope.NEXT_HOP, "421 no"))]
    route = Route(inner, rig.events.append, rig.clock, lambda: 0.5)
    message = FetchedMessage(ALICE, MessageId(1), Uidl(b"u1"), b"", b"", b"", "", Summary(), 0.0, "", "")
    route.submit(Delivery(message, lambda _: None))
    routes = RouteStandings({route.name: route})
    return Turns(Maildrop(rig.policy, rig.maildrop), rig.around, SessionCaps(1, 1), routes, None), routes


async def take(turns: Turns, *, despite_pause: bool = False) -> None:
    task = turns.start(despite_pause=despite_pause)
    assert task is not None, "no turn was begun"
    await task


def failing(error: Exception) -> tuple[Rig, Turns]:
    rig = Rig(mail("u1"))
    rig.maildrop.open_error = error
    return rig, turns_of(rig)


def logins(rig: Rig) -> int:
    return rig.effects.count("login")


@timeless
async def test_a_turn_polls_tells_and_is_remembered() -> None:
    rig = Rig(mail("u1"), mail("u2"))
    turns = turns_of(rig)
    await take(turns)
    (finished,) = rig.told(PollFinished)
    assert (finished.maildrop, finished.result) == ("alice", "ok")
    assert (finished.listed, finished.relayed, finished.deleted, finished.waiting) == (2, 2, 2, 0)
    assert finished.maildrop_octets > 0
    assert rig.told(PollFailed) == []
    assert rig.ledger.standing_rows == {(StandingKind.MAILDROP, "alice"): turns.standing}
    assert turns.standing == StandingRecord(StandingKind.MAILDROP, "alice", START, not_before=START)
    assert not turns.running


@timeless
async def test_there_are_never_two_turns_at_once() -> None:
    rig = Rig(mail("u1"))
    rig.to["office"].when = "held"
    turns = turns_of(rig)
    task = turns.start()
    assert turns.running
    assert turns.start() is None
    await settle()
    assert turns.start(despite_pause=True) is None
    rig.to["office"].answer()
    assert task is not None
    await task
    assert logins(rig) == 1
    await take(turns)
    assert logins(rig) == 2


@timeless
async def test_routes_that_changed_are_remembered_with_the_turn() -> None:
    rig = Rig()
    turns, routes = turns_with_a_route(rig)
    await take(turns)
    assert rig.ledger.standing_rows[StandingKind.DESTINATION, "office"].consecutive_failures == 1
    assert routes.changed() == []


@timeless
async def test_a_change_of_a_route_that_could_not_be_written_is_written_with_the_next_turn() -> None:
    rig = Rig()
    turns, routes = turns_with_a_route(rig)
    rig.ledger.fails = lambda _: True
    await take(turns)
    assert (rig.ledger.standing_rows, len(routes.changed())) == ({}, 1)
    rig.ledger.fails = lambda _: False
    await take(turns)
    assert rig.ledger.standing_rows[StandingKind.DESTINATION, "office"].consecutive_failures == 1


# -- pauses ----------------------------------------------------------------------


@timeless
async def test_a_failure_pauses_the_maildrop_longer_each_time() -> None:
    rig, turns = failing(ConnectError("refused"))
    for failures in (1, 2, 3):
        pause = MAILDROP_BACKOFF.pause_seconds(failures, 0.5)
        now = rig.clock()
        await take(turns, despite_pause=True)
        failed = rig.told(PollFailed)[-1]
        assert (failed.result, failed.error, failed.failures) == ("connect_failed", "refused", failures)
        assert failed.not_before == turns.standing.not_before == now + pause
    assert turns.standing.last_error == "connect_failed: refused"
    assert (turns.standing.last_success_at, turns.standing.last_error_at) == (None, START)
    assert [event.result for event in rig.told(PollFinished)] == ["connect_failed"] * 3


@timeless
async def test_no_turn_before_the_pause_is_over_unless_a_person_wants_it() -> None:
    rig, turns = failing(ConnectError("refused"))
    await take(turns)
    assert turns.start() is None
    rig.maildrop.open_error = None
    await take(turns, despite_pause=True)
    assert logins(rig) == 1


@timeless
async def test_a_turn_that_came_too_early_is_taken_when_the_pause_is_over() -> None:
    rig, turns = failing(ConnectError("refused"))
    await take(turns)
    rig.maildrop.open_error = None
    for _ in range(3):
        assert turns.start() is None
    await asyncio.sleep(FIRST_PAUSE - 0.1)
    assert logins(rig) == 0
    await asyncio.sleep(0.2)
    await settle()
    assert logins(rig) == 1
    await asyncio.sleep(10**6)
    assert logins(rig) == 1


@timeless
async def test_a_turn_forgets_the_one_that_came_too_early() -> None:
    rig, turns = failing(ConnectError("refused"))
    await take(turns)
    rig.maildrop.open_error = None
    assert turns.start() is None
    await take(turns, despite_pause=True)
    await asyncio.sleep(10**6)
    assert logins(rig) == 1


@timeless
async def test_after_stop_no_turn_is_taken_late() -> None:
    rig, turns = failing(ConnectError("refused"))
    await take(turns)
    rig.maildrop.open_error = None
    assert turns.start() is None
    turns.stop()
    await asyncio.sleep(10**6)
    assert logins(rig) == 0


@timeless
async def test_a_refused_password_slows_down_and_calls_a_person() -> None:
    rig, turns = failing(AuthenticationRejectedError("[AUTH] no"))
    await take(turns)
    assert turns.standing.not_before == START + AUTH_BACKOFF.pause_seconds(1, 0.5)
    assert [(e.error, e.failures) for e in rig.told(MaildropAuthRejected)] == [("[AUTH] no", 1)]


@timeless
async def test_another_failure_calls_nobody() -> None:
    rig, turns = failing(ConnectError("refused"))
    await take(turns)
    assert rig.told(MaildropAuthRejected) == []


@timeless
async def test_a_login_that_was_too_early_waits_as_long_as_the_server_wants() -> None:
    _, turns = failing(LoginDelayedError("[LOGIN-DELAY]", 900.0))
    await take(turns)
    assert turns.standing.not_before == START + 900


@timeless
async def test_login_delay_is_respected_after_a_success() -> None:
    rig = Rig()
    rig.maildrop.traits = replace(rig.maildrop.traits, login_delay_seconds=600.0)
    turns = turns_of(rig)
    await take(turns)
    assert (turns.standing.not_before, turns.standing.login_delay_seconds) == (START + 600, 600.0)
    assert turns.start() is None
    rig.maildrop.traits = replace(rig.maildrop.traits, login_delay_seconds=None)
    await take(turns, despite_pause=True)
    assert (turns.standing.not_before, turns.standing.login_delay_seconds) == (START, 0.0)


@timeless
async def test_login_delay_is_respected_after_a_poll_that_failed_later() -> None:
    rig = Rig(mail("u1"))
    rig.maildrop.traits = replace(rig.maildrop.traits, login_delay_seconds=600.0)
    rig.maildrop.dies_at = ("retr", 1)
    turns = turns_of(rig)
    await take(turns)
    assert turns.standing.not_before == START + 600 > START + FIRST_PAUSE


@timeless
async def test_a_maildrop_that_answers_again_is_told_once() -> None:
    rig, turns = failing(ConnectError("refused"))
    await take(turns)
    await take(turns, despite_pause=True)
    rig.maildrop.open_error = None
    for _ in range(2):
        await take(turns, despite_pause=True)
    assert [event.failures for event in rig.told(MaildropRecovered)] == [2]
    assert (turns.standing.consecutive_failures, turns.standing.last_success_at) == (0, START)


@timeless
async def test_a_pause_outlives_a_restart() -> None:
    rig = Rig()
    standing = StandingRecord(StandingKind.MAILDROP, "alice", 1.0, 2.0, "timeout: x", 3, START + 50)
    turns = turns_of(rig, standing)
    assert turns.start() is None
    await asyncio.sleep(51)
    await settle()
    assert logins(rig) == 1
    assert [event.failures for event in rig.told(MaildropRecovered)] == [3]


@timeless
async def test_a_long_error_is_cut() -> None:
    _, turns = failing(ConnectError("x" * 5000))
    await take(turns)
    assert len(turns.standing.last_error) == 1000


@timeless
async def test_an_error_without_words_is_told_by_its_kind() -> None:
    rig, turns = failing(ConnectionResetError())
    await take(turns)
    assert rig.told(PollFailed)[0].error == "ConnectionResetError"


# -- faults of ours, and of the ledger -------------------------------------------


@timeless
async def test_a_bug_stays_the_trouble_of_one_maildrop(caplog: pytest.LogCaptureFixture) -> None:
    rig, turns = failing(ZeroDivisionError("a bug"))
    with caplog.at_level(logging.ERROR, "mailferry.bugs"):
        await take(turns)
    assert "poll of alice" in caplog.text
    assert [event.result for event in rig.told(PollFinished)] == ["internal_error"]
    assert turns.standing.not_before == START + FIRST_PAUSE
    assert not turns.running


@timeless
async def test_a_standing_that_cannot_be_written_is_kept_in_memory() -> None:
    rig, turns = failing(ConnectError("refused"))

    def all_fail(_: object) -> bool:
        return True

    rig.ledger.fails = all_fail
    await take(turns)
    assert rig.ledger.standing_rows == {}
    rig.ledger.fails = lambda _: False
    await take(turns, despite_pause=True)
    assert rig.ledger.standing_rows[StandingKind.MAILDROP, "alice"].consecutive_failures == 2


# -- a clock that is set back --------------------------------------------------------


@timeless
async def test_a_pause_that_no_pause_can_be_holds_nobody() -> None:
    rig, turns = failing(AuthenticationRejectedError("no"))
    await take(turns)
    rig.clock.base -= 600
    assert turns.start() is None, "it may be ten minutes more"
    rig.clock.base -= 86_400
    await take(turns)
    assert len(rig.told(PollFailed)) == 2


@timeless
async def test_a_pause_that_the_server_wants_may_be_longer_than_any_of_ours() -> None:
    rig, turns = failing(LoginDelayedError("once a day", 86_400.0))
    await take(turns)
    assert turns.start() is None
    assert turns.standing.login_delay_seconds == 86_400.0
    rig.clock.base -= 1
    assert turns.start() is None
    rig.clock.base -= 600
    await take(turns)


# -- places ----------------------------------------------------------------------


@timeless
async def test_a_turn_waits_for_its_place_and_holds_it_to_the_end() -> None:
    rig = Rig(mail("u1"))
    rig.to["office"].when = "held"
    caps = SessionCaps(1, 1)
    turns, other = turns_of(rig, caps=caps), turns_of(Rig(), caps=caps)
    turns.start()
    second = other.start()
    await settle()
    assert (caps.in_use, caps.waiting) == (1, 1)
    rig.to["office"].answer()
    assert second is not None
    await second
    assert (caps.in_use, caps.waiting) == (0, 0)


@timeless
async def test_who_is_stopped_while_waiting_for_a_place_waits_no_longer() -> None:
    rig, caps = Rig(mail("u1")), SessionCaps(1, 1)
    turns = turns_of(rig, caps=caps)
    async with caps.place(rig.policy.server):
        turns.start()
        await settle()
        turns.stop()
        assert await turns.wait_ended(30)
    assert (rig.effects, rig.events) == ([], [])
    assert not turns.running


# -- the end ---------------------------------------------------------------------


@timeless
async def test_stop_lets_what_is_under_way_finish() -> None:
    rig = Rig(*(mail(f"u{n}") for n in range(9))).set(prefetch=2)
    rig.to["office"].when = "held"
    turns = turns_of(rig)
    turns.start()
    await settle()
    turns.stop()
    ended = asyncio.create_task(turns.wait_ended(30))
    await settle()
    assert not ended.done()
    while rig.to["office"].held:
        rig.to["office"].answer()
    assert await ended
    (finished,) = rig.told(PollFinished)
    assert (finished.result, finished.relayed, finished.deleted) == ("ok", 2, 2)
    assert turns.start() is None


@timeless
async def test_stop_does_not_wait_for_a_server_that_says_nothing() -> None:
    rig = Rig(mail("u1"))

    async def for_ever() -> None:
        await asyncio.sleep(10**6)

    rig.maildrop.before_open = for_ever
    turns = turns_of(rig)
    turns.start()
    await settle()
    turns.stop()
    assert await turns.wait_ended(30)
    assert rig.clock() == START
    assert [event.result for event in rig.told(PollFinished)] == ["stopped"]
    assert turns.standing.consecutive_failures == 0


@timeless
async def test_stop_waits_for_quit_since_deletions_are_at_stake() -> None:
    rig = Rig(mail("u1"))
    rig.maildrop.held = True
    turns = turns_of(rig)
    turns.start()
    for _ in range(2):  # RETR, DELE
        await settle()
        rig.maildrop.session.answer()
    await settle()
    assert rig.effects[-1] == "quit"
    turns.stop()
    ended = asyncio.create_task(turns.wait_ended(30))
    await settle()
    rig.maildrop.session.answer()
    assert await ended
    assert rig.ledger.states() == {"u1": "gone"}


@timeless
async def test_at_the_deadline_a_turn_is_cancelled_and_says_so() -> None:
    rig = Rig(mail("u1"))
    rig.to["office"].when = "held"
    turns = turns_of(rig)
    turns.start()
    await settle()
    turns.stop()
    assert not await turns.wait_ended(5)
    assert rig.clock() == START + 5
    assert [event.result for event in rig.told(PollFinished)] == ["stopped"]
    assert rig.told(PollFailed) == []
    assert turns.standing.consecutive_failures == 0
    assert not turns.running
    assert rig.maildrop.session.failure is not None


@pytest.mark.parametrize("deadline", [0.0, -3.0])
@timeless
async def test_a_deadline_that_is_over_cancels_at_once(deadline: float) -> None:
    rig = Rig(mail("u1"))
    rig.maildrop.held = True
    turns = turns_of(rig)
    turns.start()
    await settle()
    turns.stop()
    assert not await turns.wait_ended(deadline)
    assert rig.clock() == START


@timeless
async def test_without_a_turn_there_is_nothing_to_wait_for() -> None:
    turns = turns_of(Rig())
    turns.stop()
    assert await turns.wait_ended(0)
    assert turns.name == ALICE


@timeless
async def test_the_task_hands_the_report_to_who_began_the_turn() -> None:
    rig, turns = failing(MailferryError("x"))
    task = turns.start()
    assert task is not None
    report = await task
    assert report is not None
    assert report.failure is rig.maildrop.open_error


@timeless
async def test_the_place_is_free_once_the_session_has_ended_though_a_destination_is_silent() -> None:
    rig, caps = Rig(mail("u1")), SessionCaps(1, 1)
    rig.to["office"].when = "held"
    turns = turns_of(rig, caps=caps)
    turns.start()
    await settle()
    assert caps.in_use == 1
    await asyncio.sleep(3 * LINGER_SECONDS)
    assert turns.running, "the delivery is still under way"
    assert caps.in_use == 0
    turns.stop()
    await turns.wait_ended(1)


# -- a reload --------------------------------------------------------------------


@timeless
async def test_what_has_failed_is_tried_again_when_its_password_was_written_anew() -> None:
    rig, turns = failing(AuthenticationRejectedError("535 no"))
    await take(turns)
    assert turns.standing.not_before > START
    rig.maildrop.open_error = None
    turns.try_again()
    assert turns.running
    await turns.ended()
    assert (turns.standing.consecutive_failures, turns.running) == (0, False)
    turns.try_again()
    assert not turns.running, "what goes well has its own time"


@timeless
async def test_a_password_that_is_written_anew_while_a_turn_ends_is_tried_after_it() -> None:
    rig, turns = failing(AuthenticationRejectedError("535 no"))
    rig.ledger.held = True
    first = turns.start()
    assert first is not None
    await settle()
    assert rig.told(MaildropAuthRejected), "told, while its row is on the way"
    turns.try_again()
    rig.ledger.held = False
    rig.ledger.sync()
    await first
    assert turns.running, "its next turn would be hours away"
    await turns.ended()
    assert len(rig.told(PollFinished)) == 2
    assert not turns.running, "once"


def test_a_pause_that_the_server_wants_outlives_the_failure() -> None:
    standing = StandingRecord(
        StandingKind.MAILDROP,
        "alice",
        last_success_at=START - 100,
        last_error_at=START,
        consecutive_failures=3,
        not_before=START + 9000,
    )
    assert without_pause(standing).not_before == 0.0
    assert without_pause(replace(standing, login_delay_seconds=60.0)).not_before == START + 60
