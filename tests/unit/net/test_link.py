"""A link's deadlines and its one death, on a clock that is moved by hand."""

from __future__ import annotations

import errno
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from mailferry.errors import (
    ConnectError,
    ConnectionLostError,
    ConnectRefusedError,
    ReadTimeoutError,
    TlsError,
    TransportError,
)
from mailferry.net.link import LEAST_RATE_OCTETS_PER_SECOND, Link, _connect_error
from support.fake_net import ENDPOINT, TIMEOUT_SECONDS, FakeLoop, FakeTransport

RATE = LEAST_RATE_OCTETS_PER_SECOND


class Owner:
    def __init__(self) -> None:
        self.heard = b""
        self.errors: list[TransportError] = []

    def data_received(self, data: bytes) -> None:
        self.heard += data

    def link_lost(self, error: TransportError) -> None:
        self.errors.append(error)


class Setup:
    def __init__(self, *, attached: bool = True) -> None:
        self.loop = FakeLoop()
        self.transport = FakeTransport()
        self.link = Link(ENDPOINT, self.loop)  # type: ignore[arg-type]  # all that it needs
        self.owner = Owner()
        self.link.connection_made(self.transport)
        if attached:
            self.link.attach(self.owner)

    def died_after(self, step: float = 0.25, limit: float = 10_000) -> float:
        start = self.loop.now
        while not self.owner.errors and self.loop.now - start < limit:
            self.loop.advance(step)
        return self.loop.now - start


def test_what_comes_before_there_is_an_owner_is_kept_in_order() -> None:
    setup = Setup(attached=False)
    setup.link.data_received(b"+OK ")
    setup.link.data_received(b"early\r\n")
    setup.link.connection_lost(None)
    setup.link.attach(setup.owner)
    assert setup.owner.heard == b"+OK early\r\n"
    setup.loop.advance(1)
    assert [type(error) for error in setup.owner.errors] == [ConnectionLostError]
    setup.link.attach(setup.owner)
    setup.loop.advance(1)
    assert len(setup.owner.errors) == 1


def test_what_may_come_before_there_is_an_owner_has_a_bound() -> None:
    setup = Setup(attached=False)
    for _ in range(1000):
        setup.link.data_received(b"x" * 1000)
    assert setup.transport.aborted
    setup.link.attach(setup.owner)
    setup.loop.advance(1)
    assert len(setup.owner.heard) < 100_000
    assert "unasked" in str(setup.owner.errors[0])


def test_a_silent_peer_dies_at_the_timeout() -> None:
    setup = Setup()
    setup.link.expect("the reply to STAT")
    assert setup.died_after() == pytest.approx(TIMEOUT_SECONDS, abs=0.3)
    (error,) = setup.owner.errors
    assert isinstance(error, ReadTimeoutError)
    assert str(error) == "peer.example.org:110: nothing came for 10 s while waiting for the reply to STAT"
    assert setup.transport.aborted
    assert setup.loop.pending == 0


def test_silence_is_allowed_while_nothing_is_awaited() -> None:
    setup = Setup()
    setup.link.expect("the reply to STAT")
    setup.link.expect_nothing()
    setup.loop.advance(100 * TIMEOUT_SECONDS)
    assert not setup.owner.errors
    setup.link.expect("the reply to LIST")
    assert setup.died_after() == pytest.approx(TIMEOUT_SECONDS, abs=0.3)


def test_a_new_reply_has_the_whole_time_again() -> None:
    setup = Setup()
    for _ in range(5):
        setup.link.expect("a reply")
        setup.loop.advance(TIMEOUT_SECONDS * 0.9)
    assert not setup.owner.errors


def test_a_shorter_timeout_counts_at_once() -> None:
    setup = Setup()
    setup.link.expect("a reply")
    setup.link.expect("the reply to QUIT", 1.0)
    assert setup.died_after() == pytest.approx(1.0, abs=0.3)


def test_a_longer_timeout_counts_too() -> None:
    setup = Setup()
    setup.link.expect("a reply")
    setup.link.expect("the reply to the end of the data", 60.0)
    assert setup.died_after() == pytest.approx(60.0, abs=0.3)


@pytest.mark.parametrize("octets_per_second", [1, 20, RATE // 2])
def test_a_dripping_peer_dies_soon_after_the_timeout(octets_per_second: int) -> None:
    setup = Setup()
    setup.link.reply_octets = lambda: len(setup.owner.heard)
    setup.link.expect("the reply to RETR")
    start = setup.loop.now
    while not setup.owner.errors and setup.loop.now < start + 1000:
        setup.loop.advance(1 / octets_per_second)
        setup.link.data_received(b"x")
    lasted = setup.loop.now - start
    assert TIMEOUT_SECONDS <= lasted <= TIMEOUT_SECONDS / (1 - octets_per_second / RATE) + 1
    assert "the reply was not complete" in str(setup.owner.errors[0])


def test_a_long_reply_at_a_decent_rate_passes() -> None:
    setup = Setup()
    setup.link.reply_octets = lambda: len(setup.owner.heard)
    setup.link.expect("the reply to RETR")
    for _ in range(int(20 * TIMEOUT_SECONDS)):
        setup.loop.advance(1.0)
        setup.link.data_received(b"x" * (RATE + 1))
    assert not setup.owner.errors


def test_a_fast_start_does_not_excuse_silence() -> None:
    setup = Setup()
    setup.link.reply_octets = lambda: len(setup.owner.heard)
    setup.link.expect("the reply to RETR")
    setup.link.data_received(b"x" * RATE * 1000)
    assert setup.died_after() == pytest.approx(TIMEOUT_SECONDS, abs=0.3)
    assert "nothing came" in str(setup.owner.errors[0])


def test_a_slow_reader_of_an_upload_is_tolerated_while_it_moves() -> None:
    setup = Setup()
    setup.transport.unsent = 100 * RATE * int(TIMEOUT_SECONDS)
    setup.link.write([b"content"])
    setup.link.expect("the reply to the end of the data")
    for _ in range(20 * int(TIMEOUT_SECONDS)):
        setup.loop.advance(1.0)
        setup.transport.unsent -= 2 * RATE
    assert not setup.owner.errors


@pytest.mark.parametrize("octets_per_second", [0, 1, RATE // 2])
def test_a_reader_that_stops_or_sips_is_given_up(octets_per_second: int) -> None:
    setup = Setup()
    setup.transport.unsent = 10_000_000
    setup.link.write([b"content"])
    setup.link.expect("the reply to the end of the data")
    start = setup.loop.now
    while not setup.owner.errors and setup.loop.now < start + 1000:
        setup.loop.advance(1.0)
        setup.transport.unsent -= octets_per_second
    assert TIMEOUT_SECONDS <= setup.loop.now - start <= 1.3 * TIMEOUT_SECONDS


def test_what_is_taken_at_once_does_not_double_the_time() -> None:
    setup = Setup()
    setup.transport.unsent = 10_000_000
    setup.link.write([b"content"])
    setup.transport.unsent = 0
    setup.link.expect("the reply to the end of the data")
    assert TIMEOUT_SECONDS <= setup.died_after() <= 1.3 * TIMEOUT_SECONDS


def test_a_reader_in_bursts_counts_by_its_average() -> None:
    setup = Setup()
    setup.transport.unsent = 10_000_000
    setup.link.write([b"content"])
    setup.link.expect("the reply to the end of the data")
    for _ in range(20):
        setup.loop.advance(TIMEOUT_SECONDS * 0.6)
        setup.transport.unsent -= int(RATE * TIMEOUT_SECONDS)
    assert not setup.owner.errors


def test_an_unexpected_end_is_told_once() -> None:
    setup = Setup()
    setup.link.expect("the reply to NOOP")
    setup.link.connection_lost(ConnectionResetError("reset by peer"))
    setup.link.connection_lost(None)
    setup.link.fail(ConnectionLostError("again"))
    setup.loop.advance(100)
    (error,) = setup.owner.errors
    assert str(error) == (
        "peer.example.org:110: connection lost while waiting for the reply to NOOP: reset by peer"
    )


def test_a_link_that_died_before_it_had_an_owner_tells_it() -> None:
    setup = Setup(attached=False)
    setup.link.connection_lost(None)
    setup.link.expect("the greeting")
    setup.link.attach(setup.owner)
    assert not setup.owner.errors  # not from within attach
    setup.loop.advance(100 * TIMEOUT_SECONDS)
    assert [type(error) for error in setup.owner.errors] == [ConnectionLostError]
    assert setup.loop.pending == 0


def test_closing_tells_nobody_and_may_be_repeated() -> None:
    setup = Setup()
    setup.link.expect("a reply")
    setup.link.close()
    setup.link.close()
    setup.link.connection_lost(None)
    setup.link.data_received(b"late")
    setup.link.write([b"late"])
    setup.link.expect("a reply that cannot come")
    assert setup.loop.pending == 0
    setup.loop.advance(100)
    assert not setup.owner.errors
    assert not setup.owner.heard
    assert not setup.transport.written


def test_failing_twice_tells_the_first_reason() -> None:
    setup = Setup()
    setup.link.fail(ConnectionLostError("first"))
    setup.link.fail(ConnectionLostError("second"))
    setup.link.close()
    assert [str(error) for error in setup.owner.errors] == ["first"]


def test_buffers_leave_in_order_as_one_write() -> None:
    setup = Setup()
    setup.link.write([b"a", b"b", b"c"])
    setup.link.write([b"d"])
    assert setup.transport.written == b"abcd"
    assert setup.transport.writes == 2


async def test_tls_on_a_dead_link_is_a_lost_connection() -> None:
    setup = Setup()
    setup.link.close()
    with pytest.raises(ConnectionLostError, match="before the TLS handshake"):
        await setup.link.start_tls()


def test_an_ipv6_address_stands_in_brackets() -> None:
    assert str(replace(ENDPOINT, host="::1")) == "[::1]:110"


# --- what is said when there is no connection ------------------------------------


@pytest.mark.parametrize(
    ("error", "source", "advice"),
    [
        (socket.gaierror(socket.EAI_NONAME, "unknown"), None, "Check host, and this machine's name service"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), None, "Nothing listens there: check host and port"),
        (
            OSError(errno.EADDRNOTAVAIL, "x"),
            "192.0.2.9",
            "source_address 192.0.2.9 is not an address of this machine",
        ),
        (OSError(errno.ENETUNREACH, "x"), None, "no route to it from here"),
        (OSError(errno.EHOSTUNREACH, "x"), None, "no route to it from here"),
        (OSError("Multiple exceptions: this, that"), None, "that. Check host and port"),
        (OSError("no matching local address"), "::1", "Check host, port and source_address"),
    ],
)
def test_a_failed_connection_says_what_to_do(error: OSError, source: str | None, advice: str) -> None:
    told = _connect_error(replace(ENDPOINT, source_address=source), error, False)
    assert isinstance(told, ConnectError)
    assert str(told).startswith("peer.example.org:110: cannot connect: ")
    assert advice in str(told)


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOENT, "No such file or directory. There is no such socket: check socket"),
        (errno.ECONNREFUSED, "Connection refused. Nothing listens there: check socket"),
        (errno.EACCES, "Permission denied. This user may not use it"),
        (errno.EMFILE, "Too many open files"),
    ],
)
def test_a_unix_socket_that_cannot_be_had_says_what_to_do(number: int, advice: str) -> None:
    told = _connect_error(replace(ENDPOINT, socket=Path("/run/lmtp")), OSError(number, "x"), False)
    assert isinstance(told, ConnectError)
    assert isinstance(told, ConnectRefusedError) == (number == errno.ECONNREFUSED)
    assert str(told).startswith(f"/run/lmtp: cannot connect: {advice}")


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EADDRNOTAVAIL])
def test_what_no_setting_can_mend_comes_without_advice(number: int) -> None:
    told = str(_connect_error(ENDPOINT, OSError(number, "x"), False))
    assert "heck" not in told
    assert "source_address" not in told


def test_a_reset_while_tls_was_to_begin_is_a_failed_handshake() -> None:
    assert isinstance(_connect_error(ENDPOINT, ConnectionResetError("reset"), True), TlsError)


def test_a_connection_that_was_given_away_is_left_alone() -> None:
    setup = Setup()
    setup.link.expect("a reply")
    assert setup.link.release() is setup.transport
    setup.loop.advance(10 * TIMEOUT_SECONDS)
    setup.link.close()
    assert (setup.owner.errors, setup.transport.aborted) == ([], False)
    with pytest.raises(ConnectionLostError):
        setup.link.release()


def test_a_dead_connection_cannot_be_given_away() -> None:
    setup = Setup()
    setup.link.connection_lost(None)
    with pytest.raises(ConnectionLostError):
        setup.link.release()
