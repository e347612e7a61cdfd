"""The metric series: names, labels, help, and the children of each configured name.

Label values are configured names or words of `mailferry.telemetry.results`,
never anything a peer said. All children of a name are made together, with 0,
so that a rate or an alert has something to look at before the first event;
they are resolved once and then only incremented.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from mailferry.policy.etrn import EtrnResult
from mailferry.policy.poll_result import PollResult
from mailferry.telemetry.results import DeliveryOutcome, MessageOutcome, ReplyClass, SessionFailure

RELAY_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600)
AGE_SECONDS = (1, 10, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 86_400, 3 * 86_400, 7 * 86_400)


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
        self.interval = gauge(
            "poll_interval_seconds",
            "The longest time between two polls, by the configuration or the server's LOGIN-DELAY.",
        )
        self.refused = gauge(
            "credentials_refused", "1 since the server refused user name or password, until it takes them."
        )
        self.waiting = gauge("waiting_messages", "Messages on the server with a destination yet to reach.")
        self.oldest_waiting = gauge(
            "oldest_waiting_message_timestamp_seconds",
            "When the message was first tried that has waited longest; 0 when none waits.",
        )
        self.listed = gauge("maildrop_messages", "Messages in the maildrop at its last poll.")
        self.size = gauge("maildrop_octets", "Size of the maildrop at its last poll.")

    @property
    def named_gauges(self) -> tuple[Gauge, ...]:
        """The gauges that mean something for one maildrop only: no sum is made of them."""
        return self.last_success, self.last_failure, self.interval, self.refused

    @property
    def summed_gauges(self) -> tuple[Gauge, ...]:
        """The gauges that can speak for several maildrops."""
        return self.waiting, self.oldest_waiting, self.listed, self.size


class MessageCounters:
    """What is counted of messages, wherever they came from."""

    __slots__ = ("octets", "outcomes")

    def __init__(self, families: MaildropFamilies, name: str) -> None:
        self.outcomes = {word: families.messages.labels(name, word) for word in MessageOutcome}
        self.octets = families.octets.labels(name)


class MaildropCounters(MessageCounters):
    """The counters of one maildrop, or of all together."""

    __slots__ = ("auth_rejections", "quit_unconfirmed", "results", "uidls_changed")

    def __init__(self, families: MaildropFamilies, name: str) -> None:
        super().__init__(families, name)
        self.results: dict[str, Counter] = {
            str(word): families.polls.labels(name, word) for word in PollResult
        }
        self.auth_rejections = families.auth_rejections.labels(name)
        self.quit_unconfirmed = families.quit_unconfirmed.labels(name)
        self.uidls_changed = families.uidls_changed.labels(name)


class MaildropGauges:
    """The gauges of one maildrop."""

    __slots__ = (
        "interval", "last_failure", "last_success", "listed", "oldest_waiting", "refused", "size", "waiting",
    )  # fmt: skip

    def __init__(self, families: MaildropFamilies, name: str) -> None:
        self.last_success, self.last_failure, self.interval, self.refused = (
            family.labels(name) for family in families.named_gauges
        )
        self.waiting, self.oldest_waiting, self.listed, self.size = (
            family.labels(name) for family in families.summed_gauges
        )


def drop_maildrop(families: MaildropFamilies, name: str) -> None:
    """Remove a maildrop's children."""
    drop_children(families.polls, name, *PollResult)
    drop_children(families.messages, name, *MessageOutcome)
    counters = (families.octets, families.auth_rejections, families.quit_unconfirmed, families.uidls_changed)
    drop_each((*counters, *families.named_gauges, *families.summed_gauges), name)


class DestinationFamilies:
    """The series with a `destination` label."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"mailferry_{name}", text, ["destination"], registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"mailferry_{name}", text, ["destination", *labels], registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"mailferry_{name}", text, ["destination"], buckets=buckets, registry=registry)

        self.deliveries = counter(
            "deliveries_total", "Attempts to deliver a message, by what the destination did.", "outcome"
        )
        self.replies = counter(
            "smtp_replies_total", "Replies of the next hop, by their first digit.", "class"
        )
        self.failures = counter(
            "session_failures_total", "Sessions with the next hop that could not be had, by why.", "result"
        )
        self.pauses = counter("route_pauses_total", "Times a next hop took no mail at all.")
        self.up = gauge("route_up", "1 when mail is sent to the next hop, 0 while paused.")
        self.refused = gauge(
            "route_credentials_refused",
            "1 since the next hop refused user name or password, until it takes mail again.",
        )
        self.last_success = gauge(
            "last_successful_delivery_timestamp_seconds",
            "When the destination last accepted a message; 0 when never.",
        )
        self.relay_duration = histogram(
            "relay_duration_seconds",
            "From the fetch of a message to its acceptance by the destination.",
            RELAY_SECONDS,
        )
        self.message_age = histogram(
            "message_age_seconds",
            "From the first attempt at a message to its acceptance by the destination.",
            AGE_SECONDS,
        )


class DestinationSeries:
    """The children of one destination."""

    __slots__ = (
        "failures", "last_success", "message_age", "outcomes", "pauses", "refused", "relay_duration", "replies", "up",
    )  # fmt: skip

    def __init__(self, families: DestinationFamilies, name: str) -> None:
        self.outcomes = {word: families.deliveries.labels(name, word) for word in DeliveryOutcome}
        self.replies = {int(word[0]): families.replies.labels(name, word) for word in ReplyClass}
        self.failures: dict[str, Counter] = {
            str(word): families.failures.labels(name, word) for word in SessionFailure
        }
        self.pauses = families.pauses.labels(name)
        self.up = families.up.labels(name)
        self.up.set(1)  # a route is trusted until it fails
        self.refused = families.refused.labels(name)
        self.last_success = families.last_success.labels(name)
        self.relay_duration = families.relay_duration.labels(name)
        self.message_age = families.message_age.labels(name)


def drop_destination(families: DestinationFamilies, name: str) -> None:
    """Remove a destination's children."""
    drop_children(families.deliveries, name, *DeliveryOutcome)
    drop_children(families.replies, name, *ReplyClass)
    drop_children(families.failures, name, *SessionFailure)
    plain = (families.pauses, families.up, families.refused, families.last_success)
    drop_each((*plain, families.relay_duration, families.message_age), name)


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
        self.refused = gauge(
            "etrn_refused", "1 since the server does not serve the node, or us, until it takes a request."
        )


class EtrnSeries:
    """The children of one ETRN node."""

    __slots__ = ("last_success", "pending", "refused", "results", "silent")

    def __init__(self, families: EtrnFamilies, etrn: str, node: str) -> None:
        self.results: dict[str, Counter] = {
            str(word): families.requests.labels(etrn, node, word) for word in EtrnResult
        }
        self.last_success = families.last_success.labels(etrn, node)
        self.pending = families.pending.labels(etrn, node)
        self.silent = families.silent.labels(etrn, node)
        self.refused = families.refused.labels(etrn, node)


def drop_etrn_node(families: EtrnFamilies, etrn: str, node: str) -> None:
    """Remove an ETRN node's children."""
    drop_children(families.requests, (etrn, node), *EtrnResult)
    drop_each((families.last_success, families.pending, families.silent, families.refused), (etrn, node))


def drop_each(families: Iterable[MetricWrapperBase], name: str | tuple[str, ...]) -> None:
    """Remove the one child that a name has in each of these families."""
    for family in families:
        drop_children(family, name)


def drop_children(family: MetricWrapperBase, name: str | tuple[str, ...], *words: str) -> None:
    """Remove a name's children from a family: the one child, or one per word."""
    labels = (name,) if isinstance(name, str) else name
    if not words:
        family.remove(*labels)
    for word in words:
        family.remove(*labels, word)
