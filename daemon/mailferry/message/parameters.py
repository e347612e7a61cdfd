"""Raw 8-bit octets in MIME parameters, such as a file's name, as RFC 2231 has it."""

from __future__ import annotations

import re
from functools import partial

from mailferry.message.headers import unfold
from mailferry.message.wordencoder import Charset, pack, split_characters

# name, asterisk of an extended value, value as token or quoted string
_PARAMETER = re.compile(
    rb";[ \t\r\n]*([!#-'+\-.0-9A-Z^-~]+(?:\*[0-9]{1,3})?)(\*?)[ \t\r\n]*=[ \t\r\n]*"
    rb'("[^"\\]*(?:\\[\x00-\xff][^"\\]*)*"|[^;"]*)'
)
_QUOTED_PAIR = re.compile(rb"\\([\x00-\xff])")
_EIGHT_BIT = re.compile(rb"[\x80-\xff]")
_ATTRIBUTE_CHARACTERS = frozenset(
    b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$&+-.^_`{|}~"
)
_PERCENT = [bytes([octet]) if octet in _ATTRIBUTE_CHARACTERS else b"%%%02X" % octet for octet in range(256)]
_CHUNK_OCTETS = 54


def encode_parameters(value: bytes, guess: Charset) -> bytes:
    """Return the field value with every parameter that holds 8-bit octets percent-encoded.

    `filename="…"` becomes `filename*=charset''%XX…`, or numbered pieces of it on
    lines of their own (RFC 2231 s.3, s.4). Octets outside of parameters are left.
    """
    return _PARAMETER.sub(partial(_encode_parameter, guess=guess), value)


def _encode_parameter(match: re.Match[bytes], guess: Charset) -> bytes:
    name, asterisk, value = match.groups()
    if match[0].isascii():
        return match[0]
    if asterisk:
        # Extended already, and broken: only the octets that may not be there.
        return _EIGHT_BIT.sub(lambda octet: _PERCENT[octet[0][0]], match[0])
    charset, _, octets = *split_characters(_unquoted(value), guess), _unquoted(value)
    encoded = [_PERCENT[octet] for octet in octets]
    prefix = charset.label + b"''"
    if b"*" in name:
        # A piece of a value that its sender numbered; the first one names the charset.
        return _line(name, (prefix if name.endswith(b"*0") else b"") + b"".join(encoded))
    chunks = pack(encoded, _CHUNK_OCTETS)
    if len(chunks) == 1:
        return _line(name, prefix + chunks[0])
    numbered = enumerate([prefix + chunks[0], *chunks[1:]])
    return b"".join(_line(b"%b*%d" % (name, number), chunk) for number, chunk in numbered)


def _line(name: bytes, value: bytes) -> bytes:
    return b";\r\n\t%b*=%b" % (name, value)


def _unquoted(value: bytes) -> bytes:
    value = unfold(value).strip(b" \t")
    return _QUOTED_PAIR.sub(rb"\1", value[1:-1]) if value.startswith(b'"') else value
