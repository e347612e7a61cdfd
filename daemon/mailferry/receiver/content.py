"""One message's content on its way in: held in memory while it is small, then in a spool file.

However large a client makes it, no more than `max_size` is kept. What goes beyond is
read to its end and let go, so that the refusal comes where the client expects it
(RFC 5321 s.4.2.5), but not without end.
"""

from __future__ import annotations

from mailferry.errors import MessageTooLargeError
from mailferry.message.lineends import has_only_crlf
from mailferry.message.spool import Spool, SpoolFile
from mailferry.model import Content
from mailferry.protocol.framing import ReceiveBuffer, StreamedBody

BEYOND_OCTETS = 1 << 20
"""A message may go on for its limit once more and this much, before the link is dropped."""


class TakenContent:
    """Takes the octets after DATA; implements `framing.BodySink`.

    Attributes:
        octets: how many came, unstuffed, those that were let go included.
    """

    def __init__(self, spool: Spool, max_size_octets: int, hold_octets: int) -> None:
        """Take where files lie, how much is taken, and how much of it may be in memory."""
        self.octets = 0
        self._spool = spool
        self._max_octets = max_size_octets
        self._hold_octets = min(hold_octets, spool.threshold_octets)
        self._held = bytearray()
        self._file: SpoolFile | None = None

    def body_from(self, received: ReceiveBuffer) -> StreamedBody:
        """Return what moves the octets here, dots unstuffed, up to CRLF.CRLF and nothing else."""
        return StreamedBody(received, self, 2 * self._max_octets + BEYOND_OCTETS, MessageTooLargeError)

    @property
    def too_large(self) -> bool:
        """Whether there was more than is taken."""
        return self.octets > self._max_octets

    @property
    def failure(self) -> str:
        """Why the content could not be kept; empty while all is well."""
        return self._file.failure if self._file is not None else ""

    def write(self, octets: bytes) -> None:
        """Take the next octets; never raises."""
        self.octets += len(octets)
        if self.too_large:
            self.discard()
        elif self._file is not None:
            self._file.write(octets)
        elif self.octets <= self._hold_octets:
            self._held += octets
        else:
            self._file = self._spool.new_file()
            self._file.write(bytes(self._held))
            self._file.write(octets)
            self._held.clear()

    def discard(self) -> None:
        """Give up what there is."""
        self._held.clear()
        if self._file is not None:
            self._file.discard()

    def content(self) -> Content | None:
        """Return what came, once it is whole; None when it could not be kept."""
        if self.too_large:
            return None
        return bytes(self._held) if self._file is None else self._file.content()


def has_clean_lines(content: Content) -> bool:
    """Tell whether no CR and no LF stands alone (RFC 5321 s.2.3.8).

    A sender's server that lets them pass, in front of one that takes them for line
    ends, is how one message becomes two.
    """
    if isinstance(content, bytes):
        return has_only_crlf(content)
    return content.is_crlf
