from __future__ import annotations

import pytest

from mailferry.errors import RemoteProtocolError
from mailferry.protocol.pop3_listings import (
    UIDL_OCTETS,
    Capabilities,
    parse_capabilities,
    parse_languages,
    parse_scan_line,
    parse_scan_listing,
    parse_stat,
    parse_uid_line,
    parse_uid_listing,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2 320", (2, 320)),
        ("0 0", (0, 0)),
        ("2  320 (2 messages)", (2, 320)),
        ("2147483647 999999999999999999", (2**31 - 1, 10**18 - 1)),
    ],
)
def test_stat(text: str, expected: tuple[int, int]) -> None:
    assert parse_stat(text) == expected


@pytest.mark.parametrize("text", ["", "2", "2 x", "-1 5", "2 3x", "٢ ٣", "2147483648 0", "1 " + "9" * 30])
def test_stat_not_understood(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_stat(text)


def test_scan_listing() -> None:
    body = b"1 120\r\n2\t200 text that is allowed\r\n 00010  0 \r\n"
    assert parse_scan_listing(body) == [(1, 120), (2, 200), (10, 0)]
    assert parse_scan_listing(b"") == []


@pytest.mark.parametrize(
    "body",
    [
        *(b"1\r\n", b"x 1\r\n", b"1 x\r\n", b"1 -1\r\n", b"+1 1\r\n", b"1_0 1\r\n", b"1 120x\r\n", b"\r\n"),
        *(b"0 1\r\n", b"2147483648 1\r\n", b"99999999999 1\r\n", b"1 1\r\n1 2\r\n", b"1 1\r\n01 1\r\n"),
        *(
            b"1 120\n2 200\r\n",
            b"1 1\r\n\n",
            b"1 1\n",
            b"1 1",
            b"1 1\r\n2 2\r",
            b"1 1\r\nx",
            b"1 1\r\n\r\n2 2\r\n",
        ),
    ],
)
def test_scan_listing_not_understood(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_scan_listing(body)


def test_the_odd_line_is_named() -> None:
    with pytest.raises(RemoteProtocolError, match="LIST: line not understood: b'nonsense"):
        parse_scan_listing(b"1 120\r\nnonsense\r\n3 1\r\n")


def test_unique_ids_are_opaque() -> None:
    body = b"1 abc\r\n 2  a b  c \r\n3 \xff\x00\x7f\r\x01\r\n4 abc\r\n5 " + b"u" * UIDL_OCTETS + b"\r\n"
    assert parse_uid_listing(body) == [
        (1, b"abc"),
        (2, b"a b  c"),
        (3, b"\xff\x00\x7f\r\x01"),
        (4, b"abc"),
        (5, b"u" * UIDL_OCTETS),
    ]
    assert parse_uid_listing(b"") == []


@pytest.mark.parametrize(
    "body",
    [
        *(
            b"1\r\n",
            b"1 \r\n",
            b"1  \t\r\n",
            b"x abc\r\n",
            b"0 a\r\n",
            b"2147483648 a\r\n",
            b"1 a\r\n1 b\r\n",
        ),
        *(b"1 a\n2 b\r\n", b"1 a", b"1 a\n", b"1 " + b"u" * (UIDL_OCTETS + 1) + b"\r\n"),
    ],
)
def test_unique_ids_not_understood(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_uid_listing(body)


def test_capabilities() -> None:
    capabilities = parse_capabilities(
        b"top\r\nUIDL\r\nUSER\r\nPIPELINING\r\nSTLS\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nUTF8 USER\r\n"
        b"SASL plain CRAM-MD5\r\nSASL LOGIN\r\nLOGIN-DELAY 900 USER\r\nEXPIRE 60\r\n"
        b"IMPLEMENTATION Shlemazle Plotz v302\r\n\r\nX-Odd\r\n"
    )
    assert capabilities.has_top
    assert capabilities.has_uidl
    assert capabilities.has_user
    assert capabilities.pipelining
    assert capabilities.stls
    assert capabilities.resp_codes
    assert capabilities.auth_resp_code
    assert capabilities.utf8
    assert capabilities.sasl_mechanisms == {"PLAIN", "CRAM-MD5", "LOGIN"}
    assert (capabilities.login_delay_seconds, capabilities.login_delay_per_user) == (900, True)
    assert (capabilities.expire_days, capabilities.expire_per_user) == (60, False)
    assert capabilities.implementation == "Shlemazle Plotz v302"
    assert capabilities.keywords["X-ODD"] == ()


def test_nothing_offered_is_nothing_had() -> None:
    nothing = Capabilities()
    flags = ("has_top", "has_uidl", "has_user", "pipelining", "stls", "resp_codes", "auth_resp_code", "utf8")
    assert not any(getattr(nothing, flag) for flag in flags)
    assert nothing.sasl_mechanisms == frozenset()
    assert (nothing.login_delay_seconds, nothing.expire_days, nothing.implementation) == (None, None, None)


@pytest.mark.parametrize(
    ("line", "days"),
    [(b"EXPIRE NEVER", None), (b"EXPIRE 0 USER", 0), (b"EXPIRE", None), (b"EXPIRE -1", None)],
)
def test_expire(line: bytes, days: int | None) -> None:
    assert parse_capabilities(line + b"\r\n").expire_days == days


@pytest.mark.parametrize("argument", [b"", b"soon", b"-5", "٣".encode(), b"9" * 5000])
def test_a_login_delay_that_is_no_number_is_none(argument: bytes) -> None:
    assert parse_capabilities(b"LOGIN-DELAY " + argument + b"\r\n").login_delay_seconds is None


def test_one_line_of_a_listing() -> None:
    assert parse_scan_line("2 200 and more") == (2, 200)
    assert parse_uid_line("2 QhdPYR:00WBw1Ph7x7") == (2, b"QhdPYR:00WBw1Ph7x7")
    assert parse_uid_line("2\t a b ") == (2, b"a b")


@pytest.mark.parametrize("text", ["", "1", "0 5", "x 5", "1 x", "2147483648 1", "[SYS] 1 2"])
def test_a_line_without_its_numbers(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_scan_line(text)


@pytest.mark.parametrize("text", ["", "1", "1 ", "0 a", "x a", "2147483648 a", "1 \ufffd", "1 " + "x" * 1001])
def test_a_line_without_its_unique_id(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_uid_line(text)


def test_languages() -> None:
    body = "en English\r\nde  Deutsch \r\n\r\nru \u0420\u0443\u0441\u0441\u043a\u0438\u0439\r\ni-default\r\n".encode()
    assert parse_languages(body) == [
        ("en", "English"),
        ("de", "Deutsch"),
        ("ru", "\u0420\u0443\u0441\u0441\u043a\u0438\u0439"),
        ("i-default", ""),
    ]
    assert parse_languages(b"") == []


@pytest.mark.parametrize(
    ("line", "utf8", "utf8_user"),
    [(b"", False, False), (b"UTF8\r\n", True, False), (b"utf8 user\r\n", True, True)],
)
def test_what_is_offered_of_utf8(line: bytes, utf8: bool, utf8_user: bool) -> None:
    capabilities = parse_capabilities(line + b"LANG\r\n")
    assert (capabilities.utf8, capabilities.utf8_user, capabilities.lang) == (utf8, utf8_user, True)
    assert not parse_capabilities(b"TOP\r\n").lang
