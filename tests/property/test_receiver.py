"""Whatever a client sends, no mail is taken for a foreign domain, and nothing but CRLF.CRLF ends a message."""

from __future__ import annotations

import asyncio
import tempfile
from itertools import pairwise
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from mailferry.protocol.smtp_paths import domain_of, serves
from support.smtp_client_side import OURS, Post
from support.virtual_time import run, settle

WORDS = [
    b"EHLO c\r\n", b"HELO c\r\n", b"MAIL FROM:<>\r\n", b"MAIL FROM:<a@example.net> SIZE=10 SMTPUTF8\r\n",
    b"RCPT TO:<u@example.org>\r\n", b"RCPT TO:<u@example.net>\r\n", b"RCPT TO:<", b"RCPT TO:<@", b"@", b"%", b"!",
    b":", b'"', b"\\", b",", b";", b"(", b")", b"[", b"]", b".", b"..", b"u", b"<", b">", b">\r\n", b" ", b"\t",
    b"example.org", b"EXAMPLE.org", b"example.net", b".branch.example.org", b"branch.example.org.evil.example",
    b"postmaster", b"DATA\r\n", b"RSET\r\n", b"NOOP\r\n", b"VRFY x\r\n", b"Subject: x\r\n\r\nbody", b"\r\n.\r\n",
    b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\n", b"\r\n", b"\r", b"\n", b"\x00", b"\xc3\xbc", b"\xff", b"STARTTLS\r\n",
]  # fmt: skip
octets = st.lists(st.one_of(st.sampled_from(WORDS), st.binary(max_size=8)), max_size=60).map(b"".join)
paths = st.lists(st.sampled_from(WORDS[6:34]), max_size=12).map(b"".join)


async def converse(*pieces: bytes) -> tuple[Post, list[str]]:
    """Have a conversation of its own, and return what was taken and what was answered."""
    with tempfile.TemporaryDirectory() as folder:
        post = Post(Path(folder), max_refusals=10_000, max_commands=10_000)
        client = await post.client()
        for piece in pieces:
            if not client.closed:
                client.session.data_received(piece)
                await settle()
        heard = client.heard()
        client.session.drop()
        await settle()
        assert post.budget.in_use_octets == 0
        assert post.sessions.open_count == 0
        return post, heard


def assert_ours(post: Post) -> None:
    for mail in post.mails:
        for recipient in mail.envelope_recipients:
            local, _, domain = recipient.rpartition("@")
            assert serves(OURS, recipient)
            assert domain.lower() == "example.org" or domain.lower().endswith(".branch.example.org")
            assert not set("%!@|\\\r\n") & set(local)
        content = mail.content
        assert isinstance(content, bytes)
        assert content.count(b"\r\n") == content.count(b"\n") == content.count(b"\r")
        assert b"\r\n.\r\n" not in b"\r\n" + content.replace(b"\r\n.", b"\r\n..")


@settings(max_examples=150, deadline=None)
@given(octets)
def test_no_octets_make_it_relay(sent: bytes) -> None:
    post, _ = run(converse(b"EHLO c\r\nMAIL FROM:<>\r\n", sent, b"DATA\r\nx\r\n.\r\n"), debug=False)
    assert_ours(post)


@settings(max_examples=200, deadline=None)
@given(paths)
def test_no_path_makes_it_relay(path: bytes) -> None:
    lines = b"EHLO c\r\nMAIL FROM:<a@example.net> SMTPUTF8\r\nRCPT TO:<" + path + b">\r\nDATA\r\nx\r\n.\r\n"
    post, _ = run(converse(lines), debug=False)
    assert_ours(post)


@settings(max_examples=60, deadline=None)
@given(octets, st.lists(st.integers(0, 400), max_size=5))
def test_how_the_octets_were_cut_changes_nothing(sent: bytes, cuts: list[int]) -> None:
    whole = b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<u@example.org>\r\nDATA\r\n" + sent
    places = sorted({0, len(whole), *(cut % (len(whole) + 1) for cut in cuts)})
    pieces = [whole[start:end] for start, end in pairwise(places)]
    first, heard = run(converse(whole), debug=False)
    second, heard_in_pieces = run(converse(*pieces), debug=False)
    assert heard == heard_in_pieces
    assert [mail.content for mail in first.mails] == [mail.content for mail in second.mails]


@given(st.text(max_size=60))
def test_a_domain_is_found_in_any_text_or_not(text: str) -> None:
    domain = domain_of(text)
    assert domain is None or (domain.isascii() and "@" not in domain and domain == domain.lower())


def test_the_harness_takes_mail_at_all() -> None:
    """Else the properties above would hold of nothing."""
    lines = b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<u@example.org>\r\nDATA\r\nx\r\n.\r\n"
    post, heard = asyncio.run(converse(lines))
    assert len(post.mails) == 1
    assert [reply[:3] for reply in heard] == ["220", "250", "250", "250", "354", "250"]
