"""What is counted of next hops, ETRN nodes and the receiver beyond the first things."""

from __future__ import annotations

from collections.abc import Iterator

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry

from mailferry import events
from mailferry.model import StandingKind, StandingRecord
from mailferry.telemetry.metrics import Metrics
from mailferry.telemetry.results import Reception, Refusal, ReplyClass, SessionFailure

NOW = 1_800_000_000.0
NODE = {"etrn": "head-office", "node": "rnd.example.org"}


@pytest.fixture(autouse=True)
def _created_series_as_before() -> Iterator[None]:
    yield
    prometheus_client.enable_created_metrics()  # type: ignore[no-untyped-call]


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> Metrics:
    return Metrics(
        registry,
        maildrops=[],
        destinations=["office"],
        etrn_nodes=[("head-office", "rnd.example.org")],
        version="1",
        clock=lambda: NOW,
    )


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"mailferry_{name}", labels)


def test_replies_by_their_first_digit(metrics: Metrics, registry: CollectorRegistry) -> None:
    for code in (220, 250, 354, 450, 550, 554, 599, 199, 600, 0):
        metrics.smtp_replied("office", code)
    counts = [
        value(registry, "smtp_replies_total", **{"destination": "office", "class": word})
        for word in ReplyClass
    ]
    assert counts == [2, 1, 1, 3]


@pytest.mark.parametrize("result", [*SessionFailure, "never heard of"])
def test_sessions_that_could_not_be_had(metrics: Metrics, registry: CollectorRegistry, result: str) -> None:
    metrics.observe(events.SessionFailed("office", result, "why"))
    shown = result if result in set(SessionFailure) else "internal_error"
    assert value(registry, "session_failures_total", destination="office", result=shown) == 1


def test_credentials_that_a_next_hop_refuses(metrics: Metrics, registry: CollectorRegistry) -> None:
    metrics.observe(events.RouteAuthRejected("office", "535", 1))
    assert value(registry, "route_credentials_refused", destination="office") == 1
    metrics.observe(events.RouteResumed("office", 1))
    assert value(registry, "route_credentials_refused", destination="office") == 0


def test_a_node_is_refused_until_it_is_served(metrics: Metrics, registry: CollectorRegistry) -> None:
    def answered(result: str) -> float | None:
        metrics.observe(events.EtrnAnswered(**NODE, result=result, reply=""))
        return value(registry, "etrn_refused", **NODE)

    assert answered("refused") == 1
    assert answered("unable") == 1  # says nothing about that
    assert answered("started") == 0
    metrics.observe(events.EtrnUnanswered(**NODE, result="auth_rejected"))
    assert value(registry, "etrn_refused", **NODE) == 1
    assert answered("nothing_waiting") == 0


@pytest.mark.parametrize(("failures", "refused"), [(1, 1), (0, 0)])
def test_a_restart_remembers_who_is_refused(
    metrics: Metrics, registry: CollectorRegistry, failures: int, refused: int
) -> None:
    standing = StandingRecord(
        StandingKind.ETRN,
        "head-office/rnd.example.org",
        None,
        NOW,
        "refused: 459",
        consecutive_failures=failures,
    )
    metrics.restore([standing], NOW)
    assert value(registry, "etrn_refused", **NODE) == refused


def test_what_came_in_by_smtp(metrics: Metrics, registry: CollectorRegistry) -> None:
    for result in (*Reception, "accepted", "a word of a peer"):
        metrics.observe(events.ReceiverMessageReceived("s", "192.0.2.1", 1, 1, result, "250 ok", 0.1))
    assert value(registry, "received_messages_total", result="accepted") == 2
    assert value(registry, "received_messages_total", result="known") == 1
    for what in (*Refusal, "a word of a peer"):
        metrics.observe(events.ReceiverRefused("receiver", "s", "192.0.2.1", what, "550 no"))
    assert value(registry, "receiver_refusals_total", what="recipient") == 1
    assert value(registry, "receiver_refusals_total", what="a word of a peer") is None


def test_the_loop_s_lag(metrics: Metrics, registry: CollectorRegistry) -> None:
    metrics.loop_lagged(0.2)
    assert value(registry, "event_loop_lag_seconds_sum") == 0.2


def test_what_is_read_at_a_scrape(metrics: Metrics, registry: CollectorRegistry) -> None:
    metrics.set_memory_in_use(lambda: 1)
    metrics.set_memory_budget(lambda: 256)
    metrics.set_polls_waiting(lambda: 2)
    metrics.set_ledger_size(lambda: 3)
    metrics.set_state_free(lambda: 4)
    names = (
        "memory_in_use_bytes",
        "memory_budget_bytes",
        "polls_waiting",
        "ledger_size_bytes",
        "state_free_bytes",
    )
    assert [value(registry, name) for name in names] == [1, 256, 2, 3, 4]
