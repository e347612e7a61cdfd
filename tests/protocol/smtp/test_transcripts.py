"""Replay every transcript of this folder whole, per line and per octet.

A transcript is read top to bottom; blank lines and `#` lines are ignored::

    option pipelining=no chunking=no lmtp=yes grouped_bdat_octets=10
    > ehlo me.example.org      do something: send a command, begin a transaction, lose the link, set a window, ...
    C: EHLO me.example.org     we must have written exactly these lines since the last S: or >
    S: 250 mx.example.net      the server's lines, fed as one block
    E: replied EHLO 250        exactly these events came of it
    = can_begin True           an attribute's value
    !remote words              the S: block or > before raised RemoteProtocolError with these words
    !local words               the > before raised LocalProtocolError; nothing may have been written

What we write is drained after each piece that is fed, as a driver would do.
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mailferry.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from mailferry.protocol import smtp_commands as commands
from mailferry.protocol.smtp import (
    Continuation,
    Event,
    Greeting,
    Replied,
    SmtpConnection,
    SmtpLimits,
    Transaction,
    TransactionFinished,
)

TRANSCRIPTS = sorted(Path(__file__).parent.glob("*.txt"))


def whole(data: bytes) -> Iterator[bytes]:
    yield data


def per_line(data: bytes) -> Iterator[bytes]:
    yield from data.splitlines(keepends=True)


def per_octet(data: bytes) -> Iterator[bytes]:
    for octet in data:
        yield bytes([octet])


def unescape(text: str) -> bytes:
    return text.encode().decode("unicode_escape").encode("latin-1")


def split_words(text: str) -> list[str]:
    """Split as a shell does, but leave backslashes to `unescape`."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.escape, lexer.commenters = True, "", ""
    return list(lexer)


def make_transaction(words: list[str]) -> Transaction:
    """Read `TAG from=a to=b,c content=... [8bit] [utf8]`."""
    tag, *rest = words
    options = dict(word.split("=", 1) for word in rest if "=" in word)
    chunks = tuple(unescape(chunk) for chunk in options.get("content", r"Hi\r\n").split("|"))
    return Transaction(
        tag=tag,
        envelope_sender=options.get("from", ""),
        recipients=tuple(filter(None, options.get("to", "").split(","))),
        content=chunks,
        size_octets=sum(map(len, chunks)),
        eight_bit="8bit" in rest,
        smtputf8="utf8" in rest,
    )


def make_command(name: str, words: list[str]) -> commands.Command:
    if name == "auth":
        return commands.Auth(words[0], unescape(words[1]) if len(words) > 1 else None)
    if name == "response":
        return commands.AuthResponse(unescape(words[0]) if words else b"")
    if name == "atrn":
        return commands.Atrn(tuple(words[0].split(",")) if words else ())
    plain: dict[str, Callable[..., commands.Command]] = {
        "ehlo": commands.Ehlo,
        "helo": commands.Helo,
        "lhlo": commands.Lhlo,
        "starttls": commands.StartTls,
        "cancel": commands.AuthCancel,
        "rset": commands.Rset,
        "noop": commands.Noop,
        "quit": commands.Quit,
        "vrfy": commands.Vrfy,
        "expn": commands.Expn,
        "help": commands.Help,
        "etrn": commands.Etrn,
        "verb": commands.Verb,
    }
    return plain[name](*words)


def code(reply: object) -> str:
    return str(getattr(reply, "code", "-"))


def describe(event: Event) -> str:
    match event:
        case Greeting(reply):
            return f"greeting {reply.code}"
        case Replied(command, reply):
            return f"replied {command.verb} {reply.code}"
        case Continuation(_, challenge):
            return f"challenge {base64.b64encode(challenge).decode()}".rstrip()
        case TransactionFinished():
            rcpt = ",".join(map(code, event.recipient_replies))
            marks = " sent" * event.content_sent + " doubt" * event.in_doubt
            tag, finals = event.transaction.tag, event.final_replies
            data = (
                code(event.data_reply)
                if finals is None
                else ",".join(map(code, finals)) + "/" + code(event.data_reply)
            )
            return f"finished {tag} mail={code(event.sender_reply)} rcpt={rcpt} data={data}{marks}"


@dataclass
class Replay:
    """One run of one transcript."""

    pieces: Callable[[bytes], Iterator[bytes]]
    connection: SmtpConnection = field(default_factory=SmtpConnection)
    written: bytes = b""
    events: list[str] = field(default_factory=list)
    error: ProtocolError | None = None
    place: str = ""

    def play(self, path: Path) -> None:
        server: list[str] = []
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if server and not line.startswith("S:"):
                self.feed(server)
                server = []
            self.place = f"{path.name}:{number}: {line}"
            if line.startswith("S:"):
                self.settle()
                server.append(line[3:])
            elif line and not line.startswith("#"):
                self.step(*line.split(" ", 1))
        if server:
            self.feed(server)
        self.settle()

    def feed(self, lines: list[str]) -> None:
        data = b"".join(unescape(line) if "\\" in line else line.encode() + b"\r\n" for line in lines)
        for piece in self.pieces(data):
            try:
                self.events += map(describe, self.connection.receive_data(piece))
            except RemoteProtocolError as error:
                self.error = error
            self.drain()

    def drain(self) -> None:
        self.written += b"".join(self.connection.data_to_send())

    def settle(self) -> None:
        """Nothing may be left over that the transcript did not expect."""
        assert self.written == b"", self.place
        assert self.events == [], self.place
        assert self.error is None, self.place

    def step(self, mark: str, rest: str = "") -> None:
        if mark == ">":
            self.settle()
            self.act(*split_words(rest))
            self.drain()
        elif mark == "C:":
            expected = rest.encode() + b"\r\n"
            assert self.written[: len(expected)] == expected, f"{self.place}\nwritten: {self.written!r}"
            self.written = self.written[len(expected) :]
        elif mark == "E:":
            assert self.events[:1] == [rest], f"{self.place}\nevents: {self.events}"
            del self.events[0]
        elif mark == "=":
            name, value = rest.split(" ", 1)
            found = getattr(self.connection, name)
            assert str(getattr(found, "name", found)) == value, f"{self.place}\nis: {found}"
        elif mark == "option":
            self.configure(dict(word.split("=") for word in rest.split()))
        else:
            self.expect_error(mark, rest)

    def expect_error(self, mark: str, words: str) -> None:
        kind = {"!remote": RemoteProtocolError, "!local": LocalProtocolError}[mark]
        assert type(self.error) is kind, self.place
        assert words in str(self.error), f"{self.place}\nis: {self.error}"
        if kind is LocalProtocolError:
            assert self.written == b"", self.place
        self.error = None

    def configure(self, options: dict[str, str]) -> None:
        limits = {
            name: int(value)
            for name, value in options.items()
            if name not in ("pipelining", "chunking", "lmtp")
        }
        self.connection = SmtpConnection(
            SmtpLimits(**limits),
            use_pipelining=options.get("pipelining") != "no",
            use_chunking=options.get("chunking") != "no",
            lmtp=options.get("lmtp") == "yes",
        )

    def act(self, name: str, *words: str) -> None:
        try:
            if name == "begin":
                self.connection.begin(make_transaction(list(words)))
            elif name == "window":
                self.connection.bdat_window = int(words[0])
            elif name == "tls":
                self.connection.tls_established()
            elif name == "lost":
                self.events += map(describe, self.connection.connection_lost())
            else:
                self.connection.send(make_command(name, list(words)))
        except ProtocolError as error:
            self.error = error


@pytest.mark.parametrize("pieces", [whole, per_line, per_octet])
@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_transcript(path: Path, pieces: Callable[[bytes], Iterator[bytes]]) -> None:
    Replay(pieces).play(path)


def test_there_are_transcripts() -> None:
    assert len(TRANSCRIPTS) >= 20
