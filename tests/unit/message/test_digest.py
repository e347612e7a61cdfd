"""What a fingerprint may not depend on, and what it must."""

from __future__ import annotations

import hashlib

import pytest

from mailferry.message.digest import content_digest, header_digest
from mailferry.message.headers import split_header

HEADER = b"Received: from a\r\n\tby b\r\nSubject: x\r\nMessage-ID: <1@example.org>\r\n"


@pytest.mark.parametrize(
    "same",
    [
        HEADER + b"\r\n",
        HEADER + b"\r\nbody that TOP should not have sent\r\n",
        HEADER.replace(b"\r\n", b"\n"),
        HEADER.replace(b"\r\n", b"\n") + b"\n",
        HEADER[:-2],
        b"Status: RO\r\n" + HEADER,
        HEADER + b"Status: O\r\nX-Status: F\r\nX-UID: 7\r\nX-UIDL: abc\r\nX-Keywords:\r\n   \r\n",
        HEADER + b"X-Mozilla-Status: 0001\r\nX-MOZILLA-Keys: a\r\n b\r\n",
        HEADER.replace(b"Subject", b"Lines: 3\r\nContent-Length : 99\r\nSubject"),
        HEADER.replace(b"Subject", b"X-IMAPbase: 1 2\r\n 3\r\nX-IMAP: 1\r\nSubject"),
    ],
)
def test_does_not_see_what_servers_rewrite(same: bytes) -> None:
    assert header_digest(same) == header_digest(HEADER)


@pytest.mark.parametrize(
    "other",
    [
        HEADER.replace(b"x", b"y"),
        HEADER.replace(b"\tby", b" by"),
        HEADER + b"X-Spam-Status: yes\r\n",
        HEADER + b"a line that is no field\r\n",
        HEADER.replace(b"Subject: x\r\n", b"") + b"Subject: x\r\n",
        b"",
    ],
)
def test_sees_everything_else(other: bytes) -> None:
    assert header_digest(other) != header_digest(HEADER)


def test_top_and_retr_agree() -> None:
    retrieved = HEADER + b"\r\nbody\r\n"
    assert header_digest(split_header(retrieved)[0]) == header_digest(HEADER + b"\r\n")


def test_top_and_retr_agree_even_where_a_bare_cr_makes_an_empty_line() -> None:
    # The server sees one header, we see it end at the CR: both answers must end there.
    retrieved = b"Subject: x\r\r\nFrom: a\r\n\r\nbody\r\n"
    answer_to_top = b"Subject: x\r\r\nFrom: a\r\n\r\n"
    assert header_digest(split_header(retrieved)[0]) == header_digest(answer_to_top)


def test_digests_are_stable_values() -> None:
    # They stand in ledgers: a change here makes known mail look new.
    assert header_digest(b"Subject: x\r\nStatus: R\r\n") == hashlib.sha256(b"\nSubject: x").digest()[:16]
    assert content_digest(b"abc") == hashlib.sha256(b"abc").digest()[:16]


def test_the_content_digest_is_exact() -> None:
    assert content_digest(b"a\r\n") != content_digest(b"a\n")
    assert len(content_digest(b"")) == len(header_digest(b"")) == 16
