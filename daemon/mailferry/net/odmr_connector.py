"""Sessions with a provider that is asked with ATRN (RFC 2645): the SMTP client's, until the roles turn.

Then the connection, under TLS if it was, goes to a server that is handed in from outside,
and with it what the provider sent behind its 250. From there on this is only the watch on
how long it lasts and how it ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from mailferry.errors import (
    ConnectionLostError,
    HopError,
    MailferryError,
    ReadTimeoutError,
    RemoteProtocolError,
    TransportError,
)
from mailferry.net.smtp_connector import SmtpConnector, SmtpSettings
from mailferry.net.smtp_session import SmtpSession, unexpected
from mailferry.net.trace import Trace, no_trace
from mailferry.ports import EtrnTraits, TurnReport
from mailferry.protocol.smtp_commands import Atrn, Ehlo
from mailferry.protocol.smtp_replies import SmtpReply
from mailferry.protocol.smtp_transaction import Replied

ATRN_SECONDS = 600.0
"""RFC 2645 s.5.2.1: at least ten minutes for the answer to ATRN; the provider looks through its queue."""

TURNED_SECONDS = 2 * 3600.0
"""The longest that a connection may go on after it has turned round, a last large message included."""

_LAST_SECONDS = 30.0
"""For the message that is being delivered when the time is over."""


class TurnTally(Protocol):
    """What came of a connection that had turned round; `farewell` is our last word, empty when they left."""

    @property
    def accepted(self) -> int:
        """Messages that every destination has."""

    @property
    def deferred(self) -> int:
        """Messages that were put off."""

    @property
    def rejected(self) -> int:
        """Messages that were refused for good."""

    @property
    def refusals(self) -> int:
        """Commands and recipients that were refused."""

    @property
    def farewell(self) -> str:
        """Our last reply: 221 after their QUIT, 421 when we ended it; empty when they left without a word."""


class TurnedServer(Protocol):
    """The server side of one connection that has turned round."""

    def attach(self, transport: asyncio.Transport, early: bytes = b"") -> None:
        """Take the connection over and greet; `early` was read from it and not used."""

    async def wait_ended(self) -> TurnTally:
        """Wait until the link is gone."""

    def stop(self) -> None:
        """End it at the next safe point."""

    def drop(self) -> None:
        """Drop the link at once."""


MakeServer = Callable[[Sequence[str], bool], TurnedServer]
"""Takes the domains whose mail may come, and whether the link is under TLS."""


class SmtpOdmrSession:
    """One session with a provider; implements `ports.OdmrSession`."""

    def __init__(self, session: SmtpSession, make_server: MakeServer, *, logged_in: bool) -> None:
        self._session = session
        self._make_server = make_server
        self._server: TurnedServer | None = None
        features = session.features
        self.traits = EtrnTraits(
            offered=features.atrn,
            protected=session.link.protected,
            logged_in=logged_in,
            offers_tls=features.starttls,
            offers_auth=bool(features.auth_mechanisms),
        )

    async def ask(self, domains: Sequence[str]) -> SmtpReply:
        """Send ATRN and return the reply; see the port."""
        closing = self._session.core.closing_reply
        if closing is not None:  # a 421 that came unasked (RFC 5321 s.3.8)
            raise HopError(f"the server has ended the session: {closing}")
        patience = max(ATRN_SECONDS, self._session.link.endpoint.timeout_seconds)
        answer = await self._session.ask(Atrn(tuple(domains)), patience)
        if not isinstance(answer, Replied):
            raise unexpected(answer)
        return answer.reply

    async def take_mail(self, domains: Sequence[str]) -> TurnReport:
        """Hand the connection to a server of ours until it ends; see the port."""
        session = self._session
        where = session.link.endpoint
        if session.failure is not None:  # the link broke behind the 250
            return TurnReport(failure=session.failure)
        server = self._server = self._make_server(domains, session.link.protected)
        server.attach(session.link.release(), session.core.turned_octets)
        try:
            tally = await _ended(server)
        finally:
            server.drop()
        complete = tally.farewell.startswith("221")
        return TurnReport(
            accepted=tally.accepted,
            deferred=tally.deferred,
            rejected=tally.rejected,
            refusals=tally.refusals,
            complete=complete,
            failure=None if complete else _failure(str(where), tally.farewell),
        )

    def drain(self) -> None:
        """End `take_mail` at its next safe point."""
        if self._server is not None:
            self._server.stop()

    async def quit(self) -> None:
        """Say QUIT and close."""
        await self._session.quit()

    def abort(self) -> None:
        """Close, whoever speaks."""
        if self._server is not None:
            self._server.drop()
        self._session.fail(TransportError("the session was given up"))


class SmtpOdmrConnector:
    """Opens sessions to one provider; implements `ports.OdmrConnector`."""

    def __init__(
        self, settings: SmtpSettings, make_server: MakeServer, trace: Callable[[], Trace] = lambda: no_trace
    ) -> None:
        self._settings = settings
        self._connector = SmtpConnector(settings, trace)
        self._make_server = make_server

    async def open(self) -> SmtpOdmrSession:
        """Connect, protect, log in; see the port."""
        session = await self._connector.open()
        logged_in = self._settings.credentials is not None
        try:
            if logged_in and not session.features.atrn:
                # RFC 4954 s.4: EHLO may tell more after a login; some name ATRN to none but who may use it.
                await session.ask(Ehlo(self._settings.helo_name))
        except BaseException:
            session.fail(TransportError("the session was given up"))
            raise
        return SmtpOdmrSession(session, self._make_server, logged_in=logged_in)


async def _ended(server: TurnedServer) -> TurnTally:
    """Wait until a server's connection is gone, and see to it that this has an end."""
    waiting = asyncio.ensure_future(server.wait_ended())
    try:
        for seconds, end in ((TURNED_SECONDS, server.stop), (_LAST_SECONDS, server.drop)):
            done, _ = await asyncio.wait({waiting}, timeout=seconds)
            if done:
                break
            end()
        return await waiting
    finally:
        waiting.cancel()


def _failure(where: str, farewell: str) -> MailferryError | None:
    """Say why a connection ended without QUIT; None when it had lasted as long as it may, or we stop."""
    if not farewell:
        return ConnectionLostError(f"{where}: the provider left without QUIT after ATRN")
    if farewell.startswith("421 4.3.2"):
        return None
    if farewell.startswith("421 4.4.2"):
        return ReadTimeoutError(
            f"{where}: the provider was silent, or too slow, after ATRN: we said {farewell}"
        )
    return RemoteProtocolError(f"{where}: we ended the session after ATRN with {farewell}")
