"""One round at one server: every node is asked, whatever is said to the others, and nothing goes on for ever."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mailferry.errors import ConnectError, EtrnNotOfferedError, HopError, LocalProtocolError
from mailferry.ports import EtrnTraits
from mailferry.services.etrn import EtrnPolicy, EtrnRound, NodeOutcome, RoundReport
from support.fake_etrn import NODES, FakeEtrnServer, lost
from support.virtual_time import START, FakeClock, timeless

A, B, C = NODES


class Bench:
    def __init__(self, *nodes: str, **policy: int | bool) -> None:
        self.server = FakeEtrnServer()
        self.outcomes: list[NodeOutcome] = []
        self.nodes = nodes or NODES
        self.policy = replace(EtrnPolicy("office", "mx.example.net", self.nodes), **policy)  # type: ignore[arg-type]

    async def run(self) -> RoundReport:
        work = EtrnRound(self.policy, self.server, FakeClock(), self.outcomes.append)
        report = await work.run(self.nodes)
        assert self.server.open_now == 0, "a session was left open"
        return report

    @property
    def results(self) -> dict[str, str]:
        return {outcome.node: outcome.answer.result.value for outcome in self.outcomes}


@timeless
async def test_all_nodes_are_asked_in_one_session() -> None:
    bench = Bench()
    report = await bench.run()
    assert report == RoundReport(connected=True)
    assert bench.server.asked == [(1, A), (1, B), (1, C)]
    assert bench.server.quits == 1
    assert bench.outcomes[0] == NodeOutcome(A, START, bench.outcomes[0].answer, "250 2.0.0 started")
    assert all(outcome.accepted for outcome in bench.outcomes)


@pytest.mark.parametrize(
    "said",
    [
        "251 none",
        "253 2 pending",
        "458 no",
        "459 not allowed",
        "450 no",
        "500 what",
        "502 no",
        "503 no",
        "504 no",
        "530 login",
        "550 no",
        "554 no",
    ],
)
def test_one_nodes_answer_never_keeps_the_next_from_being_asked(said: str) -> None:
    @timeless
    async def check() -> None:
        bench = Bench()
        bench.server.says = {A: [said]}
        assert (await bench.run()).failure is None
        assert bench.server.asked == [(1, A), (1, B), (1, C)]
        assert bench.results[B] == bench.results[C] == "started"

    check()


@timeless
async def test_a_session_asks_for_no_more_than_it_may() -> None:
    bench = Bench("a", "b", "c", "d", "e", nodes_per_session=2)
    await bench.run()
    assert bench.server.asked == [(1, "a"), (1, "b"), (2, "c"), (2, "d"), (3, "e")]
    assert (bench.server.quits, bench.server.most_open) == (3, 1)


@timeless
async def test_a_session_that_is_dropped_after_some_commands_goes_on_in_another() -> None:
    bench = Bench(*map(str, range(25)), nodes_per_session=100)
    bench.server.session_limit = 10
    report = await bench.run()
    assert report.failure is None
    assert set(bench.results.values()) == {"started"}
    assert len(bench.results) == 25
    assert bench.server.sessions == 3


@timeless
async def test_a_node_at_which_every_session_ends_starves_nobody() -> None:
    bench = Bench()
    bench.server.says = {A: [lost()]}
    report = await bench.run()
    assert report.failure is None
    assert bench.server.nodes_asked == [A, B, C, A]
    assert bench.results == {B: "started", C: "started", A: "connection_lost"}
    (outcome,) = (outcome for outcome in bench.outcomes if outcome.node == A)
    assert (outcome.answered, outcome.accepted) == (False, False)


@timeless
async def test_a_server_that_ends_every_session_is_left_alone() -> None:
    bench = Bench(*map(str, range(50)))
    bench.server.says = {node: ["421 busy"] for node in bench.nodes}
    report = await bench.run()
    assert isinstance(report.failure, HopError)
    assert "421 busy" in str(report.failure)
    assert bench.server.sessions == 2
    assert set(report.unasked) == set(bench.nodes)
    assert bench.outcomes == []


@timeless
async def test_a_lost_session_and_a_closed_door_after_it_end_the_round() -> None:
    bench = Bench()
    bench.server.says = {B: [lost()]}
    original = bench.server.open

    async def open_once() -> object:
        bench.server.open = refuse  # type: ignore[method-assign]
        return await original()

    async def refuse() -> object:
        raise ConnectError("refused")

    bench.server.open = open_once  # type: ignore[method-assign, assignment]
    report = await bench.run()
    assert isinstance(report.failure, ConnectError)
    assert bench.results == {A: "started"}
    assert report.unasked == (C, B)


@timeless
async def test_no_connection_is_tried_once() -> None:
    bench = Bench()
    bench.server.refuse_connections(5)
    report = await bench.run()
    assert (report.connected, report.unasked) == (False, NODES)
    assert len(bench.server.opens) == 4


@pytest.mark.parametrize(
    ("traits", "hint"),
    [
        (EtrnTraits(False, protected=False, logged_in=False, offers_tls=True), 'tls = "starttls"'),
        (EtrnTraits(False, protected=True, logged_in=False, offers_auth=True), "set username"),
        (EtrnTraits(False, protected=True, logged_in=True, offers_auth=True), "ask its operator"),
        (EtrnTraits(False, protected=False, logged_in=False), "ask its operator"),
    ],
)
def test_a_server_that_does_not_offer_it_is_not_asked(traits: EtrnTraits, hint: str) -> None:
    @timeless
    async def check() -> None:
        bench = Bench()
        bench.server.traits = traits
        report = await bench.run()
        assert isinstance(report.failure, EtrnNotOfferedError)
        assert hint in str(report.failure)
        assert (bench.server.asked, bench.server.sessions, report.connected) == ([], 1, False)

    check()


@timeless
async def test_who_insists_is_asked_for_all_the_same() -> None:
    bench = Bench(insist=True)
    bench.server.traits = EtrnTraits(False, protected=True, logged_in=True)
    assert (await bench.run()).failure is None
    assert bench.server.nodes_asked == list(NODES)


@timeless
async def test_what_the_link_gives_decides_what_a_530_means() -> None:
    bench = Bench(A)
    bench.server.says = {A: ["530 5.7.0 Must issue a STARTTLS command first"]}
    bench.server.traits = replace(bench.server.traits, protected=False)
    await bench.run()
    assert bench.results == {A: "needs_tls"}


@timeless
async def test_a_node_that_cannot_be_sent_harms_no_other() -> None:
    bench = Bench()
    bench.server.says = {A: [LocalProtocolError("a command line of 600 octets")]}
    assert (await bench.run()).failure is None
    assert bench.results == {B: "started", C: "started", A: "config_error"}
