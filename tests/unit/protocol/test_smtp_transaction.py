"""Dot-stuffing and the envelope's lines."""

from __future__ import annotations

import pytest

from mailferry.errors import LocalProtocolError
from mailferry.protocol.smtp_features import SmtpFeatures
from mailferry.protocol.smtp_transaction import (
    Transaction,
    check_content,
    dot_stuff,
    is_envelope_address,
    mail_line,
    rcpt_lines,
)


@pytest.mark.parametrize(
    ("chunks", "wire"),
    [
        ([], b""),
        ([b""], b""),
        ([b".\r\n"], b"..\r\n"),
        ([b"a.\r\n"], b"a.\r\n"),
        ([b"a\r\n.\r\n.\r\n"], b"a\r\n..\r\n..\r\n"),
        ([b"a\r\n", b".b\r\n"], b"a\r\n..b\r\n"),
        ([b"a\r\n", b"", b".b\r\n"], b"a\r\n..b\r\n"),
        ([b"a\r", b"\n.b\r\n"], b"a\r\n..b\r\n"),
        ([b"a\r", b"\n", b".b\r\n"], b"a\r\n..b\r\n"),
        ([b"a\r", b"\n.", b"b\r\n.\r\n"], b"a\r\n..b\r\n..\r\n"),
        ([b"a", b".b\r\n"], b"a.b\r\n"),
        ([b"a\r\n.", b".\r\n"], b"a\r\n...\r\n"),
        ([b"\r", b"\n", b".", b"\r", b"\n", b"."], b"\r\n..\r\n.."),
        # Not a line's beginning: content with a bare LF is not made worse, nor better.
        ([b"a\n", b".b\r\n"], b"a\n.b\r\n"),
        ([b"a\r", b".b\r\n"], b"a\r.b\r\n"),
    ],
)
def test_dot_stuffing(chunks: list[bytes], wire: bytes) -> None:
    assert b"".join(dot_stuff(chunks)) == wire


def test_chunks_without_a_leading_dot_are_not_copied() -> None:
    chunks = [b"a.b\r\n" * 100, b"c\r\n" * 100]

    assert all(before is after for before, after in zip(chunks, dot_stuff(chunks), strict=True))


@pytest.mark.parametrize(
    "address",
    [
        "a@x.org",
        "postmaster",
        "a+b=c@x.org",
        '"a b"@x.org',
        '"a\\" b"@x.org',
        'a."b c".d@x.org',
        "ж@пример.рф",
        "a@[::1]",
    ],
)
def test_addresses(address: str) -> None:
    assert is_envelope_address(address)


@pytest.mark.parametrize(
    "address",
    [
        "", "a b@x.org", "a@x.org SIZE=1", "a@x.org>", "<a@x.org", '"a>b"@x.org', '"a@x.org', 'a"b@x.org', '"a b" c@x.org',
        '"a\\', "a\r\n@x.org", "a\n@x.org", "a@x.org\n", "a\0@x.org", "a\x7f@x.org", "a\x85@x.org", "a\u2028@x.org", "a\u00a0b@x.org",
        "a\udc80@x.org", '"a\r\nb"@x.org', '"\\\r\n"@x.org', "a" * 512,
    ],
)  # fmt: skip
def test_not_addresses(address: str) -> None:
    assert not is_envelope_address(address)


def test_a_long_hostile_address_is_judged_at_once() -> None:
    assert not is_envelope_address('a"' + "\\a" * 250)
    assert not is_envelope_address("a" * 500 + '"')


def order(
    sender: str = "a@x.org", *recipients: str, utf8: bool = False, eight_bit: bool = False
) -> Transaction:
    return Transaction(None, sender, recipients, (b"x\r\n",), 3, eight_bit, utf8)


ALL = SmtpFeatures(keywords={"SIZE": ""}, eight_bit_mime=True, smtputf8=True)


@pytest.mark.parametrize(
    ("transaction", "features", "line"),
    [
        (order(""), SmtpFeatures(), b"MAIL FROM:<>\r\n"),
        (order(""), ALL, b"MAIL FROM:<> SIZE=3\r\n"),
        (order(eight_bit=True, utf8=True), SmtpFeatures(), b"MAIL FROM:<a@x.org>\r\n"),
        (order(eight_bit=True, utf8=True), ALL, b"MAIL FROM:<a@x.org> SIZE=3 BODY=8BITMIME SMTPUTF8\r\n"),
        (order("ж@x.org", utf8=True), ALL, "MAIL FROM:<ж@x.org> SIZE=3 SMTPUTF8\r\n".encode()),
    ],
)
def test_mail(transaction: Transaction, features: SmtpFeatures, line: bytes) -> None:
    assert mail_line(transaction, features) == line


@pytest.mark.parametrize(
    ("features", "utf8"), [(SmtpFeatures(), True), (ALL, False)], ids=["not offered", "not asked for"]
)
def test_international_addresses_need_smtputf8(features: SmtpFeatures, utf8: bool) -> None:
    with pytest.raises(LocalProtocolError, match="SMTPUTF8"):
        mail_line(order("ж@x.org", utf8=utf8), features)
    with pytest.raises(LocalProtocolError, match="SMTPUTF8"):
        rcpt_lines(order("", "ж@x.org", utf8=utf8), features)


def test_rcpt() -> None:
    assert rcpt_lines(order("", "b@y.org", "c@y.org"), ALL) == [
        b"RCPT TO:<b@y.org>\r\n",
        b"RCPT TO:<c@y.org>\r\n",
    ]
    with pytest.raises(LocalProtocolError, match="without recipients"):
        rcpt_lines(order(), ALL)
    with pytest.raises(LocalProtocolError, match="cannot be written"):
        rcpt_lines(order("", "b@y.org", ""), ALL)  # an empty path is for MAIL only


def test_a_command_line_has_512_octets() -> None:
    longest = "x" * (512 - len("RCPT TO:<>\r\n"))

    assert len(rcpt_lines(order("", longest), ALL)[0]) == 512
    with pytest.raises(LocalProtocolError, match="too long"):
        rcpt_lines(order("", longest + "x"), ALL)


@pytest.mark.parametrize(
    "content", [(), (b"",), (b"\r\n",), (b"a\r\n", b""), (b"a\r", b"\n"), (b"a\r", b"", b"\n", b"")]
)
def test_content_that_ends_a_line(content: tuple[bytes, ...]) -> None:
    check_content(content)


@pytest.mark.parametrize(
    "content", [(b"a",), (b"\n",), (b"a\n",), (b"a\r",), (b"\r\n", b"a"), (b"a", b"\n"), (b"\r\n\r",)]
)
def test_content_that_does_not(content: tuple[bytes, ...]) -> None:
    with pytest.raises(LocalProtocolError, match="CRLF"):
        check_content(content)
