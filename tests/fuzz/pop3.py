"""The POP3 core against any server.

An input is one line with the letters of what we send (`COMMANDS`), then what the
server says, in parts: before each part we send what the script has up to the
next `|`. Every event is checked against a second reader of the same octets,
which knows no buffer and no increments. A session that holds its messages and
one that lets them go to a sink must bring the same octets.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock

from fuzz.harness import SEPARATOR, Harness, cut, cut_bytewise, dice_for
from mailferry.errors import LocalProtocolError, MessageTooLargeError, RemoteProtocolError
from mailferry.protocol import framing, pop3_listings
from mailferry.protocol.framing import ReceiveBuffer, stuff
from mailferry.protocol.pop3 import Continuation, Event, Greeting, Pop3Connection, Pop3Limits, Reply
from mailferry.protocol.pop3_by_hand import command_by_hand
from mailferry.protocol.pop3_commands import (
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
    Rset,
    Stat,
    Stls,
    Top,
    UidlCommand,
    User,
    Utf8,
    Verb,
)
from mailferry.protocol.pop3_listings import (
    UIDL_OCTETS,
    Capabilities,
    parse_capabilities,
    parse_languages,
    parse_scan_line,
    parse_scan_listing,
    parse_stat,
    parse_uid_line,
    parse_uid_listing,
)
from mailferry.protocol.pop3_state import Pop3State

LIMITS = Pop3Limits(
    line_octets=80, challenge_octets=60, message_octets=120, listing_octets=100, capability_octets=90
)
STREAMING = replace(LIMITS, held_octets=20, header_octets=30)
COMMANDS: dict[str, Command] = {
    "c": Capa(), "s": Stls(), "u": User("alice"), "p": Pass("secret"), "a": Apop("alice", "0" * 32),
    "A": Auth("PLAIN", b"x"), "B": Auth("LOGIN"), "y": AuthResponse(b"x"), "x": AuthCancel(), "t": Stat(),
    "l": List_(), "L": List_(1), "i": UidlCommand(), "I": UidlCommand(1), "o": Top(1, 0), "r": Retr(1),
    "R": Retr(1, listed_octets=10), "z": Retr(1, listed_octets=10_000),
    "d": Dele(1), "e": Rset(), "n": Noop(), "q": Quit(),
    "g": Lang(), "G": Lang("de"), "8": Utf8(), "v": Verb("XONE"), "V": Verb("XMANY", body=True),
}  # fmt: skip
_TLS = "T"
_PARTS = 40


class Sink:
    """Takes the octets of a body that is not held."""

    def __init__(self) -> None:
        self.taken = bytearray()
        self.is_discarded = False

    @property
    def octets(self) -> int:
        return len(self.taken)

    def write(self, octets: bytes) -> None:
        assert not self.is_discarded
        self.taken += octets

    def discard(self) -> None:
        self.is_discarded = True


@dataclass
class Session:
    """A session as it was played: everything that a driver can see."""

    connection: Pop3Connection = field(default_factory=lambda: Pop3Connection(LIMITS))
    sinks: list[Sink] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    sent: list[Command] = field(default_factory=list)
    answers: int = 0
    heard: bytes = b""
    failure: str = ""
    peak_octets: int = 0

    @classmethod
    def streaming(cls) -> Session:
        session = cls()
        session.connection = Pop3Connection(STREAMING, session.new_sink)
        return session

    def new_sink(self) -> Sink:
        self.sinks.append(Sink())
        return self.sinks[-1]

    def play(self, script: str, parts: list[bytes], cutter: Callable[[bytes], list[bytes]]) -> None:
        for part in parts:
            now, _, script = script.partition("|")
            for letter in now:
                self.act(letter)
            for piece in cutter(part):
                self.hear(piece)
                if self.failure:
                    return

    def act(self, letter: str) -> None:
        """Send what is legal; what is not must leave everything as it was."""
        connection = self.connection
        before = (connection.state, connection.pending, connection.capabilities, connection.utf8)
        try:
            if letter == _TLS:
                connection.tls_established()
                assert connection.capabilities is None
            elif letter in COMMANDS:
                octets = connection.send(COMMANDS[letter])
                assert octets.endswith(b"\r\n")
                assert octets.count(b"\n") == octets.count(b"\r") == 1
                is_answer = isinstance(COMMANDS[letter], AuthResponse | AuthCancel)
                self.answers += is_answer
                self.sent += [] if is_answer else [COMMANDS[letter]]
        except LocalProtocolError:
            assert (connection.state, connection.pending, connection.capabilities, connection.utf8) == before

    def hear(self, piece: bytes) -> None:
        connection = self.connection
        if connection.state is Pop3State.CLOSED:
            assert connection.receive_data(piece) == []
            return
        self.heard += piece
        try:
            self.events += connection.receive_data(piece)
        except RemoteProtocolError as error:
            self.events += connection.events_before_failure
            self.failure = type(error).__name__
        self.peak_octets = max(self.peak_octets, connection.receiving_octets)
        assert connection._streamed is None or len(connection._buffer) < len(b"\r\n.\r\n")

    def seen(self) -> tuple[object, ...]:
        connection = self.connection
        return (
            self.events,
            self.failure,
            connection.state,
            connection.pending,
            connection.receiving_octets,
            connection.capabilities,
        )


class _BrokenError(Exception):
    """The second reader, too, finds that the server broke the protocol."""


class Reader:
    """Reads the server's octets from the front, with all of them at hand."""

    def __init__(self, octets: bytes) -> None:
        self.octets = octets
        self.at = 0

    def line(self, limit: int) -> bytes | None:
        end = self.octets.find(b"\n", self.at, self.at + limit)
        if end < 0:
            if len(self.octets) - self.at >= limit:
                raise _BrokenError
            return None
        line = self.octets[self.at : end]
        if not line.endswith(b"\r"):
            raise _BrokenError
        self.at = end + 1
        return line[:-1]

    def body(self, limit: int) -> bytes | None:
        """Read line by line as RFC 1939 s.3 tells it."""
        lines = self.octets[self.at :].split(b"\r\n")
        if b"." not in lines[:-1]:
            if len(self.octets) - self.at - 2 > limit and not self.octets.startswith(b".\r\n", self.at):
                raise _BrokenError
            return None
        content = lines[: lines.index(b".")]
        raw = sum(len(line) + 2 for line in content)
        if raw > limit:
            raise _BrokenError
        self.at += raw + 3
        return b"".join(line.removeprefix(b".") + b"\r\n" for line in content)


def _limit(command: Command) -> int:
    if isinstance(command, Retr | Top):
        return LIMITS.message_octets
    return LIMITS.capability_octets if isinstance(command, Capa) else LIMITS.listing_octets


def verify_refusal(session: Session, reader: Reader, due: Command | None) -> None:
    """A session does not end because of a reply that was due and well-formed."""
    if session.events and (due is None or isinstance(due, Auth | Stls)):
        return  # nothing was due, or the rules are other ones
    try:
        line = reader.line(LIMITS.line_octets)
        assert line is not None
        if not re.match(rb"(\+OK|-ERR)(?![0-9A-Za-z])", line, re.IGNORECASE):
            return
        assert session.events, "a good greeting was refused"
        assert line.startswith(b"+")
        assert due is not None
        assert due.has_body
        assert reader.body(_limit(due)) is None, "a good reply was refused"
    except _BrokenError:
        return


def verify(session: Session) -> None:
    """Check every event against the octets that it must have come from."""
    reader = Reader(session.heard)
    commands = iter(session.sent)
    current: Command | None = None
    challenges = 0
    for event in session.events:
        if isinstance(event, Greeting):
            line = reader.line(LIMITS.line_octets)
            assert line is not None
            assert event.ok == line.upper().startswith(b"+OK")
            assert event.apop_timestamp is None or event.apop_timestamp.encode() in line
            continue
        in_exchange = isinstance(current, Auth)
        if not in_exchange:
            current = next(commands)
            in_exchange = isinstance(current, Auth)
        assert event.command == current
        line = reader.line(LIMITS.challenge_octets if in_exchange else LIMITS.line_octets)
        assert line is not None
        if isinstance(event, Continuation):
            assert in_exchange
            assert line[:2] in (b"+", b"+ ")
            challenges += 1
            continue
        assert session.answers >= challenges, "a challenge was passed over"
        current = None
        verify_reply(event, line, reader)
    assert session.answers in (challenges, challenges - 1)
    if session.failure:
        verify_refusal(session, reader, current if isinstance(current, Auth) else next(commands, None))
    elif session.connection.state is not Pop3State.CLOSED:
        assert session.connection.receiving_octets == len(session.heard) - reader.at


def verify_reply(reply: Reply, line: bytes, reader: Reader) -> None:
    """A reply says exactly what its line and its body say."""
    assert reply.ok == line.upper().startswith(b"+OK")
    assert reply.ok or line.upper().startswith(b"-ERR")
    assert not line[3 if reply.ok else 4 :][:1].isalnum()
    assert b"\n" not in line
    if reply.response_code is not None:
        assert f"[{reply.response_code}]".encode() in line.upper()
    if not (reply.ok and reply.command.has_body):
        assert reply.body is None
        return
    body = reader.body(_limit(reply.command))
    assert reply.body == body
    assert body is not None
    buffer = ReceiveBuffer()
    buffer.feed(stuff(body) + b".\r\n+OK")
    assert buffer.take_body(len(body) * 2) == body
    assert buffer.peek(9) == b"+OK"


def verify_failure(session: Session) -> None:
    """A failed session stays failed, keeps nothing, and never says anything again."""
    connection = session.connection
    assert (connection.state, connection.receiving_octets) == (Pop3State.CLOSED, 0)
    for octets in (b"+OK\r\n", b""):
        try:
            connection.receive_data(octets)
        except RemoteProtocolError:
            continue
        raise AssertionError("a failed session took more octets")
    if session.failure == MessageTooLargeError.__name__:
        assert len(session.heard) > LIMITS.message_octets


def verify_listings(event: Event) -> None:
    """Any body and any text is read as a listing in full, or refused."""
    if not isinstance(event, Reply):
        return
    body = event.body or b""
    lines = body.split(b"\r\n")[:-1]
    try:
        sizes = parse_scan_listing(body)
    except RemoteProtocolError:
        pass
    else:
        assert sizes == [(int(line.split()[0]), int(line.split()[1])) for line in lines]
        assert len({number for number, _ in sizes}) == len(lines)
    try:
        uids = parse_uid_listing(body)
    except RemoteProtocolError:
        pass
    else:
        assert [number for number, _ in uids] == [int(line.split()[0]) for line in lines]
        for (_, uid), line in zip(uids, lines, strict=True):
            assert 0 < len(uid) <= UIDL_OCTETS
            assert line.rstrip(b" \t").endswith(uid)
            assert b"\n" not in uid
    at_once = (read_or_none(parse_scan_listing, body), read_or_none(parse_uid_listing, body))
    with mock.patch.object(pop3_listings, "_AT_ONCE_OCTETS", 0):  # as for listings of millions
        assert at_once == (read_or_none(parse_scan_listing, body), read_or_none(parse_uid_listing, body))
    verify_texts(event.text, body)


def read_or_none(parse: Callable[[bytes], list[Any]], body: bytes) -> list[Any] | None:
    try:
        return parse(body)
    except RemoteProtocolError:
        return None


def verify_lines(text: str) -> None:
    """A listing of one message in the status line is read as its line in a body would be."""
    for parse, parse_body in ((parse_scan_line, parse_scan_listing), (parse_uid_line, parse_uid_listing)):
        try:
            entry = parse(text)
        except RemoteProtocolError:
            continue
        assert [entry] == read_or_none(parse_body, text.encode() + b"\r\n")


def verify_by_hand(text: str) -> None:
    """What a person types is one line, and never logs in, protects or ends the session."""
    try:
        octets = command_by_hand(text).encode()
    except LocalProtocolError:
        return
    assert octets.endswith(b"\r\n")
    assert not re.search(rb"[\r\n\0]", octets[:-2])
    assert octets.split()[0].upper() not in _NOT_BY_HAND


_NOT_BY_HAND = frozenset({b"USER", b"PASS", b"APOP", b"RPOP", b"AUTH", b"STLS", b"QUIT", b"UTF8"})


def verify_texts(text: str, body: bytes) -> None:
    try:
        count, octets = parse_stat(text)
    except RemoteProtocolError:
        pass
    else:
        assert count >= 0
        assert octets >= 0
    verify_one_line(text)
    assert all(len(tag) + len(name) <= len(body) and " " not in tag for tag, name in parse_languages(body))
    verify_lines(text)
    capabilities = parse_capabilities(body)
    told = [
        getattr(capabilities, name) for name, kind in vars(Capabilities).items() if isinstance(kind, property)
    ]
    assert len(told) > 9
    assert all(keyword == keyword.upper() for keyword in capabilities.keywords)
    assert capabilities.login_delay_seconds is None or capabilities.login_delay_seconds >= 0
    assert capabilities.expire_days is None or capabilities.expire_days >= 0
    assert len(str(capabilities.implementation)) <= len(body) + 4


def verify_one_line(text: str) -> None:
    """Any text is read as one line of a listing, or refused."""
    try:
        number, size = parse_scan_line(text)
    except RemoteProtocolError:
        pass
    else:
        assert [number, size] == [int(word) for word in text.split()[:2]]
        assert number >= 1
    try:
        number, uid = parse_uid_line(text)
    except RemoteProtocolError:
        pass
    else:
        assert number == int(text.split(maxsplit=1)[0])
        assert 0 < len(uid) <= UIDL_OCTETS
        assert text.rstrip(" \t").endswith(uid.decode())


def verify_streaming(session: Session, held: Session) -> None:
    """What went to sinks is what would have been held, to the octet; what was cut short is given up."""
    assert len(session.events) == len(held.events)
    for mine, theirs in zip(session.events, held.events, strict=True):
        if isinstance(mine, Reply) and isinstance(theirs, Reply):
            verify_streamed(mine, theirs)
        else:
            assert mine == theirs
    assert session.seen()[1:] == held.seen()[1:]
    finished = [event.sink for event in session.events if isinstance(event, Reply) and event.sink is not None]
    assert not any(sink.is_discarded for sink in session.sinks if sink in finished)
    unfinished = [sink for sink in session.sinks if sink not in finished]
    assert len(unfinished) <= 1
    if session.connection.state is Pop3State.CLOSED:
        assert all(sink.is_discarded for sink in unfinished)


def verify_streaming_end(session: Session) -> None:
    finished = [event.sink for event in session.events if isinstance(event, Reply)]
    assert all(sink.is_discarded != (sink in finished) for sink in session.sinks)


def verify_streamed(mine: Reply, theirs: Reply) -> None:
    body = mine.body
    if mine.sink is not None:
        assert isinstance(mine.sink, Sink)
        assert body is None
        assert isinstance(mine.command, Retr)
        body = bytes(mine.sink.taken)
    if isinstance(mine.command, Top) and body is not None and theirs.body is not None:
        assert theirs.body.startswith(body)
        assert body == theirs.body or len(body) == STREAMING.header_octets
        body = theirs.body
    assert replace(mine, body=body, sink=None) == theirs


def verify_buffer(octets: bytes, pieces: list[bytes]) -> None:
    """Bodies and lines in turn, in pieces and as a whole."""
    buffer, reader = ReceiveBuffer(), Reader(octets)
    for piece in pieces:
        buffer.feed(piece)
    for turn in range(20):
        mine = yours = error = broken = None
        try:
            mine = buffer.take_line(60) if turn % 2 else buffer.take_body(90)
        except RemoteProtocolError as caught:
            error = caught
        try:
            yours = reader.line(60) if turn % 2 else reader.body(90)
        except _BrokenError as caught:
            broken = caught
        assert (mine, error is None) == (yours, broken is None)
        if mine is None:
            return
        assert len(buffer) == len(octets) - reader.at


def check(data: bytes) -> None:
    head, _, rest = data.partition(b"\n")
    script = head.decode("latin-1")
    parts = rest.split(SEPARATOR)[:_PARTS]
    dice = dice_for(data)
    played = []
    for cutter in (lambda part: [part], lambda part: cut(dice, part), cut_bytewise):
        session = Session()
        session.play(script, parts, cutter)
        played.append(session)
        assert session.peak_octets <= max(LIMITS.line_octets + LIMITS.message_octets, 60) + 5
        verify(session)
        if session.failure:
            verify_failure(session)
    whole = played[0]
    assert all(other.seen() == whole.seen() for other in played[1:])
    with mock.patch.object(framing, "_PIECE_OCTETS", 7):
        for cutter in (lambda part: [part], lambda part: cut(dice, part), cut_bytewise):
            session = Session.streaming()
            session.play(script, parts, cutter)
            verify_streaming(session, whole)
            session.connection.receive_eof()
            verify_streaming_end(session)
    for event in whole.events:
        verify_listings(event)
    verify_buffer(rest, cut(dice, rest))
    verify_by_hand(script)
    verify_by_hand(rest[:300].decode("utf-8", "replace"))
    connection = whole.connection
    pending = connection.pending
    assert connection.receive_eof() == []
    assert (connection.state, connection.pending) == (Pop3State.CLOSED, pending)


_HARNESS = Harness(
    name="pop3",
    check=check,
    tokens=(
        b"+OK\r\n", b"+OK ", b"-ERR [IN-USE] ", b"-ERR\r\n", b"[SYS/TEMP]", b"[AUTH]", b"+ dGVzdA==\r\n", b"+\r\n", b"+ ",
        b".\r\n", b"..\r\n", b"\r\n.\r\n", b"\r\n", b"\n", b"\r", b"\n.\n", b"\r\n.\n", b"<1.2@h.org>", b"1 2\r\n", b"1 uid\r\n",
        b"PIPELINING\r\n", b"SASL PLAIN LOGIN\r\n", b"LOGIN-DELAY 60 USER\r\n", b"EXPIRE 0\r\n", b"STLS\r\n", b"UTF8 USER\r\n", b"en English\r\n", SEPARATOR, b"|",
        b"4294967296", b"XTND x...", b"RETR 1", b"TOP 1 0", b"LANG en", b"g8GvwL", b"0000000001", b"c|s|T|c|u|p|tli|rd|q\n", b" ", b"\t", b"\0", b"\xff",
    ),
    max_octets=1500,
    modules=("protocol/pop3.py", "protocol/pop3_state.py", "protocol/pop3_listings.py", "protocol/pop3_commands.py", "protocol/pop3_by_hand.py", "protocol/framing.py"),
)  # fmt: skip

HARNESSES = (_HARNESS,)
