"""Encoded words (RFC 2047) to text, the way they are rather than should be.

Taken as meant: characters split over adjacent words, base64 without its padding,
lower-case hexadecimal, spaces inside of Q, a missing `?=`, words inside of quotes
or stuck to their neighbours, language suffixes (RFC 2231 s.5).
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator

from mailferry.message.charsets import codec_for_label, decode_text

_HEAD = re.compile(rb"=\?([^?*\s]{1,40})(?:\*[^?\s]{0,40})?\?([BbQq])\?")
# A Q word may hold a question mark that its sender forgot to encode: "?=20" is
# such a mark and a space, not an end.
_Q_END = re.compile(rb"\?=(?![0-9A-F]{2})")
_Q_ESCAPE = re.compile(rb"=([0-9A-Fa-f]{2})")
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/=]+")
_PADDING = re.compile(rb"=+")
_WHITE_SPACE = re.compile(rb"[ \t]")


def decode_words(value: bytes, elsewhere: str | None = None) -> str:
    """Decode an unfolded field value.

    Args:
        value: cut by the caller to what is going to be shown.
        elsewhere: the codec for octets beyond ASCII that carry no label.
    """
    if b"=?" not in value and value.isascii():
        return value.decode("ascii")
    text = [decode_text(octets, codec, elsewhere) for codec, octets in _joined(_pieces(value))]
    return "".join(text)


_Piece = tuple[bytes | None, bytes]
"""(charset label of an encoded word or None, octets)"""


def _joined(pieces: Iterator[_Piece]) -> Iterator[tuple[str | None, bytes]]:
    """Yield (codec, octets) with adjacent words of one charset as one.

    White space between encoded words is no text (RFC 2047 s.6.2).
    """
    run: bytes = b""
    run_codec: str | None = None
    in_words = False
    space = b""
    for label, octets in pieces:
        if label is None and in_words and not octets.strip(b" \t"):
            space = octets
            continue
        codec = codec_for_label(label) if label is not None else None
        is_word = label is not None
        if is_word == in_words and codec == run_codec:
            run += octets
        else:
            yield run_codec, run
            run, run_codec, in_words = octets, codec, is_word
        space = b""
    yield run_codec, run
    yield None, space


def _pieces(value: bytes) -> Iterator[_Piece]:
    position = 0
    head = _HEAD.search(value)
    while head:
        if head.start() > position:
            yield None, value[position : head.start()]
        following = _HEAD.search(value, head.end())
        limit = following.start() if following else len(value)
        is_q = head[2] in b"Qq"
        payload_end, position = _word_end(value, head.end(), limit, is_q=is_q)
        payload = value[head.end() : payload_end]
        yield head[1], _decode_q(payload) if is_q else _decode_base64(payload)
        head = following
    if position < len(value):
        yield None, value[position:]


def _word_end(value: bytes, start: int, limit: int, *, is_q: bool) -> tuple[int, int]:
    """Return where the payload ends and where the text goes on after the word."""
    end = _Q_END.search(value, start, limit) if is_q else None
    found = end.start() if end else value.find(b"?=", start, limit)
    if found >= 0:
        return found, found + 2
    if value.startswith(b"?=?", limit - 1):
        # One equals sign ends this word and begins the next.
        return limit - 1, limit
    # Never closed. Base64 has no spaces, so the first one is where plain text
    # resumes; in Q a space may belong to the word.
    space = None if is_q else _WHITE_SPACE.search(value, start, limit)
    stop = space.start() if space else limit
    return stop, stop


def _decode_q(payload: bytes) -> bytes:
    return _Q_ESCAPE.sub(lambda match: binascii.unhexlify(match[1]), payload.replace(b"_", b" "))


def _decode_base64(payload: bytes) -> bytes:
    symbols = _NOT_BASE64.sub(b"", payload.replace(b"-", b"+").replace(b"_", b"/"))
    # Some senders join two finished encodings, padding and all.
    return b"".join(_decode_unpadded(part) for part in _PADDING.split(symbols) if part)


def _decode_unpadded(symbols: bytes) -> bytes:
    if len(symbols) % 4 == 1:
        # One symbol is six bits: not an octet, so it cannot be right.
        symbols = symbols[:-1]
    return binascii.a2b_base64(symbols + b"=" * (-len(symbols) % 4))
