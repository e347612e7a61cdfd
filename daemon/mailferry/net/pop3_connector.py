"""Opens POP3 sessions: connect, protect, learn what the server can do, log in.

Rules kept here: no password on a link that is not protected unless the
configuration says so in words; nothing that was learned before TLS counts after it
(RFC 2595 s.4); a server that drops the link at CAPA is asked again without it; a
refused login is told apart by its reason (RFC 2449 s.8, RFC 3206).

Where the server pipelines before the login, that and the listings go in one group
(`pop3_group`). A server that then loses what came behind the login is asked again
step by step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from mailferry.errors import (
    CleartextRefusedError,
    ConnectionLostError,
    MaildropError,
    MaildropUnavailableError,
    StlsRefusedError,
    TransportError,
)
from mailferry.net.channel_binding import channel_binding
from mailferry.net.credentials import Credentials, LoginMethod, SecretMask
from mailferry.net.endpoint import Endpoint, TlsMode
from mailferry.net.opening import Moment, Opening, Stage
from mailferry.net.pop3_dialogue import Pop3Dialogue
from mailferry.net.pop3_group import PATIENCE_SECONDS, Behind, ListingRequest, ServerNotes
from mailferry.net.pop3_login import Login, Verdict
from mailferry.net.pop3_refusals import refused, session_refused
from mailferry.net.pop3_session import Pop3Session
from mailferry.net.trace import Trace, no_trace
from mailferry.net.traced import connect_traced
from mailferry.net.watch import UNWATCHED, LinkWatch
from mailferry.policy.login import classify_login_refusal
from mailferry.ports import MaildropTraits
from mailferry.protocol.framing import BodySink
from mailferry.protocol.pop3 import Greeting, Pop3Limits, Reply
from mailferry.protocol.pop3_commands import Capa, Stls, Utf8
from mailferry.protocol.pop3_listings import Capabilities, parse_capabilities
from mailferry.protocol.sasl_exchange import LinkFacts

_DEFAULT_LOGIN_DELAY_SECONDS = 600.0
"""When a server refuses a login as too early but never said what it wants."""

_LONGEST_LOGIN_DELAY_SECONDS = 86_400.0
"""No server that means well wants more; one that says "in 300 years" must not silence its maildrop."""


class SinkMaker(Protocol):
    """Takes what is too large for memory; `message.spool.Spool` is one."""

    @property
    def threshold_octets(self) -> int:
        """From which size on."""

    def new_file(self) -> BodySink:
        """Return a sink for one message."""


@dataclass(frozen=True, slots=True)
class Pop3Settings:
    """How to reach and use one maildrop.

    Attributes:
        credentials: who we are; None does not log in, which is of use for a look at the server only.
        allow_cleartext: permits a password on an unprotected link.
        pipelining: use it when the server offers it.
        message_limit_octets: a reply beyond this ends the session.
        watch: whom to tell of certificates and tokens.
        spool: where messages go that are too large for memory; None keeps all in memory.
    """

    endpoint: Endpoint
    credentials: Credentials | None
    method: LoginMethod = LoginMethod.AUTO
    allow_cleartext: bool = False
    pipelining: bool = True
    message_limit_octets: int = 64 * 1024 * 1024
    spool: SinkMaker | None = None
    watch: LinkWatch = UNWATCHED


class Pop3Connector:
    """Implements `ports.MaildropConnector`.

    With `notes` on the server the listings are asked for along with the login, since a poll
    needs them; without, nothing is asked that the session's owner did not ask for.
    """

    def __init__(
        self,
        settings: Pop3Settings,
        trace: Callable[[], Trace] = lambda: no_trace,
        notes: ServerNotes | None = None,
    ) -> None:
        self._settings = settings
        self._trace = trace
        self._notes = notes
        self._skip_capa = False
        self._needs_utf8 = False

    async def open(self, opening: Opening | None = None) -> Pop3Session:
        """Connect, protect, log in; see `ports.MaildropConnector.open`. What is learned is noted in `opening`."""
        opening = opening or Opening(reads_certificates=False, on_tls=self._settings.watch.handshake)
        try:
            return await self._open(opening)
        except _CapaDroppedError:
            return await self._open_without_capa(opening)
        except _GroupLostError:
            return await self._open(opening)  # step by step: the notes say so now

    def credentials_changed_at(self) -> float | None:
        """See `ports.MaildropConnector.credentials_changed_at`."""
        credentials = self._settings.credentials
        return credentials.changed_at() if credentials is not None else None

    async def _open_without_capa(self, opening: Opening) -> Pop3Session:
        """Some servers drop the link at an unknown command; remember it only of those that then let us in."""
        self._skip_capa = True
        try:
            return await self._open(opening)
        except BaseException:
            self._skip_capa = False  # the server was in trouble, or refused: CAPA may not be to blame
            raise

    async def _open(self, opening: Opening) -> Pop3Session:
        settings = self._settings
        mask = SecretMask()
        opening.begin(mask.text)
        trace = mask.trace(self._trace())
        link = await connect_traced(settings.endpoint, trace)
        opening.connected(link)
        spool = settings.spool
        limits = Pop3Limits(
            message_octets=settings.message_limit_octets,
            held_octets=spool.threshold_octets if spool else None,
        )
        new_sink = spool.new_file if spool else None
        dialogue = Pop3Dialogue(link, limits=limits, trace=trace, new_sink=new_sink, clean=mask.text)
        asked: ListingRequest | None = None
        try:
            greeting = await self._greet(dialogue, opening)
            capabilities = await self._protect(dialogue, opening)
            if settings.credentials is not None:
                opening.stage = Stage.LOGIN
                self._refuse_cleartext(dialogue)
                await self._ask_for_utf8(dialogue, capabilities)
                credentials = mask.watching(replace(settings.credentials, on_token=settings.watch.token))
                behind = self._behind(dialogue, capabilities)
                login = self._login(dialogue, credentials, greeting, capabilities, behind)
                capabilities = await self._log_in(login, behind, opening)
                asked = behind.listing if behind is not None else None
        except BaseException as error:  # a cancelled opening must not leave a socket behind either
            link.close()
            mask.scrub(error)
            raise
        offers_uidl = capabilities is not None and capabilities.has_uidl
        traits = self._traits(dialogue, capabilities)
        session = Pop3Session(dialogue, traits, offers_uidl=offers_uidl, asked=asked)
        session.on_utf8_needed = self._remember_utf8
        opening.stage = Stage.READY
        return session

    async def _greet(self, dialogue: Pop3Dialogue, opening: Opening) -> Greeting:
        greeting = await dialogue.greeting()
        opening.greeting = greeting.line
        if greeting.ok:
            return greeting
        refusal = classify_login_refusal(greeting.response_code, greeting.text, auth_resp_code=True)
        text = f"{self._settings.endpoint}: greeting refused: {greeting.line}"
        raise session_refused(refusal, text, refused(greeting), _DEFAULT_LOGIN_DELAY_SECONDS)

    async def _protect(self, dialogue: Pop3Dialogue, opening: Opening) -> Capabilities | None:
        remembered = self._remembered()
        if self._settings.endpoint.tls is not TlsMode.STARTTLS:
            return remembered or await self._ask_capabilities(dialogue, opening)
        # Under TLS it is asked again (RFC 2595 s.4), so who is known to have STLS need not say so.
        capabilities = None if remembered else await self._ask_capabilities(dialogue, opening)
        if capabilities is not None and not capabilities.stls:
            raise StlsRefusedError(
                f"{self._settings.endpoint}: the server does not offer STLS; nothing was sent. "
                'Use tls = "implicit" with port 995 if it has that'
            )
        opening.stage = Stage.TLS
        reply = await dialogue.command(Stls())
        if not reply.ok:
            raise StlsRefusedError(f"{self._settings.endpoint}: STLS refused: {reply.line}", refused(reply))
        await dialogue.start_tls()
        opening.secured(dialogue.link)
        return remembered or await self._ask_capabilities(dialogue, opening)

    def _remembered(self) -> Capabilities | None:
        """Return what the server announced lately; None where CAPA must tell before anything else is sent."""
        if self._notes is None or not self._settings.pipelining or self._needs_utf8:
            return None
        return self._notes.announced(_now())

    async def _ask_capabilities(self, dialogue: Pop3Dialogue, opening: Opening) -> Capabilities | None:
        opening.stage = Stage.CAPABILITIES
        if self._skip_capa:
            return None
        try:
            reply = await dialogue.command(Capa())
        except ConnectionLostError as error:
            raise _CapaDroppedError(str(error)) from error
        capabilities = _capabilities(reply)
        opening.offered(capabilities.offers if capabilities is not None else {})
        return capabilities

    def _refuse_cleartext(self, dialogue: Pop3Dialogue) -> None:
        if not dialogue.link.protected and not self._settings.allow_cleartext:
            raise CleartextRefusedError(
                f"{self._settings.endpoint}: no TLS, so no password is sent; set tls, or allow_cleartext = true"
            )

    def _remember_utf8(self) -> None:
        self._needs_utf8 = True

    async def _ask_for_utf8(self, dialogue: Pop3Dialogue, capabilities: Capabilities | None) -> None:
        """Ask for UTF8 where a message could not be had without it (RFC 6856 s.2.1).

        Not otherwise: most next hops take no headers in UTF-8, and servers that have both
        forms give the other one. A refusal leaves us where we were.
        """
        if self._needs_utf8 and capabilities is not None and capabilities.utf8:
            await dialogue.command(Utf8())

    def _behind(self, dialogue: Pop3Dialogue, capabilities: Capabilities | None) -> Behind | None:
        """Return what is asked behind the login in the same group; None where all goes step by step."""
        notes = self._notes
        if notes is None or capabilities is None or not notes.trusted(_now()):
            return None
        if not (capabilities.pipelining and self._settings.pipelining):
            return None
        dialogue.group_login()
        return Behind(dialogue)

    def _login(
        self,
        dialogue: Pop3Dialogue,
        credentials: Credentials,
        greeting: Greeting,
        capabilities: Capabilities | None,
        behind: Behind | None,
    ) -> Login:
        endpoint = self._settings.endpoint
        facts = LinkFacts(
            host=endpoint.host,
            port=endpoint.port,
            binding=channel_binding(dialogue.link.tls),
            offered=capabilities.sasl_mechanisms if capabilities else frozenset(),
        )
        asks_behind = behind.ask if behind is not None else None
        return Login(dialogue, credentials, self._settings.method, greeting, capabilities, facts, asks_behind)

    async def _log_in(self, login: Login, behind: Behind | None, opening: Opening) -> Capabilities | None:
        capabilities = login.capabilities
        opening.method = login.chosen.value.upper()
        verdict = await self._attempt(login, behind)
        if not verdict.reply.ok:
            raise self._login_refused(verdict, capabilities)
        if capabilities is not None:
            # RFC 2449 s.5: they may differ after login. Not fatal if refused now.
            after = _capabilities(await self._capa_after(login, behind))
            if self._notes is not None:
                self._notes.learn(capabilities, after)
            capabilities = after or capabilities
            opening.offers[Moment.LOGGED_IN] = capabilities.offers
        return capabilities

    async def _attempt(self, login: Login, behind: Behind | None) -> Verdict:
        try:
            verdict = await login.attempt()
        except TransportError:
            if behind is not None and behind.asked:
                self._distrust()
            raise
        if not verdict.reply.ok and self._notes is not None:
            self._notes.forget()  # the ways to log in may have changed: the next session asks
        return verdict

    async def _capa_after(self, login: Login, behind: Behind | None) -> Reply:
        """Ask for the capabilities after the login, or wait for what was asked along with it.

        Raises:
            _GroupLostError: the server has let us in, and lost what came behind the login.
        """
        if behind is None:
            return await login.dialogue.command(Capa())
        together = behind.asked
        timeout_seconds = self._settings.endpoint.timeout_seconds
        try:
            return await behind.capabilities(min(PATIENCE_SECONDS, timeout_seconds) if together else None)
        except (TimeoutError, TransportError) as error:
            self._distrust()
            if not together:
                raise
            why = f"{self._settings.endpoint}: what was sent along with the login was lost"
            raise _GroupLostError(why) from error

    def _distrust(self) -> None:
        if self._notes is not None:
            self._notes.distrust(_now())

    def _login_refused(self, verdict: Verdict, capabilities: Capabilities | None) -> MaildropError:
        reply = verdict.reply
        refusal = classify_login_refusal(
            reply.response_code,
            reply.text,
            auth_resp_code=capabilities is not None and capabilities.auth_resp_code,
        )
        text = f"{self._settings.endpoint}: login refused: {reply.line}"
        if verdict.explanation:
            text += f" ({verdict.explanation})"
        delay = _login_delay(capabilities) or _DEFAULT_LOGIN_DELAY_SECONDS
        return session_refused(refusal, text, refused(reply), delay)

    def _traits(self, dialogue: Pop3Dialogue, capabilities: Capabilities | None) -> MaildropTraits:
        if capabilities is None:
            return MaildropTraits(
                has_top=True,  # optional in RFC 1939; its refusal tells
                pipelining=False,
                login_delay_seconds=None,
                expire_days=None,
                protected=dialogue.link.protected,
            )
        dialogue.pipelining = capabilities.pipelining and self._settings.pipelining
        return MaildropTraits(
            has_top=capabilities.has_top,
            pipelining=dialogue.pipelining,
            login_delay_seconds=_login_delay(capabilities),
            expire_days=capabilities.expire_days,
            protected=dialogue.link.protected,
        )


class _CapaDroppedError(MaildropUnavailableError):
    """The link broke at CAPA."""


class _GroupLostError(MaildropUnavailableError):
    """A server that announces PIPELINING before the login does not take a group there."""


def _now() -> float:
    return asyncio.get_running_loop().time()


def _capabilities(reply: Reply) -> Capabilities | None:
    return parse_capabilities(reply.body or b"") if reply.ok else None


def _login_delay(capabilities: Capabilities | None) -> float | None:
    """Return the pause that the server wants between logins (RFC 2449 s.6.5), within reason."""
    delay = capabilities.login_delay_seconds if capabilities else None
    return None if delay is None else min(float(delay), _LONGEST_LOGIN_DELAY_SECONDS)
