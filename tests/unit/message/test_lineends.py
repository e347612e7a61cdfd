"""Every line ends in CRLF, and a clean message costs nothing."""

from __future__ import annotations

import pytest

from mailferry.message.lineends import normalise_line_ends


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", b"\r\n"),
        (b"a", b"a\r\n"),
        (b"a\n", b"a\r\n"),
        (b"a\r", b"a\r\n"),
        (b"a\nb\rc\r\n", b"a\r\nb\r\nc\r\n"),
        (b"a\r\r\nb\r\n", b"a\r\n\r\nb\r\n"),
        (b"a\n\rb\r\n", b"a\r\n\r\nb\r\n"),
        (b"a\n.\nb", b"a\r\n.\r\nb\r\n"),
        (b"a\r\n.\rb\r\n", b"a\r\n.\r\nb\r\n"),
        (b"a\r\x00\n.\r\n", b"a\r\n\x00\r\n.\r\n"),
        # As many CR as LF and still not clean: only the pairs tell.
        (b"a\rb\nc\r\n", b"a\r\nb\r\nc\r\n"),
        (b"\n\r", b"\r\n\r\n"),
    ],
)
def test_makes_every_bare_line_end_a_crlf(content: bytes, expected: bytes) -> None:
    assert normalise_line_ends(content) == expected


def test_returns_a_clean_message_as_the_same_object() -> None:
    content = b"Subject: x\r\n\r\nbody\r\n"
    assert normalise_line_ends(content) is content
