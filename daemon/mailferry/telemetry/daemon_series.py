"""The series of the daemon as a whole, and the gauges that are read when somebody looks."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from mailferry.telemetry.results import Reception, Refusal

POLL_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
COMMIT_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)

SessionProtocol = Literal["pop3", "smtp", "receiver"]
Reading = Callable[[], float]

_log = logging.getLogger(__name__)


class DaemonSeries:
    """The series without a configured name."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.poll_duration = self._histogram("poll_duration_seconds", "How long polls took.", POLL_SECONDS)
        self.loop_lag = self._histogram(
            "event_loop_lag_seconds", "How late the event loop was, measured once a second.", LAG_SECONDS
        )
        self.clock_jumps = self._counter("clock_jumps_total", "Times the system's clock was set.")
        self.notices = self._counter("notices_sent_total", "Summaries for the operator that were accepted.")
        self.notice_failures = self._counter(
            "notice_failures_total", "Summaries for the operator that failed."
        )
        self.quarantine_failures = self._counter(
            "quarantine_failures_total", "Messages that could not be put there."
        )
        self.start_time = self._gauge("start_time_seconds", "When the daemon was started.")
        self.config_ok = self._gauge(
            "config_last_reload_successful",
            "1 when the configuration was last read with success, 0 when what was read could not be put in force.",
        )
        self.config_loaded_at = self._gauge(
            "config_last_reload_success_timestamp_seconds",
            "Since when the present configuration is in force.",
        )
        self.received = Counter(
            "mailferry_received_messages_total",
            "Messages that came in by SMTP, by what became of them.",
            ["result"],
            registry=registry,
        )
        self.refusals = Counter(
            "mailferry_receiver_refusals_total",
            "What clients of the embedded SMTP server were refused.",
            ["what"],
            registry=registry,
        )
        self.paused = Gauge(
            "mailferry_paused",
            "1 for what rests because somebody said so; there is no series otherwise.",
            ["peer", "name"],
            registry=registry,
        )
        for result in Reception:
            self.received.labels(result)
        for what in Refusal:
            self.refusals.labels(what)
        self._add_ledger()
        self._add_readings()

    def _add_ledger(self) -> None:
        self.commit_duration = self._histogram(
            "ledger_commit_duration_seconds", "How long synced commits took.", COMMIT_SECONDS
        )
        self.ledger_records = self._counter("ledger_records_total", "Rows written to the ledger.")
        self.ledger_failures = self._counter("ledger_failures_total", "Failures to write the ledger.")
        self.ledger_copied_at = self._gauge(
            "ledger_copy_timestamp_seconds",
            "When the copy of the ledger was last made; 0 when not since the start.",
        )
        self.ledger_copy_failures = self._counter(
            "ledger_copy_failures_total", "Copies of the ledger that could not be made."
        )
        self.ledger_restored = self._counter(
            "ledger_restored_total", "Starts that had to take the copy of the ledger."
        )

    def _add_readings(self) -> None:
        self.memory_in_use = self._gauge(
            "memory_in_use_bytes", "Message content held in memory, of the budget."
        )
        self.memory_budget = self._gauge(
            "memory_budget_bytes", "Message content that may be held in memory, at most."
        )
        self.schedule_lag = self._gauge("schedule_lag_seconds", "How late the last turn was begun.")
        self.polls_waiting = self._gauge(
            "polls_waiting", "Polls that are due and wait for a place under max_sessions."
        )
        self.quarantined = self._gauge("quarantine_messages", "Messages that lie in the quarantine.")
        self.ledger_size = self._gauge(
            "ledger_size_bytes", "Size of the ledger, its write-ahead log included."
        )
        self.state_free = self._gauge("state_free_bytes", "Room left on the disk of state_dir.")
        self.open_sessions = Gauge(
            "mailferry_open_sessions", "Sessions open now.", ["protocol"], registry=self._registry
        )
        for protocol in ("pop3", "smtp", "receiver"):
            self.open_sessions.labels(protocol)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"mailferry_{name}", text, buckets=buckets, registry=self._registry)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"mailferry_{name}", text, registry=self._registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"mailferry_{name}", text, registry=self._registry)


class Readings:
    """The gauges that are read at each scrape: from the scrape's thread, so they must only read."""

    def __init__(self, series: DaemonSeries) -> None:
        self._series = series

    def set_memory_in_use(self, read: Reading) -> None:
        """Read octets of message content held in memory."""
        self._series.memory_in_use.set_function(guarded("memory_in_use", read))

    def set_memory_budget(self, read: Reading) -> None:
        """Read how many octets that may be, at most."""
        self._series.memory_budget.set_function(guarded("memory_budget", read))

    def set_open_sessions(self, protocol: SessionProtocol, read: Reading) -> None:
        """Read the number of open sessions."""
        self._series.open_sessions.labels(protocol).set_function(guarded("open_sessions", read))

    def set_schedule_lag(self, read: Reading) -> None:
        """Read how many seconds late the last turn was begun."""
        self._series.schedule_lag.set_function(guarded("schedule_lag", read))

    def set_polls_waiting(self, read: Reading) -> None:
        """Read how many polls wait for their place."""
        self._series.polls_waiting.set_function(guarded("polls_waiting", read))

    def set_quarantined(self, read: Reading) -> None:
        """Read how many messages lie in the quarantine."""
        self._series.quarantined.set_function(guarded("quarantine_messages", read))

    def set_ledger_size(self, read: Reading) -> None:
        """Read how many octets the ledger has."""
        self._series.ledger_size.set_function(guarded("ledger_size", read))

    def set_state_free(self, read: Reading) -> None:
        """Read how many octets are free where the state lies."""
        self._series.state_free.set_function(guarded("state_free", read))


def guarded(gauge: str, read: Reading) -> Reading:
    """Keep a failing reading from failing the whole scrape: NaN, and told once."""
    told = False

    def reading() -> float:
        nonlocal told
        try:
            return float(read())
        except Exception:  # noqa: BLE001 (whatever it is, the other series must be served)
            if not told:
                told = True
                _log.exception("the gauge %s could not be read", gauge)
            return math.nan

    return reading
