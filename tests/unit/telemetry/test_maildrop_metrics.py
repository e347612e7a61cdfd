"""Maildrops counted each by itself, or all of them together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry

from mailferry import events
from mailferry.model import StandingKind, StandingRecord
from mailferry.telemetry.metrics import Metrics
from mailferry.telemetry.results import Peer

NOW = 1_800_000_000.0


@pytest.fixture(autouse=True)
def _created_series_as_before() -> Iterator[None]:
    yield
    prometheus_client.enable_created_metrics()  # type: ignore[no-untyped-call]


class Bench:
    """Metrics of three maildrops and a clock that the test moves."""

    def __init__(self, *, per_maildrop: bool) -> None:
        self.now = NOW
        self.registry = CollectorRegistry()
        self.metrics = Metrics(
            self.registry,
            maildrops=["alice", "bob", "carol"],
            destinations=["office"],
            etrn_nodes=[],
            version="1",
            clock=lambda: self.now,
            per_maildrop=per_maildrop,
        )
        for name in ("alice", "bob", "carol"):
            self.metrics.set_poll_interval(name, 600)

    def __call__(self, series: str, /, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"mailferry_{series}", labels)

    def poll(self, maildrop: str, result: str = "ok", **more: Any) -> None:
        self.metrics.observe(events.PollFinished(maildrop, "p", result, 1.0, **more))

    def names(self) -> set[str]:
        return {
            sample.labels["maildrop"]
            for family in self.registry.collect()
            for sample in family.samples
            if "maildrop" in sample.labels
        }


@pytest.fixture
def each() -> Bench:
    return Bench(per_maildrop=True)


@pytest.fixture
def together() -> Bench:
    return Bench(per_maildrop=False)


@pytest.fixture(params=[True, False], ids=["each", "together"])
def both(request: pytest.FixtureRequest) -> Bench:
    return Bench(per_maildrop=request.param)


def test_each_has_its_interval_and_the_server_may_make_it_longer(each: Bench) -> None:
    assert each("poll_interval_seconds", maildrop="alice") == 600
    each.poll("alice", login_delay_seconds=900.0)
    assert each("poll_interval_seconds", maildrop="alice") == 900
    each.poll("alice")
    assert each("poll_interval_seconds", maildrop="alice") == 600


def test_what_waits_and_since_when(each: Bench) -> None:
    each.poll("alice", waiting=2, oldest_waiting_at=NOW - 60, listed=5, maildrop_octets=100)
    each.poll("alice", "timeout")
    assert each("waiting_messages", maildrop="alice") == 2
    assert each("oldest_waiting_message_timestamp_seconds", maildrop="alice") == NOW - 60
    assert each("maildrop_messages", maildrop="alice") == 5
    each.poll("alice")
    assert each("oldest_waiting_message_timestamp_seconds", maildrop="alice") == 0


def test_refused_credentials_stay_refused_until_a_poll_goes_well(each: Bench) -> None:
    each.metrics.observe(events.MaildropAuthRejected(maildrop="alice", error="", failures=1))
    each.poll("alice", "auth_rejected")
    assert each("auth_rejections_total", maildrop="alice") == 1
    each.poll("alice", "timeout")
    assert each("credentials_refused", maildrop="alice") == 1
    each.poll("alice")
    assert each("credentials_refused", maildrop="alice") == 0


def test_a_restart_remembers_them(each: Bench) -> None:
    refused = StandingRecord(
        StandingKind.MAILDROP, "alice", NOW - 90, NOW - 60, "auth_rejected: -ERR no", consecutive_failures=2
    )
    mended = StandingRecord(StandingKind.MAILDROP, "bob", NOW - 30, NOW - 60, "auth_rejected: -ERR no")
    each.metrics.restore([refused, mended], NOW)
    assert each("credentials_refused", maildrop="alice") == 1
    assert each("credentials_refused", maildrop="bob") == 0
    assert each("maildrops", state="refused") == 1
    assert each("maildrops", state="ok") == 1
    assert each("maildrops", state="unpolled") == 1


def test_all_together_have_one_member_without_a_name(together: Bench) -> None:
    together.poll("alice", waiting=2, oldest_waiting_at=NOW - 60, listed=5, maildrop_octets=100)
    together.poll("bob", waiting=1, oldest_waiting_at=NOW - 90, listed=2, maildrop_octets=20)
    together.poll("carol", "timeout")
    assert together.names() == {""}
    assert together("polls_total", maildrop="", result="ok") == 2
    assert together("polls_total", maildrop="", result="timeout") == 1
    assert together("waiting_messages", maildrop="") == 3
    assert together("oldest_waiting_message_timestamp_seconds", maildrop="") == NOW - 90
    assert together("maildrop_messages", maildrop="") == 7
    assert together("maildrop_octets", maildrop="") == 120
    assert together("last_successful_poll_timestamp_seconds", maildrop="") is None


def test_totals(both: Bench) -> None:
    assert both("maildrops", state="unpolled") == 3
    assert both("oldest_successful_poll_timestamp_seconds") == 0
    both.poll("alice")
    both.now += 10
    both.poll("bob")
    both.poll("carol", "server_fault")
    states = {state: both("maildrops", state=state) for state in ("ok", "refused", "failing", "unpolled")}
    assert states == {"ok": 2, "refused": 1, "failing": 0, "unpolled": 0}
    both.poll("carol")
    assert both("oldest_successful_poll_timestamp_seconds") == NOW


@pytest.mark.parametrize(("after", "silent"), [(1790, 0), (1801, 1)])
def test_silent_is_who_had_no_good_poll_for_three_intervals(both: Bench, after: float, silent: int) -> None:
    for name in ("alice", "bob", "carol"):
        both.poll(name)
    both.now += after
    both.poll("alice", "connect_failed")
    both.poll("bob")
    both.poll("carol")
    assert both("silent_maildrops") == silent


def test_who_rests_by_hand_is_not_silent(both: Bench) -> None:
    both.metrics.observe(events.PauseBegan("maildrop.alice", NOW + 3600))
    assert both("paused", peer="maildrop", name="alice") == 1
    assert both("silent_maildrops") == 2  # the other two were never polled
    assert both("maildrops", state="paused") == 1
    both.metrics.observe(events.PauseEnded("maildrop.alice", "asked"))
    assert both("paused", peer="maildrop", name="alice") is None
    assert both("silent_maildrops") == 3


def test_names_come_and_go(both: Bench) -> None:
    before = both.names()
    both.metrics.add_maildrop("dave")
    assert both("maildrops", state="unpolled") == 4
    both.poll("dave")
    both.metrics.remove_maildrop("dave")
    assert both("maildrops", state="unpolled") == 3
    assert both.names() == before


ALICE, BOB = ("maildrop", "alice"), ("maildrop", "bob")
OFFICE = ("destination", "office")


@pytest.mark.parametrize(
    ("make", "series"),
    [(events.CertificateSeen, "certificate_expiry"), (events.TokenRead, "oauth_token_expiry")],
)
def test_expiries(make: Callable[..., events.Event], series: str) -> None:
    bench = Bench(per_maildrop=True)
    series += "_timestamp_seconds"
    bench.metrics.expect_expiries([ALICE, OFFICE], [ALICE, OFFICE])
    assert bench(series, peer="maildrop", name="alice") == 0
    for end in (NOW + 5, NOW + 9):  # a renewed one is another
        bench.metrics.observe(make(*ALICE, end))
    bench.metrics.observe(make("etrn", "head-office", NOW))
    assert bench(series, peer="maildrop", name="alice") == NOW + 9
    assert bench(series, peer="etrn", name="head-office") is None
    bench.metrics.expect_expiries([ALICE, BOB], [ALICE, BOB])
    assert bench(series, peer="maildrop", name="alice") == NOW + 9
    assert bench(series, peer="maildrop", name="bob") == 0
    assert bench(series, peer="destination", name="office") is None


def test_of_maildrops_that_are_counted_together_the_first_end_is_shown(together: Bench) -> None:
    together.metrics.expect_expiries([ALICE, BOB, OFFICE], [])
    series = "certificate_expiry_timestamp_seconds"
    assert together(series, peer="maildrop", name="") == 0
    together.metrics.observe(events.CertificateSeen(*ALICE, NOW + 9))
    together.metrics.observe(events.CertificateSeen(*BOB, NOW + 5))
    together.metrics.observe(events.CertificateSeen(*OFFICE, NOW + 1))
    assert together(series, peer="maildrop", name="") == NOW + 5
    assert together(series, peer="maildrop", name="alice") is None
    assert together(series, peer="destination", name="office") == NOW + 1
    together.metrics.expect_expiries([ALICE], [])
    assert together(series, peer="maildrop", name="") == NOW + 9
    together.metrics.expect_expiries([], [])
    assert together(series, peer="maildrop", name="") is None


def test_of_our_own_certificate_the_file_is_read() -> None:
    bench = Bench(per_maildrop=True)
    bench.metrics.expect_expiries([("receiver", "receiver")], [])
    bench.metrics.set_certificate_expiry(Peer.RECEIVER, "receiver", lambda: NOW + 3)
    assert bench("certificate_expiry_timestamp_seconds", peer="receiver", name="receiver") == NOW + 3
