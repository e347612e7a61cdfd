"""A next hop reached by SMTP: deliveries share a few long-lived sessions.

How many sessions. One is kept as long as it moves: then at most one message is
between its final dot and our row when the process dies, and that one alone can be
doubled. Another is opened when work waits and no session has finished anything
for a while: one slow message (a scanner, greylisting) must not hold up the rest.
`max_sessions` caps it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from mailferry.destinations.letter import Envelope, compose
from mailferry.errors import LocalProtocolError, MailferryError
from mailferry.model import (
    Deferred,
    Delivery,
    DeliveryReport,
    DestinationName,
    Outcome,
    Scope,
)
from mailferry.policy.classify import classify_transaction
from mailferry.protocol.smtp_features import SmtpFeatures
from mailferry.protocol.smtp_transaction import Transaction, TransactionFinished

_bugs = logging.getLogger("mailferry.bugs")

PATIENCE_SECONDS = 1.0
"""Without progress for this long, another session is opened for what waits."""

IDLE_SECONDS = 10.0
"""A session with nothing to do is kept this long for the next message."""

EXTRA_PAUSE_SECONDS = 10.0
"""After a further session could not be had, none is asked for during this time."""


class Session(Protocol):
    """What the destination needs of an SMTP session."""

    on_change: Callable[[], None]

    @property
    def failure(self) -> MailferryError | None:
        """Why it died, or None."""

    @property
    def transactions(self) -> int:
        """How many were begun."""

    @property
    def features(self) -> SmtpFeatures:
        """What the next hop offers."""

    @property
    def can_begin(self) -> bool:
        """Whether a transaction can begin now."""

    @property
    def idle(self) -> bool:
        """Whether no transaction is under way."""

    def begin(self, transaction: Transaction, finished: Callable[[TransactionFinished], None]) -> None:
        """Begin a transaction; raises LocalProtocolError for an unusable address."""

    async def quit(self) -> None:
        """End the session; never raises."""


class Connector(Protocol):
    """Opens sessions."""

    async def open(self) -> Session:
        """Raises MailferryError when there is none to be had."""


@dataclass(frozen=True, slots=True)
class SmtpLimits:
    """Caps of one destination."""

    max_sessions: int = 8
    messages_per_session: int = 1000


class SmtpDestination:
    """Implements `ports.Destination`."""

    available = True  # its `Route` knows better

    def __init__(
        self, name: DestinationName, connector: Connector, envelope: Envelope, limits: SmtpLimits
    ) -> None:
        self.name = name
        self._connector = connector
        self._envelope = envelope
        self._limits = limits
        self._waiting: deque[Delivery] = deque()
        self._sessions: list[Session] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._moved_at = 0.0
        self._no_extra_before = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._dispatching = False
        self._draining = False
        self._drained = asyncio.Event()

    def submit(self, delivery: Delivery) -> None:
        """Take an order."""
        if self._draining:
            delivery.done(_untried("the daemon is stopping"))
            return
        self._waiting.append(delivery)
        self._dispatch()

    async def drain(self) -> None:
        """Refuse what waits, let what is under way finish, close the sessions."""
        self._draining = True
        self._refuse_waiting("the daemon is stopping")
        for task in self._opening:
            task.cancel()
        self._note_drained()
        await self._drained.wait()
        for session in list(self._sessions):
            self._close(session)
        await asyncio.gather(*self._opening, *self._closing, return_exceptions=True)
        if self._timer is not None:
            self._timer.cancel()

    # Handing work to sessions

    def _dispatch(self) -> None:
        if self._dispatching:  # a session may call back from within `begin`
            return
        self._dispatching = True
        try:
            self._drop_spent_sessions()
            for session in list(self._sessions):
                while self._waiting and self._may_begin(session):
                    self._begin(session, self._waiting.popleft())
            self._open_if_needed()
            self._watch()
        finally:
            self._dispatching = False
        self._note_drained()

    def _note_drained(self) -> None:
        if self._draining and all(session.idle for session in self._sessions):
            self._drained.set()

    def _may_begin(self, session: Session) -> bool:
        return session.can_begin and session.transactions < self._limits.messages_per_session

    def _begin(self, session: Session, delivery: Delivery) -> None:
        outcome: Outcome | None
        try:
            outcome = self._try_begin(session, delivery)
        except LocalProtocolError as error:
            outcome = Deferred(Scope.MESSAGE, str(error))
        except Exception as error:  # noqa: BLE001  one message that trips a bug of ours must not hold up the others
            _bugs.exception("message %s for %s", delivery.message.message_id, self.name)
            outcome = Deferred(Scope.MESSAGE, f"internal error: {error!r}")
        if outcome is not None:
            delivery.done(DeliveryReport(outcome))

    def _try_begin(self, session: Session, delivery: Delivery) -> Outcome | None:
        """Begin; or return what there is to say of the delivery without asking the next hop."""
        letter = compose(delivery, self._envelope, session.features)
        if not isinstance(letter, Transaction):
            return letter
        if session.idle:
            self._moved_at = self._now()  # patience counts from here, not from the last message of long ago
        fresh = session.transactions == 0
        session.begin(letter, lambda finished: self._finished(session, delivery, finished, fresh=fresh))
        return None

    def _finished(
        self, session: Session, delivery: Delivery, finished: TransactionFinished, *, fresh: bool
    ) -> None:
        self._moved_at = self._now()
        if not _session_was_over(finished) or fresh:
            delivery.done(_with_cause(classify_transaction(finished), finished, session.failure))
        elif self._draining:
            delivery.done(_untried("the daemon is stopping"))
        else:
            # The next hop had closed an idle session, or had enough of this one:
            # nothing was refused. A new session's failure is told as one, so this ends.
            self._waiting.appendleft(delivery)

    # Sessions

    def _open_if_needed(self) -> None:
        if not self._waiting or self._draining:
            return
        under_way = len(self._sessions) + len(self._opening)
        now = self._now()
        stuck = (
            now - self._moved_at >= PATIENCE_SECONDS and now >= self._no_extra_before and not self._opening
        )
        if under_way == 0 or (stuck and under_way < self._limits.max_sessions):
            self._moved_at = now
            task = asyncio.get_running_loop().create_task(self._open())
            self._opening.add(task)
            task.add_done_callback(self._opened)

    async def _open(self) -> None:
        try:
            session = await self._connector.open()
        except (MailferryError, OSError) as error:
            self._no_session(error)
            return
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
            self._refuse_waiting(str(reason), attempted=True)

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

    def _refuse_waiting(self, reason: str, *, attempted: bool = False) -> None:
        waiting, self._waiting = self._waiting, deque()
        for delivery in waiting:
            delivery.done(DeliveryReport(Deferred(Scope.NEXT_HOP, reason, attempted=attempted)))


def _session_was_over(finished: TransactionFinished) -> bool:
    reply = finished.sender_reply
    return not finished.content_sent and (reply is None or reply.code == 421)


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
