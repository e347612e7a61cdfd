"""What was learned while a session was opened, and how far that came.

A connector writes it as it goes, so that whoever looks at a peer by hand can tell at
which stage it failed and what had been said before.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from mailferry.errors import TlsError
from mailferry.net.certificates import TlsFacts, tls_facts
from mailferry.net.link import Link


class Stage(StrEnum):
    """The steps of an opening, in their order."""

    CONNECT = "connect"
    TLS = "tls"
    GREETING = "greeting"
    CAPABILITIES = "capabilities"
    """CAPA, or EHLO."""
    LOGIN = "login"
    READY = "ready"


class Moment(StrEnum):
    """When a server told what it can: it may differ each time (RFC 2449 s.5, RFC 3207 s.4.2)."""

    FIRST = "first"
    UNDER_TLS = "under-tls"
    LOGGED_IN = "logged-in"


Offers = Mapping[str, str]
"""Each keyword in capitals, with what follows it."""


@dataclass(slots=True)
class Opening:
    """One opening, filled in as it goes.

    Attributes:
        stage: where it is, or where it ended.
        peer: the server's address and port, as `192.0.2.1:995`.
        local: ours.
        greeting: the server's first line.
        offers: what it said it can, at each moment it was asked.
        protected: whether the link is under TLS.
        tls: what is known of that.
        refused_tls: what was shown in a handshake that did not lead to a session, where somebody looked.
        method: the way to log in that was used, as `SCRAM-SHA-256`; empty when none was.
        masked: takes this session's secrets out of a text.
        on_tls: called with each connection that comes under TLS.
        reads_certificates: whether anybody wants to see them; the daemon does not.
    """

    stage: Stage = Stage.CONNECT
    peer: str = ""
    local: str = ""
    greeting: str = ""
    offers: dict[Moment, Offers] = field(default_factory=dict)
    protected: bool = False
    tls: TlsFacts | None = None
    refused_tls: TlsFacts | None = None
    method: str = ""
    masked: Callable[[str], str] = str
    reads_certificates: bool = True
    on_tls: Callable[[ssl.SSLObject], None] = lambda _: None

    def begin(self, masked: Callable[[str], str]) -> None:
        """Forget an attempt before: a server that drops the link at CAPA is asked a second time."""
        self.stage = Stage.CONNECT
        self.offers.clear()
        self.greeting = self.method = ""
        self.protected, self.tls = False, None
        self.masked = masked

    def connected(self, link: Link) -> None:
        """Note a connection, under TLS if that came with it."""
        self.stage = Stage.GREETING
        self.peer, self.local = link.addresses
        self._note_tls(link)

    def secured(self, link: Link) -> None:
        """Note that TLS has begun: what follows is to be asked again."""
        self.stage = Stage.CAPABILITIES
        self._note_tls(link)

    def offered(self, offers: Offers) -> None:
        """Note what the server says it can, before a login."""
        self.offers[Moment.UNDER_TLS if self.protected else Moment.FIRST] = offers

    def failed_at(self, error: Exception) -> Stage:
        """Return the stage at which this error ended it."""
        return Stage.TLS if isinstance(error, TlsError) else self.stage

    def _note_tls(self, link: Link) -> None:
        self.protected = link.protected
        if link.tls is None:
            return
        self.on_tls(link.tls)
        if self.reads_certificates:
            self.tls = tls_facts(link.tls)
