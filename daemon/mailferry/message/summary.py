"""From, To and Subject for human eyes: logs, `history`, the status page.

What comes out may be printed on a terminal: no control character, line end, bidi
override or other invisible steering is left in it. It is never used for
decisions, since who wrote it is a stranger.
"""

from __future__ import annotations

import re
import unicodedata

from mailferry.message.charsets import codec_for_label, raw_charset
from mailferry.message.encodedwords import decode_words
from mailferry.message.headers import first_field, unfold
from mailferry.model import Summary

SUMMARY_CHARACTERS = 200
"""Each of the three is cut to this many."""

_VALUE_OCTETS = 8192
"""200 characters of four octets in Q words of one character each are shorter than this."""

_STEERING = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_CHARSET = re.compile(rb";[ \t]*charset\*?[ \t]*=[ \t]*[\"']?([^\s\"';()]{1,40})", re.IGNORECASE)
_SHOWN = (b"From", b"To", b"Subject")


def summarise(header: bytes) -> Summary:
    """Return the first From, To and Subject, decoded and made safe to print."""
    values = [unfold((first_field(header, name) or b"")[:_VALUE_OCTETS]) for name in _SHOWN]
    declared = declared_codec(unfold((first_field(header, b"Content-Type") or b"")[:_VALUE_OCTETS]))
    # One sender writes in one charset: together the fields are easier to guess.
    raw = b"\n".join(value for value in values if not value.isascii())
    elsewhere = raw_charset(raw, declared) if raw else declared
    sender, recipient, subject = (readable(decode_words(value, elsewhere)) for value in values)
    return Summary(sender, recipient, subject)


def _without_steering(text: str) -> str:
    shown = "".join(c for c in text if unicodedata.category(c) not in _STEERING)
    return " ".join(shown.split())  # since what stood between two spaces may be gone


def declared_codec(content_type: bytes) -> str | None:
    """Return the codec of an unfolded Content-Type's charset, or None."""
    match = _CHARSET.search(content_type)
    return codec_for_label(match[1]) if match else None


def readable(text: str) -> str:
    """Return one line without steering characters, at most `SUMMARY_CHARACTERS` long.

    White space of any kind and length becomes one space.
    """
    spaced = " ".join(text.split())  # first, since line ends and tabs are steering characters too
    shown = spaced if spaced.isprintable() else _without_steering(spaced)  # nearly all are printable
    return shown if len(shown) <= SUMMARY_CHARACTERS else shown[: SUMMARY_CHARACTERS - 1] + "…"
