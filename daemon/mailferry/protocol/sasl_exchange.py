"""What every SASL mechanism is to its driver, and what some of them share."""

from __future__ import annotations

from typing import ClassVar, Protocol

from mailferry.errors import LocalProtocolError, RemoteProtocolError


class AuthenticationExchangeError(RemoteProtocolError):
    """The server's part of a SASL exchange is wrong; it may not be who it says."""


class Mechanism(Protocol):
    """One SASL exchange; made for one attempt and not used again."""

    @property
    def name(self) -> str:
        """The name that AUTH sends."""

    @property
    def secure_without_tls(self) -> bool:
        """Whether one who listens learns neither the password nor a token."""

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
