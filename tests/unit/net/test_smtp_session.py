"""The SMTP driver over a fake wire: transactions, deadlines, and what becomes of them at the end."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from mailferry.errors import ConnectionLostError, LocalProtocolError, ReadTimeoutError, RemoteProtocolError
from mailferry.net.smtp_session import SmtpSession
from mailferry.protocol.smtp import SmtpConnection, Transaction, TransactionFinished
from mailferry.protocol.smtp_commands import Ehlo, Noop
from mailferry.protocol.smtp_transaction import Replied
from support.fake_net import TIMEOUT_SECONDS, FakeWire

OFFER = b"250-hop.example.org\r\n250-PIPELINING\r\n250 8BITMIME\r\n"
GREETING = b"220 hop.example.org\r\n"
FINAL_SECONDS = 600.0


def letter(name: str = "one", recipients: tuple[str, ...] = ("bob@example.org",)) -> Transaction:
    content = f"Subject: {name}\r\n\r\nhello\r\n".encode()
    return Transaction(name, "ann@example.org", recipients, (content,), len(content))


class Hop:
    """Answers as a server that takes everything; `replies` changes what is said to a verb."""

    def __init__(self, offer: bytes = OFFER, **replies: bytes) -> None:
        self.offer = offer
        self.replies = replies
        self.in_data = False
        self.silent = False

    def __call__(self, line: bytes) -> bytes:
        if self.in_data:
            self.in_data = line != b"."
            reply = b"" if self.in_data else self.replies.get("FINAL", b"250 2.0.0 taken\r\n")
            self.silent = not (self.in_data or reply)
            return reply
        if self.silent:
            return b""
        verb = line.split()[0].decode()
        if verb == "EHLO":
            return self.offer
        reply = self.replies.get(verb, b"354 go\r\n" if verb == "DATA" else b"250 ok\r\n")
        self.in_data = verb == "DATA" and reply.startswith(b"354")
        return reply


async def ready(wire: FakeWire) -> SmtpSession:
    session = SmtpSession(wire.link, SmtpConnection(), final_timeout_seconds=FINAL_SECONDS)
    await session.greeting()
    await session.ask(Ehlo("relay.example.org"))
    return session


async def turns(number: int = 6) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


def mute(wire: FakeWire) -> None:
    wire.transport.on_write = lambda _data: None


# --- transactions --------------------------------------------------------------


async def test_a_transaction_is_told_once_and_the_session_goes_on() -> None:
    wire = FakeWire(Hop(), greeting=GREETING)
    session = await ready(wire)
    finished: list[TransactionFinished] = []
    changes: list[bool] = []
    session.on_change = lambda: changes.append(session.idle)
    session.begin(letter("one"), finished.append)
    idle_at_once = session.idle
    await turns()
    session.begin(letter("two"), finished.append)
    await turns()
    assert not idle_at_once
    assert [each.transaction.tag for each in finished] == ["one", "two"]
    assert all(each.data_reply and each.data_reply.positive for each in finished)
    assert session.idle
    assert session.can_begin
    assert session.transactions == 2
    assert True in changes
    await session.quit()
    await session.quit()
    assert wire.lines[-1] == b"QUIT"
    assert wire.closed


async def test_an_unusable_address_leaves_the_session_alive() -> None:
    wire = FakeWire(Hop(), greeting=GREETING)
    session = await ready(wire)
    finished: list[TransactionFinished] = []
    with pytest.raises(LocalProtocolError):
        session.begin(letter(recipients=("bob@example.org>\r\nDATA",)), finished.append)
    assert session.idle
    assert session.transactions == 0
    session.begin(letter(), finished.append)
    await turns()
    assert len(finished) == 1


async def test_the_next_envelope_may_leave_while_the_content_before_is_being_stored() -> None:
    wire = FakeWire(Hop(FINAL=b""), greeting=GREETING)
    session = await ready(wire)
    waiting = [letter("two")]

    def feed() -> None:
        while waiting and session.can_begin:
            session.begin(waiting.pop(), lambda _finished: None)

    session.on_change = feed
    session.begin(letter("one"), lambda _finished: None)
    await turns()
    end = wire.lines.index(b".")
    assert wire.lines[end + 1 :] == [b"MAIL FROM:<ann@example.org>", b"RCPT TO:<bob@example.org>", b"DATA"]


async def test_a_dead_session_tells_every_transaction_which_one_is_in_doubt() -> None:
    wire = FakeWire(Hop(FINAL=b""), greeting=GREETING)
    session = await ready(wire)
    finished: list[TransactionFinished] = []
    session.begin(letter("one"), finished.append)
    await turns()
    session.begin(letter("two"), finished.append)
    await turns()
    wire.link.connection_lost(None)
    wire.link.connection_lost(None)
    assert [(each.transaction.tag, each.in_doubt) for each in finished] == [("one", True), ("two", False)]
    assert isinstance(session.failure, ConnectionLostError)
    assert session.idle
    assert not session.can_begin
    with pytest.raises(ConnectionLostError):
        await session.ask(Noop())


async def test_an_acceptance_in_the_octets_that_broke_the_protocol_counts() -> None:
    wire = FakeWire(Hop(FINAL=b"250 taken\r\nnonsense\r\n"), greeting=GREETING)
    session = await ready(wire)
    finished: list[TransactionFinished] = []
    session.begin(letter(), finished.append)
    await turns()
    (only,) = finished
    assert only.data_reply is not None
    assert only.data_reply.positive
    assert isinstance(session.failure, RemoteProtocolError)


# --- deadlines -----------------------------------------------------------------


def drip(wire: FakeWire, session: SmtpSession, octets: bytes, step: float) -> float:
    start = wire.loop.now
    for octet in octets:
        wire.receive(bytes([octet]))
        wire.loop.advance(step)
        if session.failure is not None:
            break
    return wire.loop.now - start


async def test_a_greeting_that_drips_dies_at_the_timeout() -> None:
    wire = FakeWire()
    session = SmtpSession(wire.link, SmtpConnection())
    waiting = asyncio.create_task(session.greeting())
    await turns()
    lasted = drip(wire, session, b"220 " + b"x" * 2000, TIMEOUT_SECONDS / 20)
    assert lasted == pytest.approx(TIMEOUT_SECONDS, rel=0.1)
    with pytest.raises(ReadTimeoutError, match="the greeting"):
        await waiting


async def test_a_reply_that_drips_dies_soon_after_the_timeout() -> None:
    wire = FakeWire(Hop(), greeting=GREETING)
    session = await ready(wire)
    mute(wire)
    finished: list[TransactionFinished] = []
    session.begin(letter(), finished.append)
    lasted = drip(wire, session, b"250-x\r\n" * 1000, TIMEOUT_SECONDS / 50)
    assert TIMEOUT_SECONDS <= lasted < 1.2 * TIMEOUT_SECONDS
    assert len(finished) == 1
    assert "while waiting for the reply to MAIL" in str(session.failure)


async def test_each_of_many_replies_has_its_own_time() -> None:
    wire = FakeWire(Hop(), greeting=GREETING)
    session = await ready(wire)
    mute(wire)
    recipients = tuple(f"r{number}@example.org" for number in range(10))
    session.begin(letter(recipients=recipients), lambda _finished: None)
    for _ in range(11):
        wire.loop.advance(TIMEOUT_SECONDS * 0.9)
        wire.receive(b"250 ok\r\n")
    assert session.failure is None
    wire.loop.advance(TIMEOUT_SECONDS * 1.1)
    assert "the reply to DATA" in str(session.failure)


async def test_the_end_of_the_data_has_ten_minutes() -> None:
    wire = FakeWire(Hop(FINAL=b""), greeting=GREETING)
    session = await ready(wire)
    finished: list[TransactionFinished] = []
    session.begin(letter(), finished.append)
    await turns()
    wire.loop.advance(FINAL_SECONDS - 1)
    assert not finished
    wire.loop.advance(2)
    assert [each.in_doubt for each in finished] == [True]
    assert "the reply to the end of the data" in str(session.failure)


async def test_the_wait_for_the_end_of_the_data_is_not_prolonged_by_the_next_message() -> None:
    wire = FakeWire(Hop(FINAL=b""), greeting=GREETING)
    session = await ready(wire)
    session.begin(letter("one"), lambda _finished: None)
    await turns()
    wire.loop.advance(FINAL_SECONDS - 1)
    session.begin(letter("two"), lambda _finished: None)
    wire.loop.advance(2)
    assert isinstance(session.failure, ReadTimeoutError)


async def test_an_idle_session_may_be_silent() -> None:
    wire = FakeWire(Hop(), greeting=GREETING)
    session = await ready(wire)
    session.begin(letter(), lambda _finished: None)
    await turns()
    wire.loop.advance(100 * TIMEOUT_SECONDS)
    assert session.failure is None


async def test_quit_gets_little_time_even_from_a_dripping_server() -> None:
    wire = FakeWire(Hop(), greeting=GREETING)
    session = await ready(wire)
    mute(wire)
    quitting = asyncio.create_task(session.quit())
    await turns()
    assert drip(wire, session, b"221-bye" * 1000, 0.5) <= 6
    await quitting


async def test_a_timeout_names_the_command() -> None:
    wire = FakeWire(Hop(), greeting=GREETING)
    session = await ready(wire)
    mute(wire)
    asked = asyncio.create_task(session.ask(Noop()))
    await turns()
    wire.loop.advance(TIMEOUT_SECONDS + 1)
    with pytest.raises(ReadTimeoutError, match="the reply to NOOP"):
        await asked


# --- ends ----------------------------------------------------------------------


async def test_quit_of_a_busy_session_drops_it() -> None:
    wire = FakeWire(Hop(FINAL=b""), greeting=GREETING)
    session = await ready(wire)
    finished: list[TransactionFinished] = []
    session.begin(letter(), finished.append)
    await turns()
    await session.quit()
    assert b"QUIT" not in wire.lines
    assert [each.in_doubt for each in finished] == [True]
    assert wire.closed


async def test_a_421_in_idleness_makes_the_session_unusable_and_says_so() -> None:
    wire = FakeWire(Hop(), greeting=GREETING)
    session = await ready(wire)
    changes: list[bool] = []
    session.on_change = lambda: changes.append(session.can_begin)
    wire.receive(b"421 4.4.2 idle too long\r\n")
    assert not session.can_begin
    assert changes == [False]


async def test_a_cancelled_opening_takes_a_greeting_that_comes_at_that_moment() -> None:
    wire = FakeWire()
    session = SmtpSession(wire.link, SmtpConnection())
    waiting = asyncio.create_task(session.greeting())
    await turns()
    waiting.cancel()
    wire.receive(GREETING)
    with contextlib.suppress(asyncio.CancelledError):
        await waiting


async def test_an_answer_after_its_asker_was_cancelled_is_dropped() -> None:
    wire = FakeWire(Hop(), greeting=GREETING)
    session = await ready(wire)
    mute(wire)
    asked = asyncio.create_task(session.ask(Noop()))
    await turns()
    asked.cancel()
    wire.receive(b"250 ok\r\n")
    with contextlib.suppress(asyncio.CancelledError):
        await asked
    wire.transport.on_write = lambda _data: wire.receive(b"250 again\r\n")
    answer = await session.ask(Noop())
    assert isinstance(answer, Replied)
    assert answer.reply.text == "again"


async def test_it_is_not_smtp() -> None:
    wire = FakeWire(greeting=b"+OK pop3 here\r\n")
    session = SmtpSession(wire.link, SmtpConnection())
    with pytest.raises(RemoteProtocolError):
        await session.greeting()
    assert wire.closed


# --- the round trip --------------------------------------------------------------


class _Watch:
    """A clock that is set by hand, in the place of the loop's."""

    def __init__(self) -> None:
        self.now = 0.0

    def time(self) -> float:
        return self.now

    def create_future(self) -> asyncio.Future[object]:
        return asyncio.get_running_loop().create_future()


async def test_the_shortest_reply_tells_how_far_the_next_hop_is() -> None:
    wire = FakeWire(greeting=GREETING)
    session = SmtpSession(wire.link, SmtpConnection())
    session._loop = watch = _Watch()  # type: ignore[assignment]  # all that is used of it
    await session.greeting()
    trips = []
    # EHLO; a message whose MAIL is quick and whose content is stored slowly; one that is slow at all.
    steps = [(0.5, OFFER), (0.25, b"250 ok\r\n" * 2), (0.0, b"354 go\r\n"), (8.0, b"250 taken\r\n")]
    asked = asyncio.create_task(session.ask(Ehlo("relay.example.org")))
    for seconds, reply in steps:
        await turns()
        watch.now += seconds
        wire.receive(reply)
        await turns()
        trips.append((session.round_trips, session.round_trip_seconds))
        if asked.done() and session.idle:
            session.begin(letter(), lambda _finished: None)
    assert trips == [(1, 0.5), (2, 0.25), (2, 0.25), (3, 0.25)]
    session.fail(ConnectionLostError("over"))
