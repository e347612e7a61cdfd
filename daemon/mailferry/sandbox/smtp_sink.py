"""The sandbox's SMTP sink: accepts mail, remembers it octet for octet, sends nothing on.

aiosmtpd speaks SMTP; it runs in the caller's event loop, without a thread.
"""

from __future__ import annotations

import asyncio
import hmac
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

MAX_LINE_OCTETS = 4 * 1024 * 1024
"""Far more than RFC 5321 s.4.5.3.1.6 allows: mail with longer lines exists, and a sink must show it."""
MAX_MESSAGE_OCTETS = 64 * 1024 * 1024
MAX_KEPT_MESSAGES = 10_000
MAX_KEPT_OCTETS = 512 * 1024 * 1024
IDLE_TIMEOUT_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class SinkMessage:
    """One accepted message; `envelope_sender` is empty for the null reverse-path."""

    number: int
    envelope_sender: str
    recipients: tuple[str, ...]
    content: bytes
    mail_options: tuple[str, ...]


class _SinkSession(SMTP):
    """aiosmtpd's session, with long lines allowed and its end made known."""

    line_length_limit = MAX_LINE_OCTETS

    def __init__(self, sink: SmtpSink, **options: Any) -> None:  # Any: passed on to aiosmtpd as they are
        super().__init__(_Hooks(sink), **options)
        self._sink = sink

    @property
    def task(self) -> asyncio.Task[None] | None:
        """The task that aiosmtpd runs for this session."""
        return self._handler_coroutine

    def drop(self) -> None:
        """Drop the link at once."""
        if isinstance(self.transport, asyncio.WriteTransport):
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Tell the sink; called again after STARTTLS."""
        super().connection_made(transport)
        self._sink.session_opened(self)

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the sink."""
        super().connection_lost(error)
        self._sink.session_closed(self)


class SmtpSink:
    """An SMTP server that swallows mail: SIZE, 8BITMIME, SMTPUTF8, PIPELINING, STARTTLS and AUTH on request.

    `credentials` maps user names to passwords and makes AUTH a duty.
    `on_message` runs on the event loop's thread before the 250. With a
    `directory`, each message is also written there as `NNNNNN.eml`. Beyond
    `max_messages` or `max_octets` the oldest messages are forgotten, on disk too.

    Attributes:
        received: what is remembered, oldest first.
        accepted_count: messages accepted since the start, forgotten ones included.
        session_count: connections since the start.
    """

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        credentials: Mapping[str, str] | None = None,
        on_message: Callable[[SinkMessage], None] | None = None,
        directory: Path | None = None,
        max_messages: int = MAX_KEPT_MESSAGES,
        max_octets: int = MAX_KEPT_OCTETS,
    ) -> None:
        self.received: deque[SinkMessage] = deque()
        self.accepted_count = 0
        self.session_count = 0
        self._tls = tls
        self._credentials = credentials
        self._on_message = on_message
        self._directory = directory
        self._max_messages = max_messages
        self._max_octets = max_octets
        self._kept_octets = 0
        self._server: asyncio.Server | None = None
        self._sessions: set[_SinkSession] = set()

    @property
    def port(self) -> int:
        """The port that was bound."""
        assert self._server is not None, "not started"
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; port 0 takes a free one.

        Raises:
            OSError: the port is taken, or the directory cannot be made.
        """
        if self._directory is not None:
            self._directory.mkdir(parents=True, exist_ok=True)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._make_session, host, port, backlog=1024)

    async def stop(self) -> None:
        """Stop listening, drop every session, and wait until the last is gone; safe to call twice."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        tasks = [session.task for session in self._sessions if session.task is not None]
        for session in tuple(self._sessions):
            session.drop()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()

    def _make_session(self) -> _SinkSession:
        return _SinkSession(
            self,
            data_size_limit=MAX_MESSAGE_OCTETS,
            enable_SMTPUTF8=True,
            decode_data=False,
            hostname="sandbox.example.org",
            ident="mailferry sandbox",
            tls_context=self._tls,
            timeout=IDLE_TIMEOUT_SECONDS,
            auth_require_tls=self._tls is not None,
            authenticator=self._authenticate,
            loop=asyncio.get_running_loop(),
        )

    # --- what sessions ask for ------------------------------------------------

    @property
    def wants_login(self) -> bool:
        """Whether mail is taken only after AUTH."""
        return self._credentials is not None

    def session_opened(self, session: _SinkSession) -> None:
        """Know a session; called again when it has started TLS."""
        if session not in self._sessions:
            self.session_count += 1
            self._sessions.add(session)

    def session_closed(self, session: _SinkSession) -> None:
        """Forget a session."""
        self._sessions.discard(session)

    def accept(self, envelope: Envelope) -> int:
        """Remember a message; return its number."""
        self.accepted_count += 1
        assert isinstance(envelope.content, bytes)  # decode_data is False
        sender = envelope.mail_from or ""
        message = SinkMessage(
            number=self.accepted_count,
            envelope_sender="" if sender == "<>" else sender,
            recipients=tuple(envelope.rcpt_tos),
            content=envelope.content,
            mail_options=tuple(envelope.mail_options),
        )
        self._keep(message)
        if self._on_message is not None:
            self._on_message(message)
        return message.number

    def _keep(self, message: SinkMessage) -> None:
        if self._directory is not None:
            self._path_of(self._directory, message).write_bytes(message.content)
        self.received.append(message)
        self._kept_octets += len(message.content)
        while len(self.received) > self._max_messages or self._kept_octets > self._max_octets:
            self._forget(self.received.popleft())

    def _forget(self, message: SinkMessage) -> None:
        self._kept_octets -= len(message.content)
        if self._directory is not None:
            self._path_of(self._directory, message).unlink(missing_ok=True)

    @staticmethod
    def _path_of(directory: Path, message: SinkMessage) -> Path:
        return directory / f"{message.number:06d}.eml"

    def _authenticate(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, login: LoginPassword
    ) -> AuthResult:
        known = (self._credentials or {}).get(login.login.decode("utf-8", "replace"))
        matches = known is not None and hmac.compare_digest(known.encode(), login.password)
        return AuthResult(success=matches, handled=False)


class _Hooks:
    """What aiosmtpd asks at each step; it finds the methods by their names."""

    def __init__(self, sink: SmtpSink) -> None:
        self._sink = sink

    async def handle_EHLO(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, session: Session, _envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        """Offer what the sink has: aiosmtpd pipelines, but does not say so."""
        session.host_name = hostname
        kept = [line for line in responses if self._sink.wants_login or not line.startswith("250-AUTH")]
        return [*kept[:-1], "250-PIPELINING", kept[-1]]

    async def handle_MAIL(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Note the reverse-path."""
        if self._sink.wants_login and not session.authenticated:
            return "530 5.7.0 Authentication required"  # RFC 4954 s.6
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 OK"

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        """Take the message."""
        return f"250 2.0.0 OK: taken as {self._sink.accept(envelope)}"
