"""Octets to encoded words (RFC 2047), for the downgrade of raw header fields."""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass
from typing import Self

_WORD_OCTETS = 62
"""RFC 2047 s.2 allows 75; the rest is for the name of a usual field before it."""

_Q_SAFE = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!*+-/")
"""RFC 2047 s.5 (3), the smallest of the three sets: it is good in every field."""

_Q = [
    b"_" if octet == 0x20 else bytes([octet]) if octet in _Q_SAFE else b"=%02X" % octet for octet in range(256)
]  # fmt: skip
_NUMBERED = re.compile(r"(?:cp(125[0-8])|iso8859_(\d{1,2}))")
_LABELS = {
    "utf_8": b"utf-8", "koi8_r": b"koi8-r", "koi8_u": b"koi8-u", "cp866": b"ibm866", "gb18030": b"gb18030",
    "big5": b"big5", "cp932": b"shift_jis", "cp949": b"euc-kr", "euc_jp": b"euc-jp",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Charset:
    """A charset as Python and as mail call it; without a codec the octets are anybody's."""

    codec: str | None
    label: bytes

    @classmethod
    def for_codec(cls, codec: str | None) -> Self:
        """Return the charset of a codec; `unknown-8bit` (RFC 1428) if mail has no good name for it."""
        numbered = _NUMBERED.fullmatch(codec or "")
        if numbered:
            label = f"windows-{numbered[1]}" if numbered[1] else f"iso-8859-{numbered[2]}"
            return cls(codec, label.encode("ascii"))
        return cls(codec, _LABELS[codec]) if codec in _LABELS else cls(None, b"unknown-8bit")

    def characters(self, octets: bytes) -> list[bytes] | None:
        """Return the octets of each character, or None if the octets are not text of this charset."""
        if self.codec is None:
            return None
        try:
            characters = [character.encode(self.codec) for character in octets.decode(self.codec)]
        except UnicodeError:
            return None
        return characters if b"".join(characters) == octets else None


UTF_8 = Charset.for_codec("utf_8")
UNKNOWN = Charset.for_codec(None)


def split_characters(octets: bytes, guess: Charset) -> tuple[Charset, list[bytes]]:
    """Return what charset the octets really fit, UTF-8 before the guess, and their characters."""
    for charset in (UTF_8, guess):
        characters = charset.characters(octets)
        if characters is not None:
            return charset, characters
    return UNKNOWN, [octets[at : at + 1] for at in range(len(octets))]


def encode_words(octets: bytes, guess: Charset) -> list[bytes]:
    """Return encoded words that decode to exactly these octets, no character cut (RFC 2047 s.5)."""
    charset, characters = split_characters(octets, guess)
    quoted = [b"".join([_Q[octet] for octet in character]) for character in characters]
    room = _WORD_OCTETS - len(charset.label) - len(b"=??Q??=")
    if sum(map(len, quoted)) <= (len(octets) + 2) // 3 * 4:
        return [b"=?%b?Q?%b?=" % (charset.label, chunk) for chunk in pack(quoted, room)]
    chunks = pack(characters, room // 4 * 3)
    return [b"=?%b?B?%b?=" % (charset.label, binascii.b2a_base64(c, newline=False)) for c in chunks]


def pack(units: list[bytes], room: int) -> list[bytes]:
    """Join units that must stay whole into chunks of at most `room` octets."""
    chunks: list[bytes] = []
    chunk: list[bytes] = []
    used = 0
    for unit in units:
        if used + len(unit) > room and chunk:
            chunks.append(b"".join(chunk))
            chunk, used = [], 0
        chunk.append(unit)
        used += len(unit)
    return [*chunks, b"".join(chunk)]
