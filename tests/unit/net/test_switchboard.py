from __future__ import annotations

import asyncio

from mailferry.events import Event, TraceEnded, TraceStarted, WireTraced
from mailferry.net.credentials import Credentials, SecretMask
from mailferry.net.switchboard import (
    LONGEST_SECONDS,
    MAX_CHARACTERS,
    MAX_LINE_CHARACTERS,
    MAX_LINES_PER_SECOND,
    TraceState,
    TraceSwitchboard,
)
from mailferry.net.trace import no_trace, switch_of
from mailferry.protocol.tracing import poll_in_hand
from support.virtual_time import START, FakeClock, timeless

ALICE = "maildrop.alice"


def board(*, always: bool = False) -> tuple[TraceSwitchboard, list[Event]]:
    told: list[Event] = []
    return TraceSwitchboard(told.append, FakeClock(), always=always), told


def lines(told: list[Event]) -> list[tuple[str, str]]:
    return [(event.session, event.text) for event in told if isinstance(event, WireTraced)]


@timeless
async def test_a_session_that_is_open_already_is_traced_from_then_on() -> None:
    traces, told = board()
    trace = traces.tracer(ALICE)()
    switch = switch_of(trace)
    trace("send", "CAPA")
    assert (switch.on, told) == (False, [])
    state = traces.switch_on(ALICE, 60)
    assert switch.on
    trace("send", "STAT")
    traces.tracer(ALICE)()("reply", "+OK")
    traces.tracer("maildrop.bob")()("send", "NOOP")
    assert traces.states() == (TraceState(ALICE, START + 60, 2),)
    assert traces.switch_off(ALICE)
    trace("send", "QUIT")
    assert (switch.on, traces.states(), state) == (False, (), TraceState(ALICE, START + 60))
    assert told == [
        TraceStarted(ALICE, START + 60),
        WireTraced(ALICE, "send", "STAT", "1"),
        WireTraced(ALICE, "reply", "+OK", "2"),
        TraceEnded(ALICE, "asked", 2, 0),
    ]


@timeless
async def test_it_ends_by_itself_when_its_time_is_over() -> None:
    traces, told = board()
    traces.switch_on(ALICE, 60)
    await asyncio.sleep(30)
    traces.switch_on(ALICE, 60)  # begins anew
    await asyncio.sleep(59)
    assert traces.is_on(ALICE)
    await asyncio.sleep(2)
    assert not traces.is_on(ALICE)
    assert told[-1] == TraceEnded(ALICE, "time", 0, 0)
    assert not traces.switch_off(ALICE)


@timeless
async def test_no_trace_is_for_ever() -> None:
    traces, told = board()
    assert traces.switch_on(ALICE, 1e9).ends_at == START + LONGEST_SECONDS
    traces.close()
    assert traces.states() == ()
    assert told[-1] == TraceEnded(ALICE, "stopping", 0, 0)


@timeless
async def test_it_ends_when_it_has_written_enough() -> None:
    traces, told = board()
    trace = traces.tracer(ALICE)()
    traces.switch_on(ALICE, 10_000)
    long = "x" * (MAX_LINE_CHARACTERS + 5)
    while traces.is_on(ALICE):
        trace("reply", long)
        await asyncio.sleep(0.5)
    written = lines(told)
    assert written[0][1] == "x" * MAX_LINE_CHARACTERS + " <5 more characters>"
    assert abs(len(written) * MAX_LINE_CHARACTERS - MAX_CHARACTERS) < MAX_CHARACTERS / 20
    assert told[-1] == TraceEnded(ALICE, "size", len(written), 0)


@timeless
async def test_a_busy_session_loses_lines_and_says_how_many() -> None:
    traces, told = board()
    trace = traces.tracer(ALICE)()
    traces.switch_on(ALICE, 60)
    for _ in range(MAX_LINES_PER_SECOND + 7):
        trace("send", "NOOP")
    await asyncio.sleep(1.01)
    trace("send", "QUIT")
    assert [text for _, text in lines(told)][-2:] == ["<7 lines left out>", "QUIT"]
    traces.switch_off(ALICE)
    assert told[-1] == TraceEnded(ALICE, "asked", MAX_LINES_PER_SECOND + 1, 7)


@timeless
async def test_what_the_configuration_switches_on_has_no_bounds_and_stays() -> None:
    traces, told = board(always=True)
    trace = traces.tracer(ALICE)()
    assert traces.states() == (TraceState(ALICE, None),)
    assert traces.switch_on(ALICE, 1).ends_at is None
    assert not traces.switch_off(ALICE)
    for _ in range(MAX_LINES_PER_SECOND * 2):
        trace("send", "NOOP")
    assert len(lines(told)) == len(told) == MAX_LINES_PER_SECOND * 2


async def test_secrets_stay_masked_in_a_session_that_had_logged_in_before() -> None:
    traces, told = board()
    mask = SecretMask()
    trace = mask.trace(traces.tracer(ALICE)())
    watched = mask.watching(Credentials(username="alice", password=lambda: "correct horse"))
    await watched.read_password()
    assert not switch_of(trace).on
    traces.switch_on(ALICE, 60)
    assert switch_of(trace).on
    trace("reply", "-ERR bad line: PASS correct horse")
    assert lines(told) == [("1", "-ERR bad line: PASS ***")]


def test_a_trace_without_a_switch_takes_every_line_and_no_trace_none() -> None:
    assert switch_of(lambda _direction, _text: None).on
    assert not switch_of(no_trace).on
    assert not switch_of(None).on


@timeless
async def test_a_maildrops_session_bears_the_name_of_its_poll_and_a_destinations_does_not() -> None:
    traces, told = board()
    for peer in (ALICE, "destination.office"):
        traces.switch_on(peer, 60)
    token = poll_in_hand.set("bc6953d0")
    try:
        traces.tracer(ALICE)()("send", "CAPA")
        traces.tracer("destination.office")()("send", "EHLO relay.example.org")
    finally:
        poll_in_hand.reset(token)
    assert lines(told) == [("bc6953d0", "CAPA"), ("1", "EHLO relay.example.org")]


@timeless
async def test_a_trace_by_hand_that_ends_leaves_the_configurations_on() -> None:
    traces, told = board()
    trace = traces.tracer(ALICE)()
    traces.switch_on(ALICE, 60)
    traces.set_always(on=True)
    await asyncio.sleep(61)
    trace("send", "NOOP")
    assert lines(told) == [("1", "NOOP")]
    traces.set_always(on=False)
    trace("send", "QUIT")
    assert lines(told) == [("1", "NOOP")]
