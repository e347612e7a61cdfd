"""The sandbox's POP3 server: maildrops in memory, on loopback.

Built on `asyncio.Protocol`, so that it is never what a measurement measures.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping

from mailferry.sandbox.link_server import LinkServer
from mailferry.sandbox.maildrop import SandboxFeatures, SandboxMaildrop
from mailferry.sandbox.pop3_session import Pop3Session

__all__ = ["SandboxFeatures", "SandboxMaildrop", "SandboxPop3Server"]

IDLE_TIMEOUT_SECONDS = 600.0
"""RFC 1939 s.3: the autologout timer must be at least 10 minutes."""


class SandboxPop3Server(LinkServer):
    """A POP3 server for trying things and for tests.

    `maildrops` maps user names to maildrops and may change while the server
    runs; so may `features`.

    Attributes:
        counts: `sessions`, `logins`, `refused` logins, `deleted` messages,
            commands that succeeded after login by verb (`retr`, `dele`, ...), and
            `discarded` (input thrown away because it was pipelined unasked).
    """

    def __init__(
        self,
        maildrops: Mapping[str, SandboxMaildrop],
        *,
        tls: ssl.SSLContext | None = None,
        implicit_tls: bool = False,
        features: SandboxFeatures | None = None,
        greeting: str = "mailferry sandbox ready",
        idle_timeout_seconds: float = IDLE_TIMEOUT_SECONDS,
    ) -> None:
        super().__init__(tls=tls, implicit_tls=implicit_tls)
        self.maildrops = maildrops
        self.features = features or SandboxFeatures()
        self.greeting = greeting
        self.idle_timeout_seconds = idle_timeout_seconds

    def make_session(self) -> Pop3Session:
        """Build the protocol of one connection; tests override this."""
        return Pop3Session(self, idle_timeout_seconds=self.idle_timeout_seconds)
