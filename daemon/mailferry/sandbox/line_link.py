"""The server's end of a line-based link: buffering, holds, autologout, TLS.

While a link is *held* (TLS handshake, a full send buffer, or a test that lets
the server stall) no line is taken and reading pauses, so a client can make the
server keep some input and one reply, no more.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import Protocol

MAX_LINE_OCTETS = 12288
"""RFC 5034 s.4 and RFC 4954 s.4 ask for 12288 octets in a SASL exchange; commands are shorter."""


class LinkOwner(Protocol):
    """What a link needs from its server."""

    implicit_tls: bool

    def opened(self, link: LineLink) -> bool:
        """Count a new link; False when there are too many."""

    def closed(self, link: LineLink) -> None:
        """Forget a link."""

    def begin_tls(self, link: LineLink) -> None:
        """Start the handshake; ends in `link.tls_started`, or the link is dropped."""


class LineLink(asyncio.Protocol, ABC):
    """Takes lines from a client, in order, and writes to it."""

    def __init__(self, owner: LinkOwner, *, idle_timeout_seconds: float) -> None:
        self.protected = False
        self.transport: asyncio.Transport | None = None
        self.input = bytearray()
        self._link_owner = owner
        self._idle_timeout_seconds = idle_timeout_seconds
        self._idle_timer: asyncio.TimerHandle | None = None
        self._begun = False
        self._holds = 0
        self._write_held = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the conversation, after the handshake when TLS is implicit."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._restart_idle_timer()
        if not self._link_owner.opened(self):
            self.too_many_sessions()
            self.close()
        elif self._link_owner.implicit_tls:
            self.start_tls()
        else:
            self._begin()

    def connection_lost(self, _exc: Exception | None) -> None:
        """End it, whichever side closed; a second call finds nothing left to do."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self.transport = None
        self.end()
        self._link_owner.closed(self)

    def data_received(self, data: bytes) -> None:
        """Take input and run what is complete."""
        self._restart_idle_timer()
        self.input += data
        self._run()

    def eof_received(self) -> bool:
        """Close when the client half-closes: nobody is left to take leave."""
        return False

    def pause_writing(self) -> None:
        """Hold while the client does not read its replies."""
        self._write_held = True
        self.hold()

    def resume_writing(self) -> None:
        """Go on once it does."""
        if self._write_held:
            self._write_held = False
            self.release()

    # --- what a server adds -----------------------------------------------------

    @abstractmethod
    def begin(self) -> None:
        """Greet."""

    @abstractmethod
    def end(self) -> None:
        """Release what the session held."""

    @abstractmethod
    def too_many_sessions(self) -> None:
        """Say so; the link closes after that."""

    @abstractmethod
    def line_received(self, line: bytes) -> None:
        """Run one line, which comes without its line end."""

    @abstractmethod
    def line_too_long(self) -> None:
        """Say so; the link closes after that."""

    def take(self) -> bool:
        """Take one unit of input, a line; False when there is not a whole one."""
        end = self.input.find(b"\n", 0, MAX_LINE_OCTETS)
        if end < 0:
            if len(self.input) >= MAX_LINE_OCTETS:
                self.line_too_long()
                self.close()
            return False
        line = bytes(self.input[:end]).removesuffix(b"\r")
        del self.input[: end + 1]
        self.line_received(line)
        return True

    # --- what a server uses -----------------------------------------------------

    def hold(self) -> None:
        """Take no further line until `release`; holds are counted."""
        self._holds += 1

    def release(self) -> None:
        """Take back one hold and go on when it was the last."""
        self._holds -= 1
        if self._holds == 0 and self.transport is not None:
            self.transport.resume_reading()
            asyncio.get_running_loop().call_soon(self._run)

    def send(self, data: bytes) -> None:
        """Write to the client, if there still is one."""
        if self.transport is not None and data:
            self.transport.write(data)

    def close(self) -> None:
        """Close once everything is written."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Drop the link at once."""
        if self.transport is not None:
            self.transport.abort()

    def start_tls(self) -> None:
        """Hold the link and ask the server for a handshake."""
        if self.transport is not None:
            # What the client sends now belongs to the handshake.
            self.transport.pause_reading()
            # What came before must not be taken as commands later (RFC 2595 s.4, RFC 3207 s.4.2).
            self.input.clear()
            self.hold()
            self._link_owner.begin_tls(self)

    def tls_started(self, transport: asyncio.Transport) -> None:
        """Go on under TLS, with what a quick client has sent behind its handshake already."""
        self.transport = transport
        self.protected = True
        if not self._begun:
            self._begin()
        self.release()

    def _begin(self) -> None:
        self._begun = True
        self.begin()

    def _run(self) -> None:
        while self._holds == 0 and self.transport is not None and not self.transport.is_closing():
            if not self.take():
                return
        if self._holds and self.transport is not None and len(self.input) > MAX_LINE_OCTETS:
            self.transport.pause_reading()

    def _restart_idle_timer(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        loop = asyncio.get_running_loop()
        self._idle_timer = loop.call_later(self._idle_timeout_seconds, self.abort)
