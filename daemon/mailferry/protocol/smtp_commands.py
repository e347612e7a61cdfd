"""The SMTP commands that stand alone: a session is driven with these.

MAIL, RCPT, DATA and BDAT are missing on purpose: they belong to a transaction,
and `smtp_transaction` writes them. No argument can smuggle a second command:
every line is checked for control characters before it leaves here.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import ClassVar

from mailferry.errors import LocalProtocolError

COMMAND_LINE_OCTETS = 512
"""RFC 5321 s.4.5.3.1.4, CRLF included."""
AUTH_LINE_OCTETS = 12288
"""RFC 4954 s.4: what both sides must be able to take in an authentication exchange."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MASK = "***"
# These change the dialogue itself, so they have classes, belong to a transaction, or turn the roles around.
_NOT_BY_HAND = frozenset(
    {"EHLO", "HELO", "LHLO", "STARTTLS", "AUTH", "DATA", "BDAT", "BURL", "QUIT", "TURN", "ATRN"}
)


def encode_line(line: str, limit_octets: int = COMMAND_LINE_OCTETS) -> bytes:
    """Return `line` with CRLF.

    Raises:
        LocalProtocolError: a control character, too long, or not Unicode. The text
            does not repeat the line, which may hold a secret.
    """
    if _CONTROL.search(line):
        raise LocalProtocolError("a command must not contain control characters")
    try:
        wire = line.encode() + b"\r\n"
    except UnicodeEncodeError as error:
        raise LocalProtocolError("a command holds octets that are no text") from error
    if len(wire) > limit_octets:
        raise LocalProtocolError(f"a command line of {len(wire)} octets; {limit_octets} is the most")
    return wire


def _word(name: str, value: str) -> str:
    """Return `value` when it is one word of ASCII."""
    if not value or not value.isascii() or any(character.isspace() for character in value):
        raise LocalProtocolError(f"{name} must be one word of ASCII, not {value[:100]!r}")
    return value


@dataclass(frozen=True, slots=True)
class Command:
    """The root of the commands."""

    _VERB: ClassVar[str] = ""
    _LIMIT_OCTETS: ClassVar[int] = COMMAND_LINE_OCTETS

    @property
    def verb(self) -> str:
        """The command's verb, in capitals."""
        return self._VERB

    @property
    def trace(self) -> str:
        """What may be shown of it: the line, with secrets masked."""
        return self._line()

    def encode(self) -> bytes:
        """Return the line with its CRLF.

        Raises:
            LocalProtocolError: it cannot be sent as it is.
        """
        return encode_line(self._line(), self._LIMIT_OCTETS)

    def _line(self) -> str:
        return self._VERB


@dataclass(frozen=True, slots=True)
class Ehlo(Command):
    """Introduce ourselves and ask for the extensions (RFC 5321 s.4.1.1.1)."""

    _VERB: ClassVar[str] = "EHLO"
    name: str

    def _line(self) -> str:
        return f"{self._VERB} {_word(f'the name in {self._VERB}', self.name)}"


@dataclass(frozen=True, slots=True)
class Lhlo(Ehlo):
    """EHLO's place in LMTP (RFC 2033 s.4.1)."""

    _VERB: ClassVar[str] = "LHLO"


@dataclass(frozen=True, slots=True)
class Helo(Command):
    """Introduce ourselves to a server that does not know EHLO."""

    _VERB: ClassVar[str] = "HELO"
    name: str

    def _line(self) -> str:
        return f"HELO {_word('the name in HELO', self.name)}"


@dataclass(frozen=True, slots=True)
class StartTls(Command):
    """Ask for TLS (RFC 3207)."""

    _VERB: ClassVar[str] = "STARTTLS"


@dataclass(frozen=True, slots=True)
class Auth(Command):
    """Begin a SASL exchange (RFC 4954 s.4); `initial_response` is raw, not base64."""

    _VERB: ClassVar[str] = "AUTH"
    _LIMIT_OCTETS: ClassVar[int] = AUTH_LINE_OCTETS
    mechanism: str
    initial_response: bytes | None = field(default=None, repr=False)

    @property
    def trace(self) -> str:
        """The mechanism; an initial response is masked."""
        return f"AUTH {self.mechanism}" if self.initial_response is None else f"AUTH {self.mechanism} {_MASK}"

    def _line(self) -> str:
        start = f"AUTH {_word('a SASL mechanism', self.mechanism)}"
        if self.initial_response is None:
            return start
        # RFC 4954 s.4: an initial response without octets is a single "=".
        return f"{start} {base64.b64encode(self.initial_response).decode('ascii') or '='}"


@dataclass(frozen=True, slots=True)
class AuthResponse(Command):
    """Answer a challenge; `data` is raw, not base64."""

    _VERB: ClassVar[str] = "AUTH"
    _LIMIT_OCTETS: ClassVar[int] = AUTH_LINE_OCTETS
    data: bytes = field(repr=False)

    @property
    def trace(self) -> str:
        """Nothing of it."""
        return _MASK

    def _line(self) -> str:
        return base64.b64encode(self.data).decode("ascii")


@dataclass(frozen=True, slots=True)
class AuthCancel(Command):
    """Break off a SASL exchange; the server answers 501 (RFC 4954 s.4)."""

    _VERB: ClassVar[str] = "AUTH"

    def _line(self) -> str:
        return "*"


@dataclass(frozen=True, slots=True)
class Rset(Command):
    """Drop the transaction in progress."""

    _VERB: ClassVar[str] = "RSET"


@dataclass(frozen=True, slots=True)
class Noop(Command):
    """Ask for a sign of life."""

    _VERB: ClassVar[str] = "NOOP"


@dataclass(frozen=True, slots=True)
class Quit(Command):
    """End the session."""

    _VERB: ClassVar[str] = "QUIT"


@dataclass(frozen=True, slots=True)
class _WithText(Command):
    """A verb and free text."""

    text: str

    def _line(self) -> str:
        return f"{self._VERB} {self.text}".rstrip()


@dataclass(frozen=True, slots=True)
class Vrfy(_WithText):
    """Ask whether a user exists."""

    _VERB: ClassVar[str] = "VRFY"


@dataclass(frozen=True, slots=True)
class Expn(_WithText):
    """Ask for a list's members."""

    _VERB: ClassVar[str] = "EXPN"


@dataclass(frozen=True, slots=True)
class Help(_WithText):
    """Ask for help."""

    _VERB: ClassVar[str] = "HELP"
    text: str = ""


@dataclass(frozen=True, slots=True)
class Etrn(Command):
    """Ask the server to start its queue for a node (RFC 1985 s.5): `x.org`, `@x.org` or `#name`."""

    _VERB: ClassVar[str] = "ETRN"
    node: str

    def _line(self) -> str:
        return f"ETRN {_word('an ETRN node', self.node)}"


@dataclass(frozen=True, slots=True)
class Atrn(Command):
    """Ask for the mail of some domains over this connection, with the roles turned round (RFC 2645 s.5.2.1)."""

    _VERB: ClassVar[str] = "ATRN"
    domains: tuple[str, ...]

    def _line(self) -> str:
        if not self.domains:  # to the server that would mean: all to which we have access
            raise LocalProtocolError("ATRN needs a domain")
        words = [_word("a domain in ATRN", domain) for domain in self.domains]
        if any("," in word for word in words):
            raise LocalProtocolError("a domain in ATRN must not contain a comma")
        return f"ATRN {','.join(words)}"


@dataclass(frozen=True, slots=True)
class Verb(Command):
    """Any other line, by hand; verbs that change the dialogue itself are refused."""

    line: str

    @property
    def verb(self) -> str:
        """The line's first word, in capitals."""
        return self.line.split(maxsplit=1)[0].upper() if self.line.split() else ""

    @property
    def trace(self) -> str:
        """The line, unless its verb is one that carries secrets."""
        return f"AUTH {_MASK}" if self.verb == "AUTH" else self.line

    def _line(self) -> str:
        if not self.verb or self.verb in _NOT_BY_HAND:
            raise LocalProtocolError(f"{self.verb or 'an empty line'} cannot be sent by hand")
        return self.line
