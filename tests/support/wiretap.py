"""Somebody in the middle: hears every octet, and may change what the server says.

What went in clear is judged by octets, not by what a server of ours understood of it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import urllib.parse
from collections.abc import AsyncIterator, Callable

_CLIENT_HELLO = b"\x16\x03"
_CHUNK_OCTETS = 65536
_SHORTEST_OCTETS = 6


class Wiretap:
    """A relay on loopback between a client and the server at `port`.

    Attributes:
        heard: what the client sent, from all connections.
        change: what the client gets in place of a chunk from the server.
    """

    def __init__(self, server_port: int, change: Callable[[bytes], bytes] = lambda chunk: chunk) -> None:
        self.port = 0
        self.heard = b""
        self.change = change
        self._server_port = server_port
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def in_clear(self) -> bytes:
        """What the client sent before its first TLS record."""
        return self.heard.partition(_CLIENT_HELLO)[0]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Wiretap]:
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
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
        try:
            ways = [
                asyncio.ensure_future(self._pump(reader, to_server, self._hear)),
                asyncio.ensure_future(self._pump(from_server, writer, self.change)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        finally:
            for end in (writer, to_server):
                end.transport.abort()

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, change: Callable[[bytes], bytes]
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := await source.read(_CHUNK_OCTETS):
                sink.write(change(chunk))
                await sink.drain()

    def _hear(self, chunk: bytes) -> bytes:
        self.heard += chunk
        return chunk


def disguises(secret: str, user: str = "ann") -> dict[str, bytes]:
    """Return every form in which a secret could show, by name.

    base64 has three: which one depends on what stands before it.
    """
    plain = secret.encode()
    forms = {
        "as it is": plain,
        "backwards": plain[::-1],
        "hex": plain.hex().encode(),
        "HEX": plain.hex().upper().encode(),
        "url": urllib.parse.quote(secret, safe="").encode(),
        "escaped": secret.encode("unicode_escape"),
        "md5": hashlib.md5(plain, usedforsecurity=False).hexdigest().encode(),
        "sha256": hashlib.sha256(plain).hexdigest().encode(),
        "PLAIN": base64.b64encode(b"\0" + user.encode() + b"\0" + plain),
        "XOAUTH2": base64.b64encode(b"user=" + user.encode() + b"\x01auth=Bearer " + plain + b"\x01\x01"),
        "md5 key": hmac.new(plain, b"", "md5").hexdigest().encode(),
    }
    for shift in range(3):
        whole = base64.b64encode(b"\0" * shift + plain)
        # The characters that also hold bits of what stands before and after are left out.
        core = whole[(shift * 8 + 5) // 6 : (shift + len(plain)) * 8 // 6]
        forms[f"base64 at {shift}"] = core
    return {name: form for name, form in forms.items() if len(form) >= _SHORTEST_OCTETS}


def shown(secret: str, where: bytes | str, user: str = "ann") -> list[str]:
    """Return the names of the forms of a secret that occur there; empty is well."""
    octets = where.encode("utf-8", "surrogateescape") if isinstance(where, str) else where
    return [name for name, form in disguises(secret, user).items() if form in octets]
