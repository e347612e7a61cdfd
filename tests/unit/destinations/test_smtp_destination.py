"""How deliveries are shared out among sessions, with sessions that do as the test says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from mailferry.destinations import smtp as module
from mailferry.destinations.letter import Envelope
from mailferry.destinations.smtp import SmtpDestination, SmtpLimits
from mailferry.errors import ConnectionLostError, HopError, LocalProtocolError, MailferryError, StoreError
from mailferry.model import (
    Deferred,
    Delivered,
    DeliveryReport,
    DestinationName,
    PermanentFailure,
    Scope,
)
from mailferry.protocol.smtp_features import SmtpFeatures
from mailferry.protocol.smtp_replies import SmtpReply
from mailferry.protocol.smtp_transaction import Transaction, TransactionFinished
from support.deliveries import Reports

OK = SmtpReply(250, "2.0.0", ("ok",))
BYE = SmtpReply(421, "4.3.2", ("enough",))
Finished = Callable[[TransactionFinished], None]


class FakeSession:
    """One transaction at a time, unless `overlapping`; finishes when told to."""

    def __init__(self, *, overlapping: bool = False) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self.failure: MailferryError | None = None
        self.transactions = 0
        self.round_trips = 2
        self.window = 1
        self.round_trip_seconds = 0.001
        self.features = SmtpFeatures()
        self.closing = False
        self.quits = 0
        self.dot_sent = False
        self.begun: list[str] = []
        self._room = 2 if overlapping else 1
        self.most_running = 0
        self._running: list[tuple[Transaction, Finished]] = []

    @property
    def can_begin(self) -> bool:
        return self.failure is None and not self.closing and len(self._running) < self._room + self.window - 1

    @property
    def idle(self) -> bool:
        return not self._running

    def begin(self, transaction: Transaction, finished: Finished) -> None:
        assert self.can_begin
        if "bad" in transaction.envelope_sender:
            raise LocalProtocolError("cannot be written")
        self.transactions += 1
        self.begun.append(transaction.content[1].split(b"\r\n")[0].decode().removeprefix("Subject: "))
        self._running.append((transaction, finished))
        self.most_running = max(self.most_running, len(self._running))

    def finish(self, reply: SmtpReply = OK) -> None:
        """Accept the oldest transaction, or refuse it at MAIL."""
        transaction, finished = self._running.pop(0)
        good = reply.positive
        recipients = (reply if good else None,) * len(transaction.recipients)
        finished(
            TransactionFinished(transaction, reply, recipients, reply if good else None, good, in_doubt=False)
        )
        self.on_change()

    def die(self, *, in_doubt: bool = False, sent: int = 1) -> None:
        """Lose the link; the oldest transactions may have been sent whole."""
        self.failure = ConnectionLostError("hop: gone")
        running, self._running = self._running, []
        for transaction, finished in running:
            got = OK if in_doubt else None
            recipients = (got,) * len(transaction.recipients)
            finished(TransactionFinished(transaction, got, recipients, None, in_doubt, in_doubt=in_doubt))
            sent -= 1
            in_doubt = in_doubt and sent > 0
        self.on_change()

    async def quit(self) -> None:
        self.quits += 1

    def fail(self, error: MailferryError) -> None:
        self.die(in_doubt=self.dot_sent)
        self.failure = error


class FakeConnector:
    """Opens when told to, or at once."""

    def __init__(
        self, *, overlapping: bool = False, at_once: bool = True, round_trip_seconds: float = 0.001
    ) -> None:
        self.round_trip_seconds = round_trip_seconds
        self.features = SmtpFeatures()
        self.sessions: list[FakeSession] = []
        self.asked = 0
        self.cancelled = 0
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self._overlapping = overlapping
        if at_once:
            self.gate.set()

    async def open(self) -> FakeSession:
        self.asked += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        self.sessions.append(FakeSession(overlapping=self._overlapping))
        self.sessions[-1].round_trip_seconds = self.round_trip_seconds
        self.sessions[-1].features = self.features
        return self.sessions[-1]


def destination(
    connector: FakeConnector, recipient: str = "bob@example.org", **limits: int
) -> SmtpDestination:
    envelope = Envelope("original", (recipient,), "relay.example.net")
    return SmtpDestination(DestinationName("hop"), connector, envelope, SmtpLimits(**limits))


async def turns(number: int = 5) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Move the destination's clock, and look again as its timer would."""
    offset = 0.0

    def now(_self: SmtpDestination) -> float:
        return asyncio.get_running_loop().time() + offset

    def advance(seconds: float) -> None:
        nonlocal offset
        offset += seconds

    monkeypatch.setattr(SmtpDestination, "_now", now)
    return advance


async def test_messages_go_one_after_the_other_over_one_session() -> None:
    connector, reports = FakeConnector(), Reports()
    hop = destination(connector)
    for name in ("a", "b", "c"):
        hop.submit(reports.order(name))
    await turns()
    (session,) = connector.sessions
    for begun in (["a"], ["a", "b"], ["a", "b", "c"]):
        assert session.begun == begun
        session.finish()
    assert {name: reports.outcome(name) for name in "abc"} == dict.fromkeys("abc", Delivered("250 2.0.0 ok"))
    await hop.drain()
    assert session.quits == 1


@pytest.mark.parametrize("overlapping", [True, False])
async def test_a_session_carries_no_more_than_its_share(overlapping: bool) -> None:
    connector, reports = FakeConnector(overlapping=overlapping), Reports()
    hop = destination(connector, messages_per_session=3)
    for number in range(8):
        hop.submit(reports.order(str(number)))
    for _ in range(30):
        await turns()
        for session in connector.sessions:
            if not session.idle:
                session.finish()
    assert not reports.open
    assert [len(session.begun) for session in connector.sessions] == [3, 3, 2]
    assert [session.quits for session in connector.sessions[:2]] == [1, 1]
    await hop.drain()


async def test_a_session_that_moves_is_enough(clock: Callable[[float], None]) -> None:
    connector, reports = FakeConnector(), Reports()
    hop = destination(connector)
    for number in range(5):
        hop.submit(reports.order(str(number)))
    await turns()
    for _ in range(5):
        clock(module.PATIENCE_SECONDS * 0.9)
        hop._look_again()
        await turns()
        connector.sessions[0].finish()
    assert connector.asked == 1
    await hop.drain()


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no time pass for the destination."""
    monkeypatch.setattr(SmtpDestination, "_now", lambda _self: 1000.0)


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize(("trip_seconds", "sessions"), [(0.02, 3), (0.001, 1)])
async def test_a_next_hop_far_away_gets_sessions_at_once_and_no_more_than_allowed(
    trip_seconds: float, sessions: int
) -> None:
    connector, reports = FakeConnector(round_trip_seconds=trip_seconds), Reports()
    hop = destination(connector, max_sessions=3)
    for number in range(9):
        hop.submit(reports.order(str(number)))
    await turns(10)
    assert connector.asked == sessions
    for _ in range(9):
        for session in connector.sessions:
            if not session.idle:
                session.finish()
    assert not reports.open
    assert connector.asked == sessions
    await hop.drain()


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize(("trip_seconds", "most"), [(0.02, 3), (0.001, 1)])
async def test_a_next_hop_far_away_that_takes_bdat_gets_a_window_in_place_of_sessions(
    trip_seconds: float, most: int
) -> None:
    connector, reports = FakeConnector(round_trip_seconds=trip_seconds), Reports()
    connector.features = SmtpFeatures(chunking=True)
    hop = destination(connector, max_sessions=3)
    for number in range(9):
        hop.submit(reports.order(str(number)))
    await turns(10)
    (session,) = connector.sessions
    for _ in range(9):
        session.finish()
    assert session.most_running == most
    assert (connector.asked, bool(reports.open)) == (1, False)
    await hop.drain()


@pytest.mark.usefixtures("still")
async def test_a_link_that_breaks_with_several_messages_on_their_way_is_one_doubt() -> None:
    connector, reports = FakeConnector(overlapping=True), Reports()
    hop = destination(connector)
    for name in ("a", "b", "c"):
        hop.submit(reports.order(name))
    await turns()
    connector.sessions[0].die(in_doubt=True, sent=2)
    await turns()
    assert connector.asked == 2  # what waited was not given back
    connector.sessions[1].finish()
    assert reports.outcome("c") == Delivered("250 2.0.0 ok")
    await hop.drain()


@pytest.mark.usefixtures("still")
async def test_a_further_session_that_was_refused_is_not_asked_for_again_soon() -> None:
    connector, reports = FakeConnector(round_trip_seconds=0.02), Reports()
    hop = destination(connector, max_sessions=3)
    hop.submit(reports.order("first"))
    await turns()
    connector.error = HopError("too many sessions")
    for number in range(9):
        hop.submit(reports.order(str(number)))
    await turns(10)
    assert connector.asked == 3
    for _ in range(10):
        connector.sessions[0].finish()
        await turns()
    assert (connector.asked, bool(reports.open)) == (3, False)
    await hop.drain()


async def test_a_stuck_session_gets_company_up_to_the_cap(clock: Callable[[float], None]) -> None:
    connector, reports = FakeConnector(), Reports()
    hop = destination(connector, max_sessions=3)
    for number in range(9):
        hop.submit(reports.order(str(number)))
    asked = []
    for _ in range(6):
        await turns()
        asked.append(connector.asked)
        clock(module.PATIENCE_SECONDS * 1.1)
        hop._look_again()
    assert asked == [1, 2, 3, 3, 3, 3]
    assert [session.begun for session in connector.sessions] == [["0"], ["1"], ["2"]]
    for session in connector.sessions:
        session.finish()
    assert [len(session.begun) for session in connector.sessions] == [2, 2, 2]
    for session in connector.sessions:
        session.die()
    for _ in range(6):
        await turns()
        for session in connector.sessions:
            if not session.idle:
                session.finish()
    assert not reports.open
    assert connector.asked == 4  # those that moved were enough
    await hop.drain()


async def test_opening_takes_its_time_without_being_called_stuck(clock: Callable[[float], None]) -> None:
    connector, reports = FakeConnector(at_once=False), Reports()
    hop = destination(connector)
    hop.submit(reports.order("a"))
    hop.submit(reports.order("b"))
    await turns()
    clock(module.PATIENCE_SECONDS * 40)  # a long handshake
    hop._look_again()
    connector.gate.set()
    await turns()
    assert connector.asked == 1
    connector.sessions[0].finish()
    connector.sessions[0].finish()
    await hop.drain()


async def test_work_after_a_rest_is_not_called_stuck(clock: Callable[[float], None]) -> None:
    connector, reports = FakeConnector(), Reports()
    hop = destination(connector)
    hop.submit(reports.order("a"))
    await turns()
    connector.sessions[0].finish()
    clock(module.IDLE_SECONDS * 0.9)
    hop.submit(reports.order("b"))
    hop.submit(reports.order("c"))
    await turns()
    assert connector.asked == 1
    connector.sessions[0].finish()
    connector.sessions[0].finish()
    await hop.drain()


async def test_a_further_session_that_is_not_to_be_had_is_not_asked_for_all_the_time(
    clock: Callable[[float], None],
) -> None:
    connector, reports = FakeConnector(), Reports()
    hop = destination(connector)
    hop.submit(reports.order("a"))
    hop.submit(reports.order("b"))
    await turns()
    connector.error = HopError("too many connections")
    for _ in range(8):
        clock(module.PATIENCE_SECONDS * 1.1)
        hop._look_again()
        await turns()
    assert connector.asked == 2
    assert reports.open == {"a", "b"}  # the session that there is goes on
    clock(module.EXTRA_PAUSE_SECONDS)
    hop._look_again()
    await turns()
    assert connector.asked == 3
    connector.sessions[0].finish()
    connector.sessions[0].finish()
    assert not reports.open
    await hop.drain()


async def test_an_idle_session_is_given_up_after_a_while(clock: Callable[[float], None]) -> None:
    connector, reports = FakeConnector(), Reports()
    hop = destination(connector)
    hop.submit(reports.order("a"))
    await turns()
    connector.sessions[0].finish()
    clock(module.IDLE_SECONDS * 1.1)
    hop._look_again()
    await turns()
    assert connector.sessions[0].quits == 1
    hop.submit(reports.order("b"))
    await turns()
    assert connector.asked == 2
    connector.sessions[1].finish()
    await hop.drain()


# --- sessions that end -----------------------------------------------------------


async def test_who_met_a_closed_idle_session_goes_over_a_new_one() -> None:
    connector, reports = FakeConnector(), Reports()
    hop = destination(connector)
    hop.submit(reports.order("a"))
    await turns()
    connector.sessions[0].finish()
    hop.submit(reports.order("b"))
    connector.sessions[0].die()
    await turns()
    assert reports.open == {"b"}
    connector.sessions[1].finish()
    assert reports.outcome("b") == Delivered("250 2.0.0 ok")
    await hop.drain()


async def test_a_421_after_some_messages_is_no_failure() -> None:
    connector, reports = FakeConnector(), Reports()
    hop = destination(connector)
    hop.submit(reports.order("a"))
    hop.submit(reports.order("b"))
    await turns()
    connector.sessions[0].finish()
    connector.sessions[0].closing = True
    connector.sessions[0].finish(BYE)
    await turns()
    assert connector.sessions[0].quits == 1
    connector.sessions[1].finish()
    assert isinstance(reports.outcome("b"), Delivered)
    await hop.drain()


async def test_a_new_session_that_dies_at_its_first_message_is_told_as_a_failure_with_its_cause() -> None:
    connector, reports = FakeConnector(), Reports()
    hop = destination(connector)
    hop.submit(reports.order("a"))
    await turns()
    connector.sessions[0].die()
    reason = "the connection ended before the reply to MAIL: hop: gone"
    assert reports.outcome("a") == Deferred(Scope.NEXT_HOP, reason, in_transaction=True)
    assert connector.asked == 1
    await hop.drain()


async def test_only_the_message_that_was_sent_whole_is_in_doubt() -> None:
    connector, reports = FakeConnector(overlapping=True), Reports()
    hop = destination(connector)
    for name in ("a", "b", "c", "d"):
        hop.submit(reports.order(name))
    await turns()
    connector.sessions[0].finish()
    assert connector.sessions[0].begun == ["a", "b", "c"]
    connector.sessions[0].die(in_doubt=True)
    outcome = reports.outcome("b")
    assert isinstance(outcome, Deferred)
    assert outcome.in_doubt
    assert "hop: gone" in outcome.reason
    for _ in range(4):
        await turns()
        if not connector.sessions[1].idle:
            connector.sessions[1].finish()
    assert {name for name in "abcd" if isinstance(reports.outcome(name), Delivered)} == {"a", "c", "d"}
    assert sorted(connector.sessions[1].begun) == ["c", "d"]
    await hop.drain()


@pytest.mark.parametrize("how", ["dead", "closing"])
async def test_a_door_that_opens_and_shuts_is_told_as_a_failure(how: str) -> None:
    connector, reports = FakeConnector(at_once=False), Reports()
    opened: list[FakeSession] = []

    async def open_and_shut() -> FakeSession:
        session = FakeSession()
        session.closing = how == "closing"
        session.failure = ConnectionLostError("hop: shut") if how == "dead" else None
        opened.append(session)
        return session

    connector.open = open_and_shut  # type: ignore[method-assign]
    hop = destination(connector)
    hop.submit(reports.order("a"))
    await turns(50)
    assert len(opened) == 1
    outcome = reports.outcome("a")
    assert isinstance(outcome, Deferred)
    assert outcome.scope is Scope.NEXT_HOP
    assert outcome.attempted
    assert ("shut" if how == "dead" else "ended the session before any message") in outcome.reason
    await hop.drain()


@pytest.mark.parametrize("error", [HopError("454 no TLS"), ConnectionLostError("gone"), OSError("what")])
async def test_no_session_is_a_failure_of_the_route_for_all_who_wait(error: Exception) -> None:
    connector, reports = FakeConnector(), Reports()
    connector.error = error
    hop = destination(connector)
    for name in ("a", "b"):
        hop.submit(reports.order(name))
    await turns()
    assert reports.outcome("a") == reports.outcome("b") == Deferred(Scope.NEXT_HOP, str(error))
    assert connector.asked == 1
    connector.error = None
    hop.submit(reports.order("c"))
    await turns()
    connector.sessions[0].finish()
    await hop.drain()


async def test_a_bug_while_opening_keeps_nobody_waiting() -> None:
    connector, reports = FakeConnector(), Reports()
    connector.error = RuntimeError("a bug")
    hop = destination(connector)
    hop.submit(reports.order("a"))
    await turns()
    assert "a bug" in str(reports.outcome("a"))
    await hop.drain()


# --- messages of their own kind ------------------------------------------------------


async def test_an_address_that_cannot_be_written_blames_the_message_alone() -> None:
    connector, reports = FakeConnector(), Reports()
    hop = destination(connector)
    hop.submit(reports.order("a", sender="bad@example.org"))
    hop.submit(reports.order("b"))
    await turns()
    assert reports.outcome("a") == Deferred(Scope.MESSAGE, "cannot be written")
    assert connector.sessions[0].begun == ["b"]
    connector.sessions[0].finish()
    await hop.drain()


async def test_a_bug_in_composing_blames_the_message_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_arguments: object) -> None:
        raise ValueError("a bug")

    connector, reports = FakeConnector(), Reports()
    hop = destination(connector)
    with monkeypatch.context() as patch:
        patch.setattr(module, "compose", broken)
        hop.submit(reports.order("a"))
        await turns()
    assert "internal error" in str(reports.outcome("a"))
    assert "message 1 for hop" in caplog.text
    hop.submit(reports.order("b"))
    connector.sessions[0].finish()
    assert isinstance(reports.outcome("b"), Delivered)
    await hop.drain()


async def test_what_can_never_be_taken_costs_no_transaction() -> None:
    connector, reports = FakeConnector(), Reports()
    hop = destination(connector, "боб@example.org")  # and no SMTPUTF8 there
    hop.submit(reports.order("a"))
    hop.submit(reports.order("b", settled=["боб@example.org"]))
    await turns()
    assert isinstance(reports.outcome("a"), PermanentFailure)
    assert isinstance(reports.outcome("b"), Delivered)
    assert connector.sessions[0].transactions == 0
    await hop.drain()


async def test_a_report_that_brings_the_next_order_does_not_recurse_away() -> None:
    connector, reports = FakeConnector(), Reports()
    hop = destination(connector)
    left = 3000

    def again(_report: DeliveryReport) -> None:
        nonlocal left
        left -= 1
        if left:
            order = Reports().order("x", sender="bad")
            hop.submit(type(order)(order.message, again))

    first = reports.order("x", sender="bad")
    hop.submit(type(first)(first.message, again))
    await turns()
    assert left == 0
    await hop.drain()


async def test_an_owner_that_raises_is_told_once() -> None:
    connector, reports = FakeConnector(), Reports()
    hop = destination(connector)
    hop.submit(reports.order("a"))
    await turns()
    connector.sessions[0].finish()
    connector.sessions[0].features = SmtpFeatures(size_limit=1)
    told: list[DeliveryReport] = []

    def done(report: DeliveryReport) -> None:
        told.append(report)
        raise StoreError("disk full")

    order = Reports().order("b")
    with pytest.raises(StoreError):
        hop.submit(type(order)(order.message, done))
    assert len(told) == 1
    await hop.drain()


# --- draining -------------------------------------------------------------------


async def test_draining_at_rest_ends_the_session() -> None:
    connector, reports = FakeConnector(), Reports()
    hop = destination(connector)
    hop.submit(reports.order("a"))
    await turns()
    connector.sessions[0].finish()
    await hop.drain()
    await hop.drain()
    assert connector.sessions[0].quits == 1
    hop.submit(reports.order("late"))
    assert reports.outcome("late") == Deferred(Scope.NEXT_HOP, "the daemon is stopping", attempted=False)


async def test_draining_before_anything_happened_is_quick() -> None:
    await destination(FakeConnector()).drain()


async def test_draining_while_opening_cancels_it_and_blames_nobody() -> None:
    connector, reports = FakeConnector(at_once=False), Reports()
    hop = destination(connector)
    hop.submit(reports.order("a"))
    await turns()
    await hop.drain()
    assert connector.cancelled == 1
    assert reports.outcome("a") == Deferred(Scope.NEXT_HOP, "the daemon is stopping", attempted=False)


async def test_draining_waits_for_what_is_under_way_and_refuses_what_waits() -> None:
    connector, reports = FakeConnector(), Reports()
    hop = destination(connector)
    hop.submit(reports.order("a"))
    hop.submit(reports.order("b"))
    await turns()
    draining = asyncio.create_task(hop.drain())
    await turns()
    assert not draining.done()
    assert reports.outcome("b") == Deferred(Scope.NEXT_HOP, "the daemon is stopping", attempted=False)
    connector.sessions[0].finish()
    await draining
    assert isinstance(reports.outcome("a"), Delivered)
    assert connector.sessions[0].quits == 1


async def test_a_session_that_dies_while_draining_lets_it_end_and_pauses_no_route() -> None:
    connector, reports = FakeConnector(overlapping=True), Reports()
    hop = destination(connector)
    for name in ("a", "b", "c"):
        hop.submit(reports.order(name))
    await turns()
    connector.sessions[0].finish()
    draining = asyncio.create_task(hop.drain())
    await turns()
    connector.sessions[0].die(in_doubt=True)
    await draining
    assert reports.outcome("c") == Deferred(Scope.NEXT_HOP, "the daemon is stopping", attempted=False)
    in_doubt = reports.outcome("b")
    assert isinstance(in_doubt, Deferred)
    assert in_doubt.in_doubt


@pytest.mark.parametrize("dot_sent", [True, False])
async def test_a_drain_that_is_cut_off_tells_what_is_in_doubt_and_blames_nobody_else(
    *, dot_sent: bool
) -> None:
    connector, reports = FakeConnector(overlapping=True), Reports()
    hop = destination(connector)
    for name in ("a", "b"):
        hop.submit(reports.order(name))
    await turns()
    (session,) = connector.sessions
    session.dot_sent = dot_sent
    draining = asyncio.create_task(hop.drain())
    await turns()
    draining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await draining
    untried = Deferred(Scope.NEXT_HOP, "the daemon is stopping", attempted=False)
    first = reports.outcome("a")
    assert isinstance(first, Deferred)
    assert first.in_doubt == dot_sent
    assert dot_sent or first == untried
    assert reports.outcome("b") == untried
    assert (session.failure is not None, session.idle) == (True, True)
