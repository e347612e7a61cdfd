"""Whatever a server sends, and however the network cuts it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from mailferry.errors import RemoteProtocolError
from mailferry.protocol.framing import ReceiveBuffer, stuff
from mailferry.protocol.pop3 import Event, Pop3Connection, Pop3Limits, Reply
from mailferry.protocol.pop3_commands import (
    Auth,
    Capa,
    Command,
    Dele,
    Lang,
    List_,
    Noop,
    Pass,
    Quit,
    Retr,
    Stls,
    Top,
    UidlCommand,
    User,
    Utf8,
)
from mailferry.protocol.pop3_state import Pop3State

fast = settings(max_examples=300, deadline=None)

PIECES = (
    *(b"+OK", b"-ERR", b"+ ", b"+", b" ", b"[IN-USE]", b"<1@h>", b"dGlt", b"1 2", b"\t", b"\xff"),
    *(b"\r\n", b"\r\n", b"\n", b"\r", b".", b"..", b"\0", b"x"),
    *(
        b"+OK\r\n",
        b"+OK yes\r\n",
        b"-ERR [AUTH] no\r\n",
        b"+ dGlt\r\n",
        b"body\r\n",
        b"..\r\n",
        b".\r\n",
        b"\r\n.\r\n",
    ),
    *(b"+OK\r\n.\r\n", b"+OK\r\nSubject: x\r\n\r\n..dot\r\n.\r\n", b"long" * 12),
)
streams = st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=4)), max_size=25).map(b"".join)
cuts = st.lists(st.integers(0, 200), max_size=30)

LIMITS = Pop3Limits(
    line_octets=40, challenge_octets=30, message_octets=60, listing_octets=50, capability_octets=50
)


def greeting() -> Pop3Connection:
    return Pop3Connection(LIMITS)


def authorization(*sent: Command) -> Pop3Connection:
    connection = greeting()
    connection.receive_data(b"+OK hello\r\n")
    for command in sent:
        connection.send(command)
    return connection


def transaction(*sent: Command) -> Pop3Connection:
    connection = authorization(User("a"))
    connection.receive_data(b"+OK\r\n")
    connection.send(Pass("b"))
    connection.receive_data(b"+OK\r\n")
    for command in sent:
        connection.send(command)
    return connection


STARTS: tuple[Callable[[], Pop3Connection], ...] = (
    greeting,
    lambda: authorization(User("a")),
    lambda: authorization(Capa()),
    lambda: authorization(Stls()),
    lambda: authorization(Auth("PLAIN")),
    lambda: authorization(Quit()),
    lambda: authorization(Lang()),
    lambda: authorization(Utf8()),
    lambda: transaction(List_(1), UidlCommand(1), Lang("de"), Lang()),
    transaction,
    lambda: transaction(Retr(1), Dele(1), Retr(2), Top(3, 0), Quit()),
    lambda: transaction(List_(), UidlCommand(), Capa(), Noop(), Retr(1), Retr(2), Retr(3)),
)


def split(stream: bytes, at: list[int]) -> list[bytes]:
    edges = sorted({0, len(stream), *(edge for edge in at if edge < len(stream))})
    return [stream[start:end] for start, end in pairwise(edges)]


def outcome(connection: Pop3Connection, pieces: list[bytes]) -> tuple[list[Event], bool, Pop3State, int, int]:
    """Return everything that a driver can see; anything but a RemoteProtocolError fails the test."""
    events: list[Event] = []
    failed = False
    for piece in pieces:
        try:
            events += connection.receive_data(piece)
        except RemoteProtocolError:
            events += connection.events_before_failure
            failed = True
            break
    return events, failed, connection.state, connection.pending, connection.receiving_octets


@fast
@given(start=st.sampled_from(STARTS), stream=streams, at=cuts)
def test_any_split_gives_the_same_events(
    start: Callable[[], Pop3Connection], stream: bytes, at: list[int]
) -> None:
    whole = outcome(start(), [stream])
    assert outcome(start(), split(stream, at)) == whole
    assert outcome(start(), split(stream, list(range(len(stream))))) == whole


@fast
@given(start=st.sampled_from(STARTS), stream=streams)
def test_a_failed_session_stays_dead(start: Callable[[], Pop3Connection], stream: bytes) -> None:
    connection = start()
    _, failed, state, _, octets = outcome(connection, [stream])
    if failed:
        assert (state, octets) == (Pop3State.CLOSED, 0)
        events, still_failed, *_ = outcome(connection, [b"+OK\r\n"])
        assert still_failed
        assert events == list(connection.events_before_failure)


@fast
@given(start=st.sampled_from(STARTS), stream=streams)
def test_what_is_kept_is_bounded(start: Callable[[], Pop3Connection], stream: bytes) -> None:
    connection = start()
    *_, octets = outcome(connection, [stream[at : at + 1] for at in range(len(stream))])
    assert octets <= max(LIMITS.line_octets + LIMITS.message_octets, LIMITS.challenge_octets) + 5


lines = st.lists(
    st.one_of(st.sampled_from([b"", b".", b"..", b".x", b"x", b"\r", b"\n.\n"]), st.binary(max_size=6))
)


def as_body(content: list[bytes]) -> bytes:
    return b"".join(line.replace(b"\r\n", b"") + b"\r\n" for line in content)


@fast
@given(content=st.lists(lines, min_size=1, max_size=4), at=cuts)
def test_what_is_stuffed_arrives_as_it_was(content: list[list[bytes]], at: list[int]) -> None:
    bodies = [as_body(body) for body in content]
    connection = transaction(*(Retr(number + 1) for number in range(len(bodies))))
    stream = b"".join(b"+OK\r\n" + stuff(body) + b".\r\n" for body in bodies)
    connection._limits = Pop3Limits()
    events, failed, *_ = outcome(connection, split(stream, at))
    assert not failed
    assert [event.body for event in events if isinstance(event, Reply)] == bodies


def slow_body(stream: bytes) -> tuple[bytes, bytes] | None:
    """Read a dot-ended body line by line, as RFC 1939 s.3 tells it: the body and what is left."""
    body = b""
    while b"\r\n" in stream:
        line, stream = stream.split(b"\r\n", 1)
        if line == b".":
            return body, stream
        body += line.removeprefix(b".") + b"\r\n"
    return None


@fast
@given(stream=streams, at=cuts)
def test_the_buffer_reads_bodies_as_a_line_reader_would(stream: bytes, at: list[int]) -> None:
    buffer = ReceiveBuffer()
    found = None
    for piece in split(stream, at):
        buffer.feed(piece)
        found = buffer.take_body(10_000) if found is None else found
    expected = slow_body(stream)
    assert (found, len(buffer)) == ((expected[0], len(expected[1])) if expected else (None, len(stream)))
