"""Content that is read while it is sent: as fast as the transport takes it, and no faster."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from mailferry.net.smtp_session import SmtpSession
from mailferry.protocol.smtp import SmtpConnection, Transaction, TransactionFinished
from mailferry.protocol.smtp_commands import Ehlo
from support.fake_net import TIMEOUT_SECONDS, FakeWire

OFFER = b"250-hop.example.org\r\n250-PIPELINING\r\n250 8BITMIME\r\n"
CHUNKING_OFFER = b"250-hop.example.org\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 8BITMIME\r\n"
PIECE = b"x" * 262_142 + b"\r\n"
PIECES = 8


class Stream:
    """Pieces that are made when they are asked for; one may be unreadable."""

    def __init__(self, pieces: int = PIECES, unreadable: int | None = None, piece: bytes = PIECE) -> None:
        self.read = 0
        self._piece = piece
        self._pieces = pieces
        self._unreadable = unreadable

    def __len__(self) -> int:
        return len(self._piece) * self._pieces

    @property
    def ends_line(self) -> bool:
        return True

    def pieces(self) -> Iterator[bytes]:
        for number in range(self._pieces):
            if number == self._unreadable:
                raise OSError(5, "Input/output error")
            self.read += 1
            yield self._piece


class Setup:
    """A session that has been given a transaction with a stream; replies are fed by hand."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.wire = FakeWire()
        self.finished: list[TransactionFinished] = []

    async def begin(self, offer: bytes = OFFER) -> SmtpSession:
        session = self.session = SmtpSession(self.wire.link, SmtpConnection(), final_timeout_seconds=50.0)
        greeting = asyncio.create_task(session.greeting())
        await asyncio.sleep(0)
        self.wire.receive(b"220 hop\r\n")
        await greeting
        ehlo = asyncio.create_task(session.ask(Ehlo("relay.example.org")))
        await asyncio.sleep(0)
        self.wire.receive(offer)
        await ehlo
        content = (b"Received: x\r\n", self.stream)
        size = len(content[0]) + len(self.stream)
        session.begin(Transaction("m", "a@x.org", ("b@x.org",), content, size), self.finished.append)
        self.wire.transport.written.clear()
        self.wire.receive(b"250 ok\r\n250 ok\r\n" + (b"354 go\r\n" if offer == OFFER else b""))
        return session

    def take(self, turns: int = 1) -> None:
        """Let the event loop go round."""
        for _ in range(turns):
            self.wire.loop.advance(0)

    @property
    def written(self) -> int:
        return len(self.wire.transport.written)


@pytest.mark.parametrize("offer", [OFFER, CHUNKING_OFFER], ids=["DATA", "BDAT"])
async def test_a_piece_is_written_for_each_turn_and_the_last_one_counts(offer: bytes) -> None:
    setup = Setup(Stream())
    session = await setup.begin(offer)
    assert 0 < setup.written <= 2 * len(PIECE)
    while session.core.streaming:
        assert not session.core.in_doubt
        assert setup.stream.read * len(PIECE) - setup.written <= 2 * len(PIECE), "one ahead at most"
        setup.take()
    assert session.core.in_doubt
    setup.wire.receive(b"250 2.0.0 taken\r\n")
    assert [each.data_reply and each.data_reply.code for each in setup.finished] == [250]
    assert session.idle


async def test_a_transport_that_is_full_is_given_nothing_more() -> None:
    setup = Setup(Stream())
    session = await setup.begin()
    setup.wire.link.pause_writing()
    setup.take(20)
    before = setup.written
    setup.take(20)
    assert setup.written == before
    assert session.core.streaming
    setup.wire.link.resume_writing()
    assert setup.written > before
    setup.take(20)
    assert not session.core.streaming


async def test_what_is_begun_meanwhile_comes_behind() -> None:
    setup = Setup(Stream())
    session = await setup.begin()
    assert session.can_begin
    session.begin(Transaction("n", "c@x.org", ("d@x.org",), (b"x\r\n",), 3), setup.finished.append)
    setup.take(20)
    _, _, behind = bytes(setup.wire.transport.written).partition(b"\r\n.\r\n")
    assert behind == b"MAIL FROM:<c@x.org>\r\nRCPT TO:<d@x.org>\r\nDATA\r\n"


async def test_a_file_that_cannot_be_read_ends_the_session_and_nothing_is_in_doubt() -> None:
    setup = Setup(Stream(unreadable=3))
    session = await setup.begin()
    setup.take(20)
    (finished,) = setup.finished
    assert (finished.content_sent, finished.in_doubt, finished.data_reply) == (False, False, None)
    assert "cannot be read from its file: Input/output error" in str(session.failure)
    assert setup.wire.closed
    assert not setup.wire.transport.written.endswith(b".\r\n")


async def test_a_refusal_in_the_middle_counts_and_ends_the_session() -> None:
    setup = Setup(Stream())
    session = await setup.begin()
    setup.wire.receive(b"552 5.3.4 too large\r\n")
    (finished,) = setup.finished
    assert finished.data_reply is not None
    assert (finished.data_reply.code, finished.content_sent) == (552, False)
    assert session.failure is not None
    assert setup.wire.closed


async def test_a_yes_in_the_middle_is_believed_by_nobody() -> None:
    setup = Setup(Stream())
    session = await setup.begin()
    setup.wire.receive(b"250 taken\r\n")
    (finished,) = setup.finished
    assert finished.data_reply is None
    assert "answered before it was sent" in str(session.failure)


class Peer:
    """Takes what is written as told, and asks for more at once."""

    def __init__(self, setup: Setup) -> None:
        self._transport = setup.wire.transport
        self._link = setup.wire.link
        self._transport.on_write = self._more
        self._link.pause_writing()

    def _more(self, data: bytes) -> None:
        self._transport.unsent += len(data)

    def take(self, octets: int) -> None:
        self._transport.unsent -= min(octets, self._transport.unsent)
        self._link.resume_writing()
        self._link.pause_writing()


@pytest.mark.parametrize(("octets_per_second", "is_given_up"), [(250, True), (1000, False)])
async def test_what_a_next_hop_takes_on_average_decides(
    octets_per_second: int, is_given_up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time it has taken a little the next little is written: that is no progress by itself."""
    seconds = TIMEOUT_SECONDS * 2
    little = int(octets_per_second * seconds)
    monkeypatch.setattr("mailferry.protocol.smtp_pipeline.DRAIN_OCTETS", little)
    setup = Setup(Stream(pieces=200, piece=b"x" * (little - 2) + b"\r\n"))
    session = await setup.begin()
    peer = Peer(setup)
    started = setup.wire.loop.now
    while session.failure is None and setup.wire.loop.now - started < 100 * seconds:
        setup.wire.loop.advance(seconds)
        peer.take(little)
    assert (session.failure is not None) == is_given_up
    if is_given_up:
        assert setup.wire.loop.now - started < 4 * 50.0
        assert not setup.finished[0].in_doubt
