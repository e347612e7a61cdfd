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
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import ClassVar

from mailferry.errors import CleartextRefusedError, LocalProtocolError
from mailferry.protocol.sasl_exchange import (
    NOTHING_KNOWN,
    AuthenticationExchangeError,
    ChannelBinding,
    Exchange,
    LinkFacts,
    Mechanism,
    octets_of,
)
from mailferry.protocol.sasl_oauth import External, OAuthBearer, XOAuth2
from mailferry.protocol.scram import Scram, ScramSha1, ScramSha1Plus, ScramSha256, ScramSha256Plus

__all__ = [
    "AuthenticationExchangeError",
    "ChannelBinding",
    "CramMd5",
    "External",
    "LinkFacts",
    "Login",
    "Mechanism",
    "OAuthBearer",
    "Plain",
    "ScramSha1",
    "ScramSha1Plus",
    "ScramSha256",
    "ScramSha256Plus",
    "XOAuth2",
    "apop_digest",
    "choose_mechanism",
    "create_mechanism",
    "fits_initial_response",
    "proof_of_both",
    "require_protection",
    "takes_no_secret",
    "takes_token",
]

POP3_AUTH_OCTETS = 255
"""RFC 5034 s.4: the longest AUTH command, CRLF included."""

SMTP_AUTH_OCTETS = 512
"""RFC 4954 s.4 with RFC 5321 s.4.5.3.1.4: the same for SMTP. The 12,288 octets of s.4 are
for the answers to challenges; Postfix, for one, cuts a longer command at 2,048."""


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


def _scram(kind: type[Scram]) -> Maker:
    def make(username: str, secret: str, facts: LinkFacts) -> Mechanism:
        offers_plus = any(name.endswith("-PLUS") for name in facts.offered) if facts.offered else None
        return kind(username, secret, binding=facts.binding, offers_plus=offers_plus)

    return make


Maker = Callable[[str, str, LinkFacts], Mechanism]

# Best first: proof of both sides, bound to the link if that can be; then of one; then the password itself.
_WITH_PASSWORD: Mapping[str, Maker] = MappingProxyType(
    {
        ScramSha256Plus.name: _scram(ScramSha256Plus),
        ScramSha1Plus.name: _scram(ScramSha1Plus),
        ScramSha256.name: _scram(ScramSha256),
        ScramSha1.name: _scram(ScramSha1),
        CramMd5.name: lambda username, secret, _: CramMd5(username, secret),
        Plain.name: lambda username, secret, _: Plain(username, secret),
        Login.name: lambda username, secret, _: Login(username, secret),
    }
)
_WITH_TOKEN: Mapping[str, Maker] = MappingProxyType(
    {
        OAuthBearer.name: OAuthBearer,
        XOAuth2.name: lambda username, secret, _: XOAuth2(username, secret),
    }
)
_WITHOUT_SECRET: Mapping[str, Maker] = MappingProxyType(
    {External.name: lambda username, _secret, _: External(username)}
)
_ALL = MappingProxyType({**_WITH_PASSWORD, **_WITH_TOKEN, **_WITHOUT_SECRET})
_BARE = frozenset({Plain.name, Login.name, *_WITH_TOKEN})
"""They show their secret to whoever listens."""


def takes_token(name: str) -> bool:
    """Return whether the secret of a mechanism is an OAuth 2.0 access token."""
    return name.upper() in _WITH_TOKEN


def takes_no_secret(name: str) -> bool:
    """Return whether a mechanism needs no secret of ours: TLS has proved who we are."""
    return name.upper() in _WITHOUT_SECRET


def proof_of_both(facts: LinkFacts) -> str | None:
    """Return the best SCRAM that the server offers and this link can do.

    A -PLUS form only with a binding that every such server knows: a refused attempt
    would count towards a lock-out, so none is made on a guess.
    """
    bindable = facts.binding is not None and facts.binding.is_common
    for name in (ScramSha256Plus.name, ScramSha1Plus.name, ScramSha256.name, ScramSha1.name):
        if name in facts.offered and (bindable or not name.endswith("-PLUS")):
            return name
    return None


def choose_mechanism(
    facts: LinkFacts, *, protected: bool, has_token: bool = False, allow_cleartext: bool = False
) -> str | None:
    """Return the best mechanism that may be used, or None.

    Args:
        facts: what the server offers, and the link's channel binding.
        protected: whether TLS is in force.
        has_token: whether the secret is an OAuth 2.0 access token: then only
            OAUTHBEARER and XOAUTH2 fit, otherwise neither.
        allow_cleartext: whether the configuration permits a secret on a bare link.
    """
    best = None if has_token else proof_of_both(facts)
    if best is not None:
        return best
    for name in _WITH_TOKEN if has_token else (CramMd5.name, Plain.name, Login.name):
        if name in facts.offered and (protected or allow_cleartext or name not in _BARE):
            return name
    return None


def create_mechanism(name: str, username: str, secret: str, facts: LinkFacts = NOTHING_KNOWN) -> Mechanism:
    """Return a fresh exchange; `secret` is a token or a password, whichever the mechanism takes.

    Raises:
        LocalProtocolError: the mechanism is not one of ours, or cannot carry name or secret.
    """
    make = _ALL.get(name.upper())
    if make is None:
        raise LocalProtocolError(f"no such SASL mechanism here: {name}")
    return make(username, secret, facts)


def require_protection(mechanism: Mechanism, *, protected: bool, allow_cleartext: bool = False) -> None:
    """Refuse a mechanism that would show its secret to whoever listens.

    Raises:
        CleartextRefusedError: the link is bare and the configuration does not permit it.
    """
    if not (protected or allow_cleartext or mechanism.secure_without_tls):
        raise CleartextRefusedError(f"{mechanism.name} needs TLS: it would send the secret in the clear")
