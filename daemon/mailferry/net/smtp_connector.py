"""Opens SMTP and LMTP sessions: connect, greeting, EHLO (or HELO) or LHLO, STARTTLS, AUTH.

No credentials on an unprotected link, no silent step down from STARTTLS, and what
was said before TLS is forgotten (RFC 3207 s.4.2, RFC 4954 s.4).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from mailferry.errors import HopAuthenticationError, HopError, ProtocolError, TlsError
from mailferry.net.channel_binding import channel_binding
from mailferry.net.credentials import Credentials, LoginMethod, SecretMask
from mailferry.net.endpoint import Endpoint, TlsMode
from mailferry.net.opening import Opening, Stage
from mailferry.net.smtp_session import Answer, SmtpSession, unexpected
from mailferry.net.trace import Trace, no_trace
from mailferry.net.traced import connect_traced
from mailferry.net.watch import UNWATCHED, LinkWatch
from mailferry.policy.classify import hop_failure
from mailferry.protocol.sasl import (
    SMTP_AUTH_OCTETS,
    choose_mechanism,
    fits_initial_response,
    require_protection,
)
from mailferry.protocol.sasl_exchange import LinkFacts, Mechanism
from mailferry.protocol.smtp import SmtpConnection, SmtpReply
from mailferry.protocol.smtp_commands import Auth, AuthCancel, AuthResponse, Ehlo, Helo, Lhlo, StartTls
from mailferry.protocol.smtp_transaction import Continuation, Replied


@dataclass(frozen=True, slots=True)
class SmtpSettings:
    """How to reach and use one next hop.

    Attributes:
        helo_name: our own name, in EHLO or LHLO.
        lmtp: the server speaks LMTP (RFC 2033).
        allow_cleartext: permits a password on an unprotected link.
        final_timeout_seconds: the wait after the end of the data.
        watch: whom to tell of sessions, replies, certificates and tokens.
    """

    endpoint: Endpoint
    helo_name: str
    credentials: Credentials | None = None
    method: LoginMethod = LoginMethod.AUTO
    allow_cleartext: bool = False
    final_timeout_seconds: float = 600.0
    pipelining: bool = True
    chunking: bool = True
    lmtp: bool = False
    watch: LinkWatch = UNWATCHED


class SmtpConnector:
    """Opens sessions to one next hop."""

    def __init__(self, settings: SmtpSettings, trace: Callable[[], Trace] = lambda: no_trace) -> None:
        self._settings = settings
        self._trace = trace

    async def open(self, opening: Opening | None = None) -> SmtpSession:
        """Return a session that is ready for transactions; what is learned is noted in `opening`.

        Raises:
            TransportError: no connection, no TLS.
            HopError: the server refused greeting, EHLO, STARTTLS or AUTH.
            ProtocolError: the peer does not speak SMTP.
            SecretError: the password could not be read.
        """
        watch = self._settings.watch
        opening = opening or Opening(reads_certificates=False, on_tls=watch.handshake)
        try:
            session = await self._open(opening)
        except Exception as error:
            watch.failed(error)
            raise
        if session.failure is None:  # it may have died of the very octets that made it ready
            watch.opened()
            session.on_end = watch.closed
        return session

    async def _open(self, opening: Opening) -> SmtpSession:
        settings = self._settings
        mask = SecretMask()
        opening.begin(mask.text)
        trace = mask.trace(self._trace())
        link = await connect_traced(settings.endpoint, trace)
        opening.connected(link)
        core = SmtpConnection(
            use_pipelining=settings.pipelining,
            use_chunking=settings.chunking,
            lmtp=settings.lmtp,
            trace=None if trace is no_trace else trace,
            on_reply=settings.watch.reply,
        )
        core.clean = mask.text
        session = SmtpSession(link, core, final_timeout_seconds=settings.final_timeout_seconds)
        try:
            await self._greet(session, opening)
            await self._hello(session, opening)
            if settings.endpoint.tls is TlsMode.STARTTLS:
                await self._start_tls(session, opening)
            if settings.credentials is not None:
                opening.stage = Stage.LOGIN
                credentials = replace(settings.credentials, on_token=settings.watch.token)
                await self._log_in(session, mask.watching(credentials), opening)
        except BaseException as error:  # a cancelled opening must not leave a socket behind either
            link.close()
            mask.scrub(error)
            raise
        opening.stage = Stage.READY
        return session

    async def _greet(self, session: SmtpSession, opening: Opening) -> None:
        greeting = await session.greeting()
        opening.greeting = str(greeting.reply)
        if not greeting.reply.positive:
            raise hop_failure("greeting", greeting.reply)

    async def _hello(self, session: SmtpSession, opening: Opening) -> None:
        opening.stage = Stage.CAPABILITIES
        name, lmtp = self._settings.helo_name, self._settings.lmtp
        reply = await _reply(session, Lhlo(name) if lmtp else Ehlo(name))
        if reply.permanent and not lmtp and not session.core.closing:  # RFC 5321 s.4.1.4: then try HELO
            reply = await _reply(session, Helo(name))
        if not reply.positive:
            raise hop_failure("lhlo" if lmtp else "ehlo", reply)
        opening.offered(session.features.keywords)

    async def _start_tls(self, session: SmtpSession, opening: Opening) -> None:
        endpoint = self._settings.endpoint
        if not session.features.starttls:
            raise TlsError(
                f"{endpoint}: the server does not offer STARTTLS; nothing was sent. "
                'Use tls = "implicit" (465), or tls = "none" if that is what you want'
            )
        opening.stage = Stage.TLS
        reply = await _reply(session, StartTls())
        if not reply.positive:
            raise hop_failure("starttls", reply)
        await session.link.start_tls()
        session.core.tls_established()
        opening.secured(session.link)
        await self._hello(session, opening)

    async def _log_in(self, session: SmtpSession, credentials: Credentials, opening: Opening) -> None:
        facts = LinkFacts(
            host=self._settings.endpoint.host,
            port=self._settings.endpoint.port,
            binding=channel_binding(session.link.tls),
            offered=session.features.auth_mechanisms,
        )
        name = self._mechanism_name(session, credentials, facts)
        opening.method = name
        mechanism = await credentials.mechanism(name, facts)
        require_protection(
            mechanism, protected=session.link.protected, allow_cleartext=self._settings.allow_cleartext
        )
        reply = await _exchange(session, mechanism)
        if not reply.positive:
            raise hop_failure("auth", reply)
        mechanism.finish()

    def _mechanism_name(self, session: SmtpSession, credentials: Credentials, facts: LinkFacts) -> str:
        endpoint, offered = self._settings.endpoint, facts.offered
        if self._settings.method is not LoginMethod.AUTO:
            return self._asked_for(offered)
        name = choose_mechanism(
            facts,
            protected=session.link.protected,
            has_token=credentials.token is not None,
            allow_cleartext=self._settings.allow_cleartext,
        )
        if name is None:
            what = ", ".join(sorted(offered)) or "no AUTH"
            raise HopAuthenticationError(
                f"{endpoint}: the server offers {what} here, nothing that is safe to use; set tls or auth"
            )
        return name

    def _asked_for(self, offered: frozenset[str]) -> str:
        """Return the mechanism that the configuration names.

        Raises:
            HopAuthenticationError: it is bound to the link, and the server does not offer it.
        """
        name = self._settings.method.value.upper()
        if name.endswith("-PLUS") and name not in offered:
            raise HopAuthenticationError(
                f"{self._settings.endpoint}: the server does not offer {name} on this link; "
                "if it did before, somebody may stand in between"
            )
        return name


async def _reply(session: SmtpSession, command: Ehlo | Helo | StartTls) -> SmtpReply:
    answer = await session.ask(command)
    if not isinstance(answer, Replied):
        raise unexpected(answer)
    return answer.reply


async def _exchange(session: SmtpSession, mechanism: Mechanism) -> SmtpReply:
    initial = mechanism.initial()
    fits = initial is not None and fits_initial_response(f"AUTH {mechanism.name}", initial, SMTP_AUTH_OCTETS)
    answer: Answer = await session.ask(Auth(mechanism.name, initial if fits else None))
    held_back = None if fits else initial
    while isinstance(answer, Continuation):
        if held_back is not None:
            response, held_back = held_back, None
        else:
            response = await _response(session, mechanism, answer.challenge)
        answer = await session.ask(AuthResponse(response))
    return answer.reply


async def _response(session: SmtpSession, mechanism: Mechanism, challenge: bytes) -> bytes:
    try:
        return mechanism.respond(challenge)
    except ProtocolError as error:
        await session.ask(AuthCancel())
        raise HopError(f"AUTH {mechanism.name}: {error}") from error
