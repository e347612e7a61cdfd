"""Who we are towards a peer, and how a login is done; shared by POP3 and SMTP.

Secrets are read when they are needed, in a thread: they may come from a file or a
command, and they may rotate.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from mailferry.errors import (
    LocalProtocolError,
    MaildropError,
    RemoteProtocolError,
    SmtpRefusedError,
    StlsRefusedError,
)
from mailferry.net.trace import Direction, Trace, no_trace, switch_of
from mailferry.policy.token_expiry import token_expires_at
from mailferry.protocol.sasl import create_mechanism, takes_no_secret, takes_token
from mailferry.protocol.sasl_exchange import NOTHING_KNOWN, LinkFacts, Mechanism


class LoginMethod(StrEnum):
    """The ways to log in that the configuration knows; `user`, `apop` and `rpop` are POP3's own."""

    AUTO = "auto"
    USER = "user"
    APOP = "apop"
    RPOP = "rpop"
    PLAIN = "plain"
    LOGIN = "login"
    CRAM_MD5 = "cram-md5"
    SCRAM_SHA_1 = "scram-sha-1"
    SCRAM_SHA_1_PLUS = "scram-sha-1-plus"
    SCRAM_SHA_256 = "scram-sha-256"
    SCRAM_SHA_256_PLUS = "scram-sha-256-plus"
    XOAUTH2 = "xoauth2"
    OAUTHBEARER = "oauthbearer"
    EXTERNAL = "external"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name and where its secrets come from.

    Attributes:
        password: returns the password, None when there is none; may raise SecretError.
        token: returns an OAuth 2.0 access token, None when there is none.
        on_token: told when an access token ends, each time one is read; 0 when it does not say.
        changed_at: tells when the place of either was last written to, where that can be told.
    """

    username: str
    password: Callable[[], str] | None = None
    token: Callable[[], str] | None = None
    changed_at: Callable[[], float | None] = lambda: None
    on_token: Callable[[float], None] = lambda _: None

    async def read_password(self) -> str:
        """Return the password.

        Raises:
            SecretError: it cannot be read.
            LocalProtocolError: none is configured.
        """
        if self.password is None:
            raise LocalProtocolError(f"no password is configured for {self.username}")
        return await asyncio.to_thread(self.password)

    async def read_token(self) -> str:
        """Return the OAuth 2.0 access token; raises as `read_password`."""
        if self.token is None:
            raise LocalProtocolError(f"no oauth2_token is configured for {self.username}")
        token = await asyncio.to_thread(self.token)
        self.on_token(token_expires_at(token) or 0.0)
        return token

    async def mechanism(self, name: str, facts: LinkFacts = NOTHING_KNOWN) -> Mechanism:
        """Return a fresh SASL exchange by that name; raises as `read_password`."""
        if takes_no_secret(name):
            secret = ""
        else:
            secret = await (self.read_token() if takes_token(name) else self.read_password())
        return create_mechanism(name, self.username, secret, facts)


_MASK = "***"
_SHORTEST_CHARACTERS = 4
"""Shorter ones stand in every text, and to mask them there would tell them."""


class SecretMask:
    """Takes our secrets out of what a server says during one login.

    Some servers repeat in an error text the line that they did not like, password and
    all, and that text goes into logs, the ledger and notices.
    """

    def __init__(self) -> None:
        self._forms: list[str] = []

    def watching(self, credentials: Credentials) -> Credentials:
        """Return the same credentials; what is read from them from now on is masked."""
        return replace(
            credentials,
            password=credentials.password and self._watched(credentials.password),
            token=credentials.token and self._watched(credentials.token),
        )

    def trace(self, trace: Trace) -> Trace:
        """Return a trace that shows no secret."""
        return no_trace if trace is no_trace else _MaskedTrace(self, trace)

    def text(self, text: str) -> str:
        """Return the text without secrets, in whatever form they were sent."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, _MASK)
        return text

    def scrub(self, error: BaseException | None) -> None:
        """Take secrets out of an error, and out of what it came from."""
        seen: set[int] = set()  # an error that was raised from itself leads back to itself
        while error is not None and id(error) not in seen:
            seen.add(id(error))
            error.args = tuple(self.text(part) if isinstance(part, str) else part for part in error.args)
            if isinstance(error, RemoteProtocolError):
                error.line = self.text(error.line.decode("latin-1")).encode("latin-1")
            if isinstance(error, MaildropError | StlsRefusedError) and error.refused is not None:
                error.refused = replace(error.refused, text=self.text(error.refused.text))
            if isinstance(error, SmtpRefusedError) and error.refused is not None:
                error.refused = replace(error.refused, text=self.text(error.refused.text))
            error = error.__cause__ or error.__context__

    def _watched(self, read: Callable[[], str]) -> Callable[[], str]:
        def watched() -> str:
            secret = read()
            self._forms = [form for form in _forms(secret) if len(form) >= _SHORTEST_CHARACTERS]
            return secret

        return watched


class _MaskedTrace:
    """A session's trace without its secrets, on and off with the one behind it."""

    __slots__ = ("_mask", "_trace", "switch")

    def __init__(self, mask: SecretMask, trace: Trace) -> None:
        self._mask = mask
        self._trace = trace
        self.switch = switch_of(trace)

    def __call__(self, direction: Direction, text: str) -> None:
        """Pass a line on."""
        self._trace(direction, self._mask.text(text))


def _forms(secret: str) -> list[str]:
    """Return how a secret can come back: as it is, as our error texts quote octets, and in base64."""
    octets = secret.encode("utf-8", "surrogateescape")
    forms = [secret, repr(octets)[2:-1], octets.decode("latin-1"), octets.decode("utf-8", "replace")]
    for before in range(3):
        # Within PLAIN or XOAUTH2 other octets stand around it; the characters that it shares with them are left out.
        encoded = base64.b64encode(bytes(before) + octets).decode("ascii")
        forms.append(encoded[(before * 8 + 5) // 6 : (before + len(octets)) * 8 // 6])
    return forms
