"""What a session reads: command lines that end with CRLF and nothing else, and the content after DATA.

Stands in the place of the reader that aiosmtpd would use, which takes a bare LF for the
end of a command. Whatever a client pipelined behind a message's end stays for the next
command; what it sent before TLS is forgotten with TLS (RFC 3207 s.4.2).
"""

from __future__ import annotations

import asyncio
import re

from mailferry.errors import RemoteProtocolError
from mailferry.protocol.framing import CRLF, ReceiveBuffer

COMMAND_OCTETS = 2048
"""RFC 5321 s.4.5.3.1.4 asks for 512, and extensions add some."""

_READ_OCTETS = 256 * 1024

# RFC 5321 s.4.1.1: verbs have four letters, those of extensions a few more. A web page can make a
# browser send what it likes behind a request line and fields; the first of those ends the session.
_COMMAND = re.compile(
    rb"(?!(?:POST|HEAD|CONNECT|OPTIONS|TRACE|DELETE|PATCH) )[A-Za-z]{4,12}(?: |$)|$", re.IGNORECASE
)


class TooManyCommandsError(Exception):
    """The client has used up its allowance of commands."""


class CommandReader:
    """Reads for one session; aiosmtpd sees of it what it uses of an `asyncio.StreamReader`.

    Attributes:
        ending: no further command is read; the session ends as if the client had left.
        allowance: so many commands are read yet.
    """

    def __init__(self, inner: asyncio.StreamReader, allowance: int) -> None:
        self.ending = False
        self.allowance = allowance
        self.received = ReceiveBuffer()
        self._inner = inner

    async def readuntil(self, _separator: bytes = b"\n") -> bytes:
        """Return the next command line with its CRLF.

        Raises:
            RemoteProtocolError: it is too long, ends with a bare LF, or cannot be a command.
            TooManyCommandsError: the allowance is used up.
            asyncio.CancelledError: the session is over: so aiosmtpd is told.
        """
        while not self.ending:
            line = self.received.take_line(COMMAND_OCTETS)
            if line is not None:
                if self.allowance <= 0:
                    raise TooManyCommandsError
                self.allowance -= 1
                if not _COMMAND.match(line):
                    raise RemoteProtocolError("not a command", line)
                return line + CRLF
            await self.more()
        raise asyncio.CancelledError

    async def more(self) -> None:
        """Wait for more octets.

        Raises:
            asyncio.CancelledError: there will be none.
        """
        octets = await self._inner.read(_READ_OCTETS)
        if not octets:
            raise asyncio.CancelledError
        self.received.feed(octets)

    # -- what aiosmtpd's STARTTLS reaches for

    @property
    def _buffer(self) -> CommandReader:
        return self

    def clear(self) -> None:
        """Forget what came before TLS."""
        self.received.clear()
        self._inner._buffer.clear()  # type: ignore[attr-defined]  # noqa: SLF001  as aiosmtpd does

    @property
    def _transport(self) -> asyncio.BaseTransport:
        transport: asyncio.BaseTransport = self._inner._transport  # type: ignore[attr-defined]  # noqa: SLF001
        return transport

    @_transport.setter
    def _transport(self, transport: asyncio.BaseTransport) -> None:
        self._inner._transport = transport  # type: ignore[attr-defined]  # noqa: SLF001
