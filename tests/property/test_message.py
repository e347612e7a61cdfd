"""Any octets at all: nothing raises, nothing is lost, nothing dangerous comes out."""

from __future__ import annotations

import email
import unicodedata
from email import policy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailferry.message.address import is_sane_address
from mailferry.message.digest import content_digest, header_digest
from mailferry.message.eightbit import downgrade
from mailferry.message.headers import (
    count_fields,
    drop_return_path,
    first_field,
    iter_fields,
    return_path,
    scan_fields,
    split_header,
)
from mailferry.message.lineends import normalise_line_ends
from mailferry.message.received import received_field
from mailferry.message.summary import SUMMARY_CHARACTERS, summarise
from mailferry.message.transfer import quote_eight_bit

FRAGMENTS = [
    b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ", b"\t", b"\r\n ", b":", b";", b"=", b"?=", b"=?", b'"', b"\\",
    b"<", b">", b"(", b")", b"@", b",", b"--b", b"--b--", b"\r\n--b\r\n", b"--", b"From ", b"From: ", b"To: ", b"Subject: ",
    b"Return-Path: ", b"Status: RO", b"X-UIDL: 7", b"Received: ", b"Content-Type: ", b"multipart/mixed; boundary=b",
    b"multipart/digest; boundary=\"b\"", b"message/rfc822", b"text/plain; charset=", b"application/pdf; name=",
    b"Content-Disposition: attachment; filename=", b"MIME-Version: 1.0", b"Content-Transfer-Encoding: ", b"8bit", b"binary",
    b"quoted-printable", b"base64", b"windows-1251", b"koi8-r", b"utf-8", b"iso-2022-jp", b"utf-7", b"utf-16",
    b"=?utf-8?Q?=D0=", b"=?utf-8?B?0J/R", b"=?koi8-r?B?", b"=?x?q?", b"\xd0\x9f\xd1\x80", b"\xcf\xf0\xe8", b"\xe9", b"\xff",
    b"\x00", b"\x1b$B", b"\x1b(B", b"\xe2\x80\xae", b"a", b"word",
]  # fmt: skip
octets = st.one_of(
    st.binary(max_size=300), st.lists(st.sampled_from(FRAGMENTS), max_size=60).map(b"".join)
)  # mail-like rubbish is what finds the bugs


@given(octets)
@settings(deadline=None, max_examples=150)
def test_line_ends_are_crlf_and_stay_so(content: bytes) -> None:
    result = normalise_line_ends(content)
    assert result.endswith(b"\r\n")
    assert result.count(b"\r\n") == result.count(b"\r") == result.count(b"\n")
    assert normalise_line_ends(result) is result
    assert result.replace(b"\r\n", b"") == content.replace(b"\r", b"").replace(b"\n", b"")


@given(octets)
@settings(deadline=None, max_examples=150)
def test_the_header_is_found_the_same_before_and_after_line_ends_are_made_crlf(content: bytes) -> None:
    header, body = split_header(content)
    assert content.startswith(header)
    assert content.endswith(body)
    normal_header, _ = split_header(normalise_line_ends(content))
    assert normal_header == (normalise_line_ends(header) if header else b"")


@given(octets)
@settings(deadline=None, max_examples=150)
def test_the_scan_leaves_no_octet_out_and_lookups_agree_with_it(content: bytes) -> None:
    header, _ = split_header(content)
    fields = list(scan_fields(header))
    assert b"".join(header[field.start : field.end] for field in fields) == header
    named = list(iter_fields(header))
    for name in {name for name, _ in named}:
        values = [value for found, value in named if found.lower() == name.lower()]
        assert first_field(header, name) == values[0]
        assert count_fields(header, name) == len(values)


@given(octets)
@settings(deadline=None, max_examples=150)
def test_return_paths_are_addresses_and_can_be_dropped(content: bytes) -> None:
    header, _ = split_header(content)
    sender = return_path(header)
    assert not sender or is_sane_address(sender)
    result = drop_return_path(content)
    kept, body = split_header(result)
    assert count_fields(kept, b"Return-Path") == 0
    assert body == split_header(content)[1]
    others = [field for field in iter_fields(header) if field[0].lower() != b"return-path"]
    assert list(iter_fields(kept)) == others
    assert (result is content) == (count_fields(header, b"Return-Path") == 0)


@given(
    octets,
    octets,
    st.sampled_from([b"Status: RO", b"X-Status: A", b"x-uidl: abc", b"X-Mozilla-Status2: 1\r\n  2"]),
)
@settings(deadline=None, max_examples=150)
def test_the_header_digest_survives_what_servers_do(content: bytes, body: bytes, rewritten: bytes) -> None:
    header, _ = split_header(normalise_line_ends(content))
    digest = header_digest(header)
    assert len(digest) == len(content_digest(content)) == 16
    assert header_digest(header + b"\r\n" + body) == digest
    assert header_digest(header.replace(b"\r\n", b"\n")) == digest
    assert header_digest(header + rewritten + b"\r\n") == digest


@given(octets)
@settings(deadline=None, max_examples=300)
def test_a_summary_can_be_printed(content: bytes) -> None:
    summary = summarise(content)
    for text in (summary.sender, summary.recipient, summary.subject):
        assert len(text) <= SUMMARY_CHARACTERS
        assert not any(unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for c in text)
        text.encode()


@given(octets)
@settings(deadline=None, max_examples=400)
def test_the_downgrade_of_anything_is_ascii(content: bytes) -> None:
    result = downgrade(content)
    assert result.isascii()
    if not content.isascii():
        assert normalise_line_ends(result) is result
        longest = max(map(len, normalise_line_ends(content).split(b"\r\n")))
        assert max(map(len, result.split(b"\r\n"))) <= max(998, longest)


bodies = st.one_of(
    st.binary(max_size=200),
    st.lists(st.sampled_from([*FRAGMENTS, b"x" * 74, b"x" * 990]), max_size=20).map(b"".join),
).map(lambda body: normalise_line_ends(body).replace(b"--", b"-+"))
encodings = st.sampled_from(
    [b"", b"Content-Transfer-Encoding: 8bit\r\n", b"Content-Transfer-Encoding: binary\r\n"]
)
types = st.sampled_from([b"", b"Content-Type: text/html\r\n", b"Content-Type: image/png;\r\n name=\xe9\r\n"])
leaves = st.builds(lambda kind, encoding, body: kind + encoding + b"\r\n" + body, types, encodings, bodies)


def _multipart(parts: list[bytes], number: int, encoding: bytes) -> bytes:
    mark = b"--b%d." % number
    inner = b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts)
    return b"Content-Type: multipart/mixed; boundary=b%d.\r\n%b\r\n%b%b--\r\n" % (
        number,
        encoding,
        inner,
        mark,
    )


def _embedded(part: bytes) -> bytes:
    return b"Content-Type: message/rfc822\r\n\r\nSubject: \xd0\x9f\r\n" + part


def _containers(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    number = st.integers(min_value=0, max_value=10**9)
    return st.one_of(
        st.builds(_multipart, st.lists(inner, min_size=1, max_size=3), number, encodings),
        inner.map(_embedded),
    )


messages = st.recursive(leaves, _containers, max_leaves=6).map(
    lambda entity: b"MIME-Version: 1.0\r\n" + entity
)


def _outline(content: bytes) -> list[tuple[str, object]]:
    parts = email.message_from_bytes(content, policy=policy.compat32).walk()
    return [(p.get_content_type(), None if p.is_multipart() else p.get_payload(decode=True)) for p in parts]


@given(messages)
@settings(deadline=None, max_examples=200)
def test_the_downgrade_keeps_the_structure_and_every_octet_of_every_part(message: bytes) -> None:
    assert _outline(downgrade(message)) == _outline(message)


text = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cf", "Zl", "Zp", "Zs"], exclude_characters="=?"),
    max_size=30,
)


@given(st.lists(text, max_size=10).map(" ".join))
@settings(deadline=None, max_examples=200)
def test_a_downgraded_subject_reads_as_before(subject: str) -> None:
    header = b"Subject: " + subject.encode() + b"\r\n"
    assert summarise(downgrade(header)).subject == summarise(header).subject


@given(*[st.text(max_size=60)] * 4)
@settings(deadline=None, max_examples=150)
def test_a_received_field_is_one_field(from_host: str, by_host: str, protocol: str, recipient: str) -> None:
    field = received_field(
        from_host=from_host,
        by_host=by_host,
        with_protocol=protocol,
        message_id=1,
        recipient=recipient,
        at=0.0,
    )
    assert field.isascii()
    assert [name for name, _ in iter_fields(field)] == [b"Received"]
    assert normalise_line_ends(field) is field
    assert split_header(field) == (field, b"")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([b"\r\n", b"\xe9", b"-", b"=", b"a" * 40, b"\r", b"\n"])).map(b"".join))
def test_octets_are_quoted_alike_in_blocks(text: bytes) -> None:
    whole = quote_eight_bit(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mailferry.message.transfer._BLOCK_OCTETS", 3)
        assert quote_eight_bit(text) == whole
