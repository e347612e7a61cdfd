"""The metric series: names, labels, help, and the children of each configured name.

Label values are configured names or words of `mailferry.telemetry.results`,
never anything a peer said. All children of a name are made together, with 0,
so that a rate or an alert has something to look at before the first event;
they are resolved once and then only incremented.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from mailferry.policy.etrn import EtrnResult
from mailferry.policy.poll_result import PollResult
from mailferry.telemetry.results import DeliveryOutcome, MessageOutcome

POLL_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
AGE_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600)
COMMIT_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)


class MaildropFamilies:
    """The series with a `maildrop` label."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"mailferry_{name}", text, ["maildrop"], registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"mailferry_{name}", text, ["maildrop", *labels], registry=registry)

        self.polls = counter("polls_total", "Polls that ended, by how they ended.", "result")
        self.messages = counter(
            "messages_total",
            "What became of messages; relayed, deferred, rejected and in_doubt count attempts per destination.",
            "outcome",
        )
        self.octets = counter("message_octets_total", "Octets of messages that destinations accepted.")
        self.auth_rejections = counter("auth_rejections_total", "Logins that the server refused.")
        self.quit_unconfirmed = counter(
            "quit_unconfirmed_total", "Sessions whose deletions QUIT did not confirm."
        )
        self.uidls_changed = counter("uidls_changed_total", "Polls that found new UIDLs on known messages.")
        self.last_success = gauge(
            "last_successful_poll_timestamp_seconds", "When a poll last went well; 0 when never."
        )
        self.last_failure = gauge(
            "last_failed_poll_timestamp_seconds", "When a poll last failed; 0 when never."
        )
        self.waiting = gauge("waiting_messages", "Messages on the server with a destination yet to reach.")
        self.size = gauge("maildrop_octets", "Size of the maildrop at its last poll.")


class MaildropSeries:
    """The children of one maildrop."""

    __slots__ = (
        "auth_rejections", "last_failure", "last_success", "octets", "outcomes", "quit_unconfirmed",
        "results", "size", "uidls_changed", "waiting",
    )  # fmt: skip

    def __init__(self, families: MaildropFamilies, name: str) -> None:
        self.results: dict[str, Counter] = {
            str(word): families.polls.labels(name, word) for word in PollResult
        }
        self.outcomes = {word: families.messages.labels(name, word) for word in MessageOutcome}
        self.octets = families.octets.labels(name)
        self.auth_rejections = families.auth_rejections.labels(name)
        self.quit_unconfirmed = families.quit_unconfirmed.labels(name)
        self.uidls_changed = families.uidls_changed.labels(name)
        self.last_success = families.last_success.labels(name)
        self.last_failure = families.last_failure.labels(name)
        self.waiting = families.waiting.labels(name)
        self.size = families.size.labels(name)


class DestinationFamilies:
    """The series with a `destination` label."""

    def __init__(self, registry: CollectorRegistry) -> None:
        label = ["destination"]
        self.deliveries = Counter(
            "mailferry_deliveries_total",
            "Attempts to deliver a message, by what the destination did.",
            [*label, "outcome"],
            registry=registry,
        )
        self.pauses = Counter(
            "mailferry_route_pauses_total", "Times a next hop took no mail at all.", label, registry=registry
        )
        self.up = Gauge(
            "mailferry_route_up",
            "1 when mail is sent to the next hop, 0 while paused.",
            label,
            registry=registry,
        )
        self.last_success = Gauge(
            "mailferry_last_successful_delivery_timestamp_seconds",
            "When the destination last accepted a message; 0 when never.",
            label,
            registry=registry,
        )
        self.message_age = Histogram(
            "mailferry_message_age_seconds",
            "From the fetch of a message to its acceptance by the destination.",
            label,
            buckets=AGE_SECONDS,
            registry=registry,
        )


class DestinationSeries:
    """The children of one destination."""

    __slots__ = ("last_success", "message_age", "outcomes", "pauses", "up")

    def __init__(self, families: DestinationFamilies, name: str) -> None:
        self.outcomes = {word: families.deliveries.labels(name, word) for word in DeliveryOutcome}
        self.pauses = families.pauses.labels(name)
        self.up = families.up.labels(name)
        self.up.set(1)  # a route is trusted until it fails
        self.last_success = families.last_success.labels(name)
        self.message_age = families.message_age.labels(name)


class EtrnFamilies:
    """The series with the labels `etrn` and `node`: two servers may queue for one node."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"mailferry_{name}", text, ["etrn", "node"], registry=registry)

        self.requests = Counter(
            "mailferry_etrn_requests_total",
            "ETRN requests, by how they ended.",
            ["etrn", "node", "result"],
            registry=registry,
        )
        self.last_success = gauge(
            "last_successful_etrn_timestamp_seconds", "When an ETRN request was last accepted; 0 when never."
        )
        self.pending = gauge(
            "etrn_pending_messages", "Messages that the server said it would send (253), at the last answer."
        )
        self.silent = gauge(
            "etrn_silent", "1 when a request was accepted and no mail came within silent_after."
        )


class EtrnSeries:
    """The children of one ETRN node."""

    __slots__ = ("last_success", "pending", "results", "silent")

    def __init__(self, families: EtrnFamilies, etrn: str, node: str) -> None:
        self.results: dict[str, Counter] = {
            str(word): families.requests.labels(etrn, node, word) for word in EtrnResult
        }
        self.last_success = families.last_success.labels(etrn, node)
        self.pending = families.pending.labels(etrn, node)
        self.silent = families.silent.labels(etrn, node)


class DaemonSeries:
    """The series without a configured name."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"mailferry_{name}", text, buckets=buckets, registry=registry)

        def counter(name: str, text: str) -> Counter:
            return Counter(f"mailferry_{name}", text, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"mailferry_{name}", text, registry=registry)

        self.poll_duration = histogram("poll_duration_seconds", "How long polls took.", POLL_SECONDS)
        self.commit_duration = histogram(
            "ledger_commit_duration_seconds", "How long synced commits took.", COMMIT_SECONDS
        )
        self.ledger_records = counter("ledger_records_total", "Rows written to the ledger.")
        self.ledger_failures = counter("ledger_failures_total", "Failures to write the ledger.")
        self.ledger_copied_at = gauge(
            "ledger_copy_timestamp_seconds",
            "When the copy of the ledger was last made; 0 when not since the start.",
        )
        self.ledger_copy_failures = counter(
            "ledger_copy_failures_total", "Copies of the ledger that could not be made."
        )
        self.ledger_restored = counter(
            "ledger_restored_total", "Starts that had to take the copy of the ledger."
        )
        self.quarantine_failures = counter(
            "quarantine_failures_total", "Messages that could not be put there."
        )
        self.quarantined = gauge("quarantine_messages", "Messages that lie in the quarantine.")
        self.clock_jumps = counter("clock_jumps_total", "Times the system's clock was set.")
        self.notices = counter("notices_sent_total", "Summaries for the operator that were accepted.")
        self.notice_failures = counter("notice_failures_total", "Summaries for the operator that failed.")
        self.start_time = gauge("start_time_seconds", "When the daemon was started.")
        self.config_ok = gauge(
            "config_last_reload_successful",
            "1 when the configuration was last read with success, 0 when what was read could not be put in force.",
        )
        self.config_loaded_at = gauge(
            "config_last_reload_success_timestamp_seconds",
            "Since when the present configuration is in force.",
        )
        self.memory_in_use = gauge("memory_in_use_bytes", "Message content held in memory, of the budget.")
        self.schedule_lag = gauge("schedule_lag_seconds", "How late the most overdue poll is.")
        self.open_sessions = Gauge(
            "mailferry_open_sessions", "Sessions open now.", ["protocol"], registry=registry
        )


def drop_children(family: MetricWrapperBase, name: str | tuple[str, ...], *words: str) -> None:
    """Remove a name's children from a family: the one child, or one per word."""
    labels = (name,) if isinstance(name, str) else name
    if not words:
        family.remove(*labels)
    for word in words:
        family.remove(*labels, word)
