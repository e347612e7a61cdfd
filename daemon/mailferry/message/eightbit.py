"""The downgrade: an 8-bit message made 7-bit for a next hop without 8BITMIME (RFC 6152 s.3).

It works on the octets, part by part, and changes as little as it can: a part that
is ASCII stays as it is to the octet, a part that is not gets a
content-transfer-encoding that decodes to exactly its octets. Nothing is parsed
and written anew.

What it cannot keep: signatures over the message (DKIM, multipart/signed), and the
length of lines that were ASCII already, which stay as long as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from mailferry.message.fieldwords import FIELD_OCTETS, ascii_fields
from mailferry.message.headers import first_field, scan_fields, split_header, unfold
from mailferry.message.lineends import normalise_line_ends
from mailferry.message.transfer import encode_body, mask_eight_bit, quote_eight_bit

MAX_DEPTH = 32
"""A part nested deeper is encoded whole, whatever is in it."""

MAX_PARTS = 10_000
"""A multipart that takes the message over this number is encoded whole."""

MAX_HEADER_OCTETS = 1_048_576
"""Once the headers of its parts are longer together, further parts are encoded whole, header and all."""

_BOUNDARY_LIMIT_OCTETS = 250
"""RFC 2046 s.5.1.1 allows 70."""

_CTE = b"Content-Transfer-Encoding"
_TYPE = re.compile(rb"[ \t]*([!-.0-:<-~]+)[ \t]*/[ \t]*([!-:<-~]+)")
_BOUNDARY = re.compile(rb';[ \t]*boundary[ \t]*=[ \t]*(?:"([^"]*)"|([^\s;"]+))', re.IGNORECASE)
_DELIMITER_REST = re.compile(rb"(--)?[ \t]*(?:\r\n|\Z)")
_TYPE_OCTETS = 4000


@dataclass(slots=True)
class _Budget:
    """How much more of this message will be taken apart: a stranger made it."""

    parts: int = MAX_PARTS
    header_octets: int = MAX_HEADER_OCTETS
    field_octets: int = FIELD_OCTETS


class _Context(NamedTuple):
    """Where an entity stands in the message."""

    budget: _Budget
    depth: int = 0
    is_message: bool = True
    default_type: bytes = b"text/plain"

    def inner(self, *, is_message: bool, default_type: bytes = b"text/plain") -> _Context:
        return _Context(self.budget, self.depth + 1, is_message, default_type)


class _Entity(NamedTuple):
    """A message or a part of one, in pieces that make it up when joined."""

    header: bytes
    separator: bytes
    body: bytes


def has_eight_bit(content: bytes) -> bool:
    """Tell whether any octet has its eighth bit set."""
    return not content.isascii()


def downgrade(content: bytes) -> bytes:
    """Return the message in ASCII; decoded, every part has the octets it had.

    Line ends become CRLF first, as they would on the wire. A message that is ASCII
    is returned as the same object. Raw octets in header fields become encoded
    words and RFC 2231 parameters. Lines that change come out no longer than 998
    octets (RFC 5321 s.4.5.3.1.6), except around a word longer than that; lines that
    do not change keep their length.
    """
    if content.isascii():
        return content
    return _convert(normalise_line_ends(content), _Context(_Budget()))


def _convert(octets: bytes, context: _Context) -> bytes:
    if octets.isascii():
        return octets
    budget = context.budget
    entity = _take_apart(octets) if budget.header_octets > 0 else _Entity(b"", b"", octets)
    budget.header_octets -= len(entity.header)
    ascii_header, looked_at = ascii_fields(entity.header, budget.field_octets)
    budget.field_octets -= looked_at
    if entity.body.isascii():
        return ascii_header + entity.separator + entity.body
    header, body = _convert_body(entity, ascii_header, context)
    return header + (entity.separator or b"\r\n") + body


def _take_apart(octets: bytes) -> _Entity:
    """Divide where the next hop will: at the empty line, or at the first line that is no field.

    An mbox `From ` line may stand first. Postfix, Sendmail and most readers take
    any other stray line for the beginning of the body.
    """
    header, body = split_header(octets)
    for field in scan_fields(header):
        if not field.name and not (field.start == 0 and header.startswith(b"From ")):
            return _Entity(header[: field.start], b"", octets[field.start :])
    return _Entity(header, octets[len(header) : len(octets) - len(body)], body)


def _convert_body(entity: _Entity, header: bytes, context: _Context) -> tuple[bytes, bytes]:
    """Return the header, labelled anew, and the body in ASCII."""
    content_type = unfold((first_field(entity.header, b"Content-Type") or b"")[:_TYPE_OCTETS])
    found = _TYPE.match(content_type)
    kind = b"/".join(found.groups()).lower() if found else context.default_type
    encoding = _encoding(entity.header)
    composite = None
    if context.depth < MAX_DEPTH and encoding not in {b"quoted-printable", b"base64"}:
        composite = _convert_composite(entity.body, kind, content_type, context)
    if composite is not None:
        if encoding:
            # RFC 2045 s.6.4: the only encoding that a container without 8-bit octets can have.
            header = _set_field(header, _CTE, b"7bit")
        return _with_mime_version(header, context), composite
    return _convert_leaf(header, entity.body, kind, encoding, context)


def _convert_composite(body: bytes, kind: bytes, content_type: bytes, context: _Context) -> bytes | None:
    """Return the body of a multipart or message/rfc822 in ASCII, or None if it is neither."""
    if kind == b"message/rfc822":
        return _convert(body, context.inner(is_message=True))
    boundary = _boundary(content_type) if kind.startswith(b"multipart/") else None
    if boundary is None:
        return None
    default_type = b"message/rfc822" if kind == b"multipart/digest" else b"text/plain"  # RFC 2046 s.5.1.5
    return _convert_parts(body, boundary, context.inner(is_message=False, default_type=default_type))


def _boundary(content_type: bytes) -> bytes | None:
    """Return a usable boundary, or None: without one there are no parts."""
    match = _BOUNDARY.search(content_type)
    boundary = (match[1] or match[2] or b"").rstrip() if match else b""
    usable = 0 < len(boundary) <= _BOUNDARY_LIMIT_OCTETS and boundary.isascii()
    return boundary if usable else None


def _convert_parts(body: bytes, boundary: bytes, context: _Context) -> bytes | None:
    """Return the body with each part converted, or None if there are none, or too many."""
    context.budget.parts -= body.count(b"--" + boundary)
    if context.budget.parts < 0:
        return None
    pieces: list[bytes] = []
    position = 0
    in_part = False
    for start, end, closes in _delimiters(body, boundary):
        # RFC 2046 s.5.1.1: the line end before a delimiter belongs to it.
        part_end = max(position, start - 2)
        pieces += [_convert_piece(body[position:part_end], context, in_part=in_part), body[part_end:end]]
        position, in_part = end, not closes
        if closes:
            break
    if not pieces:
        return None
    return b"".join([*pieces, _convert_piece(body[position:], context, in_part=in_part)])


def _convert_piece(octets: bytes, context: _Context, *, in_part: bool) -> bytes:
    """Convert a part, or the text before the first and after the last one, which nobody reads."""
    return _convert(octets, context) if in_part else quote_eight_bit(octets)


def _delimiters(body: bytes, boundary: bytes) -> Iterator[tuple[int, int, bool]]:
    """Yield (start, end with its line end, whether it closes the multipart) of each delimiter line."""
    mark = b"--" + boundary
    start = body.find(mark)
    while start >= 0:
        rest = _DELIMITER_REST.match(body, start + len(mark))
        if rest and (start == 0 or body[start - 1] == 0x0A):
            yield start, rest.end(), rest[1] is not None
        line_end = body.find(b"\n", start)
        start = body.find(mark, line_end) if line_end >= 0 else -1


def _convert_leaf(
    header: bytes, body: bytes, kind: bytes, encoding: bytes, context: _Context
) -> tuple[bytes, bytes]:
    if encoding == b"quoted-printable":
        return header, quote_eight_bit(body)
    if encoding == b"base64":
        return header, mask_eight_bit(body)
    encoded, label = encode_body(body, is_text=kind.startswith((b"text/", b"message/", b"multipart/")))
    header = _with_mime_version(header, context)
    if first_field(header, b"Content-Type") is None:
        header = _set_field(header, b"Content-Type", b"text/plain; charset=unknown-8bit")  # RFC 1428 s.3
    return _set_field(header, _CTE, label), encoded


def _encoding(header: bytes) -> bytes:
    return unfold(first_field(header, _CTE) or b"").strip(b" \t").lower()[:40]


def _with_mime_version(header: bytes, context: _Context) -> bytes:
    if not context.is_message or first_field(header, b"MIME-Version") is not None:
        return header
    return _set_field(header, b"MIME-Version", b"1.0")


def _set_field(header: bytes, name: bytes, value: bytes) -> bytes:
    """Return the header with exactly one such field: where the first one was, else at the end."""
    places = [(f.start, f.end) for f in scan_fields(header) if f.name.lower() == name.lower()]
    line = b"%b: %b\r\n" % (name, value)
    if not places:
        gap = b"" if not header or header.endswith(b"\r\n") else b"\r\n"
        return header + gap + line
    pieces = [header[: places[0][0]], line]
    for (_, end), (start, _) in zip(places, [*places[1:], (len(header), 0)], strict=True):
        pieces.append(header[end:start])
    return b"".join(pieces)
