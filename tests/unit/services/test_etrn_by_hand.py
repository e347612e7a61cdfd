"""What a person asks for: the gap counts, pauses do not, and the ledger gets to know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mailferry.model import StandingKind, StandingRecord
from mailferry.policy.etrn import standing_name
from mailferry.services.etrn import EtrnPolicy, EtrnServer
from mailferry.services.etrn_by_hand import HandReport, HandRequest
from support.fake_etrn import NODES, FakeEtrnServer, FakeListener
from support.virtual_time import START, FakeClock, timeless

A, B, C = NODES
GAP = 300.0
POLICY = EtrnPolicy("office", "mx.example.net", NODES, min_gap_seconds=GAP)


def stood(node: str, **fields: object) -> StandingRecord:
    return replace(StandingRecord(StandingKind.ETRN, standing_name("office", node)), **fields)  # type: ignore[arg-type]


class Bench:
    def __init__(self, *standings: StandingRecord) -> None:
        self.server = FakeEtrnServer()
        self.listener: FakeListener | None = None
        self.standings = {(row.kind, row.name): row for row in standings}

    async def run(self, nodes: Sequence[str] = NODES, *, force: bool = False) -> HandReport:
        server = EtrnServer(POLICY, self.server, self.listener)
        request = HandRequest(server, self.standings, FakeClock(), lambda: 0.5, force=force)
        return await request.run(nodes)


@timeless
async def test_all_are_asked_and_remembered() -> None:
    bench = Bench()
    report = await bench.run()
    assert bench.server.nodes_asked == list(NODES)
    assert list(report.outcomes) == list(NODES)
    assert [row.name for row in report.standings] == ["office/" + node for node in NODES] + ["office"]
    assert report.standings[0] == stood(
        A,
        last_success_at=START,
        last_attempt_at=START,
        not_before=START + GAP,
        last_reply="250 2.0.0 started",
    )


@timeless
async def test_the_gap_counts_and_force_overrides_it() -> None:
    bench = Bench(stood(A, last_attempt_at=START - 40))
    report = await bench.run()
    assert report.too_soon == {A: GAP - 40}
    assert bench.server.nodes_asked == [B, C]
    forced = await bench.run([A], force=True)
    assert (forced.too_soon, bench.server.nodes_asked[-1]) == ({}, A)


@timeless
async def test_a_gap_that_is_over_or_lies_in_the_future_counts_for_nothing() -> None:
    bench = Bench(stood(A, last_attempt_at=START - GAP), stood(B, last_attempt_at=START + 9999))
    assert (await bench.run([A, B])).too_soon == {}


@timeless
async def test_pauses_after_failures_do_not_count() -> None:
    refused = stood(
        A, last_error="refused: 459 no", consecutive_failures=3, not_before=START + 9999, last_attempt_at=1.0
    )
    server = stood("", last_error="timeout: x", consecutive_failures=3, not_before=START + 9999)
    bench = Bench(refused, replace(server, name="office"))
    report = await bench.run([A])
    assert report.outcomes[A].accepted
    assert [row.consecutive_failures for row in report.standings] == [0, 0]


@timeless
async def test_a_refusal_goes_on_with_the_streak() -> None:
    bench = Bench(stood(A, last_error="refused: 459 no", consecutive_failures=1, last_attempt_at=1.0))
    bench.server.says = {A: ["459 no"]}
    report = await bench.run([A])
    assert report.standings[0].consecutive_failures == 2
    assert report.standings[0].not_before == START + 7200


@timeless
async def test_a_listener_that_is_away_postpones_and_force_overrides_it() -> None:
    bench = Bench()
    bench.listener = FakeListener()
    bench.listener.says = "nobody"
    report = await bench.run()
    assert (report.postponed, bench.server.sessions, report.standings) == ("nobody", 0, [])
    await bench.run(force=True)
    assert bench.server.sessions == 1


@timeless
async def test_nobody_looks_for_the_listener_when_nothing_is_due() -> None:
    bench = Bench(stood(A, last_attempt_at=START))
    bench.listener = FakeListener()
    await bench.run([A])
    assert bench.listener.looks == 0


@timeless
async def test_a_server_that_is_away_is_remembered_as_such() -> None:
    bench = Bench()
    bench.server.refuse_connections(1)
    report = await bench.run()
    assert report.failure is not None
    assert report.failure.result == "connect_failed"
    (server,) = report.standings
    assert (server.name, server.consecutive_failures) == ("office", 1)
    assert server.last_error.startswith("connect_failed: ")
