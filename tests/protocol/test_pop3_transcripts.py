r"""Replay `pop3/*.txt` against the core: whole, per line, per octet; all must say the same.

C: line      we send this command, and its octets are exactly this line ("..." after a
             verb of no class says that a body follows; it is not sent)
S: line      the server sends this line, CRLF added; \r \n \0 \t \\ \xNN are understood
S+ octets    the server sends these octets, nothing added
T:           the TLS handshake has just been completed
G:           from here on the login may be sent as a group
E: event     the core reports this event; all of them, in this order
B: line      one line of the last event's body, CRLF added;  B- for an empty body
X: words     the core reports a RemoteProtocolError with these words, and is dead
!: line      the core refuses to send this command, and nothing changes
=: state     the session is in this state now
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import pytest

from mailferry.errors import LocalProtocolError, RemoteProtocolError
from mailferry.protocol import pop3_commands as commands
from mailferry.protocol.pop3 import Continuation, Event, Greeting, Pop3Connection, Pop3Limits
from mailferry.protocol.pop3_commands import Command
from mailferry.protocol.pop3_state import Pop3State

TRANSCRIPTS = sorted((Path(__file__).parent / "pop3").glob("*.txt"))
LIMITS = Pop3Limits(
    line_octets=200, challenge_octets=400, message_octets=400, listing_octets=200, capability_octets=200
)

Cut = Callable[[bytes], list[bytes]]
CUTS: dict[str, Cut] = {
    "whole": lambda data: [data],
    "per line": lambda data: data.splitlines(keepends=True),
    "per octet": lambda data: [data[at : at + 1] for at in range(len(data))],
}

BY_VERB: dict[str, Callable[..., Command]] = {
    "CAPA": commands.Capa,
    "STLS": commands.Stls,
    "USER": commands.User,
    "PASS": commands.Pass,
    "APOP": commands.Apop,
    "RPOP": commands.Rpop,
    "STAT": commands.Stat,
    "LIST": commands.List_,
    "UIDL": commands.UidlCommand,
    "TOP": commands.Top,
    "RETR": commands.Retr,
    "DELE": commands.Dele,
    "RSET": commands.Rset,
    "NOOP": commands.Noop,
    "LANG": commands.Lang,
    "UTF8": commands.Utf8,
    "QUIT": commands.Quit,
}


def command_from(line: str, *, in_exchange: bool) -> Command:
    if in_exchange and line == "*":
        return commands.AuthCancel()
    if in_exchange and " " not in line:
        return commands.AuthResponse(base64.b64decode(line, validate=True))
    verb, _, rest = line.partition(" ")
    if verb == "AUTH":
        mechanism, blank, initial = rest.partition(" ")
        octets = b"" if initial == "=" else base64.b64decode(initial, validate=True)
        return commands.Auth(mechanism, octets if blank else None)
    if verb not in BY_VERB:
        return commands.Verb(line.removesuffix("..."), body=line.endswith("..."))
    words = [rest] if verb in {"USER", "PASS", "RPOP"} else rest.split()
    return BY_VERB[verb](*(int(word) if word.isdigit() else word for word in words))


def unescape(text: str) -> bytes:
    return text.encode("utf-8").decode("unicode_escape").encode("latin-1")


def escape(octets: bytes) -> str:
    return octets.decode("latin-1").encode("unicode_escape").decode("ascii")


def described(event: Event) -> Iterator[str]:
    if isinstance(event, Greeting):
        yield f"E: greeting {event.line}" + (f" apop={event.apop_timestamp}" if event.apop_timestamp else "")
    elif isinstance(event, Continuation):
        yield f"E: {event.command.trace} + {escape(event.challenge)}".rstrip()
    else:
        yield f"E: {event.command.trace} {event.line}".replace("\r", "\\r")
        yield from described_body(event.body)


def described_body(body: bytes | None) -> Iterator[str]:
    if body is None:
        return
    if not body:
        yield "B-"
        return
    assert body.endswith(b"\r\n")
    yield from (f"B: {escape(line)}" if line else "B:" for line in body[:-2].split(b"\r\n"))


@dataclass
class Replay:
    """One session: what the server said and nobody looked at yet, what was expected, what came."""

    cut: Cut
    connection: Pop3Connection = field(default_factory=lambda: Pop3Connection(LIMITS))
    incoming: bytes = b""
    expected: list[str] = field(default_factory=list)
    sent: set[type[Command]] = field(default_factory=set)

    def step(self, tag: str, rest: str) -> None:
        if tag in {"S:", "S+"}:
            if self.expected:
                self.exchange()
            self.incoming += unescape(rest) + (b"\r\n" if tag == "S:" else b"")
        elif tag in {"E:", "B:", "B-", "X:"}:
            self.expected.append(f"{tag} {rest}" if rest else tag)
        else:
            self.exchange()
            self.act(tag, rest)

    def exchange(self) -> None:
        """Deliver what the server said and compare what comes of it with what was expected."""
        seen = list(self.deliver())
        for at, line in enumerate(self.expected[: len(seen)]):
            if line.startswith("X:") and seen[at].startswith("X:") and line[3:] in seen[at]:
                seen[at] = line  # an X line names only part of the error
        assert seen == self.expected
        self.incoming, self.expected = b"", []

    def act(self, tag: str, rest: str) -> None:
        connection = self.connection
        if tag == "T:":
            connection.tls_established()
        elif tag == "G:":
            connection.groups_login = True
        elif tag == "=:":
            assert connection.state is Pop3State(rest.lower())
        elif tag == "!:":
            self.check_refusal(command_from(rest, in_exchange=False))
        else:
            assert tag == "C:", f"unknown tag {tag}"
            in_exchange = connection.state is Pop3State.AUTHENTICATING
            command = command_from(rest, in_exchange=in_exchange)
            self.sent.add(type(command))
            line = rest.removesuffix("...") if isinstance(command, commands.Verb) else rest
            assert connection.send(command) == line.encode() + b"\r\n"

    def check_refusal(self, command: Command) -> None:
        before = (self.connection.state, self.connection.pending)
        with pytest.raises(LocalProtocolError):
            self.connection.send(command)
        assert (self.connection.state, self.connection.pending) == before

    def deliver(self) -> Iterator[str]:
        for piece in self.cut(self.incoming):
            try:
                events = self.connection.receive_data(piece)
            except RemoteProtocolError as error:
                for event in self.connection.events_before_failure:
                    yield from described(event)
                yield f"X: {error}"
                self.check_death()
                return
            for event in events:
                yield from described(event)

    def check_death(self) -> None:
        assert self.connection.state is Pop3State.CLOSED
        with pytest.raises(RemoteProtocolError):
            self.connection.receive_data(b"+OK\r\n")
        with pytest.raises(LocalProtocolError):
            self.connection.send(commands.Noop())


def replay(path: Path, cut: Cut) -> Replay:
    session = Replay(cut)
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            session.step(line[:2], line[3:])
    session.exchange()
    return session


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_a_transcript_gives_its_events_however_it_is_cut(path: Path, cut: str) -> None:
    replay(path, CUTS[cut])


def test_every_command_is_in_some_transcript() -> None:
    sent = set().union(*(replay(path, CUTS["whole"]).sent for path in TRANSCRIPTS))
    assert sent == set(get_args(Command))


def test_a_wrong_expectation_is_noticed(tmp_path: Path) -> None:
    for wrong in (
        "E: greeting +OK hullo",
        "E: greeting +OK hello\nB-",
        "=: transaction",
        "C: STAT",
        "X: hello",
    ):
        path = tmp_path / "wrong.txt"
        path.write_text(f"S: +OK hello\n{wrong}\n", encoding="utf-8")
        with pytest.raises((AssertionError, LocalProtocolError)):
            replay(path, CUTS["whole"])
