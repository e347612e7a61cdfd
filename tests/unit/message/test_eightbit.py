"""The downgrade, decoded again by the standard library and compared octet for octet."""

from __future__ import annotations

import email
import time
from email.message import Message

import pytest

from mailferry.message.eightbit import MAX_DEPTH, MAX_PARTS, downgrade, has_eight_bit
from mailferry.message.headers import HEADER_LIMIT_OCTETS, split_header

CP1251_TEXT = "Добрый день!\r\n.\r\nСчёт во вложении. \r\n".encode("cp1251")
LATIN_TEXT = (
    b"A line that is mostly ASCII, but for one caf\xe9.\r\nAnd = a second one \t\r\n\r\nFrom here\r\n"
)


def _leaves(content: bytes) -> list[tuple[str, bytes]]:
    parts = [part for part in email.message_from_bytes(content).walk() if not part.is_multipart()]
    return [(part.get_content_type(), _octets(part)) for part in parts]


def _octets(part: Message) -> bytes:
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload


def _longest_line(content: bytes) -> int:
    return max(map(len, content.split(b"\r\n")))


def test_sees_eight_bit_octets() -> None:
    assert has_eight_bit(b"abc\x80")
    assert not has_eight_bit(b"abc\x7f\x00")
    assert not has_eight_bit(b"")


def test_an_ascii_message_is_the_same_object() -> None:
    content = b"Subject: x\n\nbare line ends and all\r"
    assert downgrade(content) is content


@pytest.mark.parametrize("encoding", [b"8bit", b"7bit", b"binary", b"BINARY ", b"8-bits", None])
def test_text_is_encoded_and_labelled(encoding: bytes | None) -> None:
    field = b"Content-Transfer-Encoding: " + encoding + b"\r\n" if encoding else b""
    header = b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=iso-8859-1\r\n" + field
    result = downgrade(header + b"\r\n" + LATIN_TEXT)
    message = email.message_from_bytes(result)
    assert result.isascii()
    assert message.get_all("Content-Transfer-Encoding") == ["quoted-printable"]
    assert message["Content-Type"] == "text/plain; charset=iso-8859-1"
    assert _octets(message) == LATIN_TEXT


def test_base64_is_taken_where_it_is_smaller() -> None:
    result = downgrade(
        b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=windows-1251\r\n\r\n" + CP1251_TEXT
    )
    assert email.message_from_bytes(result)["Content-Transfer-Encoding"] == "base64"
    assert _leaves(result) == [("text/plain", CP1251_TEXT)]


def test_what_is_not_text_becomes_base64() -> None:
    result = downgrade(b"MIME-Version: 1.0\r\nContent-Type: application/pdf\r\n\r\n" + LATIN_TEXT)
    assert email.message_from_bytes(result)["Content-Transfer-Encoding"] == "base64"
    assert _leaves(result) == [("application/pdf", LATIN_TEXT)]


def test_missing_mime_fields_are_added_after_the_others() -> None:
    result = downgrade(b"Subject: x\r\n\r\n" + LATIN_TEXT)
    assert split_header(result)[0] == (
        b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\n"
    )
    assert _leaves(result) == [("text/plain", LATIN_TEXT)]


@pytest.mark.parametrize(
    "content", [b"\r\n" + LATIN_TEXT, b"\xe9 is the first line\r\n" + LATIN_TEXT, b"\xe9\r\n"]
)
def test_a_message_without_a_header_gets_one(content: bytes) -> None:
    assert _leaves(downgrade(content)) == [("text/plain", content.removeprefix(b"\r\n"))]


def test_a_stray_line_begins_the_body() -> None:
    result = downgrade(b"Subject: x\r\nthis is no field \xe9\r\nTo: y\r\n\r\nbody\r\n")
    assert _leaves(result) == [("text/plain", b"this is no field \xe9\r\nTo: y\r\n\r\nbody\r\n")]


def test_an_mbox_line_does_not() -> None:
    result = downgrade(b"From caf\xe9 Thu Jan  1 00:00:00 1970\r\nSubject: x\r\n\r\n\xe9\r\n")
    assert result.startswith(b"From caf=E9 Thu")
    assert _leaves(result) == [("text/plain", b"\xe9\r\n")]


def test_contradicting_encodings_become_one() -> None:
    cte = b"Content-Transfer-Encoding: "
    result = downgrade(
        cte + b"8bit\r\nSubject: x\r\n" + cte + b"7bit\r\n" + cte + b"\r\n 8bit\r\n\r\n" + LATIN_TEXT
    )
    assert result.startswith(cte + b"quoted-printable\r\nSubject: x\r\nMIME-Version: 1.0\r\n")
    assert result.count(cte) == 1


MIXED = (
    b"Subject: x\r\n"
    b"MIME-Version: 1.0\r\n"
    b"Content-Type: multipart/mixed;\r\n boundary=\"=_a b\"\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n"
    b"\r\n"
    b"Preamble\r\n"
    b"--=_a b\r\n"
    b"Content-Type: TEXT/plain; charset=iso-8859-1\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n"
    b"\r\n"
    b"caf\xe9\r\n--=_a bc is no delimiter\r\n --=_a b\r\n"
    b"\r\n--=_a b \t\r\n"
    b"X-Odd :  kept   as it is\r\n"
    b"content-type: text/x;  y\r\n"
    b"\r\n"
    b"pure 7-bit part = untouched, trailing space \r\n"
    b"\r\n--=_a b\r\n"
    b"\r\n"
    b"no fields \xe9"
    b"\r\n--=_a b\r\n"
    b"Content-Type: multipart/alternative; boundary=inner\r\n"
    b"\r\n"
    b"--inner\r\n\r\n\xe9\xe8\r\n"
    b"--inner\r\n\r\n"
    b"--inner--\r\n"
    b"inner epilogue\r\n"
    b"--=_a b\r\n"
    b"Content-Type: message/rfc822\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n"
    b"\r\n"
    b"Subject: nested\r\n"
    b"\r\n"
    b"Nested text, one octet \xe0\r\n"
    b"--=_a b--\r\n"
    b"Epilogue\r\n"
)  # fmt: skip


def test_each_part_of_a_multipart_by_itself() -> None:
    result = downgrade(MIXED)
    message = email.message_from_bytes(result)
    assert result.isascii()
    assert _leaves(result) == _leaves(MIXED)
    assert [part.get_content_type() for part in message.walk()] == [
        part.get_content_type() for part in email.message_from_bytes(MIXED).walk()
    ]
    assert message["Content-Transfer-Encoding"] == "7bit"
    assert not message.defects
    assert (message.preamble, message.epilogue) == ("Preamble", "Epilogue\r\n")


def test_a_part_in_seven_bits_stays_as_it_was_to_the_octet() -> None:
    part = MIXED[MIXED.index(b"X-Odd") : MIXED.index(b"\r\n--=_a b\r\n\r\nno fields")]
    assert part in downgrade(MIXED)


def test_a_nested_message_is_a_message_again() -> None:
    nested = next(p for p in email.message_from_bytes(downgrade(MIXED)).walk() if p["Subject"] == "nested")
    assert nested["MIME-Version"] == "1.0"
    assert nested["Content-Transfer-Encoding"] == "quoted-printable"
    assert b"message/rfc822\r\nContent-Transfer-Encoding: 7bit\r\n" in downgrade(MIXED)


def test_parts_of_a_digest_are_messages() -> None:
    content = (
        b"MIME-Version: 1.0\r\nContent-Type: multipart/digest; boundary=b\r\n\r\n"
        b"--b\r\n\r\nSubject: one\r\n\r\ncaf\xe9\r\n--b--\r\n"
    )
    assert _leaves(downgrade(content)) == _leaves(content) == [("text/plain", b"caf\xe9")]


def test_text_around_the_parts_keeps_its_octets_readable() -> None:
    result = downgrade(
        MIXED.replace(b"Preamble", b"Pr\xe9amble " + b"x" * 100).replace(b"Epilogue", b"\xc9pilogue")
    )
    assert b"Pr=E9amble xxx" in result
    assert result.endswith(b"\r\n--=_a b--\r\n=C9pilogue\r\n")
    assert _leaves(result) == _leaves(MIXED)


@pytest.mark.parametrize(
    "content_type",
    [
        b"multipart/mixed",
        b"multipart/mixed; boundary=",
        b"multipart/mixed; boundary=absent",
        b"multipart/mixed; boundary=" + b"x" * 300,
        b'multipart/mixed; boundary="\xe9"',
    ],
)
def test_a_multipart_that_has_no_parts_is_encoded_whole(content_type: bytes) -> None:
    result = downgrade(
        b"MIME-Version: 1.0\r\nContent-Type: " + content_type + b"\r\n\r\ncaf\xe9, a line of text\r\n"
    )
    assert result.isascii()
    assert b"\r\nContent-Transfer-Encoding: quoted-printable\r\n" in result
    assert result.endswith(b"\r\n\r\ncaf=E9, a line of text\r\n")


def test_an_unclosed_multipart_keeps_its_last_part() -> None:
    content = b"Content-Type: multipart/mixed; boundary=b\r\nMIME-Version: 1.0\r\n\r\n--b\r\n\r\ncaf\xe9\r\n"
    # Whether the last line end belongs to the part, readers decide for both alike.
    assert _leaves(downgrade(content)) == _leaves(content) == [("text/plain", b"caf\xe9")]
    assert downgrade(content).endswith(b"\r\n\r\ncaf=E9\r\n")


def _nested(depth: int, core: bytes) -> bytes:
    for level in range(depth):
        core = b"Content-Type: multipart/mixed; boundary=b%d.\r\n\r\n--b%d.\r\n%b\r\n--b%d.--\r\n" % (
            level,
            level,
            core,
            level,
        )
    return b"MIME-Version: 1.0\r\n" + core


def test_deep_nesting_is_followed_up_to_a_bound() -> None:
    content = _nested(MAX_DEPTH - 1, b"\r\ncaf\xe9")
    assert _leaves(downgrade(content)) == [("text/plain", b"caf\xe9")]


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 500])
def test_nesting_beyond_the_bound_is_encoded_whole(depth: int) -> None:
    assert downgrade(_nested(depth, b"\r\ncaf\xe9")).isascii()


def test_too_many_parts_are_encoded_whole() -> None:
    body = b"--b\r\n\r\n\xe9\r\n" * (MAX_PARTS + 1)
    result = downgrade(b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" + body)
    assert result.isascii()
    assert result.count(b"\r\n--b\r\n") in {0, MAX_PARTS + 1}
    assert len(result) < 2 * len(body)


def test_headers_of_parts_have_a_bound_together() -> None:
    part = b"--b\r\n" + b"X: y\r\n" + b"Y: " + b"z" * (HEADER_LIMIT_OCTETS // 2) + b"\r\n\r\n\xe9\r\n"
    content = (
        b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" + part * 4 + b"--b--\r\n"
    )
    result = downgrade(content)
    assert result.isascii()
    last = _leaves(result)[-1][1]
    assert last == part.removeprefix(b"--b\r\n").removesuffix(b"\r\n")


def test_octets_that_slipped_into_quoted_printable_join_it() -> None:
    body = b"caf\xe9 =C3=A9 " + b"long " * 30 + b"\xe9=\r\nnext\r\n" + b"x" * 200 + b"\r\n"
    result = downgrade(b"MIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + body)
    assert result.isascii()
    assert b"\r\n" + b"x" * 200 + b"\r\n" in result
    assert (
        _leaves(result)[0][1] == b"caf\xe9 \xc3\xa9 " + b"long " * 30 + b"\xe9next\r\n" + b"x" * 200 + b"\r\n"
    )


def test_octets_that_slipped_into_base64_are_masked_by_what_decoders_ignore() -> None:
    result = downgrade(b"MIME-Version: 1.0\r\nContent-Transfer-Encoding: base64\r\n\r\nQUJD\xe9REVG\r\n")
    assert _leaves(result)[0][1] == b"ABCDEF"


def test_no_folded_line_can_pass_for_a_delimiter() -> None:
    # Quoted-printable folds after 75 octets; what follows here would be a delimiter.
    part = b"x" * 75 + b"--outer\r\nforged\r\n" + b"y" * 500 + b"\xe9"
    content = (
        b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=outer\r\n\r\n--outer\r\n\r\n%b\r\n--outer--\r\n"
        % part
    )
    assert _leaves(downgrade(content)) == [("text/plain", part)]


def test_a_long_line_without_an_end_is_folded_by_crlf() -> None:
    part = b"word " * 100 + b"\xe9 "
    content = (
        b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n"
        + part
        + b"\r\n--b--\r\n"
    )
    result = downgrade(content)
    assert b"\r\nContent-Transfer-Encoding: quoted-printable\r\n" in result
    assert result.count(b"\n") == result.count(b"\r\n")
    assert _leaves(result) == [("text/plain", part)]


def test_line_ends_are_made_crlf_on_the_way() -> None:
    assert _leaves(downgrade(b"Subject: x\n\ncaf\xe9\nb\rc")) == [("text/plain", b"caf\xe9\r\nb\r\nc\r\n")]


def test_lines_that_change_stay_within_998() -> None:
    glued = b"x" * 980
    content = (
        b"Subject: \xe9 " + b"word " * 190 + b"\r\n"
        b"To: (\xe9)" + glued + b"\r\n"
        b"Cc: " + glued + b"(\xe9(\xe9\r\n"
        b"Content-Type: text/plain; x=\xe9; y=" + b"z" * 950 + b"\r\n"
        b"\r\n" + b"\xe9" * 998 + b"\r\n"
    )
    assert _longest_line(content) <= 998
    result = downgrade(content)
    assert result.isascii()
    assert _longest_line(result) <= 998


def test_long_ascii_lines_are_left_alone() -> None:
    line = b"x" * 5000
    content = (
        b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
        b"--b\r\n\r\n" + line + b"\r\n--b\r\n\r\n\xe9\r\n--b--\r\n"
    )
    assert b"\r\n" + line + b"\r\n" in downgrade(content)


def test_fields_beyond_the_budget_are_still_fields() -> None:
    content = b"X: " + b"\xe9 a " * 50_000 + b"\r\nSubject: x\r\n\r\n\xe9\r\n"
    result = downgrade(content)
    message = email.message_from_bytes(result)
    assert message["Subject"] == "x"
    assert _leaves(result) == [("text/plain", b"\xe9\r\n")]
    assert _longest_line(result) <= 998


@pytest.mark.parametrize(
    "content",
    [
        b"From: " + b'"\\' * 60_000 + b"\xe9\r\n\r\n",
        b"From: " + b'"\\\\' * 40_000 + b"\xe9\r\n\r\n",
        b"To: " + b"(\xe9" * 20_000 + b"\r\n\r\n",
        b"Subject: \xe9" + b"\r\n " * 300_000 + b"\xe9\r\n\r\n",
        b"Subject: \xe9" + b" " * 120_000 + b"\r\n\r\n",
        b"To: \xe9" + b"\r\n " * 40_000 + b"\r\n\r\n",
        b"Content-Type: a/b" + b';a="\\' * 40_000 + b"\xe9\r\n\r\n",
        b"Content-Type: multipart/mixed; boundary=" + b"-" * 70 + b"\r\n\r\n\xe9" + b"-" * 1_000_000,
        b"Content-Type: message/rfc822\r\n\r\n" * 30_000 + b"\xe9",
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + b"=\xe9" * 500_000,
    ],
    ids=[
        "quotes",
        "backslashes",
        "parens",
        "folds",
        "spaces",
        "empty folds",
        "parameters",
        "dashes",
        "messages",
        "one line",
    ],
)
def test_hostile_messages_take_linear_time(content: bytes) -> None:
    started = time.process_time()
    assert downgrade(content).isascii()
    assert time.process_time() - started < 5  # quadratic time would be minutes
