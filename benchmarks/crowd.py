"""A POP3 server for any number of maildrops, all alike and far away: `python -m benchmarks.crowd PORT`.

Every user name is let in and finds the same few messages under unique-ids of its own. Each
reply comes a round trip late, and the greeting two, since the kernel here connects at once.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from functools import lru_cache

ROUND_TRIP_SECONDS = 0.05
_CAPABILITIES = b"+OK\r\nTOP\r\nUIDL\r\nUSER\r\nPIPELINING\r\nRESP-CODES\r\n.\r\n"
_MESSAGES = 5
_SCAN = b"+OK\r\n" + b"".join(b"%d 1024\r\n" % n for n in range(1, _MESSAGES + 1)) + b".\r\n"
_MAIL = b"+OK\r\nSubject: hello\r\n\r\n" + (b"x" * 70 + b"\r\n") * 14 + b".\r\n"


@lru_cache(maxsize=1024)
def _unique_ids(user: bytes) -> bytes:
    lines = (b"%d %s-%04d\r\n" % (number, user, number) for number in range(1, _MESSAGES + 1))
    return b"+OK\r\n" + b"".join(lines) + b".\r\n"


_REPLIES: dict[bytes, bytes] = {
    b"CAPA": _CAPABILITIES,
    b"STAT": b"+OK %d %d\r\n" % (_MESSAGES, _MESSAGES * 1024),
    b"LIST": _SCAN,
    b"RETR": _MAIL,
}


class CrowdedSession(asyncio.Protocol):
    """One session."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._user = b""
        self._input = b""
        self._later: Callable[..., object] = asyncio.get_running_loop().call_later

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet, two round trips after the client's first segment."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._later(2 * ROUND_TRIP_SECONDS, self._say, b"+OK ready\r\n")

    def data_received(self, data: bytes) -> None:
        """Answer all commands that came together, together."""
        *lines, self._input = (self._input + data).split(b"\r\n")
        self._later(ROUND_TRIP_SECONDS, self._say, b"".join(map(self._reply, lines)))

    def _reply(self, line: bytes) -> bytes:
        verb, _, rest = line.partition(b" ")
        verb = verb.upper()
        if verb == b"USER":
            self._user = rest
        elif verb == b"UIDL":
            return _unique_ids(self._user)
        elif verb == b"QUIT":
            self._later(1.5 * ROUND_TRIP_SECONDS, self._close)  # behind its answer
        return _REPLIES.get(verb, b"+OK\r\n")

    def _say(self, octets: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(octets)

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def serve(port: int) -> None:
    """Serve until the process is ended."""
    server = await asyncio.get_running_loop().create_server(CrowdedSession, "127.0.0.1", port, backlog=1024)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
