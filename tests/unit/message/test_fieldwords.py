"""Raw octets in header fields: into encoded words and parameters, and back."""

from __future__ import annotations

import email
from email.header import decode_header, make_header

import pytest

from mailferry.message.eightbit import downgrade
from mailferry.message.headers import split_header
from mailferry.message.summary import summarise


def _longest_line(content: bytes) -> int:
    return max(map(len, content.split(b"\r\n")))


def _decoded(result: bytes, name: str) -> str:
    value = email.message_from_bytes(result)[name]
    return str(make_header(decode_header(value)))


@pytest.mark.parametrize(
    ("charset", "label"), [("utf-8", b"=?utf-8?"), ("cp1251", b"=?windows-1251?"), ("koi8-r", b"=?koi8-r?")]
)
def test_unstructured_fields_become_encoded_words_in_the_guessed_charset(charset: str, label: bytes) -> None:
    text = "Re: Счёт на оплату, и ещё один for the order of yesterday, срочно"
    result = downgrade(
        b"From: a@example.org\r\nSubject: " + text.encode(charset) + b"\r\nX-Plain:  kept\r\n\r\nbody\r\n"
    )
    assert label in result
    assert b"Subject: Re: =?" in result
    assert b" for the order of" in result.replace(b"\r\n", b"")
    assert result.endswith(b"\r\nX-Plain:  kept\r\n\r\nbody\r\n")
    assert _decoded(result, "Subject").replace("\r\n", "") == text
    assert _longest_line(result) <= 76


def test_octets_of_no_known_charset_keep_their_values() -> None:
    result = downgrade(b"Subject: caf\xe9 na\xefve\r\n\r\n")
    assert result == b"Subject: =?unknown-8bit?Q?caf=E9_na=EFve?=\r\n\r\n"


def test_the_charset_of_the_body_is_taken_if_it_fits() -> None:
    result = downgrade(
        "Subject: łódź\r\nContent-Type: text/plain; charset=iso-8859-2\r\n\r\n".encode("iso8859_2")
    )
    assert result.startswith(b"Subject: =?iso-8859-2?")
    assert summarise(split_header(result)[0]).subject == "łódź"


def test_no_character_is_cut_in_two_by_a_word() -> None:
    for text, charset in (("ж€\U0001f600" * 40, "utf-8"), ("你好" * 60, "gb18030")):
        more = f"\r\nContent-Type: text/plain; charset={charset}\r\n\r\n".encode()
        value = email.message_from_bytes(downgrade(b"Subject: " + text.encode(charset) + more))["Subject"]
        words = [octets.decode(label) for word in value.split() for octets, label in decode_header(word)]
        assert "".join(words) == text
        assert len(words) > 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Иван Петров <ivan@example.org>", "=?utf-8?B?0JjQstCw0L0g0J/QtdGC0YDQvtCy?= <ivan@example.org>"),
        ('"Петров, И." <ivan@example.org>', "=?utf-8?B?0J/QtdGC0YDQvtCyLCDQmC4=?= <ivan@example.org>"),
        ('"a \\"é\\"" <a@example.org>', "=?utf-8?B?YSAiw6ki?= <a@example.org>"),
        ("Zoë<zoe@example.org>, b@example.org", "=?utf-8?Q?Zo=C3=AB?= <zoe@example.org>, b@example.org"),
        ("a@example.org,Zoë <z@example.org>", "a@example.org, =?utf-8?Q?Zo=C3=AB?= <z@example.org>"),
        (
            '"Plain, One" <p@example.org>, é <e@example.org>',
            '"Plain, One" <p@example.org>, =?utf-8?B?w6k=?= <e@example.org>',
        ),
        ("a@example.org (é (ö) x)", "a@example.org (=?utf-8?B?w6k=?= (=?utf-8?B?w7Y=?=) x)"),
        ("é: a@example.org, b@example.org;", "=?utf-8?B?w6k=?= : a@example.org, b@example.org;"),
        ('"é"@example.org', "=?utf-8?B?IsOpIg==?=@example.org"),
        ("<é@example.org>", "<=?utf-8?B?w6lAZXhhbXBsZS5vcmc=?=>"),
        ('"never closed é <a@example.org>', '"never closed =?utf-8?B?w6k=?= <a@example.org>'),
        ("é \\", "=?utf-8?B?w6k=?= \\"),
    ],
)
def test_in_address_fields_only_the_words_are_encoded(value: str, expected: str) -> None:
    result = downgrade(f"To: {value}\r\n\r\n".encode())
    assert result == f"To: {expected}\r\n\r\n".encode()


def test_comments_in_trace_and_date_fields() -> None:
    result = downgrade("Date: Thu, 1 Jan 1970 03:00:00 +0300 (Московское время)\r\n\r\n".encode("cp1251"))
    assert result.startswith(b"Date: Thu, 1 Jan 1970 03:00:00 +0300 (=?windows-1251?B?")
    assert email.message_from_bytes(result)["Date"].endswith("?=)")


def test_an_encoded_word_that_came_along_keeps_its_distance() -> None:
    result = downgrade("Subject: =?utf-8?Q?a?= é =?utf-8?Q?b?= é\r\n\r\n".encode())
    assert summarise(split_header(result)[0]).subject == "a é b é"


def test_folds_and_trailing_space_survive() -> None:
    assert downgrade(b"Subject: a\r\n\tb \xe9\r\n  \xe9 c \r\n\r\n") == (
        b"Subject: a\r\n\tb =?unknown-8bit?Q?=E9__=E9?= c \r\n\r\n"
    )


@pytest.mark.parametrize(
    "name", ["Отчёт.doc", "Отчёт за второй квартал, исправленный и дополненный.doc", 'a"ё']
)
@pytest.mark.parametrize("charset", ["utf-8", "cp1251"])
def test_file_names_become_rfc2231(name: str, charset: str) -> None:
    quoted = name.replace('"', '\\"')
    header = f'Content-Disposition: attachment; size=3;\r\n\tfilename="{quoted}"; x=y\r\n\r\n'
    result = downgrade("Subject: Отправляем отчёт\r\n".encode(charset) + header.encode(charset))
    message = email.message_from_bytes(result)
    assert result.isascii()
    assert message.get_filename() == name
    assert message.get_param("size", header="Content-Disposition") == "3"
    assert message.get_param("x", header="Content-Disposition") == "y"
    assert _longest_line(result) <= 90


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"a/b; name*=utf-8''x\xc3\xa9", b"a/b; name*=utf-8''x%C3%A9"),
        (b"a/b; name*0=x; name*1=\xc3\xa9", b"a/b; name*0=x;\r\n\tname*1*=%C3%A9"),
        (b"a/b; name*0=\xc3\xa9; name*1=y", b"a/b;\r\n\tname*0*=utf-8''%C3%A9; name*1=y"),
        (b"a/b (\xc3\xa9)", b"a/b (=?utf-8?B?w6k=?=)"),
        (b'a/b; name="\xc3\xa9', b'a/b; name=" =?utf-8?B?w6k=?='),
    ],
)
def test_odd_parameters(value: bytes, expected: bytes) -> None:
    assert downgrade(b"Content-Type: " + value + b"\r\n\r\n") == (b"Content-Type: " + expected + b"\r\n\r\n")
