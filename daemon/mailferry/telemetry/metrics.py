"""Turns events into metrics.

`observe` runs on the event loop for each message, so it is one look-up by class
and a few increments of children that were resolved at start. Scrapes run in
another thread; prometheus_client's values are locked one by one.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from mailferry import events
from mailferry.events import Event
from mailferry.model import StandingKind, StandingRecord
from mailferry.policy.etrn import ACCEPTED, EtrnResult, is_silent
from mailferry.policy.poll_result import PollResult
from mailferry.ports import Clock
from mailferry.telemetry.results import DeliveryOutcome, MessageOutcome
from mailferry.telemetry.series import (
    DaemonSeries,
    DestinationFamilies,
    DestinationSeries,
    EtrnFamilies,
    EtrnSeries,
    MaildropFamilies,
    MaildropSeries,
    drop_children,
)

_log = logging.getLogger(__name__)

SessionProtocol = Literal["pop3", "smtp"]
Reading = Callable[[], float]


class Metrics:
    """A sink for events that counts them; see `docs/metrics.md` for the series."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        maildrops: Sequence[str],
        destinations: Sequence[str],
        etrn_nodes: Sequence[tuple[str, str]],
        version: str,
        clock: Clock = time.time,
    ) -> None:
        # Half as many samples; Prometheus has no use for them where series begin at 0.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no annotation here
        self._clock = clock
        self._maildrop_families = MaildropFamilies(registry)
        self._destination_families = DestinationFamilies(registry)
        self._etrn_families = EtrnFamilies(registry)
        self._daemon = DaemonSeries(registry)
        self._maildrops = {name: MaildropSeries(self._maildrop_families, name) for name in maildrops}
        self._destinations = {
            name: DestinationSeries(self._destination_families, name) for name in destinations
        }
        self._etrn_nodes = {each: EtrnSeries(self._etrn_families, *each) for each in etrn_nodes}
        self._handlers = self._dispatch_table()
        self._daemon.start_time.set(clock())
        self.config_reloaded(True, clock())  # what the start read is in force
        for protocol in ("pop3", "smtp"):
            self._daemon.open_sessions.labels(protocol)
        Info("mailferry_build", "The version that runs.", registry=registry).info({"version": version})
        _add_process_collectors(registry)

    def observe(self, event: Event) -> None:
        """Count the event; classes without a metric pass."""
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)

    def restore(self, standings: Iterable[StandingRecord], now: float) -> None:
        """Set the last-success and last-failure times that the ledger remembers.

        A time in the future (the clock was set back) counts as `now`, lest
        silence go unnoticed until then. Names that are no longer configured
        get no series.
        """
        for standing in standings:
            success = min(standing.last_success_at or 0.0, now)
            if standing.kind is StandingKind.MAILDROP and standing.name in self._maildrops:
                series = self._maildrops[standing.name]
                series.last_success.set(success)
                series.last_failure.set(min(standing.last_error_at or 0.0, now))
            elif standing.kind is StandingKind.DESTINATION and standing.name in self._destinations:
                self._destinations[standing.name].last_success.set(success)
            elif standing.kind is StandingKind.ETRN:
                self._restore_node(standing, success)

    def _restore_node(self, standing: StandingRecord, success: float) -> None:
        etrn, _, node = standing.name.partition("/")
        series = self._etrn_nodes.get((etrn, node))
        if series is not None:
            series.last_success.set(success)
            series.silent.set(int(is_silent(standing.last_error)))

    def config_reloaded(self, ok: bool, at: float) -> None:
        """Note how the last reading of the configuration ended, at `at` (seconds since the epoch).

        Without success the former configuration stays in force, and with it the time since when.
        """
        self._daemon.config_ok.set(int(ok))
        if ok:
            self._daemon.config_loaded_at.set(at)

    # -- gauges that are read when somebody looks: from the scrape's thread, so they must only read

    def set_memory_in_use(self, read: Reading) -> None:
        """Read octets of message content held in memory at each scrape."""
        self._daemon.memory_in_use.set_function(_guarded("memory_in_use", read))

    def set_open_sessions(self, protocol: SessionProtocol, read: Reading) -> None:
        """Read the number of open sessions at each scrape."""
        self._daemon.open_sessions.labels(protocol).set_function(_guarded("open_sessions", read))

    def set_schedule_lag(self, read: Reading) -> None:
        """Read how many seconds the most overdue poll is late at each scrape."""
        self._daemon.schedule_lag.set_function(_guarded("schedule_lag", read))

    def set_quarantined(self, read: Reading) -> None:
        """Read how many messages lie in the quarantine at each scrape."""
        self._daemon.quarantined.set_function(_guarded("quarantine_messages", read))

    # -- the configured names; a reload adds and removes them

    def add_maildrop(self, name: str) -> None:
        """Create a maildrop's series; nothing happens when they exist."""
        self._maildrop(name)

    def remove_maildrop(self, name: str) -> None:
        """Drop a maildrop's series; call it when its last poll has ended, or they come back."""
        if self._maildrops.pop(name, None) is None:
            return
        families = self._maildrop_families
        drop_children(families.polls, name, *PollResult)
        drop_children(families.messages, name, *MessageOutcome)
        for family in (
            families.octets, families.auth_rejections, families.quit_unconfirmed, families.uidls_changed,
            families.last_success, families.last_failure, families.waiting, families.size,
        ):  # fmt: skip
            drop_children(family, name)

    def add_destination(self, name: str) -> None:
        """Create a destination's series; nothing happens when they exist."""
        self._destination(name)

    def remove_destination(self, name: str) -> None:
        """Drop a destination's series; call it when it has drained, or they come back."""
        if self._destinations.pop(name, None) is None:
            return
        families = self._destination_families
        drop_children(families.deliveries, name, *DeliveryOutcome)
        for family in (families.pauses, families.up, families.last_success, families.message_age):
            drop_children(family, name)

    def add_etrn_node(self, etrn: str, node: str) -> None:
        """Create an ETRN node's series; nothing happens when they exist."""
        self._etrn_node(etrn, node)

    def remove_etrn_node(self, etrn: str, node: str) -> None:
        """Drop an ETRN node's series."""
        if self._etrn_nodes.pop((etrn, node), None) is None:
            return
        families = self._etrn_families
        drop_children(families.requests, (etrn, node), *EtrnResult)
        for family in (families.last_success, families.pending, families.silent):
            drop_children(family, (etrn, node))

    def _etrn_node(self, etrn: str, node: str) -> EtrnSeries:
        series = self._etrn_nodes.get((etrn, node))
        if series is None:
            series = self._etrn_nodes[etrn, node] = EtrnSeries(self._etrn_families, etrn, node)
        return series

    def _maildrop(self, name: str) -> MaildropSeries:
        # Events carry configured names only, so making a missing one is no door for a peer.
        series = self._maildrops.get(name)
        if series is None:
            series = self._maildrops[name] = MaildropSeries(self._maildrop_families, name)
        return series

    def _destination(self, name: str) -> DestinationSeries:
        series = self._destinations.get(name)
        if series is None:
            series = self._destinations[name] = DestinationSeries(self._destination_families, name)
        return series

    # -- one method per class of events

    def _dispatch_table(self) -> dict[type[Event], Callable[[Any], None]]:
        # Any: each method takes the one class that it stands beside.
        return {
            events.PollFinished: self._poll_finished,
            events.MaildropAuthRejected: self._auth_rejected,
            events.QuitUnconfirmed: self._quit_unconfirmed,
            events.MessageRelayed: self._relayed,
            events.MessageDeferred: self._deferred,
            events.MessageInDoubt: self._in_doubt,
            events.MessageRejected: self._rejected,
            events.MessageFetchFailed: self._fetch_failed,
            events.MessageSkipped: self._skipped,
            events.MessageRecognised: self._recognised,
            events.UidlsChanged: self._uidls_changed,
            events.MessageQuarantined: self._quarantined,
            events.QuarantineFailed: self._quarantine_failed,
            events.RoutePaused: self._route_paused,
            events.RouteResumed: self._route_resumed,
            events.EtrnAnswered: self._etrn_answered,
            events.EtrnUnanswered: self._etrn_unanswered,
            events.EtrnAcceptedButSilent: self._etrn_silent,
            events.EtrnPendingButSilent: self._etrn_silent,
            events.EtrnMailCame: self._etrn_mail_came,
            events.LedgerCommitted: self._ledger_committed,
            events.LedgerFailed: self._ledger_failed,
            events.LedgerRestored: self._ledger_restored,
            events.LedgerCopied: self._ledger_copied,
            events.LedgerCopyFailed: self._ledger_copy_failed,
            events.ClockJumped: self._clock_jumped,
            events.NoticeSent: self._notice_sent,
            events.NoticeFailed: self._notice_failed,
        }

    def _poll_finished(self, event: events.PollFinished) -> None:
        series = self._maildrop(event.maildrop)
        counter = series.results.get(event.result)
        (counter if counter is not None else series.results[PollResult.INTERNAL_ERROR]).inc()
        self._daemon.poll_duration.observe(event.duration_seconds)
        if event.result == PollResult.OK:
            series.last_success.set(self._clock())
            series.waiting.set(event.waiting)
            series.size.set(event.maildrop_octets)
        elif event.result != PollResult.STOPPED:
            # What waits is not known after a failure: the gauges keep the last listing's word.
            series.last_failure.set(self._clock())

    def _auth_rejected(self, event: events.MaildropAuthRejected) -> None:
        self._maildrop(event.maildrop).auth_rejections.inc()

    def _quit_unconfirmed(self, event: events.QuitUnconfirmed) -> None:
        self._maildrop(event.maildrop).quit_unconfirmed.inc()

    def _relayed(self, event: events.MessageRelayed) -> None:
        maildrop = self._maildrop(event.maildrop)
        maildrop.outcomes[MessageOutcome.RELAYED].inc()
        maildrop.octets.inc(event.size_octets)
        destination = self._destination(event.destination)
        destination.outcomes[DeliveryOutcome.ACCEPTED].inc()
        destination.last_success.set(self._clock())
        destination.message_age.observe(event.age_seconds)

    def _deferred(self, event: events.MessageDeferred) -> None:
        self._maildrop(event.maildrop).outcomes[MessageOutcome.DEFERRED].inc()
        self._destination(event.destination).outcomes[DeliveryOutcome.DEFERRED].inc()

    def _in_doubt(self, event: events.MessageInDoubt) -> None:
        self._maildrop(event.maildrop).outcomes[MessageOutcome.IN_DOUBT].inc()
        self._destination(event.destination).outcomes[DeliveryOutcome.IN_DOUBT].inc()

    def _rejected(self, event: events.MessageRejected) -> None:
        self._maildrop(event.maildrop).outcomes[MessageOutcome.REJECTED].inc()
        self._destination(event.destination).outcomes[DeliveryOutcome.REJECTED].inc()

    def _fetch_failed(self, event: events.MessageFetchFailed) -> None:
        self._maildrop(event.maildrop).outcomes[MessageOutcome.FETCH_FAILED].inc()

    def _skipped(self, event: events.MessageSkipped) -> None:
        self._maildrop(event.maildrop).outcomes[MessageOutcome.SKIPPED].inc()

    def _recognised(self, event: events.MessageRecognised) -> None:
        self._maildrop(event.maildrop).outcomes[MessageOutcome.RECOGNISED].inc()

    def _uidls_changed(self, event: events.UidlsChanged) -> None:
        self._maildrop(event.maildrop).uidls_changed.inc()

    def _quarantined(self, event: events.MessageQuarantined) -> None:
        self._maildrop(event.maildrop).outcomes[MessageOutcome.QUARANTINED].inc()

    def _quarantine_failed(self, _event: events.QuarantineFailed) -> None:
        self._daemon.quarantine_failures.inc()

    def _route_paused(self, event: events.RoutePaused) -> None:
        series = self._destination(event.destination)
        series.pauses.inc()
        series.up.set(0)

    def _route_resumed(self, event: events.RouteResumed) -> None:
        self._destination(event.destination).up.set(1)

    def _etrn_answered(self, event: events.EtrnAnswered) -> None:
        series = self._etrn_node(event.etrn, event.node)
        self._count_request(series, event.result)
        series.pending.set(event.pending)
        if event.result in ACCEPTED:
            series.last_success.set(self._clock())

    def _etrn_unanswered(self, event: events.EtrnUnanswered) -> None:
        self._count_request(self._etrn_node(event.etrn, event.node), event.result)

    def _count_request(self, series: EtrnSeries, result: str) -> None:
        counter = series.results.get(result)
        (counter if counter is not None else series.results[EtrnResult.INTERNAL_ERROR]).inc()

    def _etrn_silent(self, event: events.EtrnAcceptedButSilent | events.EtrnPendingButSilent) -> None:
        self._etrn_node(event.etrn, event.node).silent.set(1)

    def _etrn_mail_came(self, event: events.EtrnMailCame) -> None:
        self._etrn_node(event.etrn, event.node).silent.set(0)

    def _ledger_committed(self, event: events.LedgerCommitted) -> None:
        self._daemon.commit_duration.observe(event.duration_seconds)
        self._daemon.ledger_records.inc(event.records)

    def _ledger_failed(self, _event: events.LedgerFailed) -> None:
        self._daemon.ledger_failures.inc()

    def _ledger_restored(self, _event: events.LedgerRestored) -> None:
        self._daemon.ledger_restored.inc()

    def _ledger_copied(self, _event: events.LedgerCopied) -> None:
        self._daemon.ledger_copied_at.set(self._clock())

    def _ledger_copy_failed(self, _event: events.LedgerCopyFailed) -> None:
        self._daemon.ledger_copy_failures.inc()

    def _clock_jumped(self, _event: events.ClockJumped) -> None:
        self._daemon.clock_jumps.inc()

    def _notice_sent(self, _event: events.NoticeSent) -> None:
        self._daemon.notices.inc()

    def _notice_failed(self, _event: events.NoticeFailed) -> None:
        self._daemon.notice_failures.inc()


def _add_process_collectors(registry: CollectorRegistry) -> None:
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)


def _guarded(gauge: str, read: Reading) -> Reading:
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
