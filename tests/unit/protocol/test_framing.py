from __future__ import annotations

from typing import Any

import pytest

from mailferry.errors import MessageTooLargeError, RemoteProtocolError
from mailferry.protocol.framing import ReceiveBuffer, stuff


def buffer_with(data: bytes) -> ReceiveBuffer:
    buffer = ReceiveBuffer()
    buffer.feed(data)
    return buffer


def test_lines_and_bodies_follow_each_other() -> None:
    buffer = buffer_with(b"one\r\nbody\r\n.\r\ntwo\r\nthr")
    assert buffer.take_line(10) == b"one"
    assert buffer.take_body(10) == b"body\r\n"
    assert buffer.take_line(10) == b"two"
    assert buffer.take_line(10) is None
    buffer.feed(b"ee\r\n")
    assert buffer.take_line(10) == b"three"
    assert len(buffer) == 0


def test_a_line_may_fill_its_limit_and_no_more() -> None:
    assert buffer_with(b"12345678\r\n").take_line(10) == b"12345678"
    for data in (b"123456789\r\n", b"1234567890", b"123456789\r"):
        with pytest.raises(RemoteProtocolError, match="longer than 10"):
            buffer_with(data).take_line(10)


def test_a_long_line_is_refused_before_it_ends() -> None:
    buffer = buffer_with(b"123456789")
    assert buffer.take_line(10) is None
    buffer.feed(b"0")
    with pytest.raises(RemoteProtocolError):
        buffer.take_line(10)


@pytest.mark.parametrize("data", [b"\n", b"+OK\n", b"+OK\n\r\n", b"a\nb\r\n", b"\nabc\r"])
def test_a_bare_lf_ends_no_line(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="bare LF"):
        buffer_with(data).take_line(10)


def test_a_bare_cr_is_content_of_a_line() -> None:
    assert buffer_with(b"a\rb\r\r\n").take_line(10) == b"a\rb\r"


@pytest.mark.parametrize(
    ("stuffed", "body"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"x\r\n.\r\n", b"x\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b".x\r\n..x\r\n...x\r\n.\r\n", b"x\r\n.x\r\n..x\r\n"),
        (b"a.\r\n.\r\n", b"a.\r\n"),
        (b"a\n.\r\n\r\n.\r\n", b"a\n.\r\n\r\n"),
        (b"a\r\n.\nb\r\n.\r\n", b"a\r\n\nb\r\n"),
        (b".\n\r\n.\r\n", b"\n\r\n"),
        (b"a\r.\r\r\n.\r\n", b"a\r.\r\r\n"),
    ],
)
def test_a_body_ends_at_its_dot_and_is_unstuffed(stuffed: bytes, body: bytes) -> None:
    buffer = buffer_with(stuffed + b".\r\nrest")
    assert buffer.take_body(100) == body
    assert buffer.peek(100) == b".\r\nrest"


def test_a_body_may_fill_its_limit_and_no_more() -> None:
    assert buffer_with(b"12345678\r\n.\r\n").take_body(10) == b"12345678\r\n"
    with pytest.raises(MessageTooLargeError):
        buffer_with(b"123456789\r\n.\r\n").take_body(10)
    with pytest.raises(RemoteProtocolError) as caught:
        buffer_with(b"1234567890123").take_body(10, RemoteProtocolError)
    assert not isinstance(caught.value, MessageTooLargeError)


def test_an_end_that_comes_in_pieces_is_found() -> None:
    buffer = buffer_with(b"")
    for octet in b"x\r\n.\r":
        buffer.feed(bytes([octet]))
        assert buffer.take_body(100) is None
    buffer.feed(b"\n+OK")
    assert buffer.take_body(100) == b"x\r\n"
    assert buffer.peek(3) == b"+OK"


def test_nothing_of_a_large_body_is_kept() -> None:
    buffer = buffer_with(b"x" * 100_000 + b"\r\n.\r\n")
    buffer.take_body(10**6)
    assert buffer._data.__sizeof__() < 1000


def test_clear_forgets_what_was_searched() -> None:
    buffer = buffer_with(b"0123456789 no end")
    assert buffer.take_line(100) is None
    buffer.clear()
    buffer.feed(b"a\r\n")
    assert buffer.take_line(100) == b"a"


def test_a_dripping_peer_is_not_searched_from_the_start() -> None:
    """Count the octets that searches look at: they must grow with the data, not with its square."""
    looked_at = 0

    class CountingArray(bytearray):
        def find(self, sub: Any, start: Any = 0, end: Any = None) -> int:  # Any: as bytearray's own
            nonlocal looked_at
            looked_at += len(self) - start
            return super().find(sub, start, end)

    buffer = ReceiveBuffer()
    buffer._data = CountingArray()
    for _ in range(2000):
        buffer.feed(b"x" * 10)
        buffer.take_body(10**6)
    assert looked_at < 2000 * 10 * 2


def test_stuff_doubles_leading_dots_only() -> None:
    assert stuff(b".a\r\n..\r\nb.\r\n\n.c\r\n") == b"..a\r\n...\r\nb.\r\n\n.c\r\n"
    assert stuff(b"") == b""
