"""What every SASL mechanism is to its driver, and what some of them share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from mailferry.errors import LocalProtocolError, RemoteProtocolError


class AuthenticationExchangeError(RemoteProtocolError):
    """The server's part of a SASL exchange is wrong; it may not be who it says."""


@dataclass(frozen=True, slots=True)
class ChannelBinding:
    """What only the two ends of one TLS connection know in common (RFC 5056).

    Attributes:
        kind: `tls-exporter` (RFC 9266), `tls-unique` or `tls-server-end-point` (RFC 5929).
        data: the octets.
    """

    kind: str
    data: bytes = field(repr=False)

    @property
    def is_common(self) -> bool:
        """Whether every server with -PLUS has to know it.

        RFC 5802 s.6 and RFC 9266 s.3 name one for each version of TLS. The binding to the
        certificate is an extra, which mail servers lack.
        """
        return self.kind != "tls-server-end-point"


@dataclass(frozen=True, slots=True)
class LinkFacts:
    """What a mechanism may want to know beyond name and secret.

    Attributes:
        host: the server, as the configuration names it (RFC 7628 s.3.1).
        port: its port.
        binding: of the link; None without TLS, or when it cannot be had.
        offered: the server's mechanisms, upper-case; empty if it did not tell.
    """

    host: str = ""
    port: int = 0
    binding: ChannelBinding | None = None
    offered: frozenset[str] = frozenset()


NOTHING_KNOWN = LinkFacts()


class Mechanism(Protocol):
    """One SASL exchange; made for one attempt and not used again."""

    @property
    def name(self) -> str:
        """The name that AUTH sends."""

    @property
    def secure_without_tls(self) -> bool:
        """Whether one who listens learns neither the password nor a token."""

    @property
    def failure(self) -> bytes:
        """The server's own explanation of a refusal, as it came; empty if it gave none."""

    def initial(self) -> bytes | None:
        """Return the octets that begin the exchange; None if the server begins."""

    def respond(self, challenge: bytes) -> bytes:
        """Answer a challenge.

        Raises:
            AuthenticationExchangeError: the challenge is not what the mechanism expects.
        """

    def finish(self) -> None:
        """Check, once the server accepted, that the exchange is complete.

        Raises:
            AuthenticationExchangeError: the server has not proved that it knows us.
        """


class Exchange:
    """What most mechanisms share: nothing to say first, nothing to check last."""

    name: ClassVar[str] = ""
    secure_without_tls: ClassVar[bool] = False
    failure: bytes = b""

    def initial(self) -> bytes | None:
        """Return None: the server begins."""
        return None

    def finish(self) -> None:
        """Accept the server's yes: the mechanism proves only the client."""


def octets_of(text: str) -> bytes:
    """Return a user name or secret as octets.

    Raises:
        LocalProtocolError: it holds NUL (RFC 4616 s.2), or cannot be encoded.
    """
    try:
        octets = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # `from None`: the original error carries the text, which may be a password.
        raise LocalProtocolError("a user name or secret cannot be encoded") from None
    if b"\0" in octets:
        raise LocalProtocolError("a user name or secret holds NUL")  # RFC 4616 s.2
    return octets
