"""One SMTP session's link and its bounds in time, on aiosmtpd's session.

aiosmtpd brings the loop over commands and STARTTLS. When a session may begin, how long
it may last and how it ends is decided here; what it says stands in `session`.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from aiosmtpd.smtp import SMTP, Session

from mailferry.message.spool import Spool
from mailferry.model import DestinationName, ReceivedMail
from mailferry.protocol.smtp_replies import SmtpReply
from mailferry.receiver.reader import CommandReader

_LINGER_SECONDS = 10.0
"""How long the last reply may take to leave before the link is dropped."""


class Refusal(StrEnum):
    """What was refused; label values of a metric, and words in logs: stable."""

    SESSION = "session"
    SENDER = "sender"
    RECIPIENT = "recipient"
    CONTENT = "content"
    SYNTAX = "syntax"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """What one session may take.

    Attributes:
        idle_seconds: between two commands, or two pieces of content (RFC 5321 s.4.5.3.2.7: 5 minutes at least).
        least_octets_per_second: content that comes slower, beyond `idle_seconds`, ends the session.
        session_seconds: after this no further transaction begins.
        max_messages: brought in one session; after that no further transaction begins either.
        max_recipients: of one message (RFC 5321 s.4.5.3.1.8: 100 at least).
        max_commands: between one message that was taken and the next. RFC 5321 s.4.5.3.1.10: who has
            more recipients than are taken tries them all, hears 452, and sends to those that were.
        max_refusals: commands refused with 5yz, in all.
        memory_wait_seconds: how long DATA may wait for memory.
        reply_seconds: how long a client is kept waiting for its answer to a message; clients wait
            ten minutes (RFC 5321 s.4.5.3.2.6), and what is delivered later is known when they come again.
    """

    max_size_octets: int = 50 << 20
    idle_seconds: float = 300.0
    least_octets_per_second: int = 512
    session_seconds: float = 3600.0
    max_messages: int = 1000
    max_recipients: int = 100
    max_commands: int = 1000
    max_refusals: int = 50
    memory_wait_seconds: float = 60.0
    reply_seconds: float = 480.0


@dataclass(frozen=True, slots=True)
class MailService:
    """Whose mail a session takes, and where it goes.

    Attributes:
        origin: who lets it in: `receiver`, or the name of an entry in `[etrn]`.
        domains: in lower case; one that begins with a dot stands for the subdomains.
        networks: that may connect; empty for all.
        guarded: whether the bounds for strangers hold: sessions in all, messages per minute.
        protected: the link has TLS already; then STARTTLS is not offered.
    """

    origin: str
    domains: tuple[str, ...]
    destinations: tuple[DestinationName, ...]
    networks: tuple[str, ...] = ()
    guarded: bool = True
    protected: bool = False


@dataclass(slots=True)
class SessionTally:
    """What came of a session so far, counted in messages, and recipients and commands refused.

    Attributes:
        farewell: the reply with which we ended it, 221 or 421; empty while it lasts, and when
            the client left without a word.
    """

    accepted: int = 0
    deferred: int = 0
    rejected: int = 0
    refusals: int = 0
    farewell: str = ""

    @property
    def messages(self) -> int:
        """How many messages were answered, whatever the answer was."""
        return self.accepted + self.deferred + self.rejected


class House(Protocol):
    """What a session asks of whoever knows all sessions."""

    hostname: str
    limits: SessionLimits
    spool: Spool

    def admit(self, session: SmtpLink) -> str:
        """Return why the session cannot be, as a reply; empty when it can."""

    def may_send(self, session: SmtpLink) -> str:
        """Return why it cannot begin a message now, as a reply; empty when it can."""

    def ended(self, session: SmtpLink) -> None:
        """Forget it."""

    async def reserve(self, octets: int) -> int | None:
        """Take memory for a message; None when none could be had in time."""

    def give_back(self, share: int) -> None:
        """Return it."""

    def hand_on(self, mail: ReceivedMail, share: int) -> asyncio.Task[SmtpReply]:
        """Have a message delivered; the memory is given back when that is over."""

    def refused(self, session: SmtpLink, what: Refusal, reply: str) -> None:
        """Take note of a refusal."""


class SmtpLink(SMTP):
    """One session; `tally` is what came of it, `ended` is set when the link is gone.

    Either a server makes it for a connection, or it is put onto one that exists: see
    `ReceiverSessions.protocol`.
    """

    line_length_limit = 64 * 1024  # of the stream's buffer only: `CommandReader` bounds lines

    def __init__(self, service: MailService, house: House, tls: ssl.SSLContext | None = None) -> None:
        self.command_size_limits = defaultdict(lambda: SMTP.command_size_limit * 4)  # aiosmtpd shares one
        self.service = service
        self.tally = SessionTally()
        self.ended = asyncio.Event()
        self.session_id = secrets.token_hex(6)
        self.client_address = ""
        self._house = house
        self._delivering = False
        self._stopping = False
        self._commands: CommandReader | None = None
        super().__init__(  # looks at every attribute, so ours come first
            _NoHooks(),
            data_size_limit=house.limits.max_size_octets,
            enable_SMTPUTF8=True,
            hostname=house.hostname,
            ident="ESMTP",
            tls_context=tls,
            timeout=house.limits.idle_seconds,
            loop=asyncio.get_running_loop(),
        )
        self._began = self._now()

    # -- the link

    def attach(self, transport: asyncio.Transport, early: bytes = b"") -> None:
        """Take over a connection that exists, as the server, and greet.

        Args:
            transport: plain or TLS; its reading may be paused.
            early: octets that were read from it and not used.
        """
        transport.set_protocol(self)
        self.connection_made(transport)
        if early:
            self.data_received(early)
        transport.resume_reading()

    async def wait_ended(self) -> SessionTally:
        """Wait until the link is gone, and return what came of the session."""
        await self.ended.wait()
        return self.tally

    def stop(self) -> None:
        """End the session at the next safe point: a message whose end has come is answered first."""
        self._stopping = True
        if not self._delivering:
            self._farewell("421 4.3.2 This service is closing for now")

    def drop(self) -> None:
        """Drop the link at once."""
        if isinstance(self.transport, asyncio.WriteTransport):
            self.transport.abort()

    @property
    def protected(self) -> bool:
        """Whether TLS is in force."""
        return self.service.protected or self._tls_protocol is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; called again after STARTTLS."""
        peer = transport.get_extra_info("peername")
        self.client_address = str(peer[0]) if isinstance(peer, tuple) and peer else self.client_address
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """End."""
        super().connection_lost(error)
        self._house.ended(self)
        self.ended.set()

    def eof_received(self) -> bool:
        """Let the reader find the end: what came before it is still carried out."""
        asyncio.StreamReaderProtocol.eof_received(self)
        return not self.protected

    def _cb_client_connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super()._cb_client_connected(reader, writer)
        self._commands = CommandReader(reader, self._house.limits.max_commands)
        self._reader = self._commands  # type: ignore[assignment]  # it has all that aiosmtpd uses of one

    async def _handle_client(self) -> None:
        """Greet, or say why there is no session (RFC 5321 s.3.1), and carry out commands."""
        refusal = self._house.admit(self)
        if refusal:
            self._house.refused(self, Refusal.SESSION, refusal)
            self._farewell(refusal)
        else:
            await super()._handle_client()

    def _farewell(self, reply: str) -> None:
        """Say a last word and close; whoever does not take it is dropped."""
        if self._writer is None or self.transport is None or self.tally.farewell:
            return
        if self._commands is not None:
            self._commands.ending = True
        in_handshake = self._tls_protocol is not None and self.conversation().ssl is None
        if in_handshake:  # a word in clear would be taken for a piece of it
            self.drop()
            return
        self.tally.farewell = reply
        self._writer.write(reply.encode("ascii", "replace") + b"\r\n")
        self._close()

    def _close(self) -> None:
        """Close once what was written has left, or soon anyway."""
        if isinstance(self.transport, asyncio.WriteTransport):
            self.transport.close()
            self.loop.call_later(_LINGER_SECONDS, self.transport.abort)

    def conversation(self) -> Session:
        """What aiosmtpd knows of the session; anew after TLS."""
        assert self.session is not None  # there from the first connection on
        return self.session

    # -- time

    def _reset_timeout(self, duration: float | None = None) -> None:
        """Wait for the next command, but not beyond the session's time."""
        left = self._began + self._house.limits.session_seconds - self._now()
        super()._reset_timeout(duration or min(self._house.limits.idle_seconds, max(left, 1.0)))

    def _timeout_cb(self) -> None:
        """The client was silent for too long, or does not take our last word."""
        if self.tally.farewell:
            self.drop()
            return
        self._house.refused(self, Refusal.SILENT, "421")
        self._farewell("421 4.4.2 You were silent for too long")

    def _now(self) -> float:
        return self.loop.time()


class _NoHooks:
    """aiosmtpd looks for methods of its handler; there are none."""
