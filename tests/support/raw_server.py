"""A server that only listens: it says what it is told to, and keeps what it hears."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from typing import cast

_EMPTY_SECONDS = 3.0


class RawSession(asyncio.Protocol):
    """One connection."""

    def __init__(self, server: RawServer) -> None:
        self._server = server
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say the first words, and no more unless the test does."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are not of that class
        self._server.sessions.append(self)
        self._server.on_open(self.transport)

    def data_received(self, data: bytes) -> None:
        """Keep it."""
        self._server.heard += data
        if self.transport is not None:
            self._server.on_data(self.transport, data)

    def connection_lost(self, _exc: Exception | None) -> None:
        """Forget the connection."""
        self._server.ended(self)


class RawServer:
    """A listener on loopback.

    Attributes:
        heard: every octet that came, from all connections.
        on_open: called with each new connection's transport.
        on_data: called with the transport and what came.
    """

    def __init__(self) -> None:
        self.port = 0
        self.heard = b""
        self.sessions: list[RawSession] = []
        self._ended = asyncio.Event()
        self.on_open: Callable[[asyncio.Transport], None] = lambda _transport: None
        self.on_data: Callable[[asyncio.Transport, bytes], None] = lambda _transport, _data: None

    def ended(self, session: RawSession) -> None:
        """Forget a connection."""
        self.sessions.remove(session)
        self._ended.set()

    @contextlib.asynccontextmanager
    async def running(
        self, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
    ) -> AsyncIterator[RawServer]:
        """Listen, under TLS if there is a context, and at the end drop every connection."""
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(lambda: RawSession(self), host, 0, ssl=tls)
        self.port = listener.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            listener.close()
            for session in list(self.sessions):
                if session.transport is not None:
                    session.transport.abort()
            await self.empty()
            await listener.wait_closed()

    async def empty(self) -> None:
        """Wait until every connection has ended; TimeoutError if one does not."""
        async with asyncio.timeout(_EMPTY_SECONDS):
            while self.sessions:
                self._ended.clear()
                await self._ended.wait()


def saying(data: bytes, *, then_close: bool = False) -> RawServer:
    """Return a server that says this first."""
    server = RawServer()

    def speak(transport: asyncio.Transport) -> None:
        transport.write(data)
        if then_close:
            transport.close()

    server.on_open = speak
    return server
