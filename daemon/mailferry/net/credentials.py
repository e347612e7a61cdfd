"""Who we are towards a peer, and how a login is done; shared by POP3 and SMTP.

Secrets are read when they are needed, in a thread: they may come from a file or a
command, and they may rotate.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from mailferry.errors import LocalProtocolError
from mailferry.protocol.sasl import create_mechanism
from mailferry.protocol.sasl_exchange import Mechanism


class LoginMethod(StrEnum):
    """The ways to log in that the configuration knows; `user` and `apop` are POP3's own."""

    AUTO = "auto"
    USER = "user"
    APOP = "apop"
    PLAIN = "plain"
    LOGIN = "login"
    CRAM_MD5 = "cram-md5"
    SCRAM_SHA_256 = "scram-sha-256"
    XOAUTH2 = "xoauth2"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name and where its secrets come from.

    Attributes:
        password: returns the password, None when there is none; may raise SecretError.
        token: returns an OAuth 2.0 access token, None when there is none.
    """

    username: str
    password: Callable[[], str] | None = None
    token: Callable[[], str] | None = None

    async def read_password(self) -> str:
        """Return the password.

        Raises:
            SecretError: it cannot be read.
            LocalProtocolError: none is configured.
        """
        if self.password is None:
            raise LocalProtocolError(f"no password is configured for {self.username}")
        return await asyncio.to_thread(self.password)

    async def mechanism(self, name: str) -> Mechanism:
        """Return a fresh SASL exchange by that name; raises as `read_password`."""
        if name.lower() == LoginMethod.XOAUTH2:
            if self.token is None:
                raise LocalProtocolError(f"no oauth2_token is configured for {self.username}")
            return create_mechanism(name, self.username, await asyncio.to_thread(self.token))
        return create_mechanism(name, self.username, await self.read_password())
