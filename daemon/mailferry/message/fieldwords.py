"""Raw 8-bit octets in header fields, put into ASCII without losing one.

RFC 5322 fields are ASCII. Senders that put raw octets there anyway are common,
and a next hop without 8BITMIME may clear the eighth bit. Text becomes encoded
words (RFC 2047), parameters become RFC 2231. In structured fields only the words
that need it are touched, so addresses stay what they are.

Octets that have no lawful form in 7 bits, such as a UTF-8 local part, become
encoded words where they stand: unlawful there (RFC 2047 s.5), but nothing is lost.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mailferry.message.charsets import raw_charset
from mailferry.message.headers import Field, first_field, scan_fields, unfold
from mailferry.message.parameters import encode_parameters
from mailferry.message.summary import declared_codec
from mailferry.message.transfer import quote_eight_bit
from mailferry.message.wordencoder import Charset, encode_words

_LINE_OCTETS = 76
_LINE_LIMIT_OCTETS = 998
_SAMPLE_OCTETS = 2000

FIELD_OCTETS = 131_072
"""How much of a message's raw header fields is looked at word by word.

Word by word takes up to 5 seconds for a megabyte. What is beyond gets its octets
written as `=XX`: readable, if no longer decodable, and as quick as a copy.
"""

_PARAMETRIC = frozenset({b"content-type", b"content-disposition"})
_STRUCTURED = _PARAMETRIC | frozenset(
    b"from to cc bcc sender reply-to resent-from resent-to resent-cc resent-bcc resent-sender resent-reply-to return-path"
    b" received date resent-date delivery-date message-id resent-message-id in-reply-to references mime-version content-id"
    b" content-transfer-encoding content-language content-location keywords delivered-to apparently-to errors-to"
    b" return-receipt-to disposition-notification-to mail-followup-to mail-reply-to x-original-to x-envelope-to"
    b" envelope-to list-id list-help list-post list-owner list-archive list-subscribe list-unsubscribe"
    b" dkim-signature authentication-results received-spf arc-seal arc-message-signature arc-authentication-results".split()
)

_WORD = re.compile(rb"([ \t\r\n]*)([^ \t\r\n]+)")
# A quote that nothing closes is a word by itself. The search for its end happens
# once: no quote after it can be open too, since backslashes are taken in pairs.
_LEXEME = re.compile(
    rb'([ \t\r\n]*)("[^"\\]*(?:\\[\x00-\xff][^"\\]*)*"|[()<>,;:]|(?:[^ \t\r\n()<>,;:"\\]|\\[\x00-\xff])+|["\\])'
)
_QUOTED_PAIR = re.compile(rb"\\([\x00-\xff])")


class _Token(NamedTuple):
    """A word of a field: white space before it, its text, and what of it is to be encoded."""

    space: bytes
    text: bytes
    payload: bytes | None


def ascii_fields(header: bytes, budget_octets: int = FIELD_OCTETS) -> tuple[bytes, int]:
    """Return the header with every octet in ASCII, and how many octets of it were raw fields.

    ASCII fields are not touched. Fields beyond the budget are not looked into.
    """
    if header.isascii():
        return header, 0
    fields = list(scan_fields(header))
    charset = _header_charset(header, fields)
    pieces: list[bytes] = []
    used = 0
    for field in fields:
        raw = header[field.start : field.end]
        used += 0 if raw.isascii() else len(raw)
        in_budget = field.name and used <= budget_octets
        pieces.append(_ascii_field(header, field, charset) if in_budget else _quoted_field(header, field))
    return b"".join(pieces), used


def _quoted_field(header: bytes, field: Field) -> bytes:
    """Return a field, or an mbox `From ` line, with its octets as `=XX`, cut by folds."""
    name = header[field.start : field.value_start]
    return name + quote_eight_bit(header[field.value_start : field.end], line_break=b"\r\n\t")


def _header_charset(header: bytes, fields: list[Field]) -> Charset:
    """Guess from all raw octets of the header together: one sender, one charset."""
    sample = b""
    for field in fields:
        value = header[field.value_start : field.value_end]
        if not value.isascii():
            sample += value[: _SAMPLE_OCTETS - len(sample)] + b"\n"
        if len(sample) > _SAMPLE_OCTETS:
            break
    content_type = first_field(header, b"Content-Type") or b""
    return Charset.for_codec(raw_charset(sample, declared_codec(unfold(content_type[:_SAMPLE_OCTETS]))))


def _ascii_field(header: bytes, field: Field, charset: Charset) -> bytes:
    raw = header[field.start : field.end]
    if raw.isascii():
        return raw
    value = _ascii_value(field, header[field.value_start : field.value_end], charset)
    return header[field.start : field.value_start] + value + header[field.value_end : field.end]


def _ascii_value(field: Field, value: bytes, charset: Charset) -> bytes:
    name = field.name.lower()
    column = field.value_start - field.start
    if name in _PARAMETRIC:
        value = encode_parameters(value, charset)
        if value.isascii() and column + max(map(len, value.split(b"\r\n"))) <= _LINE_LIMIT_OCTETS:
            return value
    # The white space at the end must not reach the patterns: they would try it from each place in it.
    text = value.rstrip(b" \t\r\n")
    tokens = _structured(text) if name in _STRUCTURED else _unstructured(text)
    return _render(_merged(tokens), column, charset) + value[len(text) :]


def _unstructured(value: bytes) -> Iterator[_Token]:
    for match in _WORD.finditer(value):
        text = match[2]
        yield _Token(match[1], text, None if text.isascii() else text)


def _structured(value: bytes) -> Iterator[_Token]:
    for match in _LEXEME.finditer(value):
        text = match[2]
        is_local_part = value.startswith(b"@", match.end())
        yield _Token(match[1], text, None if text.isascii() else _meaning(text, is_local_part=is_local_part))


def _meaning(text: bytes, *, is_local_part: bool) -> bytes:
    """Return what a word or quoted string says; encoded words cannot stand inside quotes."""
    text = unfold(text)
    if is_local_part:
        return text
    if text.startswith(b'"') and text.endswith(b'"') and len(text) > 1:
        text = text[1:-1]
    return _QUOTED_PAIR.sub(rb"\1", text)


def _merged(tokens: Iterator[_Token]) -> Iterator[_Token]:
    """Join neighbours that are to be encoded, with the space between them.

    White space between two encoded words is not shown (RFC 2047 s.6.2), so it has
    to be inside of one; the same next to an encoded word that came with the message.
    """
    run: list[bytes] = []
    run_space = before = b""
    for token in tokens:
        space = unfold(token.space)
        if token.payload is not None:
            run_space = run_space if run else token.space
            run += [space, token.payload] if run or before.endswith(b"?=") else [token.payload]
            continue
        if run:
            yield _Token(run_space, b"", b"".join([*run, space if token.text.startswith(b"=?") else b""]))
            run = []
        yield token
        before = token.text
    if run:
        yield _Token(run_space, b"", b"".join(run))


def _render(tokens: Iterable[_Token], column: int, charset: Charset) -> bytes:
    """Write the words one after the other, folded where white space allows it."""
    out: list[bytes] = []
    before = _Token(b"", b"", None)
    for token in tokens:
        words = [token.text] if token.payload is None else encode_words(token.payload, charset)
        space = token.space or _missing_space(before, token)
        for word in words:
            if not space and column + len(word) > _LINE_LIMIT_OCTETS:
                space = b" "
            if b"\n" in space:
                column = len(space) - space.rfind(b"\n") - 1
            elif space and column + len(space) + len(word) > _LINE_OCTETS:
                out.append(b"\r\n")
                column = len(space)
            else:
                column += len(space)
            out += [space, word]
            column += len(word)
            space = b" "
        before = token
    return b"".join(out)


def _missing_space(before: _Token, token: _Token) -> bytes:
    """Return the white space that sets an encoded word off from its neighbour (RFC 2047 s.5)."""
    if token.payload is not None:
        return b"" if before.text in {b"(", b"<"} else b" "
    stands_close = token.text.startswith((b")", b">", b"@"))
    return b"" if before.payload is None or stands_close else b" "
