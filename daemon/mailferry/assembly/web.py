"""From `[http]` to the HTTP side: metrics, health, and the status page."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from prometheus_client import CollectorRegistry

from mailferry import __version__
from mailferry.assembly.control import ControlParts
from mailferry.assembly.page_source import DaemonSource
from mailferry.assembly.release import PageControl
from mailferry.config.models import HttpSettings
from mailferry.runtime.supervisor import Supervisor
from mailferry.telemetry.daybook import DayBook
from mailferry.telemetry.redaction import clean_text
from mailferry.web.page.guards import allowed_hosts
from mailferry.web.page.model import PageSettings
from mailferry.web.page.page import PageParts, StatusPage
from mailferry.web.page.pages import Host
from mailferry.web.page.rendering import Renderer
from mailferry.web.page.threads import PageThreads
from mailferry.web.server import WebServer
from mailferry.web.unix_socket import UnixSocket

SOCKET_MODE = 0o660
"""The daemon's user and group: a proxy must get in, who else does is decided by the folder."""
_RELEASE_SECONDS = 2.0


@asynccontextmanager
async def web_side(
    parts: ControlParts, registry: CollectorRegistry, book: DayBook, hostname: str
) -> AsyncIterator[None]:
    """Serve HTTP, if that is configured.

    Raises:
        WebError: the address or the socket cannot be had.
    """
    http = parts.settings().http
    if not http.listen:
        yield
        return
    threads, control = PageThreads(), PageControl(parts)
    source = DaemonSource(parts, threads, book, hostname)
    page = StatusPage(
        PageParts(
            source=source,
            operations=control,
            threads=threads,
            host=Host(hostname, __version__),
            settings=PageSettings(http.messages_shown, _hosts(http), frozenset(http.hosts)),
            emit=parts.around.emit,
            renderer=Renderer(clean_text, time.time),
            read_token=http.token.reveal if http.token is not None else None,
        )
    )
    server = WebServer(
        host=http.host or "",
        port=http.port or 0,
        registry=registry,
        health=Health(parts.supervisor),
        page=page if http.page else None,
        place=UnixSocket(http.socket, mode=SOCKET_MODE, key="[http] listen") if http.socket else None,
    )
    await server.start()
    try:
        yield
    finally:
        await server.stop()
        await control.close(_RELEASE_SECONDS)
        source.close()
        threads.close()


def _hosts(http: HttpSettings) -> frozenset[str] | None:
    return allowed_hosts(http.host, is_loopback=http.is_local, configured=http.hosts)


class Health:
    """Answers /healthz and /readyz."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def live(self) -> tuple[bool, dict[str, Any]]:
        """The event loop answers, so it lives; the schedule must move with it."""
        supervisor = self._supervisor
        trouble = supervisor.pulse.trouble if supervisor.pulse is not None else ""
        return not trouble, {"version": __version__} | ({"trouble": trouble} if trouble else {})

    def ready(self) -> tuple[bool, dict[str, Any]]:
        """Configured, ledger open, schedule running, not on its way out."""
        supervisor = self._supervisor
        well = supervisor.started and supervisor.schedule_running and not supervisor.stopping
        return well, {"version": __version__, "maildrops": supervisor.maildrop_count}
