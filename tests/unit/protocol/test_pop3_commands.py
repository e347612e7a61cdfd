from __future__ import annotations

import traceback

import pytest

from mailferry.errors import LocalProtocolError
from mailferry.protocol.pop3_commands import (
    AUTH_RESPONSE_OCTETS,
    Apop,
    Auth,
    AuthCancel,
    AuthResponse,
    Capa,
    Command,
    Dele,
    Lang,
    List_,
    Noop,
    Pass,
    Quit,
    Retr,
    Rpop,
    Rset,
    Stat,
    Stls,
    Top,
    UidlCommand,
    User,
    Utf8,
    Verb,
)

SECRET = "hunter2"

CASES: list[tuple[Command, bytes, str, bool]] = [
    (Capa(), b"CAPA\r\n", "CAPA", True),
    (Stls(), b"STLS\r\n", "STLS", False),
    (User("alice smith"), b"USER alice smith\r\n", "USER alice smith", False),
    (User("grüße"), "USER grüße\r\n".encode(), "USER grüße", False),
    (Pass(" a  b "), b"PASS  a  b \r\n", "PASS ***", False),
    (Pass("\udcff"), b"PASS \xff\r\n", "PASS ***", False),
    (Apop("alice", "0" * 32), b"APOP alice " + b"0" * 32 + b"\r\n", "APOP alice ***", False),
    (Rpop("alice"), b"RPOP alice\r\n", "RPOP alice", False),
    (Auth("PLAIN"), b"AUTH PLAIN\r\n", "AUTH PLAIN", False),
    (Auth("PLAIN", b""), b"AUTH PLAIN =\r\n", "AUTH PLAIN ***", False),
    (Auth("PLAIN", b"\0a\0b"), b"AUTH PLAIN AGEAYg==\r\n", "AUTH PLAIN ***", False),
    (AuthResponse(b""), b"\r\n", "***", False),
    (AuthResponse(b"abc"), b"YWJj\r\n", "***", False),
    (AuthCancel(), b"*\r\n", "*", False),
    (Stat(), b"STAT\r\n", "STAT", False),
    (List_(), b"LIST\r\n", "LIST", True),
    (List_(7), b"LIST 7\r\n", "LIST 7", False),
    (UidlCommand(), b"UIDL\r\n", "UIDL", True),
    (UidlCommand(7), b"UIDL 7\r\n", "UIDL 7", False),
    (Top(7, 0), b"TOP 7 0\r\n", "TOP 7 0", True),
    (Retr(2**31 - 1), b"RETR 2147483647\r\n", "RETR 2147483647", True),
    (Dele(7), b"DELE 7\r\n", "DELE 7", False),
    (Rset(), b"RSET\r\n", "RSET", False),
    (Noop(), b"NOOP\r\n", "NOOP", False),
    (Lang(), b"LANG\r\n", "LANG", True),
    (Lang("*"), b"LANG *\r\n", "LANG *", False),
    (Lang("de-AT-1996"), b"LANG de-AT-1996\r\n", "LANG de-AT-1996", False),
    (Utf8(), b"UTF8\r\n", "UTF8", False),
    (Verb("xtnd XMIT"), b"xtnd XMIT\r\n", "xtnd XMIT", False),
    (Verb("XLIST", body=True), b"XLIST\r\n", "XLIST", True),
    (Quit(), b"QUIT\r\n", "QUIT", False),
]


@pytest.mark.parametrize(("command", "wire", "trace", "has_body"), CASES, ids=lambda value: repr(value)[:40])
def test_wire_trace_and_shape_of_the_reply(command: Command, wire: bytes, trace: str, has_body: bool) -> None:
    assert command.encode() == wire
    assert command.trace == trace
    assert command.has_body is has_body


@pytest.mark.parametrize("octet", ["\r", "\n", "\0", "\r\nDELE 1", "\ud800"])
@pytest.mark.parametrize(
    "make", [User, Pass, Rpop, lambda text: Apop(text, "0"), lambda text: Apop("a", text), Auth]
)
def test_nothing_smuggles_a_second_command(make: type[User], octet: str) -> None:
    with pytest.raises(LocalProtocolError):
        make("x" + octet).encode()


@pytest.mark.parametrize(
    "command",
    [
        *(User(""), Pass(""), Apop("", "0"), Apop("two words", "0"), Auth("plain"), Auth("A B"), Auth("")),
        *(Retr(0), Retr(-1), Retr(2**31), Dele(0), List_(0), UidlCommand(-3), Top(1, -1), Top(0, 1)),
    ],
    ids=repr,
)
def test_what_means_nothing_is_not_sent(command: Command) -> None:
    with pytest.raises(LocalProtocolError):
        command.encode()


def test_a_line_has_at_most_255_octets() -> None:
    assert len(Pass("x" * 248).encode()) == 255
    assert len(Auth("PLAIN", b"x" * 180).encode()) == 253
    for command in (Pass("x" * 249), User("ü" * 125), Auth("PLAIN", b"x" * 184)):
        with pytest.raises(LocalProtocolError, match="255"):
            command.encode()


def test_an_answer_may_be_long_but_not_endless() -> None:
    assert len(AuthResponse(b"x" * 9000).encode()) == 12_002
    with pytest.raises(LocalProtocolError):
        AuthResponse(b"x" * AUTH_RESPONSE_OCTETS).encode()


@pytest.mark.parametrize(
    "command",
    [
        *(Pass(SECRET), Pass(SECRET + "\n"), Pass(SECRET + "\ud800"), Pass(SECRET * 100), Apop("a", SECRET)),
        *(
            Auth("PLAIN", SECRET.encode()),
            Auth("PLAIN", SECRET.encode() * 100),
            AuthResponse(SECRET.encode()),
        ),
        AuthResponse(SECRET.encode() * 20_000),
    ],
    ids=lambda command: type(command).__name__,
)
def test_no_secret_in_trace_repr_or_error(command: Command) -> None:
    shown = repr(command) + str(command) + command.trace
    try:
        command.encode()
    except LocalProtocolError as error:
        shown += "".join(traceback.format_exception(error))
    assert SECRET not in shown
    assert "aHVudGVyMg" not in shown


@pytest.mark.parametrize(
    "line", ["", " ", "QUIT", "pass x", "AUTH PLAIN", "RETR 1", "stls", "X\r\nDELE 1", "X" * 254]
)
def test_what_changes_the_session_cannot_be_sent_as_a_mere_line(line: str) -> None:
    with pytest.raises(LocalProtocolError):
        Verb(line).encode()


@pytest.mark.parametrize("tag", ["", "de_AT", "de AT", "x" * 9, "-de", "de-", "d\u00e9"])
def test_what_is_no_language_tag_is_not_sent(tag: str) -> None:
    with pytest.raises(LocalProtocolError):
        Lang(tag).encode()
