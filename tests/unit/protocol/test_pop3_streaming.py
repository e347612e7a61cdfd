"""Bodies that are not held: what goes where, and that what is held has a bound."""

from __future__ import annotations

import pytest

from mailferry.errors import MessageTooLargeError, RemoteProtocolError
from mailferry.message.digest import header_digest
from mailferry.protocol.framing import HeadSink, stuff
from mailferry.protocol.pop3 import Pop3Connection, Pop3Limits, Reply
from mailferry.protocol.pop3_commands import Pass, Retr, Top, User


class Sink:
    """Keeps everything, and how it came."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.discarded = False

    @property
    def octets(self) -> int:
        return sum(map(len, self.pieces))

    def write(self, octets: bytes) -> None:
        self.pieces.append(octets)

    def discard(self) -> None:
        self.discarded = True


class Setup:
    def __init__(self, **limits: int | None) -> None:
        self.sinks: list[Sink] = []
        self.connection = Pop3Connection(Pop3Limits(**limits), self._new_sink)  # type: ignore[arg-type]
        self.connection.receive_data(b"+OK hello\r\n")
        for command in (User("alice"), Pass("secret")):
            self.connection.send(command)
            self.connection.receive_data(b"+OK\r\n")

    def _new_sink(self) -> Sink:
        self.sinks.append(Sink())
        return self.sinks[-1]

    def feed(self, octets: bytes, at_once: int) -> tuple[list[Reply], int]:
        """Return the replies, and the most that lay in the buffer."""
        replies: list[Reply] = []
        most = 0
        for start in range(0, len(octets), at_once):
            events = self.connection.receive_data(octets[start : start + at_once])
            replies += [event for event in events if isinstance(event, Reply)]
            most = max(most, len(self.connection._buffer))
        return replies, most


BODY = b"Subject: x\r\n\r\n" + b"0123456789 0123456789\r\n" * 1000
WIRE = b"+OK\r\n" + BODY + b".\r\n"


@pytest.mark.parametrize(
    ("listed", "most_held"),
    [
        pytest.param(len(BODY), 600, id="listed larger than is held: nothing is"),
        pytest.param(None, 4096 + 600, id="unknown: up to what may be held"),
        pytest.param(10, 4096 + 600, id="listed small: no more than the list said, and some slack"),
    ],
)
def test_what_is_held_has_a_bound(listed: int | None, most_held: int) -> None:
    setup = Setup(held_octets=4096)
    setup.connection.send(Retr(1, listed))
    (reply,), most = setup.feed(WIRE, 500)
    assert (reply.body, reply.sink) == (None, setup.sinks[0])
    assert b"".join(setup.sinks[0].pieces) == BODY
    assert most <= most_held


def test_a_list_that_lies_is_not_held_for_long() -> None:
    body = b"x" * 98 + b"\r\n"
    setup = Setup(held_octets=1 << 30)
    setup.connection.send(Retr(1, 100))
    (reply,), most = setup.feed(b"+OK\r\n" + body * 10_000 + b".\r\n", 1000)
    assert reply.sink is not None
    assert most < 70_000


def test_what_is_small_stays_in_memory() -> None:
    setup = Setup(held_octets=len(BODY) + 10)
    setup.connection.send(Retr(1, len(BODY)))
    (reply,), _ = setup.feed(WIRE, 500)
    assert (reply.body, reply.sink, setup.sinks) == (BODY, None, [])


def test_what_comes_at_once_needs_no_sink() -> None:
    setup = Setup(held_octets=10)
    setup.connection.send(Retr(1, len(BODY)))
    (reply,), _ = setup.feed(WIRE, len(WIRE))
    assert (reply.body, setup.sinks) == (BODY, [])


def test_the_transport_sees_how_much_has_come() -> None:
    setup = Setup(held_octets=10)
    setup.connection.send(Retr(1))
    for fed in range(500, 5000, 500):
        setup.connection.receive_data(WIRE[fed - 500 : fed])
        assert setup.connection.receiving_octets == fed


def test_replies_behind_a_streamed_one_are_read_as_ever() -> None:
    setup = Setup(held_octets=10)
    for number in (1, 2, 3):
        setup.connection.send(Retr(number))
    replies, _ = setup.feed(WIRE + b"+OK\r\n.\r\n" + WIRE, 700)
    assert [(reply.command, reply.body is None) for reply in replies] == [
        (Retr(1), True), (Retr(2), False), (Retr(3), True),
    ]  # fmt: skip
    assert [b"".join(sink.pieces) for sink in setup.sinks] == [BODY, BODY]


def test_a_body_that_is_too_large_ends_the_session_and_its_sink() -> None:
    setup = Setup(held_octets=100, message_octets=5000)
    setup.connection.send(Retr(1))
    with pytest.raises(MessageTooLargeError, match="reply longer than 5000 octets"):
        setup.feed(WIRE, 300)
    (sink,) = setup.sinks
    assert sink.discarded
    assert sink.octets <= 5300
    assert setup.connection.receiving_octets == 0


def test_a_link_that_breaks_ends_the_sink() -> None:
    setup = Setup(held_octets=100)
    setup.connection.send(Retr(1))
    setup.feed(WIRE[:2000], 300)
    setup.connection.receive_eof()
    assert setup.sinks[0].discarded


def test_pieces_are_of_a_decent_size() -> None:
    setup = Setup(held_octets=10)
    setup.connection.send(Retr(1))
    setup.feed(b"+OK\r\n" + BODY * 100, 1 << 20)
    assert max(map(len, setup.sinks[0].pieces)) <= 256 * 1024


def test_of_an_answer_to_top_only_a_header_is_kept() -> None:
    header = b"Subject: x\r\n" * 100
    setup = Setup(header_octets=2000)
    setup.connection.send(Top(1, 0))
    (reply,), most = setup.feed(b"+OK\r\n" + header + b"\r\n" + b"body\r\n" * 10_000 + b".\r\n", 500)
    assert reply.body is not None
    assert (len(reply.body), reply.sink, setup.sinks) == (2000, None, [])
    assert most <= 2600
    assert header_digest(reply.body) == header_digest(header)


def test_an_answer_to_top_without_an_end_ends_the_session() -> None:
    setup = Setup(header_octets=2000, message_octets=9000)
    setup.connection.send(Top(1, 0))
    with pytest.raises(RemoteProtocolError, match="reply longer than 9000"):
        setup.feed(b"+OK\r\n" + b"x" * 20_000, 500)


def test_a_head_can_be_forgotten() -> None:
    sink = HeadSink(3)
    sink.write(b"ab")
    sink.write(b"cd")
    assert (bytes(sink.head), sink.octets) == (b"abc", 4)
    sink.discard()
    assert not sink.head


@pytest.mark.parametrize("at_once", range(1, 12))
@pytest.mark.parametrize("shift", range(8))
def test_a_dot_that_was_stuffed_goes_wherever_the_octets_are_cut(at_once: int, shift: int) -> None:
    body = b"x" * shift + b"\r\n.\r\n..a\r\n.b\r\n\r\n.\r\nc" * 20 + b"\r\n"
    setup = Setup(held_octets=0)
    setup.connection.send(Retr(1))
    (reply,), _ = setup.feed(b"+OK\r\n" + stuff(body) + b".\r\n", at_once)
    assert reply.sink is setup.sinks[0]
    assert b"".join(setup.sinks[0].pieces) == body
