"""Looks whether our own mail server takes mail, before another is asked to send it there.

Mail that is released to a port where nobody listens goes back into a queue, with a
longer pause before its next attempt: worse than not to have asked.
"""

from __future__ import annotations

from mailferry.errors import MailferryError, TransportError
from mailferry.net.endpoint import Endpoint, TlsMode
from mailferry.net.link import connect
from mailferry.net.smtp_session import SmtpSession
from mailferry.protocol.smtp import SmtpConnection

LOOK_SECONDS = 10.0
"""For the connection, and again for the greeting: a server that needs longer is in no state to take mail."""


class SmtpListener:
    """Our own mail server as others see it; implements `ports.Listener`."""

    def __init__(self, host: str, port: int) -> None:
        self._endpoint = Endpoint(
            host,
            port,
            TlsMode.NONE,
            connect_timeout_seconds=LOOK_SECONDS,
            timeout_seconds=LOOK_SECONDS,
        )

    async def trouble(self) -> str:
        """Read the greeting and leave politely; return why no mail would be taken, or nothing."""
        try:
            session = SmtpSession(await connect(self._endpoint), SmtpConnection())
        except MailferryError as error:
            return str(error)
        try:
            reply = (await session.greeting()).reply
            if not reply.positive:  # RFC 5321 s.3.1: 554 takes no mail, 421 none now
                return f"{self._endpoint}: greets with {reply}"
            await session.quit()
        except MailferryError as error:
            return str(error)
        finally:
            session.fail(TransportError("seen enough"))
        return ""
