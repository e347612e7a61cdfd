"""Plain SMTP commands: their wire form, and that no secret shows and nothing is smuggled."""

from __future__ import annotations

import pytest

from mailferry.errors import LocalProtocolError
from mailferry.protocol import smtp_commands as commands


@pytest.mark.parametrize(
    ("command", "wire", "verb"),
    [
        (commands.Ehlo("mx.example.org"), b"EHLO mx.example.org\r\n", "EHLO"),
        (commands.Ehlo("[IPv6:::1]"), b"EHLO [IPv6:::1]\r\n", "EHLO"),
        (commands.Helo("mx.example.org"), b"HELO mx.example.org\r\n", "HELO"),
        (commands.StartTls(), b"STARTTLS\r\n", "STARTTLS"),
        (commands.Rset(), b"RSET\r\n", "RSET"),
        (commands.Noop(), b"NOOP\r\n", "NOOP"),
        (commands.Quit(), b"QUIT\r\n", "QUIT"),
        (commands.Vrfy("Björn"), "VRFY Björn\r\n".encode(), "VRFY"),
        (commands.Expn("list"), b"EXPN list\r\n", "EXPN"),
        (commands.Help(), b"HELP\r\n", "HELP"),
        (commands.Help("MAIL"), b"HELP MAIL\r\n", "HELP"),
        (commands.Etrn("#queue"), b"ETRN #queue\r\n", "ETRN"),
        (commands.Atrn(("example.org", "example.com")), b"ATRN example.org,example.com\r\n", "ATRN"),
        (commands.Verb("mail FROM:<>"), b"mail FROM:<>\r\n", "MAIL"),
    ],
)
def test_wire_form(command: commands.Command, wire: bytes, verb: str) -> None:
    assert command.encode() == wire
    assert command.verb == verb
    assert command.trace == wire.decode().rstrip()


@pytest.mark.parametrize(
    ("command", "wire", "trace"),
    [
        (commands.Auth("PLAIN"), b"AUTH PLAIN\r\n", "AUTH PLAIN"),
        (commands.Auth("EXTERNAL", b""), b"AUTH EXTERNAL =\r\n", "AUTH EXTERNAL ***"),
        (commands.Auth("PLAIN", b"\0u\0hush"), b"AUTH PLAIN AHUAaHVzaA==\r\n", "AUTH PLAIN ***"),
        (commands.AuthResponse(b"hush"), b"aHVzaA==\r\n", "***"),
        (commands.AuthResponse(b""), b"\r\n", "***"),
        (commands.AuthCancel(), b"*\r\n", "*"),
    ],
)
def test_authentication_is_masked(command: commands.Command, wire: bytes, trace: str) -> None:
    assert command.encode() == wire
    assert command.trace == trace
    assert command.verb == "AUTH"
    assert "hush" not in repr(command)


def test_auth_by_hand_is_refused_and_masked() -> None:
    command = commands.Verb("auth plain AHUAaHVzaA==")

    assert command.trace == "AUTH ***"
    with pytest.raises(LocalProtocolError) as caught:
        command.encode()
    assert "aHVzaA" not in str(caught.value)


@pytest.mark.parametrize(
    "verb", ["EHLO", "helo x", "LHLO x", "STARTTLS", "DATA", " data", "BDAT 1", "QUIT", "TURN", "ATRN"]
)
def test_what_changes_the_dialogue_is_not_sent_by_hand(verb: str) -> None:
    with pytest.raises(LocalProtocolError, match="by hand"):
        commands.Verb(verb).encode()


@pytest.mark.parametrize("text", ["a\r\nQUIT", "a\nQUIT", "a\rQUIT", "a\0b", "a\x7fb", "a\udc80b"])
@pytest.mark.parametrize("make", [commands.Vrfy, commands.Expn, commands.Help, commands.Verb])
def test_no_second_command_is_smuggled(make: type[commands.Vrfy], text: str) -> None:
    with pytest.raises(LocalProtocolError):
        make(text).encode()


@pytest.mark.parametrize("word", ["", "a b", "a\r\nb", "a\tb", "é.example", "a\u00a0b"])
@pytest.mark.parametrize("make", [commands.Ehlo, commands.Helo, commands.Etrn, commands.Auth])
def test_arguments_are_one_word(make: type[commands.Ehlo], word: str) -> None:
    with pytest.raises(LocalProtocolError, match="one word of ASCII"):
        make(word).encode()


def test_line_lengths() -> None:
    assert len(commands.Vrfy("x" * 505).encode()) == 512
    with pytest.raises(LocalProtocolError, match="512 is the most"):
        commands.Vrfy("x" * 506).encode()
    assert len(commands.AuthResponse(b"x" * 9207).encode()) <= 12288
    with pytest.raises(LocalProtocolError, match="12288 is the most"):
        commands.AuthResponse(b"x" * 9216).encode()
    with pytest.raises(LocalProtocolError, match="12288 is the most"):
        commands.Auth("XOAUTH2", b"x" * 9216).encode()


@pytest.mark.parametrize(
    "domains", [(), ("a.org,b.org",), ("a.org b.org",), ("a.org\r\nQUIT",), ("x" * 600,)]
)
def test_atrn_takes_domains_and_nothing_else(domains: tuple[str, ...]) -> None:
    with pytest.raises(LocalProtocolError):
        commands.Atrn(domains).encode()
