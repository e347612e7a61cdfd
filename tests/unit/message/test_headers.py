"""The header scan on mail as it should be, and as it is."""

from __future__ import annotations

import pytest

from mailferry.message.headers import (
    HEADER_LIMIT_OCTETS,
    count_fields,
    drop_return_path,
    first_field,
    iter_fields,
    return_path,
    split_header,
)


@pytest.mark.parametrize(
    ("content", "header", "body"),
    [
        (b"A: b\r\n\r\nbody\r\n", b"A: b\r\n", b"body\r\n"),
        (b"A: b\n\nbody\n", b"A: b\n", b"body\n"),
        (b"A: b\r\rbody", b"A: b\r", b"body"),
        (b"A: b\n\r\nbody", b"A: b\n", b"body"),
        (b"A: b\r\n\nbody", b"A: b\r\n", b"body"),
        (b"A: b\r\n\r\n\r\nbody", b"A: b\r\n", b"\r\nbody"),
        (b"A: b\r\n", b"A: b\r\n", b""),
        (b"A: b", b"A: b", b""),
        (b"A: b\r\n\r\n", b"A: b\r\n", b""),
        (b"\r\nbody", b"", b"body"),
        (b"\nbody", b"", b"body"),
        (b"\r\n", b"", b""),
        (b"", b"", b""),
        # The earliest empty line counts, whatever it is made of.
        (b"A: b\n\nbody\r\n\r\nmore", b"A: b\n", b"body\r\n\r\nmore"),
        (b"A: b\r\r\nC: d\r\n\r\nbody", b"A: b\r", b"C: d\r\n\r\nbody"),
    ],
)
def test_splits_at_the_first_empty_line(content: bytes, header: bytes, body: bytes) -> None:
    assert split_header(content) == (header, body)


def test_bounds_the_header_section() -> None:
    content = b"A: b\r\n" * (HEADER_LIMIT_OCTETS // 5)
    header, body = split_header(content)
    assert HEADER_LIMIT_OCTETS - 10 < len(header) <= HEADER_LIMIT_OCTETS
    assert header.endswith(b"\r\n")
    assert header + body == content


def test_bounds_a_header_without_any_line_end() -> None:
    header, body = split_header(b"x" * (HEADER_LIMIT_OCTETS + 5))
    assert (len(header), len(body)) == (HEADER_LIMIT_OCTETS, 5)


def test_yields_fields_with_their_folds_and_skips_what_is_none() -> None:
    header = (
        b"From alice@example.org Thu Jan  1 00:00:00 1970\r\n"
        b"Subject: one\r\n two\r\n\tthree\r\n"
        b"this line is nothing\r\n and its fold\r\n"
        b"Odd :value\r\n"
        b">From someone: not a field\r\n"
        b"Na\xefve: 8-bit name\r\n"
        b": no name\r\n"
        b"Empty:\r\n"
        b"Last: x"
    )
    assert list(iter_fields(header)) == [
        (b"Subject", b" one\r\n two\r\n\tthree"),
        (b"Odd", b"value"),
        (b"Empty", b""),
        (b"Last", b" x"),
    ]


@pytest.mark.parametrize("end", [b"\r\n", b"\n", b"\r"])
def test_finds_and_counts_fields_in_any_case_and_with_any_line_end(end: bytes) -> None:
    header = end.join(
        [b"RECEIVED: 1", b"received : 2", b" Received: a fold", b"Received: 3", b"X-Received: no", b""]
    )
    assert first_field(header, b"Received") == b" 1"
    assert count_fields(header, b"received") == 3
    assert first_field(header, b"Subject") is None
    assert count_fields(header, b"Subject") == 0


def test_a_name_is_not_a_pattern() -> None:
    assert first_field(b"XaY: 1\r\n", b"X.Y") is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b" <alice@example.org>", "alice@example.org"),
        (b" alice@example.org", "alice@example.org"),
        (b"\r\n <alice@example.org>", "alice@example.org"),
        (b" <>", ""),
        (b" < >", ""),
        (b" <MAILER-DAEMON>", ""),
        (b" MAILER-DAEMON", ""),
        (b" <MAILER-DAEMON@example.org>", "MAILER-DAEMON@example.org"),
        (b" <@relay.example,@b.example:alice@example.org>", "alice@example.org"),
        (b" <alice@example.org> (a comment)", "alice@example.org"),
        (b' <"odd one"@example.org>', '"odd one"@example.org'),
        (b" <a..b.@example.org>", "a..b.@example.org"),
        (b" <alice@[192.0.2.1]>", "alice@[192.0.2.1]"),
        ("<почта@пример.example>".encode(), "почта@пример.example"),
        ("<почта@пример.example>".encode("koi8-r"), None),
        (b" ", None),
        (b" not an address", None),
        (b" <alice>", None),
        (b" <alice@>", None),
        (b" <a@b@c>", None),
        (b" <al\x00ice@example.org>", None),
        (b" <al\x1bice@example.org>", None),
        (b" <alice@example.org\r\n\t> RCPT TO:<b@example.org>", None),
        (b" <alice@exam\r\n ple.org>", None),
        ("<al\u202eice@example.org>".encode(), None),
        (b" <" + b"a" * 300 + b"@example.org>", None),
        (b" <" + b"a" * 5000 + b"@example.org>", None),
    ],
)
def test_reads_the_envelope_sender(value: bytes, expected: str | None) -> None:
    header = b"Return-Path:" + value + b"\r\nReturn-Path: <second@example.org>\r\n"
    assert return_path(header) == expected


def test_no_return_path_is_not_the_null_one() -> None:
    assert return_path(b"From: <alice@example.org>\r\n") is None


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"Return-Path: <a@b>\r\nA: b\r\n\r\nbody", b"A: b\r\n\r\nbody"),
        (b"A: b\r\nreturn-path : <a@b>\r\n (fold)\r\nC: d\r\n\r\nx", b"A: b\r\nC: d\r\n\r\nx"),
        (b"Return-Path: <a>\r\nReturn-Path: <b>\r\nReturn-Path: <c>\r\n\r\nx", b"\r\nx"),
        (b"Return-Path: <a>\nA: b\nReturn-Path: <b>\n\nReturn-Path: body\n", b"A: b\n\nReturn-Path: body\n"),
        (b"A: b\rReturn-Path: <b>\rC: d\r", b"A: b\rC: d\r"),
        (b"A: b\r\nReturn-Path: <b>", b"A: b\r\n"),
        (b"A: b\rReturn-Path: <b>\n\nbody", b"A: b\r\n\nbody"),
    ],
)
def test_drops_every_return_path_of_the_header(content: bytes, expected: bytes) -> None:
    assert drop_return_path(content) == expected


def test_a_message_without_return_path_is_the_same_object() -> None:
    content = b"A: b\r\n\r\nReturn-Path: <in the body>\r\n"
    assert drop_return_path(content) is content
