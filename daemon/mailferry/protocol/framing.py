"""Octets in, lines and dot-ended bodies out: one buffer for every core.

The buffer is searched and sliced in whole chunks. What has been searched is not
searched again, so a peer that drips costs no more than one that pours. Only the
octets of the RFC count: a line ends with CRLF, a body with CRLF "." CRLF. A bare
LF or CR ends nothing, for what two parsers read differently is how one message
becomes two (SMTP smuggling, and its twin in POP3).
"""

from __future__ import annotations

from mailferry.errors import MessageTooLargeError, RemoteProtocolError

CRLF = b"\r\n"
_LF = 0x0A
_CR = 0x0D
_DOT = 0x2E
_EMPTY_BODY = b".\r\n"
_BODY_END = b"\r\n.\r\n"


class ReceiveBuffer:
    """What a peer has sent and nobody has taken yet.

    The caller owns the policy (which limit, line or body next); the buffer owns
    the bounds. Bodies and lines may follow each other in any mix.
    """

    __slots__ = ("_data", "_searched", "_start")

    def __init__(self) -> None:
        self._data = bytearray()
        self._start = 0
        self._searched = 0

    def __len__(self) -> int:
        return len(self._data) - self._start

    def feed(self, data: bytes) -> None:
        """Append what came from the peer."""
        if self._start:
            # Cheap: CPython moves the start of a bytearray, not its octets.
            del self._data[: self._start]
            self._searched = max(self._searched - self._start, 0)
            self._start = 0
        self._data += data

    def clear(self) -> None:
        """Forget everything; for what came before TLS (RFC 2595 s.4, RFC 3207 s.4.2)."""
        self._data.clear()
        self._start = self._searched = 0

    def peek(self, octets: int) -> bytes:
        """Return up to `octets` octets without taking them, for an error's text."""
        return bytes(self._data[self._start : self._start + octets])

    def take_line(self, limit: int) -> bytes | None:
        """Take one line, without its CRLF; None while it is incomplete.

        Args:
            limit: the most octets that a line may have, CRLF included.

        Raises:
            RemoteProtocolError: the line is longer, or ends with a bare LF.
        """
        start = self._start
        end = self._data.find(_LF, max(self._searched, start), start + limit)
        if end < 0:
            if len(self) >= limit:
                raise RemoteProtocolError(f"line longer than {limit} octets", self.peek(200))
            self._searched = len(self._data)
            return None
        if end == start or self._data[end - 1] != _CR:
            raise RemoteProtocolError("line ends with a bare LF", self.peek(end - start))
        line = bytes(self._data[start : end - 1])
        self._advance(end + 1)
        return line

    def take_body(
        self, limit: int, too_large: type[RemoteProtocolError] = MessageTooLargeError
    ) -> bytes | None:
        """Take one dot-ended body (RFC 1939 s.3), unstuffed; None while it is incomplete.

        The result keeps the CRLF of its last line, loses the final "." line, and
        has every other octet as it came.

        Args:
            limit: the most octets the body may have, before dots are unstuffed.
            too_large: what to raise beyond that.

        Raises:
            RemoteProtocolError: the body is longer (as `too_large`).
        """
        start = self._start
        if self._data.startswith(_EMPTY_BODY, start):
            self._advance(start + len(_EMPTY_BODY))
            return b""
        end = self._data.find(_BODY_END, max(self._searched, start))
        # An end that is still to come leaves a body of at least two octets less
        # than there are, so the verdict does not depend on how reads were cut.
        octets = len(self) - 2 if end < 0 else end + 2 - start
        if octets > limit:
            raise too_large(f"reply longer than {limit} octets")
        if end < 0:
            self._searched = max(len(self._data) - len(_BODY_END) + 1, start)
            return None
        body = self._unstuffed(start, end + 2)
        self._advance(end + len(_BODY_END))
        return body

    def _advance(self, start: int) -> None:
        if start == len(self._data):
            self.clear()  # an idle session must not keep the room of its largest message
            return
        self._start = self._searched = start

    def _unstuffed(self, start: int, end: int) -> bytes:
        """Copy a body once, and once more only if a line of it begins with a dot."""
        if self._data[start] == _DOT:
            start += 1
        with memoryview(self._data) as view:
            body = view[start:end].tobytes()
        return body.replace(b"\r\n.", b"\r\n")


def stuff(body: bytes) -> bytes:
    """Double the dot of every line that begins with one (RFC 1939 s.3, RFC 5321 s.4.5.2).

    A line begins at the start and after CRLF, nowhere else: normalise line ends first.
    """
    stuffed = body.replace(b"\r\n.", b"\r\n..")
    return b"." + stuffed if stuffed.startswith(b".") else stuffed
