"""Octets in, lines and dot-ended bodies out: one buffer for every core.

The buffer is searched and sliced in whole chunks. What has been searched is not
searched again, so a peer that drips costs no more than one that pours. Only the
octets of the RFC count: a line ends with CRLF, a body with CRLF "." CRLF. A bare
LF or CR ends nothing, for what two parsers read differently is how one message
becomes two (SMTP smuggling, and its twin in POP3).
"""

from __future__ import annotations

from typing import Protocol

from mailferry.errors import MessageTooLargeError, RemoteProtocolError

CRLF = b"\r\n"
_LF = 0x0A
_CR = 0x0D
_DOT = 0x2E
_EMPTY_BODY = b".\r\n"
_BODY_END = b"\r\n.\r\n"
_PIECE_OCTETS = 256 * 1024
"""A body that is not held goes on in pieces of this size; asyncio reads no more at once."""


class BodySink(Protocol):
    """Where the octets of a body go that is too large to be held."""

    @property
    def octets(self) -> int:
        """How many it has taken."""

    def write(self, octets: bytes) -> None:
        """Take the next octets. Never raises: what goes wrong is the sink's to tell."""

    def discard(self) -> None:
        """Give them up: no more will come."""


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

    def take_part(
        self, most: int, taken: int, limit: int, too_large: type[RemoteProtocolError]
    ) -> tuple[bytes, bool]:
        """Take some octets of a body, dots still stuffed, and tell whether they are its last.

        What may be the body's end stays until it is known for one.

        Args:
            most: take no more than that at a time.
            taken: how many octets of this body have been taken before.
            limit: the most octets that the whole body may have.
            too_large: what to raise beyond that.

        Raises:
            RemoteProtocolError: the body is longer (as `too_large`).
        """
        start = self._start
        if not taken and self._data.startswith(_EMPTY_BODY, start):
            self._advance(start + len(_EMPTY_BODY))
            return b"", True
        end = self._data.find(_BODY_END, max(self._searched, start))
        octets = len(self) - 2 if end < 0 else end + 2 - start
        if taken + octets > limit:
            raise too_large(f"reply longer than {limit} octets")
        if end >= 0 and octets <= most:
            part = self._copy(start, end + 2)
            self._advance(end + len(_BODY_END))
            return part, True
        certain = end if end >= 0 else len(self._data) - len(_BODY_END) + 1
        stop = max(min(start + most, certain), start)
        part = self._copy(start, stop)
        self._start, self._searched = stop, max(certain, stop)
        return part, False

    def _advance(self, start: int) -> None:
        if start == len(self._data):
            self.clear()  # an idle session must not keep the room of its largest message
            return
        self._start = self._searched = start

    def _unstuffed(self, start: int, end: int) -> bytes:
        """Copy a body once, and once more only if a line of it begins with a dot."""
        if self._data[start] == _DOT:
            start += 1
        return self._copy(start, end).replace(b"\r\n.", b"\r\n")

    def _copy(self, start: int, end: int) -> bytes:
        with memoryview(self._data) as view:
            return view[start:end].tobytes()


class StreamedBody:
    """One body on its way from the buffer to a sink, unstuffed as it passes.

    Attributes:
        octets: how many have passed, dots still stuffed.
    """

    __slots__ = ("_before", "_buffer", "_limit", "_too_large", "octets", "sink")

    def __init__(
        self, buffer: ReceiveBuffer, sink: BodySink, limit: int, too_large: type[RemoteProtocolError]
    ) -> None:
        self.octets = 0
        self.sink = sink
        self._buffer = buffer
        self._limit = limit
        self._too_large = too_large
        self._before = CRLF  # the last two octets that passed: a body's beginning begins a line

    def advance(self) -> bool:
        """Let pass what has come; True when the body has ended.

        Raises:
            RemoteProtocolError: it is longer than its limit.
        """
        while True:
            part, ended = self._buffer.take_part(_PIECE_OCTETS, self.octets, self._limit, self._too_large)
            if part:
                self.octets += len(part)
                self.sink.write(self._unstuffed(part))
            if ended or not part:
                return ended

    def _unstuffed(self, part: bytes) -> bytes:
        """Take away the dots that were stuffed, one at the border of two parts included."""
        before, self._before = self._before, (self._before + part[-2:])[-2:]
        if before == CRLF and part.startswith(b"."):
            part = part[1:]
        elif before.endswith(b"\r") and part.startswith(b"\n."):
            part = b"\n" + part[2:]
        return part.replace(b"\r\n.", b"\r\n")


class HeadSink:
    """Keeps the first octets of a body and lets the rest go; implements `BodySink`."""

    __slots__ = ("_most", "head", "octets")

    def __init__(self, most: int) -> None:
        self.octets = 0
        self.head = bytearray()
        self._most = most

    def write(self, octets: bytes) -> None:
        """Keep what there is room for."""
        self.octets += len(octets)
        self.head += octets[: self._most - len(self.head)]

    def discard(self) -> None:
        """Forget it."""
        self.head.clear()


def stuff(body: bytes) -> bytes:
    """Double the dot of every line that begins with one (RFC 1939 s.3, RFC 5321 s.4.5.2).

    A line begins at the start and after CRLF, nowhere else: normalise line ends first.
    """
    stuffed = body.replace(b"\r\n.", b"\r\n..")
    return b"." + stuffed if stuffed.startswith(b".") else stuffed
