"""Every POP3 command as a value that knows its wire form and its trace.

Nothing reaches the wire unchecked: an argument with CR, LF or NUL would be a
second command (a name or password from a hostile configuration), so `encode`
refuses it. Secrets show in no trace, no `repr` and no error text.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import ClassVar

from mailferry.errors import LocalProtocolError

COMMAND_OCTETS = 255
"""RFC 2449 s.4: the most octets of a command line, CRLF included."""

AUTH_RESPONSE_OCTETS = 65_536
"""Our own bound: RFC 5034 s.4 frees these lines from the 255, tokens are a few thousand."""

_MASK = "***"
_FORBIDDEN = re.compile(rb"[\r\n\0]")
_MECHANISM = re.compile(r"[A-Z0-9_-]{1,20}")  # RFC 4422 s.3.1
_LANGUAGE = re.compile(r"[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*|\*")  # RFC 5646 s.2.1; "*" is the server's own
_LARGEST_NUMBER = 2**31 - 1


class _Command:
    """What all commands share: a verb, its arguments, and how they are shown."""

    __slots__ = ()
    verb: ClassVar[str]
    multiline: ClassVar[bool] = False

    @property
    def has_body(self) -> bool:
        """Whether +OK is followed by a dot-ended body (RFC 1939 s.3)."""
        return self.multiline

    @property
    def trace(self) -> str:
        """The line for human eyes, secrets masked."""
        return " ".join((self.verb, *self._shown()))

    def encode(self) -> bytes:
        """Return the line for the wire, CRLF included.

        Raises:
            LocalProtocolError: an argument cannot be sent, or the line is too long.
        """
        return _line(self.verb, *self._arguments())

    def _arguments(self) -> tuple[str, ...]:
        return ()

    def _shown(self) -> tuple[str, ...]:
        return self._arguments()


def _line(verb: str, *arguments: str, limit: int = COMMAND_OCTETS) -> bytes:
    if "" in arguments:
        raise LocalProtocolError(f"{verb}: an argument is empty")
    try:
        # A secret file's odd octets come as surrogates and leave as they were.
        line = " ".join((verb, *arguments)).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # `from None`: the original error carries the whole argument, secrets too.
        raise LocalProtocolError(f"{verb}: an argument cannot be encoded") from None
    if _FORBIDDEN.search(line):
        raise LocalProtocolError(f"{verb}: an argument holds CR, LF or NUL")
    if len(line) + 2 > limit:
        raise LocalProtocolError(f"{verb}: the line would be longer than {limit} octets")
    return line + b"\r\n"


def _number(verb: str, number: int, least: int = 1) -> str:
    if not least <= number <= _LARGEST_NUMBER:
        raise LocalProtocolError(f"{verb}: {number} is not between {least} and {_LARGEST_NUMBER}")
    return str(number)


@dataclass(frozen=True, slots=True)
class Capa(_Command):
    """Ask what the server can do (RFC 2449 s.5)."""

    verb: ClassVar[str] = "CAPA"
    multiline: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Stls(_Command):
    """Ask for TLS on this connection (RFC 2595 s.4)."""

    verb: ClassVar[str] = "STLS"


@dataclass(frozen=True, slots=True)
class User(_Command):
    """Name the maildrop (RFC 1939 s.7)."""

    verb: ClassVar[str] = "USER"
    name: str

    def _arguments(self) -> tuple[str, ...]:
        return (self.name,)


@dataclass(frozen=True, slots=True)
class Pass(_Command):
    """Give the maildrop's password, which may hold spaces (RFC 1939 s.7)."""

    verb: ClassVar[str] = "PASS"
    secret: str = field(repr=False)

    def _arguments(self) -> tuple[str, ...]:
        return (self.secret,)

    def _shown(self) -> tuple[str, ...]:
        return (_MASK,)


@dataclass(frozen=True, slots=True)
class Apop(_Command):
    """Log in with a digest of the greeting's timestamp and the secret (RFC 1939 s.7)."""

    verb: ClassVar[str] = "APOP"
    name: str
    digest: str = field(repr=False)

    def _arguments(self) -> tuple[str, ...]:
        if " " in self.name:
            raise LocalProtocolError("APOP: a name with a space cannot be told from its digest")
        return (self.name, self.digest)

    def _shown(self) -> tuple[str, ...]:
        return (self.name, _MASK)


@dataclass(frozen=True, slots=True)
class Rpop(_Command):
    """Name the user under whom a trusted host asks (RFC 1081; obsolete, still met)."""

    verb: ClassVar[str] = "RPOP"
    name: str

    def _arguments(self) -> tuple[str, ...]:
        return (self.name,)


@dataclass(frozen=True, slots=True)
class Auth(_Command):
    """Begin a SASL exchange (RFC 5034 s.4).

    Attributes:
        mechanism: the SASL name, upper-case.
        initial_response: octets before base64; None sends none, `b""` sends "=".
    """

    verb: ClassVar[str] = "AUTH"
    mechanism: str
    initial_response: bytes | None = field(default=None, repr=False)

    def _arguments(self) -> tuple[str, ...]:
        if not _MECHANISM.fullmatch(self.mechanism):
            raise LocalProtocolError("AUTH: not the name of a SASL mechanism")
        if self.initial_response is None:
            return (self.mechanism,)
        return (self.mechanism, base64.b64encode(self.initial_response).decode("ascii") or "=")

    def _shown(self) -> tuple[str, ...]:
        return (self.mechanism,) if self.initial_response is None else (self.mechanism, _MASK)


@dataclass(frozen=True, slots=True)
class AuthResponse(_Command):
    """Answer a SASL challenge; `data` is what it is before base64, empty for an empty line."""

    verb: ClassVar[str] = "AUTH"
    data: bytes = field(repr=False)

    @property
    def trace(self) -> str:
        """A mask: every answer is a secret or derived from one."""
        return _MASK

    def encode(self) -> bytes:
        """Return the base64 line for the wire.

        Raises:
            LocalProtocolError: the line is too long.
        """
        line = base64.b64encode(self.data) + b"\r\n"
        if len(line) > AUTH_RESPONSE_OCTETS:
            raise LocalProtocolError(f"AUTH: the answer would be longer than {AUTH_RESPONSE_OCTETS} octets")
        return line


@dataclass(frozen=True, slots=True)
class AuthCancel(_Command):
    """Give up a SASL exchange; the server answers -ERR (RFC 5034 s.4)."""

    verb: ClassVar[str] = "*"


@dataclass(frozen=True, slots=True)
class Stat(_Command):
    """Ask for the number of messages and their octets in all (RFC 1939 s.5)."""

    verb: ClassVar[str] = "STAT"


@dataclass(frozen=True, slots=True)
class _Listing(_Command):
    """One message's line in the status line, or all of them in a body."""

    message_number: int | None = None

    @property
    def has_body(self) -> bool:
        """Only the listing of all messages is a body (RFC 1939 s.5, s.7)."""
        return self.message_number is None

    def _arguments(self) -> tuple[str, ...]:
        return () if self.message_number is None else (_number(self.verb, self.message_number),)


@dataclass(frozen=True, slots=True)
class List_(_Listing):  # noqa: N801  (`List` reads like typing's)
    """Ask for message sizes (RFC 1939 s.5)."""

    verb: ClassVar[str] = "LIST"


@dataclass(frozen=True, slots=True)
class UidlCommand(_Listing):
    """Ask for unique-ids (RFC 1939 s.7)."""

    verb: ClassVar[str] = "UIDL"


@dataclass(frozen=True, slots=True)
class Top(_Command):
    """Ask for a message's header and the first `lines` lines of its body (RFC 1939 s.7)."""

    verb: ClassVar[str] = "TOP"
    multiline: ClassVar[bool] = True
    message_number: int
    lines: int

    def _arguments(self) -> tuple[str, ...]:
        return (_number(self.verb, self.message_number), _number(self.verb, self.lines, least=0))


@dataclass(frozen=True, slots=True)
class _OneMessage(_Command):
    """A command about one message."""

    message_number: int

    def _arguments(self) -> tuple[str, ...]:
        return (_number(self.verb, self.message_number),)


@dataclass(frozen=True, slots=True)
class Retr(_OneMessage):
    """Ask for a whole message (RFC 1939 s.5).

    Attributes:
        listed_octets: its size as the server lists it, None if that is not known: it
            decides how much of the message is held. It is not sent.
    """

    verb: ClassVar[str] = "RETR"
    multiline: ClassVar[bool] = True
    listed_octets: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Dele(_OneMessage):
    """Mark a message; it is deleted when QUIT is confirmed (RFC 1939 s.5, s.6)."""

    verb: ClassVar[str] = "DELE"


@dataclass(frozen=True, slots=True)
class Rset(_Command):
    """Take all deletion marks back (RFC 1939 s.5)."""

    verb: ClassVar[str] = "RSET"


@dataclass(frozen=True, slots=True)
class Lang(_Command):
    """Ask which languages there are, or choose one for the server's texts (RFC 6856 s.3)."""

    verb: ClassVar[str] = "LANG"
    tag: str | None = None

    @property
    def has_body(self) -> bool:
        """Only the listing is a body; a choice is answered by one line."""
        return self.tag is None

    def _arguments(self) -> tuple[str, ...]:
        if self.tag is None:
            return ()
        if not _LANGUAGE.fullmatch(self.tag):
            raise LocalProtocolError("LANG: not a language tag")
        return (self.tag,)


@dataclass(frozen=True, slots=True)
class Utf8(_Command):
    """Ask for messages and texts in UTF-8; no way leads back (RFC 6856 s.2.1)."""

    verb: ClassVar[str] = "UTF8"


@dataclass(frozen=True, slots=True)
class Noop(_Command):
    """Show that we are still there (RFC 1939 s.5)."""

    verb: ClassVar[str] = "NOOP"


@dataclass(frozen=True, slots=True)
class Quit(_Command):
    """End the session; after login this is what deletes (RFC 1939 s.6)."""

    verb: ClassVar[str] = "QUIT"


# Their replies have shapes of their own, they change the session, or they carry secrets.
_HAVE_CLASSES = frozenset(
    [
        "CAPA",
        "STLS",
        "USER",
        "PASS",
        "APOP",
        "RPOP",
        "AUTH",
        "STAT",
        "LIST",
        "UIDL",
        "TOP",
        "RETR",
        "DELE",
        "RSET",
        "NOOP",
        "LANG",
        "UTF8",
        "QUIT",
    ]
)


@dataclass(frozen=True, slots=True)
class Verb(_Command):
    """Any other line, by hand.

    Attributes:
        body: whether a dot-ended body follows +OK; no reply tells, so who asks must know.
    """

    line: str
    body: bool = False

    @property
    def verb(self) -> str:  # type: ignore[override]  # of this one the line says it
        """The line's first word, in capitals."""
        return self.line.split(maxsplit=1)[0].upper() if self.line.split() else ""

    @property
    def trace(self) -> str:
        """The line."""
        return self.line

    @property
    def has_body(self) -> bool:
        """What the asker says."""
        return self.body

    def encode(self) -> bytes:
        """Return the line for the wire, CRLF included.

        Raises:
            LocalProtocolError: it is empty, cannot be sent, or its verb has a class of its own.
        """
        if not self.verb or self.verb in _HAVE_CLASSES:
            raise LocalProtocolError(f"{self.verb or 'an empty line'} cannot be sent by hand")
        return _line(self.line)


Command = (
    Capa
    | Stls
    | User
    | Pass
    | Apop
    | Rpop
    | Auth
    | AuthResponse
    | AuthCancel
    | Stat
    | List_
    | UidlCommand
    | Top
    | Retr
    | Dele
    | Rset
    | Noop
    | Lang
    | Utf8
    | Verb
    | Quit
)
"""Anything that `Pop3Connection.send` takes."""
