"""Mail by the thousand: varied, odd in places, and the same for the same seed."""

from __future__ import annotations

import base64
import hashlib
import random
import re
from collections.abc import Callable, Sequence

TEST_FIELD = b"X-Mailferry-Test"
DEFAULT_SIZES = (200, 1_000, 3_000, 8_000, 40_000)
_LINE_END = re.compile(rb"\r\n|\r|\n")
_TEST_ID = re.compile(rb"^X-Mailferry-Test: (\S+)\r?$", re.MULTILINE)

Body = Callable[[random.Random, int], bytes]


def make_messages(count: int, seed: int = 1, *, sizes: Sequence[int] = DEFAULT_SIZES) -> list[bytes]:
    """Return messages of about the given sizes, odd ones mixed in.

    Each has a header field `X-Mailferry-Test: SEED-NUMBER` of its own, so no two
    are alike and a lost or doubled one can be named. All line ends are CRLF,
    except in every 19th, whose body has bare ones.
    """
    source = random.Random(seed)
    return [_message(source, f"{seed}-{number}", number, source.choice(sizes)) for number in range(count)]


def tag_of(content: bytes) -> str:
    """Return the `X-Mailferry-Test` id of a message; empty when it has none."""
    match = _TEST_ID.search(content)
    return "" if match is None else match[1].decode("ascii")


def normalised(content: bytes) -> bytes:
    """Return content with every line end CRLF, the last line's included: how mail looks after SMTP."""
    text = _LINE_END.sub(b"\r\n", content)
    return text if text.endswith(b"\r\n") else text + b"\r\n"


def fingerprint(content: bytes) -> str:
    """Return SHA-256 over the message from its `X-Mailferry-Test` field on, line ends made CRLF.

    That field is the first one in the header, so trace fields that relays put
    on top change nothing here, and every other change does.
    """
    text = normalised(content)
    match = _TEST_ID.search(text)
    return hashlib.sha256(text if match is None else text[match.start() :]).hexdigest()


def _message(source: random.Random, name: str, number: int, size: int) -> bytes:
    header = [
        TEST_FIELD + b": " + name.encode("ascii"),
        b"From: Ann Example <ann@example.org>",
        b"To: bob@example.net",
        _SUBJECTS[number % len(_SUBJECTS)],
        b"Date: Mon, 06 Jul 2026 09:15:00 +0300",
        b"Message-ID: <" + name.encode("ascii") + b"@example.org>",
    ]
    body = _BODIES[number % len(_BODIES)](source, size)
    return b"\r\n".join([*header, b"", body])


def _lines(source: random.Random, size: int) -> bytes:
    octets = base64.encodebytes(source.randbytes(max(1, size * 3 // 4)))
    return octets.replace(b"\n", b"\r\n")


def _dots(source: random.Random, size: int) -> bytes:
    return b".\r\n..\r\n.hidden\r\n" + _lines(source, size) + b".\r\n"


def _eight_bit(source: random.Random, size: int) -> bytes:
    return "Привет, мир\r\n".encode("koi8-r") * max(1, size // 13)


def _long_line(source: random.Random, size: int) -> bytes:
    return b"y" * max(size, 2100) + b"\r\n"


def _no_final_newline(source: random.Random, size: int) -> bytes:
    return _lines(source, size) + b"the end"


def _empty(source: random.Random, size: int) -> bytes:
    return b""


def _bare_line_ends(source: random.Random, size: int) -> bytes:
    return b"one\n.two\nthree\n\n" + _lines(source, size)


_SUBJECTS = (
    b"Subject: plain",
    b"Subject: =?windows-1251?B?0uXx8g==?=",
    "Subject: Тест".encode("koi8-r"),
    b"Subject: =?utf-8?B?0KLQtdGB",
    b"Subject: folded\r\n over two lines",
)
# 19 in a row, so that each odd body meets each odd subject in time.
_BODIES: tuple[Body, ...] = (
    *(_lines,) * 13,
    _dots,
    _eight_bit,
    _long_line,
    _no_final_newline,
    _empty,
    _bare_line_ends,
)
