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


class ConnectRefusedError(ConnectError):
    """The machine is there, and nothing listens on the port."""


class TlsError(TransportError):
    """The handshake failed or the certificate was not the right one."""


class ConnectTimeoutError(TransportError):
    """The peer did not accept the connection in time."""


class ReadTimeoutError(TransportError):
    """The peer was silent, or slower than the least rate, for too long."""


class ConnectionLostError(TransportError):
    """The link broke in mid-session."""


@dataclass(frozen=True, slots=True)
class RefusedCommand:
    """A -ERR of a POP3 server.

    Attributes:
        verb: what was refused, as "RETR"; empty for the greeting.
        response_code: upper-case, without brackets (RFC 2449 s.8); None if there was none.
        text: the rest of the status line.
    """

    verb: str
    response_code: str | None
    text: str


class StlsRefusedError(TlsError):
    """The server does not begin TLS: it does not offer it (`refused` is None), or said -ERR."""

    def __init__(self, message: str, refused: RefusedCommand | None = None) -> None:
        self.refused = refused
        super().__init__(message)


class MaildropError(MailferryError):
    """The POP3 server answered, but not with mail; `refused` is what it said, if it said something."""

    def __init__(self, message: str = "", *, refused: RefusedCommand | None = None) -> None:
        self.refused = refused
        super().__init__(message)


class AuthenticationRejectedError(MaildropError):
    """User name or password refused: slow down and tell a person."""


class MaildropBusyError(MaildropError):
    """Another session holds the maildrop (`[IN-USE]`, RFC 2449 s.8.1.2)."""


class LoginDelayedError(MaildropError):
    """The server wants a pause between logins (`[LOGIN-DELAY]`, RFC 2449 s.8.1.1)."""

    def __init__(
        self, message: str, retry_after_seconds: float, *, refused: RefusedCommand | None = None
    ) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(message, refused=refused)


class MaildropUnavailableError(MaildropError):
    """The server refused for a reason of its own that may pass (`[SYS/TEMP]`, any other -ERR)."""


class GreetingRefusedError(MaildropUnavailableError):
    """The server refuses sessions and says no reason that another class stands for."""


class LoginUnavailableError(MaildropUnavailableError):
    """The server could not check the login, or does not know the way that is configured."""


class CommandRefusedError(MaildropUnavailableError):
    """-ERR to a command in the transaction state; each has a class of its own below."""


class StatRefusedError(CommandRefusedError):
    """-ERR to STAT."""


class ListRefusedError(CommandRefusedError):
    """-ERR to LIST."""


class UidlRefusedError(CommandRefusedError):
    """-ERR to UIDL."""


class TopRefusedError(CommandRefusedError):
    """-ERR to TOP."""


class RetrRefusedError(CommandRefusedError):
    """-ERR to RETR."""


class DeleRefusedError(CommandRefusedError):
    """-ERR to DELE."""


class RsetRefusedError(CommandRefusedError):
    """-ERR to RSET."""


class NoopRefusedError(CommandRefusedError):
    """-ERR to NOOP."""


class QuitRefusedError(CommandRefusedError):
    """-ERR to QUIT: not all that was marked has been deleted (RFC 1939 s.6)."""


class CapaRefusedError(CommandRefusedError):
    """-ERR to CAPA: the server has no capabilities to tell (RFC 2449 s.5)."""


class LangRefusedError(CommandRefusedError):
    """-ERR to LANG: no such language, or no choice (RFC 6856 s.3)."""


class Utf8RefusedError(CommandRefusedError):
    """-ERR to UTF8 (RFC 6856 s.2.1)."""


class MaildropFaultError(MaildropError):
    """The server says that its trouble lasts until a person mends it (`[SYS/PERM]`, RFC 3206 s.4)."""


class CleartextRefusedError(MaildropError):
    """The link is not protected and the configuration does not allow a password on it."""


@dataclass(frozen=True, slots=True)
class RefusedReply:
    """What an SMTP or LMTP server answered instead of doing as it was asked.

    Attributes:
        verb: what was refused, as "RCPT"; empty for the greeting, "DATA" also for the content itself.
        code: the reply code, three digits.
        enhanced_status: as "5.1.1" (RFC 3463); None if there was none, or it contradicts the code.
        text: the rest, its lines joined with " / ", safe to print.
    """

    verb: str
    code: int
    enhanced_status: str | None
    text: str


class SmtpRefusedError(MailferryError):
    """An SMTP or LMTP server said no; `refused` is what it said, None if it was not even asked."""

    def __init__(self, message: str = "", *, refused: RefusedReply | None = None) -> None:
        self.refused = refused
        super().__init__(message)


class HopError(SmtpRefusedError):
    """The next hop refused the session, not a message: greeting, EHLO, STARTTLS, AUTH."""


class HopGreetingRefusedError(HopError):
    """The next hop's first words were a refusal (RFC 5321 s.3.1)."""


class HeloRefusedError(HopError):
    """EHLO, and HELO after it, or LHLO was refused."""


class StartTlsRefusedError(HopError, TlsError):
    """STARTTLS was refused; a server that does not offer it is a plain `TlsError`."""


class HopAuthenticationError(HopError):
    """The next hop refused our credentials."""


class HopLoginUnavailableError(HopError):
    """The next hop could not check our credentials, or does not know the way that was tried."""


class HopClosedError(HopError):
    """The next hop has ended the session with 421, asked for something or not (RFC 5321 s.3.8)."""


class SenderRefusedError(SmtpRefusedError):
    """MAIL was refused."""


class RecipientRefusedError(SmtpRefusedError):
    """One recipient was refused, by the reply to RCPT or, with LMTP, by the one after the content."""

    def __init__(
        self, message: str = "", recipient: str = "", *, refused: RefusedReply | None = None
    ) -> None:
        self.recipient = recipient
        super().__init__(message, refused=refused)


class RecipientsRefusedError(SmtpRefusedError):
    """Every recipient was refused, each with a reply of its own; `refused` is that of the first."""

    def __init__(self, refusals: Sequence[RecipientRefusedError]) -> None:
        self.refusals = tuple(refusals)
        super().__init__("; ".join(str(each) for each in refusals), refused=refusals[0].refused)


class DataRefusedError(SmtpRefusedError):
    """DATA, BDAT or the content was refused."""


class SmtpCommandRefusedError(SmtpRefusedError):
    """Any other command was refused, as VRFY or EXPN; `refused.verb` says which."""


class EtrnNotOfferedError(HopError):
    """The server does not say in EHLO that it knows ETRN (RFC 1985 s.3), or ATRN, so it was not asked."""


class QuarantineError(MailferryError):
    """The quarantine could not be read or written; the message stays where it was."""


class StoreError(MailferryError):
    """The ledger or its journal could not be read or written; never swallowed."""


class ControlError(MailferryError):
    """What was asked of the running daemon cannot be done, or it does not answer."""


class ControlSocketError(ControlError):
    """The daemon cannot have its control socket."""


class UnknownTargetError(ControlError):
    """No maildrop, destination or ETRN server in force has that name, or several have."""


class NoDaemonError(ControlError):
    """Nobody listens at the control socket."""


class ControlDeniedError(ControlError):
    """The system does not let this user talk to the daemon."""
