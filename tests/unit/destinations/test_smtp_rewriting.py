"""Messages that must be written anew: in a thread, one at a time, and each is told of once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailferry.destinations import smtp as module
from mailferry.destinations.letter import Envelope, Rewrite, compose
from mailferry.destinations.smtp import SmtpDestination, SmtpLimits
from mailferry.errors import ConnectionLostError, MailferryError
from mailferry.message.rewriting import rewritten
from mailferry.message.spool import Spool
from mailferry.model import Content, Deferred, Delivered, DestinationName, PermanentFailure, Scope
from mailferry.protocol.smtp_features import SmtpFeatures
from mailferry.protocol.smtp_replies import SmtpReply
from mailferry.protocol.smtp_transaction import Transaction, TransactionFinished, read_pieces
from support.deliveries import Reports

OK = SmtpReply(250, "2.0.0", ("ok",))
LARGE = b"Subject: large\r\n\r\n" + "ünlösbar\r\n".encode() * 10_000
ENVELOPE = Envelope("original", ("bob@example.org",), "relay.example.net")


class SevenBitSession:
    """Takes one message at a time, in ASCII."""

    def __init__(self) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self.failure: MailferryError | None = None
        self.transactions = 0
        self.window = 1
        self.round_trips = 0
        self.round_trip_seconds = 0.0
        self.features = SmtpFeatures()
        self.taken: list[bytes] = []
        self._running: tuple[Transaction, Callable[[TransactionFinished], None]] | None = None

    @property
    def can_begin(self) -> bool:
        return self.failure is None and self._running is None

    @property
    def idle(self) -> bool:
        return self._running is None

    def begin(self, transaction: Transaction, finished: Callable[[TransactionFinished], None]) -> None:
        self.transactions += 1
        octets = b"".join(read_pieces(transaction.content))
        assert octets.isascii()
        self.taken.append(octets.split(b"Subject: ")[1].split(b"\r\n")[0])
        self._running = transaction, finished

    def finish(self) -> None:
        assert self._running is not None
        (transaction, finished), self._running = self._running, None
        finished(TransactionFinished(transaction, OK, (OK,), OK, content_sent=True, in_doubt=False))
        self.on_change()

    async def quit(self) -> None:
        self.failure = ConnectionLostError("quit")

    def fail(self, error: MailferryError) -> None:
        self.failure = error


class Connector:
    def __init__(self) -> None:
        self.sessions: list[SevenBitSession] = []

    async def open(self) -> SevenBitSession:
        self.sessions.append(SevenBitSession())
        return self.sessions[-1]


class Workshop:
    """Stands in for `rewritten`: works when it is told to, and counts."""

    def __init__(self) -> None:
        self.go = threading.Semaphore(0)
        self.begun = 0
        self.error: Exception | None = None

    def __call__(self, content: Content, spool: Spool | None, *, seven_bit: bool) -> Content:
        self.begun += 1
        assert threading.current_thread() is not threading.main_thread()
        assert self.go.acquire(timeout=5)
        if self.error is not None:
            raise self.error
        return rewritten(content, spool, seven_bit=seven_bit)


@pytest.fixture
def workshop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Workshop]:
    made = Workshop()
    monkeypatch.setattr(module, "rewritten", made)
    yield made
    made.go.release(100)


class Setup:
    def __init__(self, tmp_path: Path) -> None:
        self.connector = Connector()
        self.reports = Reports()
        self.hop = SmtpDestination(
            DestinationName("hop"), self.connector, ENVELOPE, SmtpLimits(), Spool(tmp_path, 1000)
        )

    def submit(self, *names: str) -> None:
        for name in names:
            content = LARGE.replace(b"large", name.encode(), 1) if name.startswith("large") else None
            self.hop.submit(self.reports.order(name, content))

    @property
    def session(self) -> SevenBitSession:
        return self.connector.sessions[-1]

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110  (a thread is waited for)
                await asyncio.sleep(0.001)


async def test_what_is_behind_goes_on_until_it_needs_the_same(tmp_path: Path, workshop: Workshop) -> None:
    setup = Setup(tmp_path)
    setup.submit("large-1", "small-1", "large-2", "small-2")
    await setup.until(lambda: workshop.begun and setup.connector.sessions and setup.session.taken)
    setup.session.finish()
    await asyncio.sleep(0.01)
    assert setup.session.taken == [b"small-1"]
    assert workshop.begun == 1
    workshop.go.release()
    await setup.until(lambda: len(setup.session.taken) == 2)
    setup.session.finish()
    await setup.until(lambda: workshop.begun == 2)
    workshop.go.release()
    for count in (3, 4):
        await setup.until(lambda count=count: len(setup.session.taken) == count)
        setup.session.finish()
    assert setup.session.taken[:2] == [b"small-1", b"large-1"]
    assert sorted(setup.session.taken[2:]) == [b"large-2", b"small-2"]
    assert not setup.reports.open
    await setup.hop.drain()


async def test_a_drain_gives_back_what_is_being_written_anew(tmp_path: Path, workshop: Workshop) -> None:
    setup = Setup(tmp_path)
    setup.submit("large-1", "large-2")
    await setup.until(lambda: workshop.begun)
    await setup.hop.drain()
    untried = Deferred(Scope.NEXT_HOP, "the daemon is stopping", attempted=False)
    assert [setup.reports.outcome(f"large-{number}") for number in (1, 2)] == [untried] * 2


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device"), "the message cannot be prepared: No space left on device"),
        (ZeroDivisionError("a bug"), "internal error: ZeroDivisionError"),
    ],
)
async def test_trouble_of_our_own_defers_that_message_only(
    tmp_path: Path, workshop: Workshop, error: Exception, words: str
) -> None:
    setup = Setup(tmp_path)
    workshop.error = error
    workshop.go.release()
    setup.submit("large", "small")
    await setup.until(lambda: setup.reports.by_name["large"])
    outcome = setup.reports.outcome("large")
    assert isinstance(outcome, Deferred)
    assert (outcome.scope, outcome.attempted) == (Scope.MESSAGE, True)
    assert words in outcome.reason
    await setup.until(lambda: setup.session.taken)
    setup.session.finish()
    assert isinstance(setup.reports.outcome("small"), Delivered)
    await setup.hop.drain()


def test_what_is_small_is_downgraded_at_once() -> None:
    order = Reports().order(content="Subject: x\r\n\r\nünlösbar\r\n".encode())
    assert isinstance(compose(order, ENVELOPE, SmtpFeatures()), Transaction)
    order = Reports().order(content=LARGE)
    assert compose(order, ENVELOPE, SmtpFeatures()) == Rewrite(seven_bit=True)
    assert isinstance(compose(order, ENVELOPE, SmtpFeatures(eight_bit_mime=True)), Transaction)


def test_what_is_too_large_to_be_re_encoded_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailferry.destinations.letter.DOWNGRADE_LIMIT_OCTETS", 70_000)
    outcome = compose(Reports().order(content=LARGE), ENVELOPE, SmtpFeatures())
    assert isinstance(outcome, PermanentFailure)
    assert outcome.scope is Scope.MESSAGE
    assert "8BITMIME" in outcome.reason
    assert "70000" in outcome.reason
