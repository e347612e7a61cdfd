"""A tolerant scan of a message's header, on octets.

Mail that a maildrop holds may break any rule, and still has to be ferried: a
line that is no field is skipped, every kind of line end counts as one (just as
`lineends` will make it one on the way out), and the header section has a bound.
Nothing here raises for any octets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from mailferry.message.address import is_sane_address
from mailferry.model import Content, StoredContent

HEADER_LIMIT_OCTETS = 1_048_576
"""What lies beyond is taken for the body. Postfix stops at a tenth of this."""

_SHORT_HEADER_OCTETS = 64 * 1024
"""What is read of a file at first: nearly all headers are shorter."""

_RETURN_PATH_LIMIT_OCTETS = 1000

# RFC 5322 s.2.2.3: a line that begins with white space goes on with the line before.
# Everything is optional, so a match never has to go back over more than one line.
_VALUE = rb"(?:[^\r\n]*(?:\r\n?|\n)[ \t])*[^\r\n]*"
# RFC 5322 s.2.2, with the obsolete white space before the colon (s.4.5).
_FIELD = re.compile(rb"(?:([!-9;-~]+)[ \t]*:)?(" + _VALUE + rb")(?:\r\n?|\n)?")
_LINE_END = re.compile(rb"\r\n?|\n")
_ANGLE = re.compile(r"[^<>]*<(.*)>[^<>]*")
_SOURCE_ROUTE = re.compile(r"@[^:]*:")


class Field(NamedTuple):
    """Where a field stands: `name`, then the value's span, then the whole field's end.

    A line that is no field has an empty name.
    """

    name: bytes
    start: int
    value_start: int
    value_end: int
    end: int


def split_header(content: bytes) -> tuple[bytes, bytes]:
    """Return the header section with its last line end, and the body after the empty line.

    A message that begins with an empty line has an empty header; one without an
    empty line is all header, up to `HEADER_LIMIT_OCTETS`.
    """
    header_end, body_start = _header_bounds(content)
    return content[:header_end], content[body_start:]


def header_of(content: Content) -> bytes:
    """Return the header section as `split_header` does, of a message in memory or in a file.

    Raises:
        OSError: the file cannot be read.
    """
    start = content if isinstance(content, bytes) else head_of(content)
    return start[: _header_bounds(start)[0]]


def head_of(content: StoredContent) -> bytes:
    """Return a beginning of the message that has its whole header, and tells it as all of it would.

    Raises:
        OSError: the file cannot be read.
    """
    start = content.head(_SHORT_HEADER_OCTETS)
    if _header_bounds(start)[1] < len(start):
        return start
    # Beyond the limit there is no header: a few octets more show that there is a beyond.
    return content.head(HEADER_LIMIT_OCTETS + 16)


def _header_bounds(content: bytes) -> tuple[int, int]:
    if content.startswith((b"\r", b"\n")):
        return 0, 2 if content.startswith(b"\r\n") else 1
    end = -1
    # An empty line is a line end right after a line end. Only CR LF is one line
    # end of two octets; each of the other three pairs is two of them.
    for pair in (b"\n\r", b"\n\n", b"\r\r"):
        found = content.find(pair, 0, HEADER_LIMIT_OCTETS if end < 0 else end + 1)
        end = found if found >= 0 else end
    if end >= 0:
        return end + 1, end + (3 if content.startswith(b"\r\n", end + 1) else 2)
    if len(content) <= HEADER_LIMIT_OCTETS:
        return len(content), len(content)
    cut = content.rfind(b"\n", 0, HEADER_LIMIT_OCTETS) + 1 or HEADER_LIMIT_OCTETS
    return cut, cut


def scan_fields(header: bytes) -> Iterator[Field]:
    """Yield every field with its place, and every other line as a field without a name."""
    for match in _FIELD.finditer(header):
        if match.end() > match.start():
            yield Field(match[1] or b"", match.start(), match.start(2), match.end(2), match.end())


def iter_fields(header: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (name as received, raw value): from after the colon, folds kept, no last line end.

    Lines that are no fields are skipped, an mbox `From ` line among them.
    """
    for field in scan_fields(header):
        if field.name:
            yield field.name, header[field.value_start : field.value_end]


def first_field(header: bytes, name: bytes) -> bytes | None:
    """Return the raw value of the first field of that name in any case, or None."""
    match = _named(name).search(b"\n" + header)
    return match[2] if match else None


def count_fields(header: bytes, name: bytes) -> int:
    """Count the fields of that name; Received fields are counted against loops (RFC 5321 s.6.3)."""
    return sum(1 for _ in _named(name).finditer(b"\n" + header))


def is_told_apart(header: bytes) -> bool:
    """Tell whether the same octets can only be the same message, come once more.

    A server that queues mail writes Received, and most programs a Message-ID (RFC 5322
    s.3.6.4). What has neither may come from a device that says the same whenever it
    has something to say; its Date, if any, may be that of a clock which stands still.
    """
    return any(first_field(header, name) is not None for name in (b"Received", b"Message-ID"))


@lru_cache(maxsize=64)
def _named(name: bytes) -> re.Pattern[bytes]:
    """Return a pattern for a field (1, its value 2) after the end of the line before it.

    To look for a few names this way takes a fraction of a scan's time, and a header
    of 1 MB full of tiny fields must not hold up the others.
    """
    return re.compile(rb"[\r\n](" + re.escape(name) + rb"[ \t]*:(" + _VALUE + rb"))", re.IGNORECASE)


def unfold(value: bytes) -> bytes:
    """Return the value with its line ends removed and their white space kept (RFC 5322 s.2.2.3)."""
    return _LINE_END.sub(b"", value) if b"\n" in value or b"\r" in value else value


def return_path(header: bytes) -> str | None:
    """Return the envelope sender that the final delivery wrote down (RFC 5321 s.4.4).

    Only the first Return-Path counts: those below it came with the message.

    Returns:
        The address without brackets and source route, "" for the null reverse-path
        (`<>`, or the bare MAILER-DAEMON that some servers write in its place), or
        None when there is no such field or nothing usable in it.
    """
    value = first_field(header, b"Return-Path")
    if value is None or len(value) > _RETURN_PATH_LIMIT_OCTETS:
        return None
    try:
        text = unfold(value).decode("utf-8").strip(" \t")
    except UnicodeDecodeError:
        return None
    bracketed = _ANGLE.fullmatch(text)
    address = bracketed[1].strip(" \t") if bracketed else text
    if (bracketed and not address) or address.lower() == "mailer-daemon":
        return ""
    address = _SOURCE_ROUTE.sub("", address, count=1) if address.startswith("@") else address
    return address if is_sane_address(address) else None


def drop_return_path(content: bytes) -> bytes:
    """Return the message without the Return-Path fields of its header.

    RFC 5321 s.4.4: they are removed before a message is sent by SMTP again; the
    next final delivery writes its own. The same object comes back if there are none.
    """
    header = content[: _header_bounds(content)[0]]
    if first_field(header, b"Return-Path") is None:
        return content
    # With a line end put before it, the header is one octet ahead of the content.
    places = [(m.start(1) - 1, m.end(1) - 1) for m in _named(b"Return-Path").finditer(b"\n" + header)]
    pieces: list[bytes] = []
    position = 0
    for start, value_end in [*places, (len(content), len(content))]:
        piece = content[position:start]
        if pieces and pieces[-1].endswith(b"\r") and piece.startswith(b"\n"):
            pieces.append(b"\n")  # else two line ends would become one, and the empty line be lost
        pieces += [piece] if piece else []
        line_end = _LINE_END.match(header, value_end)
        position = line_end.end() if line_end else value_end
    return b"".join(pieces)
