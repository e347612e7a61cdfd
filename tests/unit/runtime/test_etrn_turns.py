"""When a server is asked: gaps, back-off, listeners, restarts, all in virtual time."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from mailferry.errors import HopAuthenticationError, StoreError
from mailferry.events import (
    EtrnAcceptedButSilent,
    EtrnAnswered,
    EtrnDelayed,
    EtrnFailed,
    EtrnMailCame,
    EtrnPostponed,
    EtrnRecovered,
    EtrnRefused,
    EtrnResumed,
    EtrnUnanswered,
    EtrnUnusable,
)
from mailferry.model import StandingKind, StandingRecord
from mailferry.policy.etrn import standing_name
from mailferry.runtime.etrn_turns import EtrnTurns
from support.fake_etrn import NODES, EtrnRig, FakeListener, lost
from support.virtual_time import START, settle, timeless

A, B, C = NODES
GAP = 300.0


async def after(seconds: float) -> None:
    await asyncio.sleep(seconds)
    await settle()


async def ended(turns: EtrnTurns) -> None:
    turns.stop()
    assert await turns.wait_ended(1.0)


# -- what is remembered ---------------------------------------------------------------


@timeless
async def test_a_tick_asks_for_every_node_and_the_ledger_remembers() -> None:
    rig = EtrnRig()
    turns = rig.turns()
    assert turns.last_attempt_at is None
    await rig.round(turns)
    assert rig.server.nodes_asked == list(NODES)
    assert rig.events == [EtrnAnswered("head-office", node, "started", "250 2.0.0 started") for node in NODES]
    assert rig.standing(A) == StandingRecord(
        StandingKind.ETRN,
        standing_name("head-office", A),
        last_success_at=START,
        not_before=START + GAP,
        last_attempt_at=START,
        last_reply="250 2.0.0 started",
    )
    assert rig.standing().last_success_at == START
    assert (turns.last_attempt_at, turns.running) == (START, False)
    await ended(turns)


@timeless
async def test_a_number_of_pending_messages_is_told() -> None:
    rig = EtrnRig(A)
    rig.server.says = {A: ["253 14 pending messages"]}
    turns = rig.turns()
    await rig.round(turns)
    assert rig.told(EtrnAnswered)[0].pending == 14


@timeless
async def test_a_refusal_is_remembered_beside_the_last_success() -> None:
    rig = EtrnRig(A, min_gap_seconds=0.0)
    rig.server.says = {A: ["250 ok", "459 not allowed"]}
    turns = rig.turns()
    await rig.round(turns)
    await after(60)
    await rig.round(turns)
    standing = rig.standing(A)
    assert (standing.last_success_at, standing.last_attempt_at) == (START, START + 60)
    assert (standing.last_error, standing.last_reply) == ("refused: 459 not allowed", "459 not allowed")
    assert (standing.consecutive_failures, standing.not_before) == (1, START + 60 + 3600)
    await ended(turns)


# -- the gap ----------------------------------------------------------------------------


@timeless
async def test_no_node_is_asked_for_twice_within_the_gap() -> None:
    rig = EtrnRig(A)
    turns = rig.turns()
    await rig.round(turns)
    await after(10)
    await rig.round(turns)  # a cron of every minute, say
    assert len(rig.server.asked) == 1
    await after(GAP - 10)  # but the request is not forgotten
    assert len(rig.server.asked) == 2
    await after(10 * GAP)
    assert len(rig.server.asked) == 2


@timeless
async def test_the_gap_outlives_a_restart() -> None:
    rig = EtrnRig(A)
    first = rig.turns()
    await rig.round(first)
    await ended(first)
    await after(100)
    again = rig.turns()
    assert again.last_attempt_at == START
    await rig.round(again)
    assert len(rig.server.asked) == 1
    await after(GAP - 100)
    assert len(rig.server.asked) == 2
    await ended(again)


@timeless
async def test_what_a_command_has_asked_beside_it_counts() -> None:
    rig = EtrnRig(A, B)
    turns = rig.turns()
    await rig.round(turns)
    await after(GAP)
    now = rig.clock()
    by_hand = replace(rig.standing(A), last_attempt_at=now, last_success_at=now, not_before=now + GAP)
    await rig.ledger.save([by_hand])
    await rig.round(turns)
    assert rig.server.nodes_asked == [A, B, B]
    assert rig.standing(A) == by_hand


@timeless
async def test_a_server_that_a_command_has_reached_is_not_paused_any_more() -> None:
    rig = EtrnRig(A)
    rig.server.opens = [HopAuthenticationError("535 no")]
    turns = rig.turns()
    await rig.round(turns)
    await after(30)
    well = replace(rig.standing(), last_success_at=rig.clock(), consecutive_failures=0, not_before=0.0)
    await rig.ledger.save([well])
    await rig.round(turns)
    assert rig.server.nodes_asked == [A]
    assert rig.told(EtrnResumed) == [EtrnResumed("head-office", 1)]
    await ended(turns)


@timeless
async def test_a_clock_that_was_set_back_holds_nobody_up() -> None:
    rig = EtrnRig(A)
    turns = rig.turns()
    await rig.round(turns)
    rig.clock.base -= 10 * 86400
    await rig.round(turns)
    assert len(rig.server.asked) == 2
    await ended(turns)


@timeless
async def test_a_node_that_a_command_has_asked_for_with_success_has_recovered() -> None:
    rig = EtrnRig(A)
    rig.server.says = {A: ["459 no"]}
    turns = rig.turns()
    await rig.round(turns)
    await after(30)
    now = rig.clock()
    mended = replace(rig.standing(A), last_attempt_at=now, last_success_at=now, consecutive_failures=0)
    await rig.ledger.save([replace(mended, not_before=now + GAP)])
    await rig.round(turns)
    assert rig.told(EtrnRecovered) == [EtrnRecovered("head-office", A, 1)]
    assert len(rig.server.asked) == 1
    await after(3600)
    await rig.round(turns)
    assert len(rig.server.asked) == 2
    assert len(rig.told(EtrnRefused)) == 2  # it is news again
    await ended(turns)


# -- back-off of a node ---------------------------------------------------------------


@timeless
async def test_a_458_is_asked_again_ever_later_and_told_once() -> None:
    rig = EtrnRig(A, B, min_gap_seconds=0.0)
    rig.server.says = {A: ["458 busy", "458 busy", "458 busy", "250 ok"]}
    turns = rig.turns()
    await rig.round(turns)
    for pause, asked in ((120, 2), (240, 3), (480, 4)):
        await after(pause - 1)
        assert rig.server.nodes_asked.count(A) == asked - 1
        await after(1)
        assert rig.server.nodes_asked.count(A) == asked
    assert rig.told(EtrnDelayed) == [EtrnDelayed("head-office", A, "unable", "458 busy", 1, START + 120)]
    assert rig.told(EtrnRecovered) == [EtrnRecovered("head-office", A, 3)]
    assert rig.server.nodes_asked.count(B) == 1
    await after(86400)
    assert rig.server.nodes_asked.count(A) == 4  # accepted: until the next tick


@timeless
async def test_the_back_off_is_never_shorter_than_the_gap() -> None:
    rig = EtrnRig(A)
    rig.server.says = {A: ["458 busy"]}
    turns = rig.turns()
    await rig.round(turns)
    await after(GAP - 1)
    assert len(rig.server.asked) == 1
    await after(1)
    assert len(rig.server.asked) == 2
    await ended(turns)


@pytest.mark.parametrize(
    ("said", "word", "hint"),
    [
        ("459 no", "refused", "fast_flush_domains"),
        ("502 no", "not_offered", "switched it off"),
        ("501 no", "refused", "spelling"),
        ("530 login", "refused", "operator"),
    ],
)
def test_a_refusal_needs_a_person_and_is_tried_again_slowly(said: str, word: str, hint: str) -> None:
    @timeless
    async def check() -> None:
        rig = EtrnRig(A, B)
        rig.server.says = {A: [said]}
        turns = rig.turns()
        await rig.round(turns)
        for _ in range(20):  # ticks go on meanwhile
            await after(170)
            await rig.round(turns)
        assert rig.server.nodes_asked.count(A) == 1
        assert rig.server.nodes_asked.count(B) > 5
        await after(400)
        assert rig.server.nodes_asked.count(A) == 2
        (event,) = rig.told(EtrnRefused)
        assert (event.node, event.result, event.reply, event.failures) == (A, word, said, 1)
        assert hint in event.advice
        assert len(rig.told(EtrnAnswered)) == len(rig.server.asked)
        await ended(turns)

    check()


@timeless
async def test_another_way_of_refusing_is_news() -> None:
    rig = EtrnRig(A, min_gap_seconds=0.0)
    rig.server.says = {A: ["458 busy", "459 no", "459 no", "458 busy", "250 ok", "458 busy"]}
    turns = rig.turns()
    await rig.round(turns)
    for _ in range(6):
        await after(20 * 3600)
        await rig.round(turns)
    told = [event.name for event in rig.events if event.name != "etrn.answered"]
    assert told == ["etrn.delayed", "etrn.refused", "etrn.delayed", "etrn.recovered", "etrn.delayed"]
    await ended(turns)


@timeless
async def test_a_streak_goes_on_after_a_restart_and_is_told_again() -> None:
    rig = EtrnRig(A, min_gap_seconds=0.0)
    rig.server.says = {A: ["458 busy"]}
    first = rig.turns()
    await rig.round(first)
    await after(120)
    await ended(first)
    again = rig.turns()
    await rig.round(again)
    assert len(rig.server.asked) == 2  # 240 s of pause are left from before
    await after(240)
    assert len(rig.server.asked) == 3
    assert rig.standing(A).consecutive_failures == 3
    assert rig.standing(A).not_before == rig.clock() + 480
    assert len(rig.told(EtrnDelayed)) == 2
    await ended(again)


@timeless
async def test_a_node_at_which_sessions_end_is_put_off_alone() -> None:
    rig = EtrnRig()
    rig.server.says = {A: [lost()]}
    turns = rig.turns()
    await rig.round(turns)
    assert rig.server.nodes_asked == [A, B, C, A]
    assert rig.told(EtrnUnanswered) == [EtrnUnanswered("head-office", A, "connection_lost")]
    (event,) = rig.told(EtrnDelayed)
    assert (event.node, event.result) == (A, "connection_lost")
    assert rig.told(EtrnFailed) == []
    assert rig.standing(A).last_reply == ""
    await ended(turns)


# -- back-off of the server --------------------------------------------------------------


@timeless
async def test_a_server_that_is_away_is_tried_again_and_told_once() -> None:
    rig = EtrnRig()
    rig.server.refuse_connections(3)
    turns = rig.turns()
    await rig.round(turns)
    assert rig.told(EtrnFailed) == [
        EtrnFailed("head-office", "connect_failed", "mx: cannot connect: refused", 1, START + 60)
    ]
    assert [event.node for event in rig.told(EtrnUnanswered)] == list(NODES)
    await after(60)
    await after(120)
    assert (rig.server.asked, rig.standing().consecutive_failures) == ([], 3)
    await after(240)
    assert rig.server.nodes_asked == list(NODES)
    assert len(rig.told(EtrnFailed)) == 1
    assert rig.told(EtrnResumed) == [EtrnResumed("head-office", 3)]
    assert rig.standing(A).consecutive_failures == 0  # it was never refused


@timeless
async def test_ticks_do_not_shorten_the_pause_of_a_server() -> None:
    rig = EtrnRig(A)
    rig.server.opens = [HopAuthenticationError("535 no") for _ in range(99)]
    turns = rig.turns()
    for _ in range(60):
        await rig.round(turns)
        await after(60)
    assert len(rig.server.opens) == 99 - 3  # at 0, 10 and 30 minutes: accounts get locked
    (event,) = rig.told(EtrnUnusable)
    assert (event.result, event.error, event.failures) == ("auth_rejected", "535 no", 1)
    await ended(turns)


@timeless
async def test_a_server_without_etrn_is_told_apart_from_one_that_refuses() -> None:
    rig = EtrnRig(A)
    rig.server.traits = replace(rig.server.traits, offered=False)
    turns = rig.turns()
    await rig.round(turns)
    (event,) = rig.told(EtrnUnusable)
    assert event.result == "not_offered"
    assert rig.told(EtrnRefused) == []
    assert rig.told(EtrnUnanswered) == [EtrnUnanswered("head-office", A, "not_offered")]
    assert rig.standing().not_before == START + 3600
    await ended(turns)


@timeless
async def test_what_a_dropped_session_left_is_asked_later() -> None:
    rig = EtrnRig()
    rig.server.says = {node: ["421 down", "250 up"] for node in NODES}
    turns = rig.turns()
    await rig.round(turns)
    assert rig.told(EtrnFailed)[0].result == "unavailable"
    assert rig.told(EtrnAnswered) == []
    await after(60)
    assert {event.node for event in rig.told(EtrnAnswered)} == set(NODES)
    await ended(turns)


@timeless
async def test_a_fault_of_ours_is_one_servers_trouble(caplog: pytest.LogCaptureFixture) -> None:
    rig = EtrnRig(A)
    original = rig.server.open

    async def broken() -> object:
        rig.server.open = original  # type: ignore[method-assign]
        raise ZeroDivisionError("secret")

    rig.server.open = broken  # type: ignore[method-assign, assignment]
    turns = rig.turns()
    await rig.round(turns)
    (event,) = rig.told(EtrnFailed)
    assert (event.result, event.error) == ("internal_error", "ZeroDivisionError")
    assert "etrn head-office" in caplog.text
    await after(60)
    assert rig.server.nodes_asked == [A]


# -- our own listener ----------------------------------------------------------------------


@timeless
async def test_nothing_is_asked_while_nobody_listens() -> None:
    listener = FakeListener()
    listener.says = "mx.example.org:25: cannot connect"
    rig = EtrnRig(A, B, listener=listener)
    turns = rig.turns()
    await rig.round(turns)
    for _ in range(5):
        await after(60)
    assert (rig.server.sessions, listener.looks) == (0, 6)
    assert rig.told(EtrnPostponed) == [EtrnPostponed("head-office", listener.says, START + 60)]
    assert {event.result for event in rig.told(EtrnUnanswered)} == {"postponed"}
    assert rig.standing().last_error == f"postponed: {listener.says}"
    listener.says = ""
    await after(60)
    assert rig.server.nodes_asked == [A, B]
    assert rig.told(EtrnResumed) == [EtrnResumed("head-office", 6)]


@timeless
async def test_a_start_looks_for_our_listener_at_once() -> None:
    listener = FakeListener()
    listener.says = "nobody"
    rig = EtrnRig(A, listener=listener)
    first = rig.turns()
    await rig.round(first)
    await ended(first)
    listener.says = ""
    again = rig.turns()
    await rig.round(again)
    assert rig.server.nodes_asked == [A]
    assert rig.told(EtrnResumed) == [EtrnResumed("head-office", 1)]
    await ended(again)


@timeless
async def test_a_server_that_fails_once_we_listen_again_is_told() -> None:
    listener = FakeListener()
    listener.says = "nobody"
    rig = EtrnRig(A, listener=listener)
    rig.server.refuse_connections(1)
    turns = rig.turns()
    await rig.round(turns)
    listener.says = ""
    await after(60)
    names = [event.name for event in rig.events if event.name != "etrn.unanswered"]
    assert names == ["etrn.postponed", "etrn.resumed", "etrn.failed"]
    await ended(turns)


# -- others ------------------------------------------------------------------------------------


@timeless
async def test_a_tick_during_a_round_begins_no_second_one() -> None:
    rig = EtrnRig(A)
    rig.server.stalls = {A}
    turns = rig.turns()
    await rig.round(turns)
    await rig.round(turns)
    assert (rig.server.sessions, turns.running) == (1, True)
    await ended(turns)


@timeless
async def test_a_stop_ends_a_stalled_session_at_once_and_keeps_what_was_said() -> None:
    rig = EtrnRig()
    rig.server.stalls = {B}
    turns = rig.turns()
    await rig.round(turns)
    turns.stop()
    assert await turns.wait_ended(0.5)
    assert rig.server.open_now == 0
    assert rig.standing(A).last_success_at == START
    turns.start()
    await after(86400)
    assert rig.server.sessions == 1


@timeless
async def test_one_server_is_asked_by_one_session_at_a_time() -> None:
    rig = EtrnRig(A)
    rig.server.stalls = {A}
    other = EtrnRig(B)
    other.caps, other.server = rig.caps, rig.server
    first, second = rig.turns(), other.turns()
    await rig.round(first)
    await rig.round(second)
    assert rig.server.most_open == 1
    await ended(first)
    await settle()
    assert rig.server.nodes_asked == [A, B]
    await ended(second)


@timeless
async def test_a_ledger_that_cannot_be_written_or_read_stops_nothing() -> None:
    rig = EtrnRig(A, min_gap_seconds=0.0)
    turns = rig.turns()
    rig.ledger.raises = True

    async def unreadable() -> dict[tuple[StandingKind, str], StandingRecord]:
        raise StoreError("disk")

    rig.ledger.standings = unreadable  # type: ignore[method-assign]
    await rig.round(turns)
    await rig.round(turns)
    rig.ledger.raises, rig.ledger.fails = False, lambda _rows: True
    await rig.round(turns)
    assert rig.server.nodes_asked == [A, A, A]


# -- silence --------------------------------------------------------------------------------


@timeless
async def test_silence_is_told_remembered_and_ended_by_mail() -> None:
    rig = EtrnRig(A, B, watched=frozenset({A}), silent_after_seconds=600.0)
    turns = rig.turns()
    await rig.round(turns)
    await after(600)
    rig.watch.look()
    await settle()
    assert [event.node for event in rig.told(EtrnAcceptedButSilent)] == [A]
    assert rig.standing(A).last_error.startswith("silent: ")
    assert rig.standing(A).consecutive_failures == 0
    again = rig.turns()  # a restart: the state is there
    rig.watch.mail_came(A)
    await settle()
    assert rig.told(EtrnMailCame) == [EtrnMailCame("head-office", A)]
    assert rig.standing(A).last_error == ""
    await ended(again)
    await ended(turns)


@timeless
async def test_a_refusal_outranks_silence() -> None:
    rig = EtrnRig(A, watched=frozenset({A}), silent_after_seconds=600.0, min_gap_seconds=0.0)
    rig.server.says = {A: ["250 ok", "459 no"]}
    turns = rig.turns()
    await rig.round(turns)
    await rig.round(turns)
    await after(600)
    rig.watch.look()
    await settle()
    assert rig.standing(A).last_error == "refused: 459 no"
    rig.watch.mail_came(A)
    await settle()
    assert rig.standing(A).last_error == "refused: 459 no"
    await ended(turns)


# -- a pause by hand ----------------------------------------------------------------------


@timeless
async def test_nothing_is_asked_while_a_pause_by_hand_lasts_and_what_is_due_when_it_ends() -> None:
    rig = EtrnRig(A)
    turns = rig.turns()
    held = {"etrn.head-office"}
    turns._around = replace(turns._around, held=held.__contains__)
    turns.resume()
    await rig.round(turns)
    await after(10 * GAP)
    assert rig.server.asked == []
    held.clear()
    turns.resume()
    await settle()
    assert len(rig.server.asked) == 1
    await ended(turns)
