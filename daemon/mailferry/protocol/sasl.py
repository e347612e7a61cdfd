"""SASL mechanisms for POP3 and SMTP, the client's side: challenges in, answers out.

A driver asks `initial` for the first octets, sends them with AUTH if they fit
(`fits_initial_response`), answers every challenge with `respond`, and calls
`finish` when the server said yes: only then is a mechanism that also proves the
server (SCRAM) done. A mechanism whose first octets did not go with AUTH gives
them in answer to the empty challenge that then comes (RFC 4422 s.3.3).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import ClassVar, Protocol

from mailferry.errors import CleartextRefusedError, LocalProtocolError
from mailferry.protocol.sasl_exchange import (
    AuthenticationExchangeError,
    Exchange,
    Mechanism,
    octets_of,
)
from mailferry.protocol.scram import ScramSha1, ScramSha256

__all__ = [
    "AuthenticationExchangeError",
    "CramMd5",
    "Login",
    "Mechanism",
    "Plain",
    "ScramSha1",
    "ScramSha256",
    "XOAuth2",
    "apop_digest",
    "choose_mechanism",
    "create_mechanism",
    "fits_initial_response",
    "require_protection",
]

POP3_AUTH_OCTETS = 255
"""RFC 5034 s.4: the longest AUTH command, CRLF included."""

SMTP_AUTH_OCTETS = 512
"""RFC 4954 s.4 with RFC 5321 s.4.5.3.1.4: the same for SMTP."""


class Plain(Exchange):
    """PLAIN (RFC 4616): name and password as they are."""

    name: ClassVar[str] = "PLAIN"

    def __init__(self, username: str, password: str) -> None:
        self._message = b"\0" + octets_of(username) + b"\0" + octets_of(password)
        self._used = False

    def initial(self) -> bytes:
        """Return the whole message."""
        return self._message

    def respond(self, challenge: bytes) -> bytes:
        """Return the message once, to the empty challenge."""
        if challenge or self._used:
            raise AuthenticationExchangeError("PLAIN: unexpected challenge", challenge)
        self._used = True
        return self._message


class Login(Exchange):
    """LOGIN (never standardised): the server asks for the name, then for the password."""

    name: ClassVar[str] = "LOGIN"

    def __init__(self, username: str, password: str) -> None:
        self._answers = [octets_of(password), octets_of(username)]

    def respond(self, challenge: bytes) -> bytes:
        """Return the name, then the password; the prompts differ too much to be read."""
        if not self._answers:
            raise AuthenticationExchangeError("LOGIN: a third challenge", challenge)
        return self._answers.pop()


class CramMd5(Exchange):
    """CRAM-MD5 (RFC 2195): a keyed digest of the challenge."""

    name: ClassVar[str] = "CRAM-MD5"
    secure_without_tls: ClassVar[bool] = True

    def __init__(self, username: str, password: str) -> None:
        self._username = octets_of(username)
        self._password = octets_of(password)
        self._used = False

    def respond(self, challenge: bytes) -> bytes:
        """Return name and digest, once."""
        if not challenge or self._used:
            raise AuthenticationExchangeError("CRAM-MD5: unexpected challenge", challenge)
        self._used = True
        digest = hmac.new(self._password, challenge, "md5").hexdigest()
        return self._username + b" " + digest.encode("ascii")


class XOAuth2(Exchange):
    """XOAUTH2: an OAuth 2.0 access token (Google's and Microsoft's own; compare RFC 7628).

    Attributes:
        failure: the server's JSON explanation of a refusal, empty before one.
    """

    name: ClassVar[str] = "XOAUTH2"

    def __init__(self, username: str, token: str) -> None:
        self.failure = b""
        self._message = b"user=" + octets_of(username) + b"\x01auth=Bearer " + octets_of(token) + b"\x01\x01"
        if self._message.count(b"\x01") != 3:
            raise LocalProtocolError("XOAUTH2: user name or token holds a control character")
        self._used = False

    def initial(self) -> bytes:
        """Return the whole message."""
        return self._message

    def respond(self, challenge: bytes) -> bytes:
        """Return the message to an empty challenge, an empty line to a refusal's explanation."""
        if self.failure or (self._used and not challenge):
            raise AuthenticationExchangeError("XOAUTH2: unexpected challenge", challenge)
        if challenge:
            self.failure = challenge
            return b""
        self._used = True
        return self._message


def apop_digest(timestamp: str, secret: str) -> str:
    """Return the digest that APOP sends (RFC 1939 s.7); the timestamp has its brackets."""
    # MD5 is what the protocol asks for; it protects a password from listeners, barely.
    return hashlib.md5(octets_of(timestamp) + octets_of(secret), usedforsecurity=False).hexdigest()


def fits_initial_response(command_prefix: str, initial: bytes, limit: int = POP3_AUTH_OCTETS) -> bool:
    """Return whether `initial` may go with the AUTH command (RFC 5034 s.4, RFC 4954 s.4).

    Args:
        command_prefix: the command without it, such as `AUTH PLAIN`.
        initial: the octets before base64; empty ones are sent as "=".
        limit: the longest command line, CRLF included.
    """
    encoded_octets = len(base64.b64encode(initial)) or 1
    return len(command_prefix.encode()) + 1 + encoded_octets + 2 <= limit


class _MechanismClass(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def secure_without_tls(self) -> bool: ...

    def __call__(self, username: str, secret: str, /) -> Mechanism: ...


# Best first: proof of both sides, then of one, then the password itself.
_WITH_PASSWORD: tuple[_MechanismClass, ...] = (ScramSha256, ScramSha1, CramMd5, Plain, Login)
_WITH_TOKEN: tuple[_MechanismClass, ...] = (XOAuth2,)


def choose_mechanism(
    offered: frozenset[str], *, protected: bool, has_token: bool = False, allow_cleartext: bool = False
) -> str | None:
    """Return the best mechanism that may be used, or None.

    Args:
        offered: the server's mechanisms, upper-case.
        protected: whether TLS is in force.
        has_token: whether the secret is an OAuth 2.0 access token: then only
            XOAUTH2 fits, otherwise never.
        allow_cleartext: whether the configuration permits a secret on a bare link.
    """
    for mechanism in _WITH_TOKEN if has_token else _WITH_PASSWORD:
        if mechanism.name in offered and (protected or allow_cleartext or mechanism.secure_without_tls):
            return mechanism.name
    return None


def create_mechanism(name: str, username: str, secret: str) -> Mechanism:
    """Return a fresh exchange; `secret` is the token for XOAUTH2, the password otherwise.

    Raises:
        LocalProtocolError: the mechanism is not one of ours, or cannot carry name or secret.
    """
    for mechanism in (*_WITH_PASSWORD, *_WITH_TOKEN):
        if mechanism.name == name.upper():
            return mechanism(username, secret)
    raise LocalProtocolError(f"no such SASL mechanism here: {name}")


def require_protection(mechanism: Mechanism, *, protected: bool, allow_cleartext: bool = False) -> None:
    """Refuse a mechanism that would show its secret to whoever listens.

    Raises:
        CleartextRefusedError: the link is bare and the configuration does not permit it.
    """
    if not (protected or allow_cleartext or mechanism.secure_without_tls):
        raise CleartextRefusedError(f"{mechanism.name} needs TLS: it would send the secret in the clear")
