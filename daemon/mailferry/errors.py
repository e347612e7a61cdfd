"""Every failure that mailferry raises, one tree.

An error says where it happened and what to do. What a destination answers is
not an error but a value (`mailferry.model.Outcome`); what the operating system
says is mapped once, in `mailferry.net`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class MailferryError(Exception):
    """The root: catching this catches everything that is ours."""


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One thing that is wrong in the configuration.

    `file` is a path or the name of an environment variable, `key` a dotted path
    (`maildrop.alice.port`, empty for a whole file), `line` counts from 1.
    """

    file: str
    key: str
    problem: str
    line: int | None = None

    def __str__(self) -> str:
        """Format as `file:line: key: problem`, the parts that are known."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.key}: {self.problem}" if self.key else f"{place}: {self.problem}"


class ConfigError(MailferryError):
    """The configuration cannot be put in force; exit code 78 (EX_CONFIG)."""

    exit_code = 78

    def __init__(self, problems: Sequence[ConfigProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class SecretError(MailferryError):
    """A secret could not be read; the text names its source, never its value."""


class ProtocolError(MailferryError):
    """The POP3 or SMTP conversation went wrong."""


class LocalProtocolError(ProtocolError):
    """We were about to send something illegal: a bug of ours, or a hostile setting."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the RFC or a bound of ours; the session is dead."""

    def __init__(self, message: str, line: bytes = b"") -> None:
        self.line = line[:200]
        super().__init__(f"{message}: {self.line!r}" if line else message)


class MessageTooLargeError(RemoteProtocolError):
    """A reply went on beyond the size that the configuration allows."""


class TransportError(MailferryError):
    """The link failed."""


class ConnectError(TransportError):
    """No connection: the name is unknown, nobody listens, or no route."""


class TlsError(TransportError):
    """The handshake failed or the certificate was not the right one."""


class ConnectTimeoutError(TransportError):
    """The peer did not accept the connection in time."""


class ReadTimeoutError(TransportError):
    """The peer was silent, or slower than the least rate, for too long."""


class ConnectionLostError(TransportError):
    """The link broke in mid-session."""


class MaildropError(MailferryError):
    """The POP3 server answered, but not with mail."""


class AuthenticationRejectedError(MaildropError):
    """User name or password refused: slow down and tell a person."""


class MaildropBusyError(MaildropError):
    """Another session holds the maildrop (`[IN-USE]`, RFC 2449 s.8.1.2)."""


class LoginDelayedError(MaildropError):
    """The server wants a pause between logins (`[LOGIN-DELAY]`, RFC 2449 s.8.1.1)."""

    def __init__(self, message: str, retry_after_seconds: float) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(message)


class MaildropUnavailableError(MaildropError):
    """The server refused for a reason of its own that may pass (`[SYS/TEMP]`, any other -ERR)."""


class MaildropFaultError(MaildropError):
    """The server says that its trouble lasts until a person mends it (`[SYS/PERM]`, RFC 3206 s.4)."""


class CleartextRefusedError(MaildropError):
    """The link is not protected and the configuration does not allow a password on it."""


class HopError(MailferryError):
    """The next hop refused the session, not a message: greeting, EHLO, STARTTLS, AUTH."""


class HopAuthenticationError(HopError):
    """The next hop refused our credentials."""


class QuarantineError(MailferryError):
    """The quarantine could not be read or written; the message stays where it was."""


class StoreError(MailferryError):
    """The ledger or its journal could not be read or written; never swallowed."""
