"""One connection: bytes in both directions, TLS, and the deadlines.

Built on `asyncio.Protocol`: no task and no coroutine per line, the peer's bytes go
straight into the handler. A `Link` dies once: whatever kills it is told to the
handler exactly once, as a `TransportError`.

Deadlines. While a reply is awaited, the peer may be silent for at most the
timeout, and the whole reply must have come within the timeout plus the time that
its octets need at the least rate. So a peer that drips a byte a second fails at
the timeout like one that is silent, and a large message on a slow line passes.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import fcntl
import os
import socket
import ssl
import termios
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, cast

from aiohappyeyeballs import start_connection

from mailferry.errors import (
    ConnectError,
    ConnectionLostError,
    ConnectRefusedError,
    ConnectTimeoutError,
    ReadTimeoutError,
    TlsError,
    TransportError,
)
from mailferry.net.certificates import WrongCertificateError, tls_facts
from mailferry.net.endpoint import Endpoint
from mailferry.net.tls import check_fingerprint, client_context, explain

LEAST_RATE_OCTETS_PER_SECOND = 512
"""A peer that delivers a reply more slowly than this, on average, is given up."""

_NEXT_ADDRESS_SECONDS = 0.25
"""A host's next address is tried beside the first when that has not answered for so long."""

_EARLY_OCTETS = 64 * 1024
"""What a peer may send before anybody listens."""

_COUNT_SECONDS = 0.05
"""How often it is asked, at most, what the peer has taken: after each of thousands of small writes it
would cost 2 % of a drain's CPU time."""

_TLS_OVERHEAD_OCTETS = 256
"""By how much a short write may grow under TLS."""


class LinkHandler(Protocol):
    """Who owns a link."""

    def data_received(self, data: bytes) -> None:
        """Take octets from the peer."""

    def link_lost(self, error: TransportError) -> None:
        """Learn that the link is dead; called once, never after `Link.close`."""


class Link(asyncio.Protocol):
    """One TCP connection to an endpoint, perhaps under TLS."""

    def __init__(self, endpoint: Endpoint, loop: asyncio.AbstractEventLoop) -> None:
        self.endpoint = endpoint
        self.protected = False
        self.reply_octets: Callable[[], int] = lambda: 0
        """Tells how many octets of the awaited reply have come."""
        self._loop = loop
        self._handler: LinkHandler | None = None
        self._transport: asyncio.Transport | None = None
        self._dead = False
        self._error: TransportError | None = None
        self._told = False
        self._early = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self._timeout_seconds = endpoint.timeout_seconds
        self._awaiting = ""
        self._reply_since = 0.0
        self._progress_at = 0.0
        self._full = False
        self._on_room: Callable[[], None] = lambda: None
        self._unsent_octets = 0
        self._sent_octets = 0
        self._sent_since = 0.0
        self._counted_at = -_COUNT_SECONDS

    @property
    def tls(self) -> ssl.SSLObject | None:
        """The TLS connection; None without TLS."""
        if not self.protected or self._transport is None:
            return None
        return cast("ssl.SSLObject | None", self._transport.get_extra_info("ssl_object"))

    @property
    def addresses(self) -> tuple[str, str]:
        """The peer's address and ours, as `192.0.2.1:995`; empty where there is none."""
        transport = self._transport
        names = (transport.get_extra_info(end) if transport else None for end in ("peername", "sockname"))
        peer, own = map(_address, names)
        return peer, own

    # What the owner calls

    def attach(self, handler: LinkHandler) -> None:
        """Name the owner and hand over what came before there was one."""
        self._handler = handler
        early, self._early = bytes(self._early), bytearray()
        if early:
            handler.data_received(early)
        if self._error is not None and not self._told:  # it died before it had an owner
            self._told = True
            self._loop.call_soon(handler.link_lost, self._error)

    def write(self, buffers: Sequence[bytes]) -> None:
        """Send buffers in order, as one write."""
        if self._transport is None or self._dead:
            return
        if len(buffers) == 1:
            self._transport.write(buffers[0])
        else:
            self._transport.writelines(buffers)
        octets = sum(map(len, buffers))
        now = self._progress_at = self._loop.time()
        if now - self._counted_at < _COUNT_SECONDS:
            self._unsent_octets += octets
            return
        self._counted_at = now
        was_idle = not self._unsent_octets
        self._count_sent(octets)
        if was_idle or self._unsent_octets <= octets + octets // 64 + _TLS_OVERHEAD_OCTETS:
            # All that was written before is gone: the rate counts from here.
            self._sent_octets, self._sent_since = 0, now

    def when_room(self, then: Callable[[], None]) -> None:
        """Call `then` once, soon, when the transport wants more to send: for what is not written at once."""
        if self._full:
            self._on_room = then
        elif not self._dead:
            self._loop.call_soon(then)

    def expect(self, what: str, timeout_seconds: float | None = None) -> None:
        """Begin to wait for a reply; call again for the next one, it resets the deadline."""
        if self._dead:
            return
        now = self._loop.time()
        self._awaiting = what
        self._timeout_seconds = timeout_seconds or self.endpoint.timeout_seconds
        self._reply_since = self._progress_at = now
        look_at = now + self._look_within(self._timeout_seconds)
        if self._timer is None:
            self._timer = self._loop.call_later(look_at - now, self._check_deadline)
        elif self._timer.when() > look_at:
            self._timer.cancel()
            self._timer = self._loop.call_later(look_at - now, self._check_deadline)

    def expect_nothing(self) -> None:
        """No reply is awaited: the peer may be silent."""
        self._awaiting = ""  # the timer finds this and goes to sleep

    async def start_tls(self) -> None:
        """Put TLS on the link.

        Raises:
            TlsError: the handshake failed or the certificate is not the right one.
            ConnectionLostError: the link is dead already.
        """
        if self._transport is None or self._dead:
            raise ConnectionLostError(f"{self.endpoint}: connection lost before the TLS handshake")
        self.expect_nothing()
        context = client_context(self.endpoint)
        try:
            transport = await self._loop.start_tls(
                self._transport,
                self,
                context,
                server_hostname=self.endpoint.certified_name,
                ssl_handshake_timeout=self.endpoint.connect_timeout_seconds,
            )
        except (OSError, ssl.SSLError, ConnectionError) as error:
            self.close()
            raise TlsError(explain(self.endpoint, error)) from error
        if transport is None:
            raise ConnectionLostError(f"{self.endpoint}: connection lost during the TLS handshake")
        self._transport = transport
        self._secured()

    def fail(self, error: TransportError) -> None:
        """Kill the link and tell the owner why."""
        if self._dead:
            return
        self.close()
        self._error = error
        if self._handler is not None:
            self._told = True
            self._handler.link_lost(error)

    def close(self) -> None:
        """Drop the connection at once; the owner is told nothing. Safe to call twice."""
        self._dead = True
        self.expect_nothing()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()

    def release(self) -> asyncio.Transport:
        """Give the connection away, to whom its transport's protocol is set next; the link is of no more use.

        Raises:
            ConnectionLostError: the link is dead already.
        """
        if self._transport is None or self._dead:
            raise ConnectionLostError(f"{self.endpoint}: connection lost before it was handed over")
        transport, self._transport = self._transport, None
        self.close()
        return transport

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over a fresh transport (asyncio calls this once per connection)."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Hand the peer's octets to the owner."""
        if self._dead:
            return
        self._progress_at = self._loop.time()
        if self._handler is not None:
            self._handler.data_received(data)
            return
        # A quick server's greeting may come before the owner is there: pausing the
        # transport until then does not work with every event loop.
        self._early += data
        if len(self._early) > _EARLY_OCTETS:
            self.fail(ConnectionLostError(f"{self.endpoint}: the peer sent more than a greeting unasked"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the owner; also when the peer closed in good order, since we did not ask."""
        detail = f": {exc}" if exc else ""
        waiting = f" while waiting for {self._awaiting}" if self._awaiting else ""
        self.fail(ConnectionLostError(f"{self.endpoint}: connection lost{waiting}{detail}"))

    def pause_writing(self) -> None:
        """Note that the transport has enough (asyncio calls this)."""
        self._full = True

    def resume_writing(self) -> None:
        """Let go on who waits to write (asyncio calls this)."""
        self._full = False
        then, self._on_room = self._on_room, lambda: None
        if not self._dead:
            then()

    # Deadlines

    def _secured(self) -> None:
        tls = self._transport.get_extra_info("ssl_object") if self._transport is not None else None
        try:
            check_fingerprint(self.endpoint, tls.getpeercert(binary_form=True) if tls else None)
        except TlsError as error:
            facts = tls_facts(tls) if tls else None
            self.close()
            if facts is None:
                raise
            raise WrongCertificateError(str(error), facts) from None
        self.protected = True

    def _check_deadline(self) -> None:
        self._timer = None
        if not self._awaiting or self._dead:
            return
        now = self._loop.time()
        self._note_sent_octets(now)
        grace = self.reply_octets() / LEAST_RATE_OCTETS_PER_SECOND
        silent_until = self._progress_at + self._timeout_seconds
        whole_until = self._reply_since + self._timeout_seconds + grace
        due = min(silent_until, whole_until)
        if now < due:
            seconds = self._look_within(due - now + 0.001)
            self._timer = self._loop.call_later(seconds, self._check_deadline)
            return
        kind = "nothing came" if silent_until <= whole_until else "the reply was not complete"
        self.fail(
            ReadTimeoutError(
                f"{self.endpoint}: {kind} for {self._timeout_seconds:g} s while waiting for {self._awaiting}"
            )
        )

    def _look_within(self, seconds: float) -> float:
        """Look more often while octets of ours are on their way: nobody tells when the peer took them."""
        return min(seconds, self._timeout_seconds / 4) if self._unsent_octets else seconds

    def _note_sent_octets(self, now: float) -> None:
        """Octets of ours that the peer took are progress, if they leave at the least rate.

        Counted over all writes: one that follows another must not hide that nothing leaves.
        """
        self._count_sent(0)
        seconds = now - self._sent_since
        if self._sent_octets and self._sent_octets >= LEAST_RATE_OCTETS_PER_SECOND * seconds:
            self._sent_octets, self._sent_since = 0, now
            self._progress_at = self._reply_since = now

    def _count_sent(self, written_octets: int) -> None:
        unsent = _untaken_octets(self._transport) if self._transport else 0
        self._sent_octets += max(self._unsent_octets + written_octets - unsent, 0)
        self._unsent_octets = unsent


def _address(name: object) -> str:
    """Format what the system calls an end of a connection; of a Unix socket it is a path."""
    if not isinstance(name, tuple):
        return str(name or "")
    host, port, *_ = name
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _untaken_octets(transport: asyncio.Transport) -> int:
    """How many octets of ours the peer has not taken: ours to send, and in the kernel's send queue.

    That queue holds megabytes. Without it a slow line would look like a peer that has stopped.
    """
    queued = array.array("i", [0])
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError, ValueError):  # closed meanwhile, or a system that does not tell
            fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, queued)
    return transport.get_write_buffer_size() + queued[0]


async def connect(endpoint: Endpoint) -> Link:
    """Connect to an endpoint, with TLS from the first octet if its mode is implicit.

    Raises:
        ConnectError: name unknown, nobody listens, no route.
        ConnectTimeoutError: not in time.
        TlsError: handshake failed or certificate refused.
    """
    loop = asyncio.get_running_loop()
    link = Link(endpoint, loop)
    implicit = endpoint.tls.value == "implicit"
    # The handshake has a time of its own, and it is part of the connecting.
    patience_seconds = endpoint.connect_timeout_seconds * (2 if implicit else 1)
    try:
        async with asyncio.timeout(patience_seconds):
            if endpoint.socket is not None:
                await _connect_unix(link, endpoint.socket, implicit=implicit)
            else:
                await _connect_socket(link, await _open_socket(endpoint, loop), implicit=implicit)
    except TimeoutError as error:
        link.close()
        raise ConnectTimeoutError(f"{endpoint}: no connection within {patience_seconds:g} s") from error
    except ssl.SSLError as error:
        raise TlsError(explain(endpoint, error)) from error
    except OSError as error:
        raise _connect_error(endpoint, error, implicit) from error
    except UnicodeError as error:
        raise ConnectError(f"{endpoint}: cannot connect: not a host name: {error}") from error
    if implicit:
        link._secured()  # noqa: SLF001  same module
    return link


async def _open_socket(endpoint: Endpoint, loop: asyncio.AbstractEventLoop) -> socket.socket:
    """Connect to the first of the host's addresses that answers (RFC 8305).

    Not left to the event loop: uvloop would spend all the time on a dead IPv6 address.
    """
    kind = socket.SOCK_STREAM
    peers = await loop.getaddrinfo(endpoint.host, endpoint.port, type=kind)
    source = endpoint.source_address
    local = await loop.getaddrinfo(source, 0, type=kind) if source else None
    return await start_connection(
        peers, local_addr_infos=local, happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS, interleave=1, loop=loop
    )


async def _connect_socket(link: Link, connected: socket.socket, *, implicit: bool) -> None:
    endpoint = link.endpoint
    try:
        await asyncio.get_running_loop().create_connection(
            lambda: link,
            sock=connected,
            ssl=client_context(endpoint) if implicit else None,
            server_hostname=endpoint.certified_name if implicit else None,
            ssl_handshake_timeout=endpoint.connect_timeout_seconds if implicit else None,
        )
    except BaseException:
        connected.close()
        raise


async def _connect_unix(link: Link, path: Path, *, implicit: bool) -> None:
    endpoint = link.endpoint
    await asyncio.get_running_loop().create_unix_connection(
        lambda: link,
        str(path),
        ssl=client_context(endpoint) if implicit else None,
        server_hostname=endpoint.certified_name if implicit else None,
        ssl_handshake_timeout=endpoint.connect_timeout_seconds if implicit else None,
    )


def _connect_error(endpoint: Endpoint, error: OSError, implicit: bool) -> TransportError:
    if implicit and isinstance(error, ConnectionResetError | ConnectionAbortedError):
        return TlsError(explain(endpoint, error))
    number = 0 if isinstance(error, socket.gaierror) else error.errno or 0
    reason = os.strerror(number) if number > 0 else error.strerror or str(error)
    advice = _connect_advice(endpoint, error)
    kind = ConnectRefusedError if number == errno.ECONNREFUSED else ConnectError
    return kind(f"{endpoint}: cannot connect: {reason}" + (f". {advice}" if advice else ""))


_SOCKET_ADVICE = {
    errno.ENOENT: "There is no such socket: check socket, and that the server runs",
    errno.ECONNREFUSED: "Nothing listens there: check socket, and that the server runs",
    errno.EACCES: "This user may not use it: check the rights on it and on its folders",
}


def _connect_advice(endpoint: Endpoint, error: OSError) -> str:
    """Say what to do about it; empty for what has nothing to do with the settings, as too many open files."""
    if endpoint.socket is not None:
        return _SOCKET_ADVICE.get(error.errno or 0, "")
    source = endpoint.source_address
    if isinstance(error, socket.gaierror):
        return "Check host, and this machine's name service"
    if error.errno == errno.ECONNREFUSED:
        return "Nothing listens there: check host and port"
    if error.errno == errno.EADDRNOTAVAIL and source:
        return f"source_address {source} is not an address of this machine"
    if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return "There is no route to it from here: check host and this machine's network"
    if error.errno is None:  # the host's addresses failed in different ways, or none suits source_address
        return "Check host, port and source_address" if source else "Check host and port"
    return ""
