"""Listens, knows its sessions, starts TLS, and stops without leaving anything behind."""

from __future__ import annotations

import asyncio
import ssl
from abc import ABC, abstractmethod
from collections import Counter

from mailferry.sandbox.line_link import LineLink

MAX_SESSIONS = 4096
_HANDSHAKE_TIMEOUT_SECONDS = 30.0


class LinkServer(ABC):
    """A server whose sessions are `LineLink`s.

    `tls` alone lets sessions start TLS by command; with `implicit_tls` the port
    speaks TLS from the first octet.

    Attributes:
        counts: `sessions`, and whatever else the kind of server counts.
    """

    def __init__(self, *, tls: ssl.SSLContext | None, implicit_tls: bool) -> None:
        if implicit_tls and tls is None:
            raise ValueError("implicit TLS needs a context")
        self.counts: Counter[str] = Counter()
        self.can_start_tls = tls is not None and not implicit_tls
        self.implicit_tls = implicit_tls
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._sessions: set[LineLink] = set()
        self._handshakes: set[asyncio.Task[None]] = set()
        self._session_closed = asyncio.Event()

    @abstractmethod
    def make_session(self) -> LineLink:
        """Build the protocol of one connection."""

    @property
    def port(self) -> int:
        """The port that was bound."""
        assert self._server is not None, "not started"
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def active_sessions(self) -> int:
        """Sessions that are open now."""
        return len(self._sessions)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; port 0 takes a free one.

        Raises:
            OSError: the port is taken or not allowed.
        """
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self.make_session, host, port, backlog=1024)

    async def stop(self) -> None:
        """Stop listening, drop every session, and wait until the last is gone; safe to call twice."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        for handshake in tuple(self._handshakes):
            handshake.cancel()
        await asyncio.gather(*self._handshakes, return_exceptions=True)
        while self._sessions:
            self._session_closed.clear()
            for session in tuple(self._sessions):
                session.abort()
            await self._session_closed.wait()
        await server.wait_closed()

    # --- what sessions ask for ------------------------------------------------

    def opened(self, link: LineLink) -> bool:
        """Count a new session; False when there are too many."""
        self._sessions.add(link)
        self.counts["sessions"] += 1
        return len(self._sessions) <= MAX_SESSIONS

    def closed(self, link: LineLink) -> None:
        """Forget a session."""
        self._sessions.discard(link)
        self._session_closed.set()

    def begin_tls(self, link: LineLink) -> None:
        """Start a handshake on a held link; it goes on with `tls_started` or ends."""
        task = asyncio.get_running_loop().create_task(self._start_tls(link))
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)

    async def _start_tls(self, link: LineLink) -> None:
        plain, context = link.transport, self._tls
        if plain is None or context is None:
            return
        transport: asyncio.Transport | None = None
        loop = asyncio.get_running_loop()
        try:
            transport = await loop.start_tls(
                plain, link, context, server_side=True, ssl_handshake_timeout=_HANDSHAKE_TIMEOUT_SECONDS
            )
        except OSError:  # every failed handshake (SSLError is one) and every lost link
            plain.abort()
        finally:
            if transport is None:
                plain.abort()
                link.connection_lost(None)
        if transport is not None:
            link.tls_started(transport)
