"""A wire that breaks: a relay on loopback that resets connections after so many octets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

_CHUNK_OCTETS = 65536
_DRAIN_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Break:
    """Where a connection breaks: after so many octets from the client, or from the server."""

    from_client: bool
    after_octets: int


class ChaosProxy:
    """A relay to the server at `server_port`.

    Attributes:
        port: where it listens.
        next_break: asked for each new connection; None lets it live.
        breaks: how many connections were reset.
    """

    def __init__(self, server_port: int, next_break: Callable[[], Break | None]) -> None:
        self.port = 0
        self.next_break = next_break
        self.breaks = 0
        self._server_port = server_port
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[ChaosProxy]:
        """Listen; at the end drop every connection."""
        server = await asyncio.start_server(self._begin, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await server.wait_closed()

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._relay(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        at = self.next_break()
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
            writers.append(to_server)
            ways = [
                asyncio.ensure_future(_pump(reader, to_server, at if at and at.from_client else None)),
                asyncio.ensure_future(_pump(from_server, writer, at if at and not at.from_client else None)),
            ]
            try:
                done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                if any(way.result() for way in done):
                    self.breaks += 1
                    for each in writers:
                        _reset(each)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        finally:
            for each in writers:
                await _close(each)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, at: Break | None) -> bool:
    """Pass octets on; True when the connection is to break now, False when it has ended."""
    passed = 0
    with contextlib.suppress(ConnectionError):
        while chunk := await reader.read(_CHUNK_OCTETS):
            if at is not None and passed + len(chunk) >= at.after_octets:
                writer.write(chunk[: at.after_octets - passed])
                await writer.drain()
                return True
            passed += len(chunk)
            writer.write(chunk)
            await writer.drain()
    return False


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            await writer.wait_closed()
