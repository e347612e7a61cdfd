"""An SMTP session driven by hand: any verb that carries no message."""

from __future__ import annotations

from dataclasses import replace

from mailferry.errors import MailferryError, SmtpRefusedError, TransportError
from mailferry.net.by_hand import HandAnswer
from mailferry.net.endpoint import Endpoint
from mailferry.net.opening import Opening
from mailferry.net.shown_certificate import refused_tls
from mailferry.net.smtp_connector import SmtpConnector, SmtpSettings
from mailferry.net.smtp_session import SmtpSession
from mailferry.net.trace import Trace
from mailferry.protocol.smtp_commands import Command
from mailferry.protocol.smtp_features import SmtpFeatures


class SmtpProbe:
    """One session by hand.

    Args:
        settings: as the daemon uses them; without credentials nobody logs in.
        trace: told every line, secrets masked.

    Attributes:
        opening: what was learned on the way, also after a failure.
    """

    def __init__(self, settings: SmtpSettings, trace: Trace) -> None:
        self.opening = Opening()
        self._settings = settings
        self._connector = SmtpConnector(settings, lambda: trace)
        self._session: SmtpSession | None = None

    @property
    def session(self) -> SmtpSession:
        """The open session."""
        assert self._session is not None, "not open"
        return self._session

    @property
    def features(self) -> SmtpFeatures:
        """What the server offers, as the link is now."""
        return self.session.features

    @property
    def alive(self) -> bool:
        """Whether the session is open and well, and the server has not ended it with 421."""
        session = self._session
        return session is not None and session.failure is None and not session.core.closing

    async def open(self) -> None:
        """Connect, protect, log in; raises as `SmtpConnector.open`."""
        self._session = await self._connector.open(self.opening)

    async def see_certificate(self, error: MailferryError) -> None:
        """After a failed `open`, find out which certificate was not accepted, if one was shown."""

        async def look(endpoint: Endpoint) -> None:
            await SmtpConnector(replace(self._settings, credentials=None, endpoint=endpoint)).open()

        self.opening.refused_tls = await refused_tls(error, self._settings.endpoint, look)

    async def perform(self, command: Command) -> HandAnswer:
        """Send one command; a refusal is an answer.

        Raises:
            LocalProtocolError: it is not legal now; the session lives on.
            HopClosedError: the server has ended the session before.
            ProtocolError, TransportError: the session died.
        """
        try:
            reply = await self.session.perform(command)
        except SmtpRefusedError as error:
            said = error.refused
            if said is None or not said.verb:
                raise
            words = (str(said.code), said.enhanced_status or "", said.text)
            return HandAnswer(command.trace, command.verb, False, " ".join(word for word in words if word))
        return HandAnswer(command.trace, command.verb, True, str(reply))

    async def close(self) -> bool:
        """End the session with QUIT; never raises, never takes long."""
        if self._session is None or self._session.failure is not None:
            return False
        await self._session.quit()
        return True

    def abort(self) -> None:
        """Drop the link, if there is one."""
        if self._session is not None:
            self._session.fail(TransportError("the session was given up"))
