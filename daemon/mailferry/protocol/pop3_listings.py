"""What STAT, LIST, UIDL, CAPA and LANG say, as values.

Listings are read by one pass of a regular expression over the whole body: a
maildrop may hold tens of thousands of messages. The numbers decide what is
fetched and deleted, so a line that is not understood makes the whole listing
invalid: a message that is overlooked looks like one that has vanished. What a
unique-id holds is the server's business (RFC 1939 s.7 asks for 1 to 70 printable
octets; servers differ), so up to 1000 octets of anything are taken as they are.
Capabilities are the opposite case: what is not understood is ignored (RFC 2449 s.5).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mailferry.errors import RemoteProtocolError

UIDL_OCTETS = 1000
"""The longest unique-id that is believed; RFC 1939 allows 70."""

_NUMBER_LIMIT = 2**31
_AT_ONCE_OCTETS = 2**20
_STAT = re.compile(r"([0-9]{1,10})[ \t]+([0-9]{1,18})(?:[ \t].*)?", re.DOTALL)
_UID_TEXT = re.compile(r"([0-9]{1,10})[ \t]+([^ \t].*)", re.DOTALL)
# RFC 1939 s.5: further information may follow the size; it is not looked at.
_SCAN_LINE = re.compile(rb"^[ \t]*([0-9]{1,10})[ \t]+([0-9]{1,18})(?:[ \t][^\n]*)?\r\n", re.MULTILINE)
_UID_LINE = re.compile(rb"^[ \t]*([0-9]{1,10})[ \t]+([^ \t\n][^\n]*)\r\n", re.MULTILINE)


def parse_stat(text: str) -> tuple[int, int]:
    """Read the text of STAT's +OK: the number of messages, their octets in all.

    Raises:
        RemoteProtocolError: the text does not begin with two numbers.
    """
    match = _STAT.fullmatch(text)
    if match is None or int(match[1]) >= _NUMBER_LIMIT:
        raise RemoteProtocolError("STAT without its two numbers", text.encode("utf-8", "replace"))
    return int(match[1]), int(match[2])


def parse_scan_line(text: str) -> tuple[int, int]:
    """Read the text of the +OK to LIST with a number: message number and size in octets.

    Raises:
        RemoteProtocolError: the text does not begin with two numbers.
    """
    match = _STAT.fullmatch(text)
    if match is None or not 1 <= int(match[1]) < _NUMBER_LIMIT:
        raise RemoteProtocolError("LIST without its two numbers", text.encode("utf-8", "replace"))
    return int(match[1]), int(match[2])


def parse_uid_line(text: str) -> tuple[int, bytes]:
    """Read the text of the +OK to UIDL with a number: message number and unique-id.

    Raises:
        RemoteProtocolError: it is not understood, or the unique-id is longer than
            `UIDL_OCTETS` or holds octets that are no text.
    """
    match = _UID_TEXT.fullmatch(text)
    uid = match[2].rstrip(" \t").encode("utf-8", "replace") if match else b""
    if match is None or not 1 <= int(match[1]) < _NUMBER_LIMIT or "\ufffd" in text:
        raise RemoteProtocolError("UIDL without number and unique-id", text.encode("utf-8", "replace"))
    if len(uid) > UIDL_OCTETS:
        raise RemoteProtocolError(f"UIDL: unique-id longer than {UIDL_OCTETS} octets", uid)
    return int(match[1]), uid


def parse_languages(body: bytes) -> list[tuple[str, str]]:
    """Read the body of LANG: pairs of language tag and the language's name for itself (RFC 6856 s.3).

    The names are for people; a line without a tag is passed over.
    """
    lines = (line.strip() for line in body.decode("utf-8", "replace").split("\r\n"))
    pairs = (line.partition(" ") for line in lines if line)
    return [(tag, name.strip()) for tag, _, name in pairs]


def parse_scan_listing(body: bytes) -> list[tuple[int, int]]:
    """Read the body of LIST: pairs of message number and size in octets.

    The sizes are the server's word; some servers lie (RFC 1939 s.11).

    Raises:
        RemoteProtocolError: a line is not understood, or a message number repeats.
    """
    return list(iter_scan_listing(body))


def parse_uid_listing(body: bytes) -> list[tuple[int, bytes]]:
    """Read the body of UIDL: pairs of message number and unique-id.

    Blanks around a unique-id are not part of it; inside they are. Repeated
    unique-ids are legal (RFC 1939 s.7) and left to the caller.

    Raises:
        RemoteProtocolError: a line is not understood, a unique-id is empty or
            longer than `UIDL_OCTETS`, or a message number repeats.
    """
    return list(iter_uid_listing(body))


def iter_scan_listing(body: bytes) -> Iterator[tuple[int, int]]:
    """Yield what `parse_scan_listing` returns; whether it is good is known only at the end."""
    return ((number, int(size)) for number, size in _numbered("LIST", body, _SCAN_LINE))


def iter_uid_listing(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield what `parse_uid_listing` returns; whether it is good is known only at the end."""
    for number, padded in _numbered("UIDL", body, _UID_LINE):
        uid = padded.rstrip(b" \t")
        if len(uid) > UIDL_OCTETS:
            raise RemoteProtocolError(f"UIDL: unique-id longer than {UIDL_OCTETS} octets", uid)
        yield number, uid


def _numbered(verb: str, body: bytes, pattern: re.Pattern[bytes]) -> Iterator[tuple[int, bytes]]:
    lines = last = 0
    rising = True
    for digits, rest in _matches(body, pattern):
        number = int(digits)
        if not 1 <= number < _NUMBER_LIMIT:
            raise RemoteProtocolError(f"{verb}: message number out of range")
        rising = rising and number > last
        lines, last = lines + 1, number
        yield number, rest
    # Every match is one whole line, so equal counts mean that no line was passed
    # over. Counting LF, not CRLF, also catches a bare LF that hides a second line.
    if lines != body.count(b"\n") or not (body == b"" or body.endswith(b"\r\n")):
        ended = (line + b"\n" for line in body.split(b"\n"))
        odd = next((line for line in ended if not pattern.fullmatch(line)), b"")
        raise RemoteProtocolError(f"{verb}: line not understood", odd)
    # Nearly all servers list in rising order; only the others cost a set of millions.
    if not rising and len({int(digits) for digits, _ in _matches(body, pattern)}) != lines:
        raise RemoteProtocolError(f"{verb}: a message number comes twice")


def _matches(body: bytes, pattern: re.Pattern[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield number and rest of each line: all at once is faster, one by one spares memory."""
    if len(body) <= _AT_ONCE_OCTETS:
        yield from pattern.findall(body)
    else:
        for match in pattern.finditer(body):
            yield match[1], match[2]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What CAPA said (RFC 2449 s.6).

    Attributes:
        keywords: each capability in upper case, with its arguments as they came.
    """

    keywords: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def offers(self) -> dict[str, str]:
        """Each keyword with its arguments as one text, to be shown."""
        return {keyword: " ".join(arguments) for keyword, arguments in self.keywords.items()}

    @property
    def has_top(self) -> bool:
        """Whether TOP is offered."""
        return "TOP" in self.keywords

    @property
    def has_uidl(self) -> bool:
        """Whether UIDL is offered."""
        return "UIDL" in self.keywords

    @property
    def has_user(self) -> bool:
        """Whether USER and PASS are offered."""
        return "USER" in self.keywords

    @property
    def pipelining(self) -> bool:
        """Whether commands may be sent before earlier replies came (s.6.6)."""
        return "PIPELINING" in self.keywords

    @property
    def stls(self) -> bool:
        """Whether TLS may be asked for (RFC 2595 s.4)."""
        return "STLS" in self.keywords

    @property
    def sasl_mechanisms(self) -> frozenset[str]:
        """The SASL mechanisms, upper-case (s.6.3, RFC 5034)."""
        return frozenset(name.upper() for name in self.keywords.get("SASL", ()))

    @property
    def login_delay_seconds(self) -> int | None:
        """The least time between two logins, None if not told (s.6.5)."""
        return _first_number(self.keywords.get("LOGIN-DELAY", ()))

    @property
    def login_delay_per_user(self) -> bool:
        """Whether the delay may be another one after login (s.6.5)."""
        return _per_user(self.keywords.get("LOGIN-DELAY", ()))

    @property
    def expire_days(self) -> int | None:
        """How long the server keeps messages: 0 not at all, None for ever or not told (s.6.7)."""
        return _first_number(self.keywords.get("EXPIRE", ()))

    @property
    def expire_per_user(self) -> bool:
        """Whether the retention may be another one after login (s.6.7)."""
        return _per_user(self.keywords.get("EXPIRE", ()))

    @property
    def resp_codes(self) -> bool:
        """Whether texts in brackets are response codes (s.6.4)."""
        return "RESP-CODES" in self.keywords

    @property
    def auth_resp_code(self) -> bool:
        """Whether every refusal of credentials says `[AUTH]` (RFC 3206 s.6)."""
        return "AUTH-RESP-CODE" in self.keywords

    @property
    def utf8(self) -> bool:
        """Whether the UTF8 command is offered (RFC 6856 s.2)."""
        return "UTF8" in self.keywords

    @property
    def utf8_user(self) -> bool:
        """Whether user names and passwords may be UTF-8, also before the UTF8 command (RFC 6856 s.2.2)."""
        return "USER" in (argument.upper() for argument in self.keywords.get("UTF8", ()))

    @property
    def lang(self) -> bool:
        """Whether the LANG command is offered (RFC 6856 s.3)."""
        return "LANG" in self.keywords

    @property
    def implementation(self) -> str | None:
        """The server's name for itself (s.6.9)."""
        words = self.keywords.get("IMPLEMENTATION")
        return " ".join(words) if words else None


def parse_capabilities(body: bytes) -> Capabilities:
    """Read the body of CAPA; a keyword that comes twice gets the arguments of both lines."""
    keywords: dict[str, tuple[str, ...]] = {}
    for line in body.decode("utf-8", "replace").split("\r\n"):
        keyword, *arguments = line.split() or [""]
        if keyword:
            keyword = keyword.upper()
            keywords[keyword] = (*keywords.get(keyword, ()), *arguments)
    return Capabilities(keywords)


def _first_number(arguments: tuple[str, ...]) -> int | None:
    first = arguments[0] if arguments else ""
    # Ten digits at most: the bound of what a server may make us wait for.
    return int(first) if re.fullmatch(r"[0-9]{1,10}", first) else None


def _per_user(arguments: tuple[str, ...]) -> bool:
    return "USER" in (argument.upper() for argument in arguments[1:])
