"""Lines as people write them become SMTP commands, and only those that do no harm to the session."""

from __future__ import annotations

import pytest

from mailferry.errors import LocalProtocolError
from mailferry.protocol.smtp_by_hand import NOT_BY_HAND, command_by_hand
from mailferry.protocol.smtp_commands import (
    Command,
    Ehlo,
    Etrn,
    Expn,
    Helo,
    Help,
    Lhlo,
    Noop,
    Rset,
    Verb,
    Vrfy,
)


@pytest.mark.parametrize(
    ("line", "command", "wire"),
    [
        ("VRFY bob", Vrfy("bob"), b"VRFY bob\r\n"),
        (" vrfy  Bob Example ", Vrfy("Bob Example"), b"VRFY Bob Example\r\n"),
        ("EXPN staff", Expn("staff"), b"EXPN staff\r\n"),
        ("HELP", Help(), b"HELP\r\n"),
        ("help mail", Help("mail"), b"HELP mail\r\n"),
        ("NOOP", Noop(), b"NOOP\r\n"),
        ("noop are you there", Verb("noop are you there"), b"noop are you there\r\n"),
        ("RSET", Rset(), b"RSET\r\n"),
        ("ETRN #queue", Etrn("#queue"), b"ETRN #queue\r\n"),
        ("EHLO a.example", Ehlo("a.example"), b"EHLO a.example\r\n"),
        ("HELO a.example", Helo("a.example"), b"HELO a.example\r\n"),
        ("lhlo a.example", Lhlo("a.example"), b"LHLO a.example\r\n"),
        ("MAIL FROM:<>", Verb("MAIL FROM:<>"), b"MAIL FROM:<>\r\n"),
        ("RCPT TO:<bob@example.org>", Verb("RCPT TO:<bob@example.org>"), b"RCPT TO:<bob@example.org>\r\n"),
        ("XCLIENT ADDR=192.0.2.1", Verb("XCLIENT ADDR=192.0.2.1"), b"XCLIENT ADDR=192.0.2.1\r\n"),
    ],
)
def test_a_line_becomes_its_command(line: str, command: Command, wire: bytes) -> None:
    made = command_by_hand(line)
    assert made == command
    assert made.encode() == wire


@pytest.mark.parametrize("verb", NOT_BY_HAND)
def test_what_changes_the_dialogue_is_refused_and_why(verb: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        command_by_hand(f" {verb.lower()} secret")
    assert str(caught.value) == f"{verb} {NOT_BY_HAND[verb]}"


@pytest.mark.parametrize(
    "line", ["", "  ", "EHLO", "EHLO a b", "ETRN", "VRFY a\r\nQUIT", "VRFY a\nDATA", "X\rQUIT", "\nDATA", "x\0", "VRFY " + "x" * 600]
)  # fmt: skip
def test_what_cannot_be_sent_is_told_before_anything_is(line: str) -> None:
    with pytest.raises(LocalProtocolError):
        command_by_hand(line)
