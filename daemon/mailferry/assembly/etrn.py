"""From `[etrn.NAME]` to what asks its server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from mailferry.assembly.links import credentials_of, endpoint_of
from mailferry.assembly.making import WatchLink, watch_nothing
from mailferry.config.models import EtrnSettings, ReceiverSettings, Settings
from mailferry.config.network_kinds import split_listen
from mailferry.net.credentials import LoginMethod
from mailferry.net.etrn_connector import SmtpEtrnConnector
from mailferry.net.etrn_listener import SmtpListener
from mailferry.net.smtp_connector import SmtpSettings
from mailferry.net.trace import Trace
from mailferry.policy.etrn import is_served
from mailferry.runtime.schedule import Timetable
from mailferry.services.etrn import EtrnPolicy, EtrnServer
from mailferry.telemetry.results import Peer

MAX_SESSIONS = 32
"""Sessions with all servers that are asked; they take no places from polls."""

_JITTER_PART = 0.1
_MOST_JITTER_SECONDS = 60.0

Tracer = Callable[[str], Callable[[], Trace]]
"""Takes a peer's name and returns what makes a trace for each of its sessions."""


def etrn_settings(settings: Settings) -> Iterator[tuple[str, EtrnSettings]]:
    """Yield the tables whose servers are asked for mail."""
    for name, etrn in settings.etrn.items():
        if etrn.enabled:
            yield name, etrn


def etrn_policy(name: str, settings: EtrnSettings, receiver: ReceiverSettings) -> EtrnPolicy:
    """Return how a server is asked."""
    patterns = receiver.domains if receiver.listen else ()
    return EtrnPolicy(
        name=name,
        server=settings.host,
        nodes=settings.nodes,
        min_gap_seconds=settings.min_gap,
        nodes_per_session=settings.nodes_per_session,
        silent_after_seconds=settings.silent_after,
        # What ODMR releases comes over the connection that asked: nothing is awaited elsewhere.
        watched=frozenset(
            node for node in settings.nodes if settings.mode == "etrn" and is_served(node, patterns)
        ),
    )


def etrn_server(
    name: str, settings: Settings, hostname: str, tracer: Tracer, watch: WatchLink = watch_nothing
) -> EtrnServer:
    """Return a server that is configured, with its connector and our own listener."""
    etrn = settings.etrn[name]
    where = split_listen(etrn.check_listener or "")
    link = replace(etrn_smtp_settings(etrn, hostname), watch=watch(Peer.ETRN, name))
    return EtrnServer(
        etrn_policy(name, etrn, settings.receiver),
        SmtpEtrnConnector(link, tracer(f"etrn.{name}")),
        SmtpListener(*where) if where is not None else None,
    )


def etrn_smtp_settings(etrn: EtrnSettings, hostname: str) -> SmtpSettings:
    """Return how to reach the server of an `[etrn.NAME]` table."""
    return SmtpSettings(
        endpoint=endpoint_of(etrn),
        helo_name=etrn.helo_name or hostname,
        credentials=credentials_of(etrn),
        method=LoginMethod(etrn.auth),
        allow_cleartext=etrn.cleartext_allowed,
        pipelining=False,
    )


def etrn_timetable(settings: EtrnSettings, last_attempt_at: float | None, now: float) -> Timetable:
    """Return when a server is asked, after a start at `now`.

    Without `on_start` the rhythm goes on as if there had been no restart: a daemon that
    is restarted more often than the interval would never ask otherwise.
    """
    if settings.cron:
        return Timetable(cron=settings.cron, first_seconds=0.0 if settings.on_start else None)
    every = settings.every
    first = None
    if not settings.on_start:
        passed = now - last_attempt_at if last_attempt_at is not None else 0.0
        first = min(max(every - passed, 0.0), every)  # a time in the future is no time to go by
    jitter = min(every * _JITTER_PART, _MOST_JITTER_SECONDS)
    return Timetable(every_seconds=every, jitter_seconds=jitter, first_seconds=first)
