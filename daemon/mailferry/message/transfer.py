"""Content-transfer-encodings for the downgrade: octets in, lines of ASCII out (RFC 2045 s.6).

Lines come out no longer than 76 octets, and never begin with `--`, so that no
encoded line can be taken for the delimiter of a multipart around it.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator

_LINE_OCTETS = 76
_LOW = bytes(range(0x80))
_HIGH = bytes(range(0x80, 0x100))
_MASKED = bytes(octet if octet < 0x80 else ord("?") for octet in range(256))
_BASE64_LINE_INPUT = 57
_EQUALS = 0x3D
_BLOCK_OCTETS = 64 * 1024


def encode_body(body: bytes, *, is_text: bool) -> tuple[bytes, bytes]:
    """Return the body as quoted-printable or base64, and the name of which.

    Text becomes quoted-printable unless base64 is smaller; everything else base64.
    Decoding gives exactly the octets of `body`, whose line ends must be CRLF.
    """
    if is_text:
        encoded_size = (len(body) + 2) // 3 * 4
        encoded_size += encoded_size // _LINE_OCTETS * 2
        high = len(body) - len(body.translate(None, _HIGH))
        quoted = _quoted_printable(body) if len(body) + 2 * high <= encoded_size else None
        if quoted is not None and len(quoted) <= encoded_size:
            return quoted, b"quoted-printable"
    return _base64(body), b"base64"


def _quoted_printable(body: bytes) -> bytes | None:
    """Return the body in quoted-printable, or None if a folded line would look like a delimiter."""
    # b2a_qp looks at the first line to learn the kind of line end, and encodes
    # white space before one: so give it one, and take it away again.
    quoted = binascii.b2a_qp(body + b"\r\n")[:-2]
    return None if b"=\r\n--" in quoted else quoted


def _base64(body: bytes) -> bytes:
    lines = [
        binascii.b2a_base64(body[start : start + _BASE64_LINE_INPUT], newline=False)
        for start in range(0, len(body), _BASE64_LINE_INPUT)
    ]
    return b"\r\n".join([*lines, b""])


def quote_eight_bit(text: bytes, line_break: bytes = b"=\r\n") -> bytes:
    """Return `text` with each octet beyond ASCII as `=XX`, and everything else as it was.

    For text that is quoted-printable already, but for some octets, and for text
    around the parts of a multipart, which can have no encoding of its own. Lines
    without such octets stay as they are; the others are broken where they are too long.
    """
    if text.isascii():
        return text
    return b"".join(_quoted_lines(block, line_break) for block in _blocks(text))


def _blocks(text: bytes) -> Iterator[bytes]:
    """Cut text after line ends: a million short lines at once would take fifty times its size."""
    start = 0
    while start < len(text):
        line_end = text.find(b"\r\n", start + _BLOCK_OCTETS)
        end = line_end + 2 if line_end >= 0 else len(text)
        yield text[start:end]
        start = end


def _quoted_lines(text: bytes, line_break: bytes) -> bytes:
    quoted = text
    for octet in set(text.translate(None, _LOW)):
        quoted = quoted.replace(bytes([octet]), b"=%02X" % octet)
    pairs = zip(text.split(b"\r\n"), quoted.split(b"\r\n"), strict=True)
    return b"\r\n".join(new if len(new) == len(old) else line_break.join(_pieces(new)) for old, new in pairs)


def _pieces(line: bytes) -> Iterator[bytes]:
    """Cut a line to pieces, no `=XX` in two; only the first may begin with a dash."""
    start = 0
    while len(line) - start > _LINE_OCTETS - 3:
        end = start + _LINE_OCTETS - 3
        end -= 1 if line[end - 1] == _EQUALS else 2 if line[end - 2] == _EQUALS else 0
        yield _no_dash(line[start:end]) if start else line[start:end]
        start = end
    yield _no_dash(line[start:]) if start else line[start:]


def _no_dash(piece: bytes) -> bytes:
    return b"=2D" + piece[1:] if piece.startswith(b"-") else piece


def mask_eight_bit(text: bytes) -> bytes:
    """Return `text` with each octet beyond ASCII as `?`.

    For base64 with stray octets: RFC 2045 s.6.8 tells readers to ignore whatever is
    not in its alphabet, and the question mark is not in it either.
    """
    return text.translate(_MASKED)
