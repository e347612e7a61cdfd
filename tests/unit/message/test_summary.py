"""Subjects as people send them; the samples are invented, their faults are not."""

from __future__ import annotations

import base64
import unicodedata

import pytest

from mailferry.message.summary import SUMMARY_CHARACTERS, readable, summarise


def _subject(value: bytes, more: bytes = b"") -> str:
    return summarise(b"From: a@example.org\r\nSubject: " + value + b"\r\n" + more).subject


def _b(text: str, charset: str) -> bytes:
    return b"=?%b?B?%b?=" % (charset.encode(), base64.b64encode(text.encode(charset)))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"plain text", "plain text"),
        (_b("Счёт на оплату", "windows-1251"), "Счёт на оплату"),
        (_b("Счёт на оплату", "koi8-r"), "Счёт на оплату"),
        (b"=?koi8-r?Q?=F0=D2=C9=D7=C5=D4?=", "Привет"),
        (b"=?KOI8-R?q?=f0=d2=c9=d7=c5=d4?=", "Привет"),
        (b"=?windows-1251?Q?=CF=F0=E8=E2=E5=F2,_=EC=E8=F0?=", "Привет, мир"),
        (b"=?x-cp1251?Q?=CF=F0=E8?= =?win-1251?Q?=E2=E5=F2?=", "Привет"),
        (b"Re: =?utf-8?B?0J/RgNC40LLQtdGC?= (fwd)", "Re: Привет (fwd)"),
        # One character in two words.
        (b"=?utf-8?Q?=D0=9F=D1?=\r\n =?utf-8?Q?=80=D0=B8?=", "При"),
        (b"=?utf-8?B?0J/R?= =?UTF8?Q?=80?=", "Пр"),
        (b"=?utf-8?Q?=D0=9F?=\r\n\t=?koi8-r?Q?=D2?=", "Пр"),
        # Broken base64.
        (b"=?utf-8?B?0J/RgNC40LLQtdGC0A?=", "Привет\ufffd"),
        (b"=?utf-8?B?w6k?=", "é"),
        (b"=?utf-8?B?w6k=w6k=?=", "éé"),
        (b"=?utf-8?B?w6 k?=", "é"),
        (b"=?utf-8?B?w6kx1?=", "é1"),
        (b"=?utf-8?B?????=", ""),
        (b"=?utf-8?B??=", ""),
        # Q with spaces, question marks and an equals sign that is none.
        (b"=?utf-8?Q?What is =D1=8D=D1=82=D0=BE??=", "What is это?"),
        (b"=?utf-8?Q?What?=20=D1=8D=D1=82=D0=BE?=", "What? это"),
        (b"=?utf-8?Q?1=2=ZZ3?=", "1=2=ZZ3"),
        # Never closed.
        (b"=?utf-8?B?0J/RgNC4 and text", "При and text"),
        (b"=?utf-8?Q?=D0=9F=D1=80=D0=B8 =?utf-8?Q?=D0=B2?=", "При в"),
        (b"=?utf-8?Q?abc?=?utf-8?Q?def?=", "abcdef"),
        # Stuck to its neighbours, and inside of quotes.
        (b"(=?utf-8?B?w6k=?=)x=?utf-8?B?w6k=?=y", "(é)xéy"),
        (b'"=?utf-8?B?w6k=?=" <a@example.org>', '"é" <a@example.org>'),
        # RFC 2231 language.
        (b"=?utf-8*ru?B?0J/RgNC4?=", "При"),
        # Unknown, wrong and lying charsets.
        (b"=?x-unknown?Q?caf=C3=A9?=", "café"),
        (b"=?x-unknown?B?z/Do4uXy?=", "Привет"),
        (b"=?utf-8?B?z/Do4uXy?=", "Привет"),
        (b"=?us-ascii?Q?=CF=F0=E8=E2=E5=F2?=", "Привет"),
        (b"=?iso-8859-1?Q?=80_100?=", "€ 100"),
        (b"=?gb2312?B?xOO6ww==?=", "你好"),
        (b"=?ks_c_5601-1987?B?vsiz5w==?=", "안녕"),
        (b"=?unicode-1-1-utf-7?Q?+BB8EQAQ4-?=", "При"),
        (b"=?iso-8859-8-i?B?+ezl7Q==?=", "שלום"),
        (b"=?hex?Q?41?=", "41"),
        # Not encoded words at all.
        (b"=?utf-8?X?abc?=", "=?utf-8?X?abc?="),
        (b"=? a ?= b", "=? a ?= b"),
        # Raw.
        ("Счёт №7 на оплату".encode(), "Счёт №7 на оплату"),
        ("Счёт №7 на оплату".encode("cp1251"), "Счёт №7 на оплату"),
        ("Счёт на оплату".encode("koi8-r"), "Счёт на оплату"),
        ("Отчёт".encode("cp1251") + b" =?koi8-r?Q?=F0=D2=C9?=", "Отчёт При"),
        ("Größe".encode("cp1252"), "Größe"),
    ],
)  # fmt: skip
def test_decodes_subjects(value: bytes, text: str) -> None:
    assert _subject(value) == text


def test_decodes_japanese() -> None:
    text = "会議のお知らせ"
    octets = text.encode("iso-2022-jp")
    words = b"=?ISO-2022-JP?B?%b?=" % base64.b64encode(octets)
    assert _subject(words) == text
    assert _subject(words + b"\r\n " + words) == text * 2
    assert _subject(octets, b"Content-Type: text/plain; charset=ISO-2022-JP\r\n") != ""


def test_raw_text_is_read_in_the_charset_of_the_body() -> None:
    raw = "łódź".encode("iso8859_2")
    for label in (b"iso-8859-2", b'"ISO-8859-2"', b"iso-8859-2; format=flowed"):
        assert _subject(raw, b"Content-Type: text/plain;\r\n charset=" + label + b"\r\n") == "łódź"


def test_the_fields_are_guessed_together() -> None:
    name = "эх".encode("koi8-r")
    longer = "Добрый день, высылаем отчёт за март".encode("koi8-r")
    summary = summarise(b"From: " + name + b" <a@example.org>\r\nSubject: " + longer + b"\r\n")
    assert summary.sender == "эх <a@example.org>"


def test_takes_the_first_of_each_and_copes_without() -> None:
    summary = summarise(b"From junk\r\nfrom: a\r\nFrom: b\r\nTO: =?utf-8?Q?=C3=A9?= <c@example.org>\r\n")
    assert (summary.sender, summary.recipient, summary.subject) == ("a", "é <c@example.org>", "")
    assert summarise(b"") == type(summary)()


@pytest.mark.parametrize(
    "hidden",
    [
        "\r\nInjected: x", "\x1b[2J", "\x07", "\x00", "\u202e", "\u2066", "\u200f", "\u2028", "\x85", "\ufeff", "\u00ad",
        "\x9b31m", "\U000e0041",
    ],
)  # fmt: skip
@pytest.mark.parametrize("charset", ["utf-8", "utf-16"])
def test_leaves_nothing_that_steers_a_terminal_or_a_log(hidden: str, charset: str) -> None:
    shown = _subject(_b(f"a{hidden}b", charset))
    assert shown.startswith("a")
    assert shown.endswith("b") or "Injected: x" in shown
    assert not any(unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for c in shown)


def test_a_lone_surrogate_from_utf7_can_be_printed() -> None:
    assert _subject(b"=?utf-7?Q?a+2AA-b?=").encode() is not None


@pytest.mark.parametrize("text", ["a \x1b b", "a \u202e\u200b b", "\x00 a b \x07", "a\r\n \x00 \tb"])
def test_where_something_was_removed_one_space_is_left(text: str) -> None:
    assert readable(text) == "a b"


def test_raw_controls_are_removed() -> None:
    assert _subject(b"a\x1b[31mb\x00\x08c\x7f") == "a[31mbc"


def test_is_cut_and_says_so() -> None:
    long = readable("ж" * 1000)
    assert len(long) == SUMMARY_CHARACTERS
    assert long.endswith("ж…")
    assert readable("ж" * SUMMARY_CHARACTERS) == "ж" * SUMMARY_CHARACTERS


def test_200_characters_of_the_longest_encoding_survive_the_bound_on_octets() -> None:
    text = "\U0001f600" * SUMMARY_CHARACTERS
    words = b"\r\n ".join(b"=?utf-8?Q?=F0=9F=98=80?=" for _ in range(SUMMARY_CHARACTERS))
    assert _subject(words) == text


def test_what_is_beyond_the_bound_is_not_decoded() -> None:
    assert len(_subject(b"=?utf-8?B?" + b"QUFB" * 500_000 + b"?=")) == SUMMARY_CHARACTERS
