"""What is counted of destinations and of ETRN nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry

from mailferry import events
from mailferry.events import Event
from mailferry.model import StandingRecord
from mailferry.policy.etrn import ACCEPTED, NEEDS_PERSON, EtrnResult, is_silent, result_of
from mailferry.ports import Clock
from mailferry.telemetry.results import DeliveryOutcome, SessionFailure
from mailferry.telemetry.series import (
    DestinationFamilies,
    DestinationSeries,
    EtrnFamilies,
    EtrnSeries,
    drop_destination,
    drop_etrn_node,
)


class DestinationMetrics:
    """Counts what destinations do."""

    def __init__(self, registry: CollectorRegistry, names: Iterable[str], *, clock: Clock) -> None:
        self._families = DestinationFamilies(registry)
        self._clock = clock
        self._series: dict[str, DestinationSeries] = {}
        for name in names:
            self.add(name)

    def add(self, name: str) -> DestinationSeries:
        """Return a destination's series, made if there are none."""
        series = self._series.get(name)
        if series is None:
            series = self._series[name] = DestinationSeries(self._families, name)
        return series

    def remove(self, name: str) -> None:
        """Drop a destination's series; it must have drained, or they come back."""
        if self._series.pop(name, None) is not None:
            drop_destination(self._families, name)

    def restore(self, standing: StandingRecord, now: float) -> None:
        """Take over what the ledger remembers; a destination that is not configured passes."""
        series = self._series.get(standing.name)
        if series is not None:
            series.last_success.set(min(standing.last_success_at or 0.0, now))

    def replied(self, name: str, code: int) -> None:
        """Count a reply of the next hop."""
        counter = self.add(name).replies.get(code // 100)
        if counter is not None:  # no other first digit is a reply
            counter.inc()

    def handlers(self) -> Mapping[type[Event], Callable[[Any], None]]:
        """Return one method per class of events."""
        # Any: each method takes the one class that it stands beside.
        return {
            events.MessageRelayed: self._relayed,
            events.MessageDeferred: partial(self._count, DeliveryOutcome.DEFERRED),
            events.MessageInDoubt: partial(self._count, DeliveryOutcome.IN_DOUBT),
            events.MessageRejected: partial(self._count, DeliveryOutcome.REJECTED),
            events.SessionFailed: self._session_failed,
            events.RoutePaused: self._paused,
            events.RouteAuthRejected: lambda event: self.add(event.destination).refused.set(1),
            events.RouteResumed: self._resumed,
        }

    def _relayed(self, event: events.MessageRelayed) -> None:
        series = self.add(event.destination)
        series.outcomes[DeliveryOutcome.ACCEPTED].inc()
        series.last_success.set(self._clock())
        series.relay_duration.observe(event.age_seconds)
        series.message_age.observe(event.known_seconds)

    def _count(self, outcome: DeliveryOutcome, event: Any) -> None:  # Any: all that have a destination
        self.add(event.destination).outcomes[outcome].inc()

    def _session_failed(self, event: events.SessionFailed) -> None:
        failures = self.add(event.destination).failures
        counter = failures.get(event.result)
        (counter if counter is not None else failures[SessionFailure.INTERNAL_ERROR]).inc()

    def _paused(self, event: events.RoutePaused) -> None:
        series = self.add(event.destination)
        series.pauses.inc()
        series.up.set(0)

    def _resumed(self, event: events.RouteResumed) -> None:
        series = self.add(event.destination)
        series.up.set(1)
        series.refused.set(0)


class EtrnMetrics:
    """Counts what servers answer that are asked with ETRN."""

    def __init__(
        self, registry: CollectorRegistry, nodes: Iterable[tuple[str, str]], *, clock: Clock
    ) -> None:
        self._families = EtrnFamilies(registry)
        self._clock = clock
        self._series: dict[tuple[str, str], EtrnSeries] = {}
        for etrn, node in nodes:
            self.add(etrn, node)

    def add(self, etrn: str, node: str) -> EtrnSeries:
        """Return a node's series, made if there are none."""
        series = self._series.get((etrn, node))
        if series is None:
            series = self._series[etrn, node] = EtrnSeries(self._families, etrn, node)
        return series

    def remove(self, etrn: str, node: str) -> None:
        """Drop a node's series."""
        if self._series.pop((etrn, node), None) is not None:
            drop_etrn_node(self._families, etrn, node)

    def restore(self, standing: StandingRecord, now: float) -> None:
        """Take over what the ledger remembers; a node that is not configured passes."""
        etrn, _, node = standing.name.partition("/")
        series = self._series.get((etrn, node))
        if series is None:
            return
        series.last_success.set(min(standing.last_success_at or 0.0, now))
        series.silent.set(int(is_silent(standing.last_error)))
        refused = standing.consecutive_failures and result_of(standing.last_error) in NEEDS_PERSON
        series.refused.set(int(bool(refused)))

    def handlers(self) -> Mapping[type[Event], Callable[[Any], None]]:
        """Return one method per class of events."""
        # Any: each method takes the one class that it stands beside.
        return {
            events.EtrnAnswered: self._answered,
            events.EtrnUnanswered: self._unanswered,
            events.EtrnAcceptedButSilent: self._silent,
            events.EtrnPendingButSilent: self._silent,
            events.EtrnMailCame: lambda event: self.add(event.etrn, event.node).silent.set(0),
        }

    def _answered(self, event: events.EtrnAnswered) -> None:
        series = self.add(event.etrn, event.node)
        self._count(series, event.result)
        series.pending.set(event.pending)
        if event.result in ACCEPTED:
            series.last_success.set(self._clock())

    def _unanswered(self, event: events.EtrnUnanswered) -> None:
        self._count(self.add(event.etrn, event.node), event.result)

    def _count(self, series: EtrnSeries, result: str) -> None:
        counter = series.results.get(result)
        (counter if counter is not None else series.results[EtrnResult.INTERNAL_ERROR]).inc()
        if result in NEEDS_PERSON:
            series.refused.set(1)
        elif result in ACCEPTED:
            series.refused.set(0)

    def _silent(self, event: events.EtrnAcceptedButSilent | events.EtrnPendingButSilent) -> None:
        self.add(event.etrn, event.node).silent.set(1)
