"""Logins with an OAuth 2.0 access token, and with what TLS has proved: no password in them."""

from __future__ import annotations

from typing import ClassVar

from mailferry.errors import LocalProtocolError
from mailferry.protocol.sasl_exchange import (
    NOTHING_KNOWN,
    AuthenticationExchangeError,
    Exchange,
    LinkFacts,
    octets_of,
)

_SEPARATOR = b"\x01"


class _Token(Exchange):
    """One message with the token, and a refusal that is explained before it is said.

    Attributes:
        failure: the server's JSON explanation of a refusal, empty before one.
    """

    _dummy: ClassVar[bytes] = b""
    """What answers the explanation; the refusal itself follows it."""

    def __init__(self, message: bytes) -> None:
        self.failure = b""
        self._message = message
        self._used = False

    def initial(self) -> bytes:
        """Return the whole message."""
        return self._message

    def respond(self, challenge: bytes) -> bytes:
        """Return the message to an empty challenge, the dummy to a refusal's explanation."""
        if self.failure or (self._used and not challenge):
            raise AuthenticationExchangeError(f"{self.name}: unexpected challenge", challenge)
        if challenge:
            self.failure = challenge
            return self._dummy
        self._used = True
        return self._message


class XOAuth2(_Token):
    """XOAUTH2 (Google's and Microsoft's own)."""

    name: ClassVar[str] = "XOAUTH2"

    def __init__(self, username: str, token: str) -> None:
        parts = (b"user=" + octets_of(username), b"auth=Bearer " + octets_of(token), b"", b"")
        super().__init__(_joined(self.name, parts))


class OAuthBearer(_Token):
    """OAUTHBEARER (RFC 7628): the same with names of its own, and the server's name in it."""

    name: ClassVar[str] = "OAUTHBEARER"
    _dummy: ClassVar[bytes] = _SEPARATOR  # RFC 7628 s.3.2.3

    def __init__(self, username: str, token: str, facts: LinkFacts = NOTHING_KNOWN) -> None:
        # RFC 7628 s.3.1: the gs2-header; "n" as there is no channel binding, the name escaped (RFC 5801 s.4).
        name = octets_of(username).replace(b"=", b"=3D").replace(b",", b"=2C")
        parts = [b"n,a=" + name + b","]
        if facts.host:
            parts += [b"host=" + octets_of(facts.host), b"port=%d" % facts.port]
        parts += [b"auth=Bearer " + octets_of(token), b"", b""]
        super().__init__(_joined(self.name, parts))


class External(Exchange):
    """EXTERNAL (RFC 4422 app. A): the TLS client certificate says who we are, this says as whom we act."""

    name: ClassVar[str] = "EXTERNAL"
    secure_without_tls: ClassVar[bool] = True

    def __init__(self, username: str) -> None:
        self._identity = octets_of(username)
        self._used = False

    def initial(self) -> bytes:
        """Return the identity to act as; empty ones leave that to the server."""
        return self._identity

    def respond(self, challenge: bytes) -> bytes:
        """Return the identity once, to the empty challenge."""
        if challenge or self._used:
            raise AuthenticationExchangeError("EXTERNAL: unexpected challenge", challenge)
        self._used = True
        return self._identity


def _joined(name: str, parts: tuple[bytes, ...] | list[bytes]) -> bytes:
    if any(octet < 0x20 for part in parts for octet in part):
        raise LocalProtocolError(f"{name}: user name, host or token holds a control character")
    return _SEPARATOR.join(parts)
