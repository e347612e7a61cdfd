"""Rounds with ATRN: several domains in one command, one answer for all, mail over the same connection."""

from __future__ import annotations

import asyncio

import pytest

from mailferry.errors import (
    ConnectError,
    ConnectionLostError,
    EtrnNotOfferedError,
    HopError,
    ReadTimeoutError,
)
from mailferry.events import EtrnMailTaken
from mailferry.model import DestinationName
from mailferry.ports import EtrnTraits, TurnReport
from mailferry.services.odmr import OpenWays
from support.fake_etrn import NODES, lost
from support.fake_odmr import OdmrBench
from support.virtual_time import settle, timeless

A, B, C = NODES
ALL = ",".join(NODES)


@timeless
async def test_all_domains_go_into_one_command_and_their_mail_is_taken() -> None:
    bench = OdmrBench()
    bench.provider.turns = [TurnReport(accepted=3, deferred=1, rejected=1, refusals=2, complete=True)]
    report = await bench.run()
    assert bench.provider.asked == [(1, ALL)]
    assert bench.provider.taken_for == [NODES]
    assert bench.results == dict.fromkeys(NODES, "started")
    assert not any(outcome.more for outcome in bench.outcomes.values())
    assert bench.events == [EtrnMailTaken("home", NODES, 3, 1, 1, 2, 0.0, "")]
    assert (report.failure, report.unasked, bench.provider.quits) == (None, (), 0)


@timeless
async def test_no_mail_ends_the_session_politely() -> None:
    bench = OdmrBench()
    bench.provider.says = {ALL: ["453 You have no mail"]}
    await bench.run()
    assert bench.results == dict.fromkeys(NODES, "nothing_waiting")
    assert (bench.provider.quits, bench.events) == (1, [])


@timeless
@pytest.mark.parametrize("refusal", ["450 refused", "550 not yours", "501 what"])
async def test_one_bad_domain_does_not_starve_the_others(refusal: str) -> None:
    bench = OdmrBench()
    bench.provider.says = {ALL: [refusal], A: [refusal], B: ["250 ok"], C: ["453 none"]}
    report = await bench.run()
    # A session that turned is used up: the third domain needs another.
    assert bench.provider.asked == [(1, ALL), (1, A), (1, B), (2, C)]
    assert bench.results[B] == "started"
    assert bench.results[C] == "nothing_waiting"
    assert bench.outcomes[A].reply.startswith(refusal[:3])
    assert bench.provider.taken_for == [(B,)]
    assert report.failure is None


@timeless
@pytest.mark.parametrize(
    ("line", "word"), [("451 later", "unable"), ("502 what", "not_offered"), ("530 no", "refused")]
)
async def test_an_answer_that_is_about_no_domain_is_taken_once_for_all(line: str, word: str) -> None:
    bench = OdmrBench()
    bench.provider.says = {ALL: [line]}
    await bench.run()
    assert bench.provider.asked == [(1, ALL)]
    assert bench.results == dict.fromkeys(NODES, word)


@timeless
async def test_many_domains_are_asked_for_in_batches() -> None:
    nodes = tuple(f"d{number}.example.org" for number in range(5))
    bench = OdmrBench(*nodes, nodes_per_session=2)
    bench.provider.says = {",".join(nodes[:2]): ["453 none"]}
    await bench.run()
    assert bench.provider.asked == [
        (1, ",".join(nodes[:2])),
        (1, ",".join(nodes[2:4])),
        (2, nodes[4]),
    ]
    assert set(bench.outcomes) == set(nodes)


@timeless
async def test_a_session_takes_no_more_commands_than_allowed() -> None:
    bench = OdmrBench(nodes_per_session=2)
    bench.provider.says = {f"{A},{B}": ["450 no"], A: ["450 no"], B: ["450 no"], C: ["453 none"]}
    await bench.run()
    assert [session for session, _ in bench.provider.asked] == [1, 1, 2, 2]
    assert set(bench.outcomes) == set(NODES)


# -- connections that end ---------------------------------------------------------------------


@timeless
async def test_a_connection_that_breaks_after_the_turn_is_a_failure_of_these_domains() -> None:
    bench = OdmrBench(A)
    bench.provider.turns = [TurnReport(failure=ConnectionLostError("left without QUIT"))]
    report = await bench.run()
    outcome = bench.outcomes[A]
    assert (outcome.answer.result, outcome.answered, outcome.accepted) == ("connection_lost", False, False)
    assert report.failure is None
    (event,) = bench.events
    assert isinstance(event, EtrnMailTaken)
    assert event.error == "left without QUIT"


@timeless
async def test_a_provider_that_never_speaks_after_the_turn_is_a_timeout() -> None:
    bench = OdmrBench(A)
    bench.provider.turns = [TurnReport(failure=ReadTimeoutError("silent"))]
    await bench.run()
    assert bench.results == {A: "timeout"}


@timeless
async def test_mail_that_came_before_the_link_broke_counts_and_more_is_asked_for() -> None:
    bench = OdmrBench(A)
    bench.provider.turns = [TurnReport(accepted=2, failure=ConnectionLostError("lost"))]
    await bench.run()
    assert (bench.outcomes[A].accepted, bench.outcomes[A].more) == (True, True)


@timeless
async def test_a_connection_that_we_ended_at_a_bound_leaves_more_to_ask_for() -> None:
    bench = OdmrBench(A)
    bench.provider.turns = [TurnReport(accepted=1000)]
    await bench.run()
    assert (bench.outcomes[A].accepted, bench.outcomes[A].more) == (True, True)


@timeless
async def test_a_link_lost_before_the_answer_is_tried_once_more() -> None:
    bench = OdmrBench(A)
    bench.provider.says = {A: [lost(), "453 none"]}
    report = await bench.run()
    assert bench.provider.asked == [(1, A), (2, A)]
    assert (bench.results, report.failure) == ({A: "nothing_waiting"}, None)


@timeless
async def test_421_after_421_is_enough_after_two() -> None:
    bench = OdmrBench(nodes_per_session=1)
    bench.provider.says = {node: ["421 bye"] for node in NODES}
    report = await bench.run()
    assert isinstance(report.failure, HopError)
    assert [session for session, _ in bench.provider.asked] == [1, 2]
    assert set(report.unasked) | set(bench.outcomes) == set(NODES)


@timeless
async def test_no_connection_asks_nothing() -> None:
    bench = OdmrBench()
    bench.provider.opens = [ConnectError("refused")]
    report = await bench.run()
    assert isinstance(report.failure, ConnectError)
    assert (report.unasked, report.connected) == (NODES, False)


@timeless
async def test_a_server_without_atrn_is_not_asked_unless_somebody_insists() -> None:
    bench = OdmrBench()
    bench.provider.traits = EtrnTraits(offered=False, protected=True, logged_in=True)
    report = await bench.run()
    assert isinstance(report.failure, EtrnNotOfferedError)
    assert "does not offer ATRN" in str(report.failure)
    assert bench.provider.asked == []
    stubborn = OdmrBench(insist=True)
    stubborn.provider.traits = bench.provider.traits
    await stubborn.run()
    assert stubborn.provider.asked == [(1, ALL)]


# -- the end ----------------------------------------------------------------------------------


@timeless
async def test_draining_ends_the_connection_and_asks_no_more() -> None:
    bench = OdmrBench(nodes_per_session=1)
    bench.provider.holding = True
    asking = bench.server.round(bench.clock, bench.tell)
    task = asyncio.ensure_future(asking.run(NODES))
    await settle()
    assert asking.drain() is True
    report = await task
    assert bench.provider.asked == [(1, A)]
    assert (bench.results, report.unasked) == ({A: "started"}, (B, C))


@timeless
async def test_a_round_that_takes_no_mail_may_be_cut_off() -> None:
    bench = OdmrBench()
    assert bench.server.round(bench.clock, bench.tell).drain() is False


# -- whether to ask at all ----------------------------------------------------------------------


class Way:
    def __init__(self, *, available: bool) -> None:
        self.available = available


@timeless
async def test_nothing_is_asked_for_while_a_destination_takes_no_mail() -> None:
    ways = {DestinationName("a"): Way(available=True), DestinationName("b"): Way(available=False)}
    both = OpenWays(ways, [DestinationName("a"), DestinationName("b")])  # type: ignore[arg-type]
    assert await both.trouble() == "destination b: takes no mail at the moment"
    ways[DestinationName("b")].available = True
    assert await both.trouble() == ""
