"""A next hop reached by SMTP: deliveries share a few long-lived sessions.

How many sessions. One is kept as long as it moves: then at most one message is
between its final dot and our row when the process dies, and that one alone can be
doubled. Others are opened for two reasons. To a next hop far away a session carries one
message per round trip, so there `policy.session_count` says how many pay for what waits; where
all of them take BDAT, each is allowed several messages on their way instead.
And when work waits and no session has finished anything for a while: one slow message (a
scanner, greylisting) must not hold up the rest. `max_sessions` caps it.

A message that must be written anew first (`letter.Rewrite`) is, in a thread, one at
a time; a second one that needs it waits, and what is behind it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass, replace

from mailferry.destinations.letter import Envelope, Rewrite, compose
from mailferry.destinations.session import Connector, Session
from mailferry.errors import HopAuthenticationError, LocalProtocolError, MailferryError, TransportError
from mailferry.message.rewriting import rewritten
from mailferry.message.spool import Spool
from mailferry.model import (
    Content,
    Deferred,
    Delivered,
    Delivery,
    DeliveryReport,
    DestinationName,
    Outcome,
    Scope,
)
from mailferry.policy.classify import classify_transaction
from mailferry.policy.session_count import Pace, is_far, sessions_that_pay
from mailferry.protocol.smtp_transaction import Transaction, TransactionFinished

_bugs = logging.getLogger("mailferry.bugs")

PATIENCE_SECONDS = 1.0
"""Without progress for this long, another session is opened for what waits."""

IDLE_SECONDS = 10.0
"""A session with nothing to do is kept this long for the next message."""

EXTRA_PAUSE_SECONDS = 10.0
"""After a further session could not be had, none is asked for during this time."""

DOUBTS_IN_A_ROW = 2
"""One link may break after a final dot; two in a row say that this next hop never answers,
and each further message would be sent twice."""

HOP_DOWN = "the next hop takes no mail now"


@dataclass(frozen=True, slots=True)
class SmtpLimits:
    """Caps of one destination."""

    max_sessions: int = 8
    messages_per_session: int = 1000


@dataclass(slots=True, eq=False)
class _Order:
    """A delivery that waits for a session, and its content if that had to be written anew."""

    delivery: Delivery
    rewritten: Content | None = None


class SmtpDestination:
    """Implements `ports.Destination`.

    `spool` is where messages are written anew that came from a file.
    """

    available = True  # its `Route` knows better
    half_open = False

    def __init__(
        self,
        name: DestinationName,
        connector: Connector,
        envelope: Envelope,
        limits: SmtpLimits,
        spool: Spool | None = None,
    ) -> None:
        self.name = name
        self._connector = connector
        self._envelope = envelope
        self._limits = limits
        self._spool = spool
        self._rewriting: asyncio.Task[None] | None = None
        self._waiting: deque[_Order] = deque()
        self._sessions: list[Session] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._moved_at = 0.0
        self._no_extra_before = 0.0
        self._opening_seconds = 0.0
        """What it took to open the last session."""
        self._timer: asyncio.TimerHandle | None = None
        self._dispatching = False
        self._draining = False
        self._cut_off = False
        self._doubts = 0
        """Sessions in a row that left deliveries in doubt."""
        self._doubtful: Session | None = None
        """The last of them."""
        self._given_up: Session | None = None
        """The session whose end was the next hop's fault: what it had taken over goes nowhere else."""
        self._drained = asyncio.Event()

    def submit(self, delivery: Delivery) -> None:
        """Take an order."""
        if self._draining:
            delivery.done(_untried("the daemon is stopping"))
            return
        self._waiting.append(_Order(delivery))
        waiting = len(self._waiting)
        if not waiting & (waiting - 1) or self._timer is None:  # with each doubling sessions may be too few
            self._dispatch()  # else it is behind others, and whatever moves those moves it

    async def drain(self) -> None:
        """Refuse what waits, let what is under way finish, close the sessions."""
        self._draining = True
        self._refuse_waiting("the daemon is stopping")
        rewriting = () if self._rewriting is None else (self._rewriting,)
        for task in (*self._opening, *rewriting):
            task.cancel()
        self._note_drained()
        try:
            await self._drained.wait()
        except asyncio.CancelledError:
            # Out of patience. A message whose dot is sent is in doubt now, and its row must say so.
            self._cut_off = True
            for session in list(self._sessions):
                session.fail(TransportError("the daemon stopped before the reply came"))
            raise
        for session in list(self._sessions):
            self._close(session)
        await asyncio.gather(*self._opening, *self._closing, *rewriting, return_exceptions=True)
        if self._timer is not None:
            self._timer.cancel()

    # Handing work to sessions

    def _dispatch(self) -> None:
        if self._dispatching:  # a session may call back from within `begin`
            return
        self._dispatching = True
        try:
            self._drop_spent_sessions()
            self._hand_out()
            if self._waiting and self._sessions:
                self._widen()
            self._open_if_needed()
            self._watch()
        finally:
            self._dispatching = False
        self._note_drained()

    def _hand_out(self) -> None:
        for session in list(self._sessions):
            while self._waiting and self._may_begin(session):
                if not self._begin(session, self._waiting.popleft()):
                    break

    def _widen(self) -> None:
        """Let sessions to a next hop far away have several messages on their way: as many in all as sessions."""
        far = is_far(self._pace)
        window = max(self._limits.max_sessions // len(self._sessions), 1) if far else 1
        wider = [session for session in self._sessions if session.window < window]
        for session in self._sessions:
            session.window = window
        if wider:
            self._hand_out()

    @property
    def _pace(self) -> Pace:
        return Pace(
            waiting=len(self._waiting),
            replies=sum(session.round_trips for session in self._sessions),
            round_trip_seconds=min((s.round_trip_seconds for s in self._sessions), default=0.0),
            opening_seconds=self._opening_seconds,
        )

    def _note_drained(self) -> None:
        if self._draining and all(session.idle for session in self._sessions):
            self._drained.set()

    def _may_begin(self, session: Session) -> bool:
        return session.can_begin and session.transactions < self._limits.messages_per_session

    def _begin(self, session: Session, order: _Order) -> bool:
        """Give a message to a session; False when it has to wait, and what is behind it."""
        letter = self._try_begin(session, order)
        if isinstance(letter, Rewrite):
            return self._begin_rewriting(order, letter)
        if letter is not None:
            order.delivery.done(DeliveryReport(letter))
        return True

    def _try_begin(self, session: Session, order: _Order) -> Rewrite | Outcome | None:
        """Begin; or return what there is to do first, or to say without asking the next hop."""
        try:
            letter = compose(order.delivery, self._envelope, session.features, order.rewritten)
            if not isinstance(letter, Transaction):
                return letter
            self._begin_transaction(session, order, letter)
        except LocalProtocolError as error:
            return Deferred(Scope.MESSAGE, str(error))
        except Exception as error:  # noqa: BLE001  one message that trips a bug of ours must not hold up the others
            return self._own_trouble(order, error)
        return None

    def _own_trouble(self, order: _Order, error: Exception) -> Outcome:
        if isinstance(error, OSError):  # of the file that it lies in, or is written to
            reason = f"the message cannot be prepared: {error.strerror or error}"
            return Deferred(Scope.MESSAGE, reason)
        number = order.delivery.message.message_id
        _bugs.error("message %s for %s", number, self.name, exc_info=error)
        return Deferred(Scope.MESSAGE, f"internal error: {error!r}")

    def _begin_transaction(self, session: Session, order: _Order, letter: Transaction) -> None:
        if session.idle:
            self._moved_at = self._now()  # patience counts from here, not from the last message of long ago
        fresh = session.transactions == 0
        session.begin(letter, lambda finished: self._finished(session, order, finished, fresh=fresh))

    def _finished(
        self, session: Session, order: _Order, finished: TransactionFinished, *, fresh: bool
    ) -> None:
        self._moved_at = self._now()
        done = order.delivery.done
        if self._cut_off and not finished.content_sent:
            done(_untried("the daemon is stopping"))
        elif not _session_was_over(finished) or fresh:
            report = _with_cause(classify_transaction(finished), finished, session.failure)
            done(report)
            self._spare_those_behind(session, report)
        elif self._draining:
            done(_untried("the daemon is stopping"))
        elif session is self._given_up:
            done(_untried(HOP_DOWN))
        else:
            # The next hop had closed an idle session, or had enough of this one:
            # nothing was refused. A new session's failure is told as one, so this ends.
            self._waiting.appendleft(order)

    def _spare_those_behind(self, session: Session, report: DeliveryReport) -> None:
        """Give back what waits when it would only fare the same, each in a session of its own."""
        if isinstance(report.outcome, Delivered):
            self._doubts = 0
        elif isinstance(report.outcome, Deferred) and report.outcome.in_doubt:
            self._doubts += session is not self._doubtful
            self._doubtful = session
        if _blames_hop(report) or self._doubts >= DOUBTS_IN_A_ROW:
            self._given_up = session
            self._refuse_waiting(HOP_DOWN)

    # Writing a message anew

    def _begin_rewriting(self, order: _Order, letter: Rewrite) -> bool:
        if self._rewriting is not None:  # what is finished and not yet sent must not pile up
            self._waiting.appendleft(order)
            return False
        task = asyncio.get_running_loop().create_task(self._rewrite(order, letter))
        self._rewriting = task
        task.add_done_callback(self._rewrite_ended)
        return True

    async def _rewrite(self, order: _Order, letter: Rewrite) -> None:
        content = order.delivery.message.content
        outcome: Outcome | None = None
        try:
            order.rewritten = await asyncio.to_thread(
                rewritten, content, self._spool, seven_bit=letter.seven_bit
            )
        except asyncio.CancelledError:
            order.delivery.done(_untried("the daemon is stopping"))
            raise
        except Exception as error:  # noqa: BLE001  as in _try_begin
            outcome = self._own_trouble(order, error)
        if outcome is None:
            self._waiting.appendleft(order)
        else:
            order.delivery.done(DeliveryReport(outcome))

    def _rewrite_ended(self, _task: asyncio.Task[None]) -> None:
        self._rewriting = None
        if self._draining:
            self._refuse_waiting("the daemon is stopping")
        self._dispatch()

    # Sessions

    def _open_if_needed(self) -> None:
        if not self._waiting or self._draining:
            return
        under_way = len(self._sessions) + len(self._opening)
        wanted = max(1, min(self._wanted_sessions(under_way), self._limits.max_sessions))
        for _ in range(under_way, wanted):
            self._moved_at = self._now()
            task = asyncio.get_running_loop().create_task(self._open())
            self._opening.add(task)
            task.add_done_callback(self._opened)

    def _wanted_sessions(self, under_way: int) -> int:
        now = self._now()
        if under_way == 0 or now < self._no_extra_before or self._rewriting is not None:
            return 1
        stuck = now - self._moved_at >= PATIENCE_SECONDS and not self._opening
        if all(session.features.chunking for session in self._sessions):
            return under_way + stuck  # they have windows instead
        return max(under_way + stuck, sessions_that_pay(self._pace))

    async def _open(self) -> None:
        began = self._now()
        try:
            session = await self._connector.open()
        except (MailferryError, OSError) as error:
            self._no_session(error)
            return
        self._opening_seconds = self._now() - began
        session.on_change = self._dispatch
        self._sessions.append(session)
        self._moved_at = self._now()  # to open took time in which nothing could move

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._opening.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._refuse_waiting(f"internal error: {task.exception()!r}", attempted=True)
        self._dispatch()

    def _drop_spent_sessions(self) -> None:
        for session in list(self._sessions):
            spent = session.transactions >= self._limits.messages_per_session
            closing = session.idle and not session.can_begin
            if session.failure is not None:
                self._sessions.remove(session)
            elif session.idle and (spent or closing):
                self._close(session)
            else:
                continue
            if session.transactions == 0:
                # It let us in and closed the door again: the next one would, too.
                self._no_session(session.failure or "the next hop ended the session before any message")

    def _no_session(self, reason: object) -> None:
        """Wait with further sessions; without any there is nothing to wait for."""
        self._no_extra_before = self._now() + EXTRA_PAUSE_SECONDS
        if not self._sessions:
            credentials = isinstance(reason, HopAuthenticationError)
            self._refuse_waiting(str(reason), attempted=True, credentials=credentials)

    def _close(self, session: Session) -> None:
        self._sessions.remove(session)
        session.on_change = lambda: None
        task = asyncio.get_running_loop().create_task(session.quit())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    # Time

    def _watch(self) -> None:
        """Look again later: for progress if work waits, for idleness if none does."""
        if self._draining or not (self._sessions or self._waiting):
            return
        delay = PATIENCE_SECONDS if self._waiting else IDLE_SECONDS
        if self._timer is not None:
            if self._timer.when() <= self._now() + delay:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(delay, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        if not self._waiting and self._now() - self._moved_at >= IDLE_SECONDS:
            for session in [session for session in self._sessions if session.idle]:
                self._close(session)
        self._dispatch()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _refuse_waiting(self, reason: str, *, attempted: bool = False, credentials: bool = False) -> None:
        waiting, self._waiting = self._waiting, deque()
        outcome = Deferred(Scope.NEXT_HOP, reason, attempted=attempted, credentials=credentials)
        for order in waiting:
            order.delivery.done(DeliveryReport(outcome))


def _session_was_over(finished: TransactionFinished) -> bool:
    reply = finished.sender_reply
    return not finished.content_sent and (reply is None or reply.code == 421)


def _blames_hop(report: DeliveryReport) -> bool:
    return isinstance(report.outcome, Deferred) and report.outcome.scope is Scope.NEXT_HOP


def _with_cause(
    report: DeliveryReport, finished: TransactionFinished, failure: MailferryError | None
) -> DeliveryReport:
    """Say why the session ended, where that is why there is no verdict."""
    outcome = report.outcome
    if failure is None or finished.data_reply is not None or not isinstance(outcome, Deferred):
        return report
    return replace(report, outcome=replace(outcome, reason=f"{outcome.reason}: {failure}"))


def _untried(reason: str) -> DeliveryReport:
    return DeliveryReport(Deferred(Scope.NEXT_HOP, reason, attempted=False))
