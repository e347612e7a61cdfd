"""Turns events into metrics.

`observe` runs on the event loop for each message, so it is one look-up by class
and a few increments of children that were resolved at start. Scrapes run in
another thread; prometheus_client's values are locked one by one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

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
from mailferry.ports import Clock
from mailferry.telemetry.daemon_series import DaemonSeries, Reading, Readings
from mailferry.telemetry.expiry_metrics import Expiries, Key
from mailferry.telemetry.maildrop_metrics import MaildropMetrics
from mailferry.telemetry.results import Peer, Reception, Refusal
from mailferry.telemetry.route_metrics import DestinationMetrics, EtrnMetrics

Handler = Callable[[Any], None]
"""Any: each takes the one class of events that it is kept for."""


class Metrics(Readings):
    """A sink for events that counts them; see `docs/metrics.md` for the series.

    `per_maildrop` is false where all maildrops are to be counted together.
    """

    def __init__(  # noqa: PLR0913  all but the registry by name
        self,
        registry: CollectorRegistry,
        *,
        maildrops: Sequence[str],
        destinations: Sequence[str],
        etrn_nodes: Sequence[tuple[str, str]],
        version: str,
        clock: Clock = time.time,
        per_maildrop: bool = True,
    ) -> None:
        # Half as many samples; Prometheus has no use for them where series begin at 0.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no annotation here
        self._clock = clock
        self._daemon = DaemonSeries(registry)
        super().__init__(self._daemon)
        self._maildrops = MaildropMetrics(registry, maildrops, each=per_maildrop, clock=clock)
        self._destinations = DestinationMetrics(registry, destinations, clock=clock)
        self._etrn = EtrnMetrics(registry, etrn_nodes, clock=clock)
        merged = () if per_maildrop else (Peer.MAILDROP,)
        self._certificates = Expiries(
            "certificate_expiry_timestamp_seconds",
            "When the first certificate of the chain ends that the peer showed last; 0 before the first session.",
            registry,
            merged=merged,
        )
        self._tokens = Expiries(
            "oauth_token_expiry_timestamp_seconds",
            "When the access token ends that was last read; 0 before that, or when it does not say.",
            registry,
            merged=merged,
        )
        self._handlers = self._dispatch_table()
        self._daemon.start_time.set(clock())
        self.config_reloaded(True, clock())  # what the start read is in force
        Info("mailferry_build", "The version that runs.", registry=registry).info({"version": version})
        _add_process_collectors(registry)

    def observe(self, event: Event) -> None:
        """Count the event; classes without a metric pass."""
        for handle in self._handlers.get(type(event), ()):
            handle(event)

    def restore(self, standings: Iterable[StandingRecord], now: float) -> None:
        """Set the last-success and last-failure times that the ledger remembers.

        A time in the future (the clock was set back) counts as `now`, lest
        silence go unnoticed until then. Names that are no longer configured
        get no series.
        """
        takers = {
            StandingKind.MAILDROP: self._maildrops.restore,
            StandingKind.DESTINATION: self._destinations.restore,
            StandingKind.ETRN: self._etrn.restore,
        }
        for standing in standings:
            taker = takers.get(standing.kind)
            if taker is not None:
                taker(standing, now)

    def config_reloaded(self, ok: bool, at: float) -> None:
        """Note how the last reading of the configuration ended, at `at` (seconds since the epoch).

        Without success the former configuration stays in force, and with it the time since when.
        """
        self._daemon.config_ok.set(int(ok))
        if ok:
            self._daemon.config_loaded_at.set(at)

    # -- what comes too often for an event

    def smtp_replied(self, destination: str, code: int) -> None:
        """Count a reply of a next hop."""
        self._destinations.replied(destination, code)

    def loop_lagged(self, seconds: float) -> None:
        """Note how late the event loop was."""
        self._daemon.loop_lag.observe(seconds)

    # -- the configured names; a reload adds and removes them

    def add_maildrop(self, name: str) -> None:
        """Create a maildrop's series; nothing happens when they exist."""
        self._maildrops.add(name)

    def remove_maildrop(self, name: str) -> None:
        """Drop a maildrop's series; call it when its last poll has ended, or they come back."""
        self._maildrops.remove(name)

    def count_received(self) -> None:
        """Create the series of messages that come by SMTP."""
        self._maildrops.count_received()

    def set_poll_interval(self, maildrop: str, seconds: float) -> None:
        """Note the longest time between two polls of a maildrop."""
        self._maildrops.set_interval(maildrop, seconds)

    def add_destination(self, name: str) -> None:
        """Create a destination's series; nothing happens when they exist."""
        self._destinations.add(name)

    def remove_destination(self, name: str) -> None:
        """Drop a destination's series; call it when it has drained, or they come back."""
        self._destinations.remove(name)

    def add_etrn_node(self, etrn: str, node: str) -> None:
        """Create an ETRN node's series; nothing happens when they exist."""
        self._etrn.add(etrn, node)

    def remove_etrn_node(self, etrn: str, node: str) -> None:
        """Drop an ETRN node's series."""
        self._etrn.remove(etrn, node)

    def expect_expiries(self, certificates: Iterable[Key], tokens: Iterable[Key]) -> None:
        """Have series of those that will show a certificate, or want a token of ours; and of no others."""
        self._certificates.expect(certificates)
        self._tokens.expect(tokens)

    def set_certificate_expiry(self, peer: Peer, name: str, read: Reading) -> None:
        """Read when an expected certificate of ours ends, in seconds since the epoch."""
        self._certificates.read(peer, name, read)

    # -- events

    def _dispatch_table(self) -> dict[type[Event], tuple[Handler, ...]]:
        """Put the handlers of all parts together: one event may matter to several."""
        daemon = self._daemon
        own: dict[type[Event], Handler] = {
            events.PollFinished: lambda event: daemon.poll_duration.observe(event.duration_seconds),
            events.QuarantineFailed: lambda _: daemon.quarantine_failures.inc(),
            events.CertificateSeen: self._certificate_seen,
            events.TokenRead: self._token_read,
            events.PauseBegan: lambda event: self._pause(event.target, paused=True),
            events.PauseEnded: lambda event: self._pause(event.target, paused=False),
            events.ReceiverMessageReceived: self._received,
            events.ReceiverRefused: self._receiver_refused,
            events.LedgerCommitted: self._ledger_committed,
            events.LedgerFailed: lambda _: daemon.ledger_failures.inc(),
            events.LedgerRestored: lambda _: daemon.ledger_restored.inc(),
            events.LedgerCopied: lambda _: daemon.ledger_copied_at.set(self._clock()),
            events.LedgerCopyFailed: lambda _: daemon.ledger_copy_failures.inc(),
            events.ClockJumped: lambda _: daemon.clock_jumps.inc(),
            events.NoticeSent: lambda _: daemon.notices.inc(),
            events.NoticeFailed: lambda _: daemon.notice_failures.inc(),
        }
        table: dict[type[Event], tuple[Handler, ...]] = {}
        parts = (self._maildrops.handlers(), self._destinations.handlers(), self._etrn.handlers(), own)
        for part in parts:
            for kind, handle in part.items():
                table[kind] = (*table.get(kind, ()), handle)
        return table

    def _pause(self, target: str, *, paused: bool) -> None:
        peer, _, name = target.partition(".")
        if paused:
            self._daemon.paused.labels(peer, name).set(1)
        else:
            self._daemon.paused.remove(peer, name)
        if peer == Peer.MAILDROP:
            self._maildrops.pause(name, paused=paused)

    def _received(self, event: events.ReceiverMessageReceived) -> None:
        if event.result in set(Reception):
            self._daemon.received.labels(event.result).inc()

    def _receiver_refused(self, event: events.ReceiverRefused) -> None:
        if event.what in set(Refusal):
            self._daemon.refusals.labels(event.what).inc()

    def _certificate_seen(self, event: events.CertificateSeen) -> None:
        self._certificates.seen(event.peer, event.peer_name, event.expires_at)

    def _token_read(self, event: events.TokenRead) -> None:
        self._tokens.seen(event.peer, event.peer_name, event.expires_at)

    def _ledger_committed(self, event: events.LedgerCommitted) -> None:
        self._daemon.commit_duration.observe(event.duration_seconds)
        self._daemon.ledger_records.inc(event.records)


def _add_process_collectors(registry: CollectorRegistry) -> None:
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
