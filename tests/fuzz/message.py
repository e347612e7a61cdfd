"""The octets of a message: header scanner, readable summary, way to the wire, downgrade, time.

An input is a message, whatever is in it. For `downgrade` it is the parts of a
tree of well-formed entities, so that the standard library reads it as we do.
"""

from __future__ import annotations

import email
import re
import time
import unicodedata
from collections.abc import Callable, Iterable
from email import policy
from itertools import pairwise

from fuzz.harness import SEPARATOR, Harness, cut, dice_for
from mailferry.message import headers
from mailferry.message.address import is_sane_address
from mailferry.message.charsets import codec_for_label
from mailferry.message.digest import DIGEST_OCTETS, content_digest, header_digest
from mailferry.message.eightbit import downgrade, has_eight_bit
from mailferry.message.encodedwords import decode_words
from mailferry.message.headers import (
    count_fields,
    drop_return_path,
    first_field,
    iter_fields,
    return_path,
    scan_fields,
    split_header,
    unfold,
)
from mailferry.message.lineends import normalise_line_ends
from mailferry.message.oversize import header_only_notice
from mailferry.message.received import received_field
from mailferry.message.summary import SUMMARY_CHARACTERS, readable, summarise
from mailferry.message.trace_fields import trace_facts
from mailferry.protocol.framing import stuff
from mailferry.protocol.smtp import dot_stuff

# -- the header scanner --------------------------------------------------------

_SMALL_HEADER = 64
_REWRITTEN = (
    b"Status",
    b"X-Status",
    b"X-UIDL",
    b"X-UID",
    b"X-Keywords",
    b"X-IMAP",
    b"Lines",
    b"Content-Length",
    b"X-Mozilla-Status2",
)


def check_header(data: bytes) -> None:
    _check_header(data)
    limit = headers.HEADER_LIMIT_OCTETS
    headers.HEADER_LIMIT_OCTETS = _SMALL_HEADER  # what a megabyte would do, at a size that can be fuzzed
    try:
        _check_split(data)
        _check_return_path(data)
    finally:
        headers.HEADER_LIMIT_OCTETS = limit


def _check_header(data: bytes) -> None:
    header = _check_split(data)
    _check_scan(header)
    _check_return_path(data)
    _check_notice(data)
    _check_digests(data)
    _check_trace(header)


def _check_trace(header: bytes) -> None:
    """Fields of the way are counted, and one of our own is known again."""
    facts = trace_facts(header, "relay.example.org")
    assert facts.received == count_fields(header, b"Received")
    assert 0 <= facts.received_by_us <= facts.received
    assert all(address.isprintable() for address in facts.repeated_delivered_to)
    ours = received_field(
        from_host="pop.example.net", with_protocol="POP3S", by_host="relay.example.org", message_id=7, recipient=None, at=0.0
    )  # fmt: skip
    again = trace_facts(ours + header, "relay.example.org")
    assert (again.received, again.received_by_us) == (facts.received + 1, facts.received_by_us + 1)


def _check_split(data: bytes) -> bytes:
    """The header ends at the first empty line, as a reader of lines finds it."""
    header, body = split_header(data)
    assert data.startswith(header)
    assert data.endswith(body)
    between = data[len(header) : len(data) - len(body)]
    assert between in (b"", b"\r\n", b"\r", b"\n")
    lines = re.findall(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z", data)
    first = 0
    for line in lines:
        if not line.strip(b"\r\n"):
            break
        first += len(line)
    assert len(header) == first or (len(header) < first and len(header) <= headers.HEADER_LIMIT_OCTETS)
    if between:
        assert len(header) == first
    return header


def _check_scan(header: bytes) -> None:
    """Fields follow each other without a gap, and every way to look one up finds the same."""
    fields = list(scan_fields(header))
    assert b"".join(header[field.start : field.end] for field in fields) == header
    for field in fields:
        assert field.start <= field.value_start <= field.value_end <= field.end
        assert not header[field.value_end : field.end].strip(b"\r\n")
    named = list(iter_fields(header))
    for name in {name for name, _ in named}:
        values = [value for found, value in named if found.lower() == name.lower()]
        assert first_field(header, name) == values[0]
        assert count_fields(header, name) == len(values)
        assert not re.search(rb"[\r\n]", unfold(values[0]))


def _check_return_path(data: bytes) -> None:
    """The field goes, and every other octet stays."""
    header, body = split_header(data)
    sender = return_path(header)
    assert not sender or is_sane_address(sender)
    result = drop_return_path(data)
    if not count_fields(header, b"Return-Path"):
        assert result is data
        return
    spans = [
        (field.start, field.end) for field in scan_fields(header) if field.name.lower() == b"return-path"
    ]
    edges = [0, *(edge for span in spans for edge in span), len(data)]
    kept = [data[edges[at] : edges[at + 1]] for at in range(0, len(edges), 2)]
    if any(
        before.endswith(b"\r") and after.startswith(b"\n") for before, after in pairwise(filter(None, kept))
    ):
        assert len(result) > len(b"".join(kept))  # a line end was put in, so that two do not become one
    else:
        assert result == b"".join(kept)
    if len(data) <= headers.HEADER_LIMIT_OCTETS:
        new_header, new_body = split_header(result)
        assert new_body == body
        assert [pair for pair in iter_fields(header) if pair[0].lower() != b"return-path"] == list(
            iter_fields(new_header)
        )


def _check_notice(data: bytes) -> None:
    """A notice has the original fields, but for those about the body, and one text."""
    header, body = split_header(data)
    notice = header_only_notice(data, size_octets=len(data), limit_octets=1, server="pop.example.net")
    kept, text = split_header(notice)
    assert text.startswith(b"This message has ")
    assert text.endswith(b"pop.example.net.\r\n")
    gone = (b"content-", b"mime-version", b"lines", b"dkim-signature")
    assert list(iter_fields(kept))[:-3] == [
        (name, value) for name, value in iter_fields(header) if not name.lower().startswith(gone)
    ]
    assert [name for name, _ in iter_fields(kept)][-3:] == [
        b"X-Mailferry-Oversize",
        b"MIME-Version",
        b"Content-Type",
    ]
    assert all(field.name for field in scan_fields(kept))
    assert notice == header_only_notice(
        header + b"\r\n", size_octets=len(data), limit_octets=1, server="pop.example.net"
    ) or not (body or header)


def _check_digests(data: bytes) -> None:
    """TOP and RETR give one digest; so do rewritten status fields and other line ends."""
    content = normalise_line_ends(data)
    header, _ = split_header(content)
    digest = header_digest(content)
    assert len(digest) == len(content_digest(data)) == DIGEST_OCTETS
    assert header_digest(header) == header_digest(header + b"\r\n") == digest
    assert header_digest(content.replace(b"\r\n", b"\n")) == digest
    for name in _REWRITTEN:
        assert header_digest(header + name + b": 7\r\n\t8\r\n") == digest
    if header:
        assert header_digest(b"A: b\r\n" + header) != digest


# -- the summary ---------------------------------------------------------------


def check_words(data: bytes) -> None:
    """Any header gives three short texts that a terminal can show."""
    label, _, value = data.partition(SEPARATOR)
    codec = codec_for_label(label)
    assert codec is None or isinstance("".encode(codec), bytes)
    assert isinstance(decode_words(unfold(value), codec), str)
    assert isinstance(decode_words(value), str)
    for header in (
        data,
        b"Subject: " + value,
        b"From: " + value + b"\r\nContent-Type: text/plain; charset=" + label,
    ):
        summary = summarise(header)
        for text in (summary.sender, summary.recipient, summary.subject):
            assert len(text) <= SUMMARY_CHARACTERS
            assert not any(unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for c in text)
            assert readable(text) == text
            text.encode()


# -- the way to the wire -------------------------------------------------------

_LINE_ENDS = rb"(?:\r\n|\r|\n)"
_RECEIVERS = (
    rb"\r\n\.\r\n",  # as RFC 5321 s.4.1.1.4 has it
    rb"\n\.\n", rb"\n\.\r\n", rb"\r\n\.\n", rb"\r\.\r", rb"\r\n\.\r", rb"\r\.\r\n", rb"\r\.\n", rb"\n\.\r",
    _LINE_ENDS + rb"\." + _LINE_ENDS,
    _LINE_ENDS + rb"\.[ \t\x00]*" + _LINE_ENDS,
)  # fmt: skip


def check_wire(data: bytes) -> None:
    """Whatever a message holds, no receiver sees an end of data in it, and none sees other octets."""
    dice = dice_for(data)
    content = normalise_line_ends(data)
    assert content.count(b"\r") == content.count(b"\n") == content.count(b"\r\n")
    assert content.endswith(b"\r\n")
    assert normalise_line_ends(content) is content
    assert content.replace(b"\r\n", b"") == data.replace(b"\r", b"").replace(b"\n", b"")
    trace = received_field(
        from_host=data[:40].decode("latin-1"), with_protocol=data[40:50].decode("latin-1"), by_host=data[-40:].decode("latin-1"),
        message_id=len(data), recipient=data[50:90].decode("latin-1"), at=0.0,
    )  # fmt: skip
    assert [name for name, _ in iter_fields(trace)] == [b"Received"]
    assert split_header(trace) == (trace, b"")
    whole = trace + content
    for chunks in ([whole], [trace, content], cut(dice, whole), [bytes([octet]) for octet in whole]):
        wire = b"".join(dot_stuff(chunks))
        assert wire == stuff(whole)
        _check_receivers(wire + b".\r\n", whole)
    _check_receivers(b"".join(dot_stuff(cut(dice, content))) + b".\r\n", content)


def _check_receivers(wire: bytes, content: bytes) -> None:
    stream = b"\r\n" + wire  # DATA's own line end stands before the content
    for end in _RECEIVERS[:-1]:
        found = re.search(end, stream)
        assert found is None or found.end() >= len(stream) - 1
    dots = len(re.findall(_RECEIVERS[-2], stream))
    assert dots == 1
    lines = wire.split(b"\r\n")
    assert lines[-2:] == [b".", b""]
    assert lines.index(b".") == len(lines) - 2
    assert b"".join(line.removeprefix(b".") + b"\r\n" for line in lines[:-2]) == content


# -- the downgrade -------------------------------------------------------------


def check_downgrade(data: bytes) -> None:
    """Any octets come out in ASCII; well-formed parts come out with the octets they had."""
    result = downgrade(data)
    assert result.isascii()
    assert not has_eight_bit(result)
    assert downgrade(result) is result
    if data.isascii():
        assert result is data
    else:
        assert normalise_line_ends(result) is result
        longest = max(map(len, normalise_line_ends(data).split(b"\r\n")))
        assert max(map(len, result.split(b"\r\n"))) <= max(998, longest)
    message = b"MIME-Version: 1.0\r\n" + _tree(data.split(SEPARATOR)[:12])
    lowered = downgrade(message)
    assert lowered.isascii()
    assert _outline(lowered) == _outline(message)


_KINDS = (
    b"", b"Content-Type: text/plain; charset=utf-8\r\n", b"Content-Type: text/html\r\n",
    b"Content-Type: image/png;\r\n name=\xe9\r\n", b"Content-Type: application/octet-stream\r\n",
    b"Content-Type: text/plain; charset=koi8-r\r\n", b"X-Odd: \xff\r\n", b"Content-Disposition: attachment; filename=\"\xd0\x9f\"\r\n",
)  # fmt: skip
_ENCODINGS = (
    b"",
    b"Content-Transfer-Encoding: 8bit\r\n",
    b"Content-Transfer-Encoding: binary\r\n",
    b"content-transfer-encoding:7bit\r\n",
)


def _tree(parts: list[bytes], depth: int = 0) -> bytes:
    """Build an entity: each part's first octet says what it is."""
    head, rest = parts[0][:1] or b"\0", parts[1:]
    choice = head[0]
    if rest and depth < 4 and choice & 1:
        if choice & 2:
            return b"Content-Type: message/rfc822\r\n\r\nSubject: \xd0\x9f\r\n" + _tree(rest, depth + 1)
        mark = b"--b%d." % depth
        halves = [half for half in (rest[: len(rest) // 2], rest[len(rest) // 2 :]) if half]
        inner = b"".join(mark + b"\r\n" + _tree(half, depth + 1) + b"\r\n" for half in halves)
        kind = b"Content-Type: multipart/mixed; boundary=b%d.\r\n" % depth
        return kind + _ENCODINGS[choice >> 2 & 3] + b"\r\n" + inner + mark + b"--\r\n"
    body = re.sub(
        rb"(?m)^--", b"-+", normalise_line_ends(parts[0][1:])
    )  # a delimiter in the middle of a line is none
    return _KINDS[choice >> 1 & 7] + _ENCODINGS[choice >> 4 & 3] + b"\r\n" + body


def _outline(content: bytes) -> list[tuple[str, object]]:
    parts = email.message_from_bytes(content, policy=policy.compat32).walk()
    return [(p.get_content_type(), None if p.is_multipart() else p.get_payload(decode=True)) for p in parts]


# -- time ----------------------------------------------------------------------

_LARGE_OCTETS = 30_000
_LIMIT_SECONDS = 3.0
_QUICK: tuple[Callable[[bytes], object], ...] = (
    split_header, summarise, header_digest, drop_return_path, return_path, normalise_line_ends, downgrade,
    lambda data: list(scan_fields(data)), lambda data: count_fields(data, b"Received"), lambda data: dot_stuff([data]),
    lambda data: header_only_notice(data, size_octets=1, limit_octets=1, server="h"),
)  # fmt: skip


def check_growth(data: bytes) -> None:
    """A pattern that repeats for long costs no more than its length: nothing is quadratic."""
    start, _, rest = data.partition(SEPARATOR)
    unit, _, end = rest.partition(SEPARATOR)
    large = start + (unit or b" ") * (_LARGE_OCTETS // (len(unit) or 1)) + end
    for work in _QUICK:
        took = _seconds(work, large)
        assert took < _LIMIT_SECONDS or min(took, _seconds(work, large)) < _LIMIT_SECONDS, (work, took)


def _seconds(work: Callable[[bytes], object], data: bytes) -> float:
    begun = time.process_time()
    work(data)
    return time.process_time() - begun


# -- all -----------------------------------------------------------------------

TOKENS = (
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\r\n ", b"\r\n\t", b"\r\n.\r\n", b"\n.\n", b"\r.\r", b"\r\n.", b".", b"..", b": ", b":",
    b"From: ", b"To: ", b"Subject: ", b"Return-Path: <a@b.org>\r\n", b"return-path:<>\r\n", b"Received: from x\r\n", b"Received: from a by relay.example.org with POP3 id 1;", b"Delivered-To: a\r\n", b"Status: RO\r\n",
    b"X-UIDL: 1\r\n", b"From x@y\r\n", b"Content-Type: ", b"multipart/mixed; boundary=b", b"message/rfc822", b"text/plain; charset=",
    b"\r\n--b\r\n", b"\r\n--b--\r\n", b"--b0.", b"--b1.--", b"Content-Transfer-Encoding: ", b"8bit", b"base64", b"quoted-printable", b"MIME-Version: 1.0\r\n",
    b"Content-Disposition: attachment; filename=", b"filename*0*=", b"=?utf-8?Q?", b"=?utf-8?B?", b"=?koi8-r?B?", b"?=", b"=?", b"=D0=9F",
    b"utf-8", b"windows-1251", b"utf-7", b"utf-16", b"iso-2022-jp", b"hz", b"punycode", b"idna", b"unicode_escape", b"\xd0\x9f", b"\xcf\xf0",
    b"\xff", b"\x80", b"\x00", b"\x1b$B", b"+AD4-", b'"', b"\\", b"<", b">", b"(", b")", b"@", b"a@b.org", b"\xe2\x80\xae", SEPARATOR,
)  # fmt: skip


def _harness(name: str, check: Callable[[bytes], None], max_octets: int, modules: Iterable[str]) -> Harness:
    return Harness(name, check, TOKENS, max_octets, tuple(f"message/{module}.py" for module in modules))


HARNESSES = (
    _harness("header", check_header, 2000, ("headers", "digest", "oversize", "address", "trace_fields")),
    _harness("words", check_words, 1000, ("summary", "encodedwords", "charsets", "cyrillic")),
    _harness("wire", check_wire, 600, ("lineends", "received")),
    _harness(
        "downgrade",
        check_downgrade,
        2000,
        ("eightbit", "fieldwords", "parameters", "transfer", "wordencoder"),
    ),
    _harness(
        "growth", check_growth, 300, ("headers", "eightbit", "fieldwords", "parameters", "encodedwords")
    ),
)
