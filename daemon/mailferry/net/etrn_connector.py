"""Sessions for ETRN requests: the SMTP client's, with the one command that is asked for here."""

from __future__ import annotations

from collections.abc import Callable

from mailferry.errors import TransportError
from mailferry.net.smtp_connector import SmtpConnector, SmtpSettings
from mailferry.net.smtp_refusals import session_closed
from mailferry.net.smtp_session import SmtpSession, unexpected
from mailferry.net.trace import Trace, no_trace
from mailferry.ports import EtrnTraits
from mailferry.protocol.smtp_commands import Etrn
from mailferry.protocol.smtp_replies import SmtpReply
from mailferry.protocol.smtp_transaction import Replied


class SmtpEtrnSession:
    """One session with a server that is asked; implements `ports.EtrnSession`."""

    def __init__(self, session: SmtpSession, *, logged_in: bool) -> None:
        self._session = session
        features = session.features
        self.traits = EtrnTraits(
            offered=features.etrn,
            protected=session.link.protected,
            logged_in=logged_in,
            offers_tls=features.starttls,
            offers_auth=bool(features.auth_mechanisms),
        )

    async def ask(self, node: str) -> SmtpReply:
        """Send ETRN and return the reply; see the port."""
        closing = self._session.core.closing_reply
        if closing is not None:  # a 421 that came unasked (RFC 5321 s.3.8)
            raise session_closed(closing)
        answer = await self._session.ask(Etrn(node))
        if not isinstance(answer, Replied):
            raise unexpected(answer)
        return answer.reply

    async def quit(self) -> None:
        """Say QUIT and close."""
        await self._session.quit()

    def abort(self) -> None:
        """Close."""
        self._session.fail(TransportError("the session was given up"))


class SmtpEtrnConnector:
    """Opens sessions to one server; implements `ports.EtrnConnector`."""

    def __init__(self, settings: SmtpSettings, trace: Callable[[], Trace] = lambda: no_trace) -> None:
        self._connector = SmtpConnector(settings, trace)
        self._logs_in = settings.credentials is not None

    async def open(self) -> SmtpEtrnSession:
        """Connect, protect, log in; see the port."""
        return SmtpEtrnSession(await self._connector.open(), logged_in=self._logs_in)
