from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from mailferry import events
from mailferry.model import StandingKind, StandingRecord
from mailferry.policy.etrn import EtrnResult
from mailferry.policy.poll_result import PollResult
from mailferry.telemetry.metrics import Metrics
from mailferry.telemetry.reference import event_classes
from mailferry.telemetry.results import DeliveryOutcome, MessageOutcome

NOW = 1_800_000_000.0
UNCOUNTED = {
    "maildrop.expiry_short",  # a word for a person, not a rate
    "daemon.started", "daemon.stopping", "daemon.stopped", "poll.started", "poll.failed", "maildrop.recovered",
    "etrn.delayed", "etrn.refused", "etrn.recovered", "etrn.postponed", "etrn.failed", "etrn.unusable", "etrn.resumed",
    "maildrop.fault_reported", "route.probe_failed", "ledger.recovered", "wire.traced", "event.repeated",
    "trace.started", "trace.ended", "control.used", "control.unavailable", "page.logged_in", "page.login_refused",
    "config.reloaded", "config.unchanged", "config.problem_found", "config.reload_failed", "config.restart_needed",
    "schedule.stuck", "receiver.started", "receiver.stopped", "etrn.mail_taken",
}  # fmt: skip
"""Events that no series counts, each on purpose; a new event must choose."""


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
        maildrops=["alice", "bob"],
        destinations=["office", "vault"],
        etrn_nodes=[("head-office", "rnd.example.org")],
        version="1.2.3",
        clock=lambda: NOW,
    )


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"mailferry_{name}", labels)


def ours(registry: CollectorRegistry) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name.startswith("mailferry_")
    }


ABOUT: dict[str, Any] = {
    "maildrop": "alice", "poll_id": "p", "uidl": "u", "size_octets": 512, "sender": "", "recipient": "",
    "subject": "",
}  # fmt: skip
NODE = {"etrn": "head-office", "node": "rnd.example.org"}
MESSAGE: dict[str, Any] = {**ABOUT, "destination": "office", "attempt": 1}


def finished(result: str = "ok", **counts: Any) -> events.PollFinished:
    return events.PollFinished(maildrop="alice", poll_id="p", result=result, duration_seconds=2.0, **counts)


def test_every_series_of_every_configured_name_is_there_from_the_start(
    metrics: Metrics, registry: CollectorRegistry
) -> None:
    for maildrop in ("alice", "bob"):
        for result in PollResult:
            assert value(registry, "polls_total", maildrop=maildrop, result=result) == 0
        for outcome in MessageOutcome:
            assert value(registry, "messages_total", maildrop=maildrop, outcome=outcome) == 0
        for name in (
            "message_octets_total", "auth_rejections_total", "quit_unconfirmed_total",
            "last_successful_poll_timestamp_seconds", "last_failed_poll_timestamp_seconds",
            "waiting_messages", "maildrop_octets",
        ):  # fmt: skip
            assert value(registry, name, maildrop=maildrop) == 0
    for destination in ("office", "vault"):
        for word in DeliveryOutcome:
            assert value(registry, "deliveries_total", destination=destination, outcome=word) == 0
        assert value(registry, "route_up", destination=destination) == 1
        assert value(registry, "message_age_seconds_count", destination=destination) == 0
        assert value(registry, "route_pauses_total", destination=destination) == 0
        assert value(registry, "last_successful_delivery_timestamp_seconds", destination=destination) == 0
    for etrn in EtrnResult:
        assert value(registry, "etrn_requests_total", **NODE, result=etrn) == 0
    for name in ("last_successful_etrn_timestamp_seconds", "etrn_pending_messages", "etrn_silent"):
        assert value(registry, name, **NODE) == 0
    for name in (
        "poll_duration_seconds_count", "ledger_commit_duration_seconds_count",
        "ledger_records_total", "ledger_failures_total", "memory_in_use_bytes", "schedule_lag_seconds",
    ):  # fmt: skip
        assert value(registry, name) == 0
    assert value(registry, "open_sessions", protocol="pop3") == 0
    assert value(registry, "open_sessions", protocol="smtp") == 0
    assert value(registry, "start_time_seconds") == NOW
    assert value(registry, "build_info", version="1.2.3") == 1


def test_the_process_collectors_are_on_the_same_registry(
    metrics: Metrics, registry: CollectorRegistry
) -> None:
    text = generate_latest(registry).decode()
    for name in ("process_cpu_seconds_total", "python_info", "python_gc_collections_total"):
        assert f"\n{name}" in text


def test_events_create_no_series(metrics: Metrics, registry: CollectorRegistry) -> None:
    before = set(ours(registry))
    for event in (
        finished(),
        finished("a word\nof a peer"),
        events.MessageRelayed(**MESSAGE, receipt="", age_seconds=0.1),
        events.MessageDeferred(**MESSAGE, reason="", next_attempt_at=0.0),
        events.RoutePaused(destination="vault", reason="", failures=1, not_before=0.0),
    ):
        metrics.observe(event)
    assert set(ours(registry)) == before


def test_a_good_poll(metrics: Metrics, registry: CollectorRegistry) -> None:
    metrics.observe(finished(waiting=3, maildrop_octets=4096))
    assert value(registry, "polls_total", maildrop="alice", result="ok") == 1
    assert value(registry, "last_successful_poll_timestamp_seconds", maildrop="alice") == NOW
    assert value(registry, "last_failed_poll_timestamp_seconds", maildrop="alice") == 0
    assert value(registry, "waiting_messages", maildrop="alice") == 3
    assert value(registry, "maildrop_octets", maildrop="alice") == 4096
    assert value(registry, "poll_duration_seconds_sum") == 2
    assert value(registry, "polls_total", maildrop="bob", result="ok") == 0


@pytest.mark.parametrize("result", [word for word in PollResult if word not in {"ok", "stopped"}])
def test_a_failed_poll(metrics: Metrics, registry: CollectorRegistry, result: PollResult) -> None:
    metrics.observe(finished(waiting=3, maildrop_octets=4096))
    metrics.observe(finished(str(result)))
    assert value(registry, "polls_total", maildrop="alice", result=result) == 1
    assert value(registry, "last_failed_poll_timestamp_seconds", maildrop="alice") == NOW
    assert value(registry, "waiting_messages", maildrop="alice") == 3  # what was known stays
    assert value(registry, "maildrop_octets", maildrop="alice") == 4096


def test_a_stopped_poll_is_neither_success_nor_failure(metrics: Metrics, registry: CollectorRegistry) -> None:
    metrics.observe(finished("stopped"))
    assert value(registry, "polls_total", maildrop="alice", result="stopped") == 1
    assert value(registry, "last_successful_poll_timestamp_seconds", maildrop="alice") == 0
    assert value(registry, "last_failed_poll_timestamp_seconds", maildrop="alice") == 0


def test_an_unknown_result_is_an_internal_error(metrics: Metrics, registry: CollectorRegistry) -> None:
    metrics.observe(finished("never_heard_of"))
    assert value(registry, "polls_total", maildrop="alice", result="internal_error") == 1
    assert value(registry, "last_failed_poll_timestamp_seconds", maildrop="alice") == NOW


def test_a_failure_is_counted_once_although_two_events_tell_of_it(
    metrics: Metrics, registry: CollectorRegistry
) -> None:
    metrics.observe(
        events.PollFailed(
            maildrop="alice", poll_id="p", result="timeout", error="", failures=1, not_before=0.0
        )
    )
    metrics.observe(finished("timeout"))
    assert value(registry, "polls_total", maildrop="alice", result="timeout") == 1


def test_a_relayed_message(metrics: Metrics, registry: CollectorRegistry) -> None:
    metrics.observe(events.MessageRelayed(**MESSAGE, receipt="250 ok", age_seconds=0.2, known_seconds=90.0))
    assert value(registry, "messages_total", maildrop="alice", outcome="relayed") == 1
    assert value(registry, "message_octets_total", maildrop="alice") == 512
    assert value(registry, "deliveries_total", destination="office", outcome="accepted") == 1
    assert value(registry, "last_successful_delivery_timestamp_seconds", destination="office") == NOW
    assert value(registry, "relay_duration_seconds_sum", destination="office") == 0.2
    assert value(registry, "message_age_seconds_sum", destination="office") == 90
    assert value(registry, "message_age_seconds_count", destination="vault") == 0
    assert value(registry, "deliveries_total", destination="vault", outcome="accepted") == 0


@pytest.mark.parametrize(
    ("event", "outcome"),
    [
        (events.MessageDeferred(**MESSAGE, reason="451", next_attempt_at=0.0), "deferred"),
        (events.MessageInDoubt(**MESSAGE, reason="lost"), "in_doubt"),
        (events.MessageRejected(**MESSAGE, reason="550"), "rejected"),
    ],
)
def test_a_message_that_a_destination_did_not_take(
    metrics: Metrics, registry: CollectorRegistry, event: events.Event, outcome: str
) -> None:
    metrics.observe(event)
    assert value(registry, "messages_total", maildrop="alice", outcome=outcome) == 1
    assert value(registry, "deliveries_total", destination="office", outcome=outcome) == 1
    assert value(registry, "message_octets_total", maildrop="alice") == 0
    assert value(registry, "last_successful_delivery_timestamp_seconds", destination="office") == 0


@pytest.mark.parametrize(
    ("event", "series", "labels"),
    [
        (
            events.MessageFetchFailed(
                maildrop="alice", poll_id="p", uidl="u", attempt=1, reason="", next_attempt_at=0.0
            ),
            "messages_total",
            {"maildrop": "alice", "outcome": "fetch_failed"},
        ),
        (
            events.MessageSkipped(maildrop="alice", poll_id="p", uidl="u", size_octets=1, reason=""),
            "messages_total",
            {"maildrop": "alice", "outcome": "skipped"},
        ),
        (
            events.MessageRecognised(maildrop="alice", poll_id="p", uidl="u"),
            "messages_total",
            {"maildrop": "alice", "outcome": "recognised"},
        ),
        (
            events.QuitUnconfirmed(maildrop="alice", poll_id="p", pending=2),
            "quit_unconfirmed_total",
            {"maildrop": "alice"},
        ),
        (
            events.UidlsChanged(maildrop="alice", poll_id="p", recognised=3, unrecognised=1),
            "uidls_changed_total",
            {"maildrop": "alice"},
        ),
        (
            events.MessageQuarantined(**ABOUT, entry="e", reason="no"),
            "messages_total",
            {"maildrop": "alice", "outcome": "quarantined"},
        ),
        (
            events.QuarantineFailed(maildrop="alice", poll_id="p", uidl="u", error="disk full"),
            "quarantine_failures_total",
            {},
        ),
        (events.LedgerFailed(error="disk full"), "ledger_failures_total", {}),
        (events.LedgerRestored(reason="cut", copied_at=0.0, records=1), "ledger_restored_total", {}),
        (events.ClockJumped(jump_seconds=-7200.0), "clock_jumps_total", {}),
        (events.NoticeSent(recipient="p@example.org", items=1, receipt="ok"), "notices_sent_total", {}),
        (events.NoticeFailed(recipient="p@example.org", error="421"), "notice_failures_total", {}),
    ],
)
def test_what_is_only_counted(
    metrics: Metrics, registry: CollectorRegistry, event: events.Event, series: str, labels: dict[str, str]
) -> None:
    before = ours(registry)
    metrics.observe(event)
    changed = {key: count for key, count in ours(registry).items() if before[key] != count}
    assert changed == {(f"mailferry_{series}", tuple(sorted(labels.items()))): 1}


def test_a_route_pauses_and_resumes(metrics: Metrics, registry: CollectorRegistry) -> None:
    metrics.observe(events.RoutePaused(destination="office", reason="421", failures=1, not_before=0.0))
    assert value(registry, "route_up", destination="office") == 0
    assert value(registry, "route_pauses_total", destination="office") == 1
    assert value(registry, "route_up", destination="vault") == 1
    metrics.observe(events.RouteResumed(destination="office", failures=1))
    assert value(registry, "route_up", destination="office") == 1
    assert value(registry, "route_pauses_total", destination="office") == 1


def test_a_commit(metrics: Metrics, registry: CollectorRegistry) -> None:
    metrics.observe(events.LedgerCommitted(records=5, duration_seconds=0.004))
    assert value(registry, "ledger_records_total") == 5
    assert value(registry, "ledger_commit_duration_seconds_sum") == 0.004


def test_a_copy_of_the_ledger_has_its_time(metrics: Metrics, registry: CollectorRegistry) -> None:
    metrics.observe(events.LedgerCopied(duration_seconds=0.1, size_octets=4096))
    assert value(registry, "ledger_copy_timestamp_seconds") > 0


def test_each_event_is_counted_or_left_out_on_purpose(metrics: Metrics) -> None:
    counted = {kind.name for kind in metrics._handlers}
    assert not counted & UNCOUNTED
    assert counted | UNCOUNTED == {kind.name for kind in event_classes()}


def test_etrn_requests_are_counted_by_how_they_ended(metrics: Metrics, registry: CollectorRegistry) -> None:
    metrics.observe(events.EtrnAnswered(**NODE, result="started", reply="253 3 pending", pending=3))
    assert value(registry, "etrn_requests_total", **NODE, result="started") == 1
    assert value(registry, "etrn_pending_messages", **NODE) == 3
    assert value(registry, "last_successful_etrn_timestamp_seconds", **NODE) == NOW
    metrics.observe(events.EtrnAnswered(**NODE, result="nothing_waiting", reply="251 none"))
    assert value(registry, "etrn_pending_messages", **NODE) == 0


@pytest.mark.parametrize("result", ["refused", "unable"])
def test_a_refused_request_is_no_success(metrics: Metrics, registry: CollectorRegistry, result: str) -> None:
    metrics.observe(events.EtrnAnswered(**NODE, result=result, reply="459 no"))
    assert value(registry, "etrn_requests_total", **NODE, result=result) == 1
    assert value(registry, "last_successful_etrn_timestamp_seconds", **NODE) == 0


def test_a_node_without_an_answer_is_counted(metrics: Metrics, registry: CollectorRegistry) -> None:
    metrics.observe(events.EtrnUnanswered(**NODE, result="connect_failed"))
    metrics.observe(events.EtrnUnanswered(**NODE, result="a word of a peer"))
    assert value(registry, "etrn_requests_total", **NODE, result="connect_failed") == 1
    assert value(registry, "etrn_requests_total", **NODE, result="internal_error") == 1


@pytest.mark.parametrize("kind", [events.EtrnAcceptedButSilent, events.EtrnPendingButSilent])
def test_silence_is_a_gauge(
    metrics: Metrics,
    registry: CollectorRegistry,
    kind: type[events.EtrnAcceptedButSilent | events.EtrnPendingButSilent],
) -> None:
    metrics.observe(kind(**NODE, accepted_at=1.0, silent_seconds=2.0))
    assert value(registry, "etrn_silent", **NODE) == 1
    metrics.observe(events.EtrnMailCame(**NODE))
    assert value(registry, "etrn_silent", **NODE) == 0


def test_what_is_left_out_changes_nothing(metrics: Metrics, registry: CollectorRegistry) -> None:
    before = ours(registry)
    metrics.observe(events.DaemonStopping(signal="SIGTERM"))
    metrics.observe(events.WireTraced(peer="p", direction="send", text="C: NOOP"))
    assert ours(registry) == before


def test_last_success_survives_a_restart(metrics: Metrics, registry: CollectorRegistry) -> None:
    metrics.restore(
        [
            StandingRecord(StandingKind.MAILDROP, "alice", last_success_at=NOW - 60, last_error_at=NOW - 30),
            StandingRecord(StandingKind.MAILDROP, "bob"),
            StandingRecord(StandingKind.MAILDROP, "no-longer-there", last_success_at=NOW - 60),
            StandingRecord(StandingKind.DESTINATION, "office", last_success_at=NOW - 20),
            StandingRecord(StandingKind.DESTINATION, "alice", last_success_at=NOW - 1),
            StandingRecord(
                StandingKind.ETRN, "head-office/rnd.example.org", NOW - 10, NOW - 5, "silent: nothing came"
            ),
            StandingRecord(StandingKind.ETRN, "head-office", last_success_at=NOW - 1),
            StandingRecord(StandingKind.ETRN, "other/rnd.example.org", last_success_at=NOW - 1),
        ],
        NOW,
    )
    assert value(registry, "last_successful_poll_timestamp_seconds", maildrop="alice") == NOW - 60
    assert value(registry, "last_failed_poll_timestamp_seconds", maildrop="alice") == NOW - 30
    assert value(registry, "last_successful_poll_timestamp_seconds", maildrop="bob") == 0
    assert value(registry, "last_successful_poll_timestamp_seconds", maildrop="no-longer-there") is None
    assert value(registry, "last_successful_delivery_timestamp_seconds", destination="office") == NOW - 20
    assert value(registry, "last_successful_delivery_timestamp_seconds", destination="alice") is None
    assert value(registry, "last_successful_etrn_timestamp_seconds", **NODE) == NOW - 10
    assert value(registry, "etrn_silent", **NODE) == 1


def test_a_time_in_the_future_does_not_hide_silence(metrics: Metrics, registry: CollectorRegistry) -> None:
    metrics.restore([StandingRecord(StandingKind.MAILDROP, "alice", last_success_at=NOW + 86_400)], NOW)
    assert value(registry, "last_successful_poll_timestamp_seconds", maildrop="alice") == NOW


def test_gauges_are_read_when_somebody_looks(metrics: Metrics, registry: CollectorRegistry) -> None:
    now = {"memory": 1.0, "pop3": 2.0, "smtp": 3.0, "lag": 4.0}
    metrics.set_memory_in_use(lambda: now["memory"])
    metrics.set_open_sessions("pop3", lambda: now["pop3"])
    metrics.set_open_sessions("smtp", lambda: now["smtp"])
    metrics.set_schedule_lag(lambda: now["lag"])
    now["memory"] = 10.0
    assert value(registry, "memory_in_use_bytes") == 10
    assert value(registry, "open_sessions", protocol="pop3") == 2
    assert value(registry, "open_sessions", protocol="smtp") == 3
    assert value(registry, "schedule_lag_seconds") == 4


def test_a_gauge_that_cannot_be_read_fails_no_scrape(
    metrics: Metrics, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    metrics.set_schedule_lag(lambda: 1 / 0)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            lag = value(registry, "schedule_lag_seconds")
            assert lag is not None
            assert math.isnan(lag)
    assert len(caplog.records) == 1
    assert "schedule_lag" in caplog.records[0].getMessage()


def test_a_reload_that_fails_leaves_the_time_of_the_configuration_in_force(
    metrics: Metrics, registry: CollectorRegistry
) -> None:
    assert value(registry, "config_last_reload_successful") == 1
    assert value(registry, "config_last_reload_success_timestamp_seconds") == NOW
    metrics.config_reloaded(False, NOW + 60)
    assert value(registry, "config_last_reload_successful") == 0
    assert value(registry, "config_last_reload_success_timestamp_seconds") == NOW
    metrics.config_reloaded(True, NOW + 90)
    assert value(registry, "config_last_reload_successful") == 1
    assert value(registry, "config_last_reload_success_timestamp_seconds") == NOW + 90


def test_names_come_and_go_with_a_reload(metrics: Metrics, registry: CollectorRegistry) -> None:
    before = set(ours(registry))
    for _ in range(2):
        metrics.add_maildrop("carol")
        metrics.add_destination("lmtp")
        metrics.add_etrn_node("branch", "branch.example.org")
    assert value(registry, "polls_total", maildrop="carol", result="ok") == 0
    assert value(registry, "route_up", destination="lmtp") == 1
    branch = {"etrn": "branch", "node": "branch.example.org"}
    assert value(registry, "etrn_requests_total", **branch, result="started") == 0
    for _ in range(2):
        metrics.remove_maildrop("carol")
        metrics.remove_destination("lmtp")
        metrics.remove_etrn_node("branch", "branch.example.org")
    assert set(ours(registry)) == before


def test_adding_a_name_again_keeps_its_counts(metrics: Metrics, registry: CollectorRegistry) -> None:
    metrics.observe(finished())
    metrics.add_maildrop("alice")
    assert value(registry, "polls_total", maildrop="alice", result="ok") == 1


def families(registry: CollectorRegistry) -> dict[str, tuple[str, str]]:
    """Name as Prometheus sees it -> type and help."""
    text = generate_latest(registry).decode()
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    helps = dict(re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE))
    return {name: (kind, helps[name]) for name, kind in kinds.items()}


def test_the_help_says_what_is_counted_per_attempt(metrics: Metrics, registry: CollectorRegistry) -> None:
    _, text = families(registry)["mailferry_messages_total"]
    assert "relayed, deferred, rejected and in_doubt count attempts per destination" in text


def test_the_page_says_how_many_series_a_name_has(metrics: Metrics, registry: CollectorRegistry) -> None:
    page = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text(encoding="utf-8")
    keys = [dict(labels) for _, labels in ours(registry)]
    maildrop = sum(labels.get("maildrop") == "alice" for labels in keys)
    destination = sum(labels.get("destination") == "office" for labels in keys)
    assert f"A maildrop has {maildrop} series, a destination {destination}." in page


def test_names_obey_prometheus_rules(metrics: Metrics, registry: CollectorRegistry) -> None:
    for name, (kind, text) in families(registry).items():
        assert text, name
        assert name.endswith("_total") == (kind == "counter"), name
        assert not re.search(r"_(ms|msec|milliseconds|minutes|kb|mb|count|sum|bucket|created)$", name), name


def test_no_created_series(metrics: Metrics, registry: CollectorRegistry) -> None:
    assert "_created" not in generate_latest(registry).decode()


def test_the_page_names_each_series_and_no_other(metrics: Metrics, registry: CollectorRegistry) -> None:
    page = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text(encoding="utf-8")
    table = set(re.findall(r"^\| `(mailferry_\w+)`", page, re.MULTILINE))
    assert table == {name for name in families(registry) if name.startswith("mailferry_")}
    mentioned = {re.sub(r"_(bucket|count|sum)$", "", name) for name in re.findall(r"mailferry_\w+", page)}
    assert mentioned <= table


def test_the_page_explains_each_result(metrics: Metrics) -> None:
    page = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text(encoding="utf-8")
    for words in (PollResult, MessageOutcome, DeliveryOutcome, EtrnResult):
        for word in words:
            assert f"`{word}`" in page
