"""What metrics need besides events: the names to expect, gauges to read, links to watch."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from prometheus_client import CollectorRegistry

from mailferry import __version__
from mailferry.config.models import MaildropSettings, Settings, SmtpLinkSettings
from mailferry.events import CertificateSeen, SessionFailed, TokenRead
from mailferry.ledger.location import database_path
from mailferry.net.own_expiry import file_expiry
from mailferry.net.watch import LinkWatch
from mailferry.policy.cron import longest_gap_seconds, read_cron
from mailferry.policy.etrn import failure_result
from mailferry.ports import Emit
from mailferry.runtime.caps import SessionCaps
from mailferry.runtime.loop_lag import LoopLag
from mailferry.runtime.schedule import Schedule
from mailferry.services.budget import MemoryBudget
from mailferry.telemetry.metrics import Metrics
from mailferry.telemetry.results import Peer


def make_metrics(settings: Settings, registry: CollectorRegistry) -> Metrics:
    """Return metrics with the series of everything that is enabled."""
    metrics = Metrics(
        registry,
        maildrops=[name for name, each in settings.maildrop.items() if each.enabled],
        destinations=[name for name, each in settings.destination.items() if each.enabled],
        etrn_nodes=[(name, node) for name, e in settings.etrn.items() if e.enabled for node in e.nodes],
        version=__version__,
        per_maildrop=settings.http.metrics_per_maildrop,
    )
    expect_all(metrics, settings)
    return metrics


def expect_all(metrics: Metrics, settings: Settings) -> None:
    """Note intervals, and what has a certificate or a token; again after each reload."""
    for name, maildrop in settings.maildrop.items():
        if maildrop.enabled:
            metrics.set_poll_interval(name, poll_interval_seconds(maildrop))
    if receives(settings):
        metrics.count_received()
    links = list(_links(settings))
    certificates = [(peer.value, name) for peer, name, link in links if link.tls != "none"]
    tokens = [(peer.value, name) for peer, name, link in links if link.oauth2_token is not None]
    own = settings.receiver.tls_certificate if settings.receiver.listen else None
    if own is None:
        metrics.expect_expiries(certificates, tokens)
        return
    metrics.expect_expiries([*certificates, (Peer.RECEIVER.value, "receiver")], tokens)
    metrics.set_certificate_expiry(Peer.RECEIVER, "receiver", lambda: file_expiry(own))


def receives(settings: Settings) -> bool:
    """Tell whether mail can come by SMTP: to the receiver, or over a connection that turned round."""
    return bool(settings.receiver.listen) or any(
        etrn.enabled and etrn.mode == "odmr" for etrn in settings.etrn.values()
    )


def poll_interval_seconds(maildrop: MaildropSettings) -> float:
    """Return the longest time between two polls that the settings bring."""
    if maildrop.cron:
        return longest_gap_seconds(read_cron(maildrop.cron)) + maildrop.resolved_jitter
    return maildrop.every + maildrop.resolved_jitter


def _links(settings: Settings) -> Iterator[tuple[Peer, str, MaildropSettings | SmtpLinkSettings]]:
    tables = (
        (Peer.MAILDROP, settings.maildrop),
        (Peer.DESTINATION, settings.destination),
        (Peer.ETRN, settings.etrn),
    )
    for peer, table in tables:
        for name, each in table.items():
            if each.enabled and isinstance(each, MaildropSettings | SmtpLinkSettings):
                yield peer, name, each


class LinkWatcher:
    """Makes the watch of each link; what it hears becomes events, or goes to the metrics at once."""

    def __init__(self, emit: Emit, metrics: Metrics) -> None:
        self._emit = emit
        self._metrics = metrics
        self._smtp_sessions = 0
        metrics.set_open_sessions("smtp", lambda: self._smtp_sessions)

    def __call__(self, peer: Peer, name: str) -> LinkWatch:
        """Return whom a connector tells."""
        if peer is not Peer.DESTINATION:
            return LinkWatch(
                certificate=lambda end: self._emit(CertificateSeen(peer.value, name, end)),
                token=lambda end: self._emit(TokenRead(peer.value, name, end)),
                opened=self._opened,
                closed=self._closed,
            )
        return LinkWatch(
            certificate=lambda end: self._emit(CertificateSeen(peer.value, name, end)),
            token=lambda end: self._emit(TokenRead(peer.value, name, end)),
            failed=lambda error: self._emit(SessionFailed(name, failure_result(error).value, str(error))),
            opened=self._opened,
            closed=self._closed,
            reply=lambda code: self._metrics.smtp_replied(name, code),
        )

    def _opened(self) -> None:
        self._smtp_sessions += 1

    def _closed(self) -> None:
        self._smtp_sessions -= 1


def read_gauges(
    metrics: Metrics, settings: Settings, budget: MemoryBudget, caps: SessionCaps, schedule: Schedule
) -> None:
    """Let the gauges read what they show."""
    metrics.set_memory_in_use(lambda: budget.in_use_octets)
    metrics.set_memory_budget(lambda: budget.limit_octets)
    metrics.set_open_sessions("pop3", lambda: caps.in_use)
    metrics.set_polls_waiting(lambda: caps.waiting)
    metrics.set_schedule_lag(lambda: schedule.lag_seconds)
    ledger = database_path(settings.ledger_url).absolute()
    metrics.set_ledger_size(lambda: _ledger_octets(ledger))
    metrics.set_state_free(lambda: _free_octets(ledger.parent))


@asynccontextmanager
async def measured(metrics: Metrics) -> AsyncIterator[None]:
    """Measure the event loop as long as the block lasts."""
    lag = LoopLag(metrics.loop_lagged)
    lag.start()
    try:
        yield
    finally:
        lag.stop()


def _ledger_octets(ledger: Path) -> int:
    octets = ledger.stat().st_size
    for companion in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            octets += ledger.with_name(ledger.name + companion).stat().st_size
    return octets


def _free_octets(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize
