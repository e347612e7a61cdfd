"""The turns of one maildrop: never two at once, not before its pause is over, remembered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from mailferry.errors import LoginDelayedError, StoreError
from mailferry.events import (
    MaildropAuthRejected,
    MaildropFaultReported,
    MaildropRecovered,
    PollFailed,
    PollFinished,
)
from mailferry.model import LedgerRecord, MaildropName, StandingKind, StandingRecord
from mailferry.policy.backoff import AUTH_BACKOFF
from mailferry.policy.poll_result import Pauses, PollResult, poll_result, result_of, standing_text
from mailferry.ports import MaildropConnector
from mailferry.runtime.caps import SessionCaps
from mailferry.runtime.clock import JUMP_SECONDS
from mailferry.services.context import MaildropPolicy, Surroundings
from mailferry.services.memory import PollMemory
from mailferry.services.poll import Poll, PollReport
from mailferry.services.route import RouteStandings

_bugs = logging.getLogger("mailferry.bugs")


@dataclass(frozen=True, slots=True)
class Maildrop:
    """One configured maildrop, ready to be polled."""

    policy: MaildropPolicy
    connector: MaildropConnector


class Turns:
    """Polls one maildrop when asked to, and remembers how it fared."""

    def __init__(
        self,
        maildrop: Maildrop,
        surroundings: Surroundings,
        caps: SessionCaps,
        route_standings: RouteStandings,
        standing: StandingRecord | None,
    ) -> None:
        self.name: MaildropName = maildrop.policy.maildrop
        self.standing = standing or StandingRecord(StandingKind.MAILDROP, self.name)
        self._pauses = Pauses(self.standing.last_error, self.standing.consecutive_failures)
        self._maildrop = maildrop
        self._around = surroundings
        self._caps = caps
        self._route_standings = route_standings
        self._task: asyncio.Task[PollReport] | None = None
        self._postponed: asyncio.TimerHandle | None = None
        self._by_schedule = False
        self._poll: Poll | None = None
        self._memory = PollMemory()
        self._stopping = False
        self._try_again_after = False
        self.waiting: int | None = None
        """Messages on the server that the last good poll left there with a destination to reach."""

    @property
    def running(self) -> bool:
        """Whether a turn is under way (or waits for its place)."""
        return self._task is not None

    def start(self, *, despite_pause: bool = False) -> asyncio.Task[PollReport] | None:
        """Begin a turn; None when one is under way, or it is too early for one.

        A turn that comes too early is taken when the pause is over: with a schedule as
        short as the server's LOGIN-DELAY every other one would be lost otherwise.
        """
        if self._task is not None or self._stopping or self._held:
            return None
        pause_left = self._pause_left()
        if pause_left > 0 and not despite_pause and not self._is_mended():
            self._postpone(pause_left)
            return None
        self._forget_postponed()
        self._by_schedule = not despite_pause
        self._task = asyncio.get_running_loop().create_task(self._take(), name=f"poll {self.name}")
        return self._task

    def start_by_hand(self) -> asyncio.Task[PollReport] | None:
        """Begin a turn now, as somebody asks for it; return it, or the one that is under way.

        It counts as one of the schedule's: when it fails it is tried again after its pause.
        """
        if self._task is None and self.start(despite_pause=True) is not None:
            self._by_schedule = True
        return self._task

    def hurry(self) -> int:
        """Let messages that broke a session and have no row yet be asked for at once; return how many wait."""
        return self._memory.hurry(self._around.clock())

    def hold(self) -> None:
        """Let the present turn finish what is under way; for a pause by hand, which keeps others from beginning."""
        self._forget_postponed()
        self._wind_up()

    def next_at(self, scheduled_at: float | None) -> float | None:
        """Return when the next turn begins, given the next one of the schedule; None when nobody knows."""
        if self._held or self._stopping:
            return None
        if self._postponed is not None:
            return self.standing.not_before
        return max(scheduled_at, self.standing.not_before) if scheduled_at is not None else None

    @property
    def _held(self) -> bool:
        return self._around.held(f"maildrop.{self.name}")

    def stop(self) -> None:
        """Begin no more turns; let the present one finish what is under way.

        One that has no message in hand yet (it waits for its place, a connection, a
        listing) is cancelled: a server that says nothing must not delay the end.
        """
        self._stopping = True
        self._forget_postponed()
        self._wind_up()

    def _wind_up(self) -> None:
        if self._poll is not None and self._poll.has_mail_in_hand:
            self._poll.stop()
        elif self._task is not None:
            self._task.cancel()

    async def ended(self) -> None:
        """Wait for the present turn, however long it takes."""
        if self._task is not None:
            await asyncio.wait({self._task})

    def try_again(self) -> None:
        """End a pause that follows from a failure, and begin a turn if there was one.

        For credentials or certificates that have been written anew. A turn under way may
        have read what was there before: when it fails, another one follows it at once.
        """
        if self._task is not None:
            self._try_again_after = True
            return
        if self.standing.consecutive_failures:
            self.standing = without_pause(self.standing)
            self._forget_postponed()
            self.start()

    def _pause_left(self) -> float:
        """Return how long the pause goes on; 0 as well when no pause can be as long as that."""
        left = self.standing.not_before - self._around.clock()
        longest = max(AUTH_BACKOFF.longest_seconds, self.standing.login_delay_seconds)
        # Beyond that the clock was set back since; a small step back is none of that.
        return left if 0 < left <= longest + JUMP_SECONDS else 0.0

    def _is_mended(self) -> bool:
        """Whether the password was written anew since it was refused: then it is tried at once, and once.

        Without this a person who has mended it would wait for hours, since its attempts are so rare.
        """
        refused_at, failing = self.standing.last_error_at, self.standing.consecutive_failures
        refused = failing and result_of(self.standing.last_error) is PollResult.AUTH_REJECTED
        if not refused or refused_at is None:
            return False
        changed_at = self._maildrop.connector.credentials_changed_at()
        # A time in the future would count again and again.
        return changed_at is not None and refused_at < changed_at <= self._around.clock()

    def _postpone(self, seconds: float) -> None:
        if self._postponed is None:
            self._postponed = asyncio.get_running_loop().call_later(seconds, self._start_postponed)

    def _forget_postponed(self) -> None:
        if self._postponed is not None:
            self._postponed.cancel()
            self._postponed = None

    def _start_postponed(self) -> None:
        self._postponed = None
        self.start()

    async def wait_ended(self, deadline_seconds: float) -> bool:
        """Wait for the present turn; cancel it at the deadline and return False then."""
        task = self._task
        if task is None:
            return True
        done, _ = await asyncio.wait({task}, timeout=max(deadline_seconds, 0))
        if done:
            return True
        task.cancel()
        await asyncio.wait({task})
        return False

    async def _take(self) -> PollReport:
        try:
            async with self._caps.place(self._maildrop.policy.server) as leave:
                return await self._run_poll(leave)
        finally:
            self._task = None
            self._poll = None
            if self._try_again_after:
                self._try_again_after = False
                self.try_again()

    async def _run_poll(self, leave: Callable[[], None]) -> PollReport:
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._poll = poll = Poll(self._maildrop.policy, self._maildrop.connector, self._around, self._memory)
        poll.on_session_end = leave
        try:
            report = await poll.run()
        except Exception as error:  # noqa: BLE001  a bug of ours must stay one maildrop's trouble
            _bugs.exception("poll of %s", self.name)
            report = poll.report
            report.failure = error
        except asyncio.CancelledError:
            self._tell(poll.report, PollResult.STOPPED, loop.time() - began)
            raise
        result = poll_result(report.failure)
        self._learn(report, result)
        self._tell(report, result, loop.time() - began)
        if result is not PollResult.OK and self._by_schedule and not self._stopping:
            # Not with the next turn of the schedule: that may be a day away.
            self._postpone(self._pause_left())
        await self._remember()
        return report

    def _learn(self, report: PollReport, result: PollResult) -> None:
        now = self._around.clock()
        if result is not PollResult.OK:
            self._learn_failure(report, result, now)
            return
        self._pauses.reset()
        self.waiting = report.waiting
        if self.standing.consecutive_failures:
            self._around.emit(MaildropRecovered(self.name, self.standing.consecutive_failures))
        delay = report.login_delay_seconds or 0.0
        self.standing = replace(
            self.standing,
            last_success_at=now,
            consecutive_failures=0,
            not_before=now + delay,
            login_delay_seconds=delay,
        )

    def _learn_failure(self, report: PollReport, result: PollResult, now: float) -> None:
        failures = self.standing.consecutive_failures + 1
        pause = self._pauses.next_seconds(result, self._around.chance())
        delay = report.login_delay_seconds or 0.0  # it counts after a failed poll, too
        if isinstance(report.failure, LoginDelayedError):
            # RFC 2449 s.6.5: after a login the server may name a longer delay, for this user.
            pause = delay = max(report.failure.retry_after_seconds, self.standing.login_delay_seconds)
        self.standing = replace(
            self.standing,
            last_error_at=now,
            last_error=standing_text(result, report.failure),
            consecutive_failures=failures,
            not_before=now + max(pause, delay),
            login_delay_seconds=delay or self.standing.login_delay_seconds,
        )

    def _tell(self, report: PollReport, result: PollResult, seconds: float) -> None:
        emit, standing = self._around.emit, self.standing
        if report.failure is not None:
            text = str(report.failure) or type(report.failure).__name__
            emit(
                PollFailed(
                    self.name,
                    report.poll_id,
                    result,
                    text,
                    standing.consecutive_failures,
                    standing.not_before,
                )
            )
            if result is PollResult.AUTH_REJECTED:
                emit(MaildropAuthRejected(self.name, text, standing.consecutive_failures))
            elif result is PollResult.SERVER_FAULT:
                emit(MaildropFaultReported(self.name, text, standing.consecutive_failures))
        emit(
            PollFinished(
                maildrop=self.name,
                poll_id=report.poll_id,
                result=result,
                duration_seconds=seconds,
                listed=report.listed,
                relayed=report.relayed,
                deferred=report.deferred,
                rejected=report.rejected,
                skipped=report.skipped,
                deleted=report.deleted,
                waiting=report.waiting,
                maildrop_octets=report.octets,
                oldest_waiting_at=report.oldest_waiting_at,
                login_delay_seconds=report.login_delay_seconds or 0.0,
            )
        )

    async def _remember(self) -> None:
        routes = self._route_standings.changed()
        rows: list[LedgerRecord] = [self.standing, *routes]
        try:
            await self._around.ledger.save(rows)
        except StoreError:
            # The ledger has told its failure as an event; the standing is kept in
            # memory and written with the next turn.
            return
        self._route_standings.saved(routes)


def without_pause(standing: StandingRecord) -> StandingRecord:
    """Return a standing whose failures are no reason to wait any more; LOGIN-DELAY stays one (RFC 2449 s.6.5)."""
    latest = max(standing.last_success_at or 0.0, standing.last_error_at or 0.0)
    delay = standing.login_delay_seconds
    return replace(standing, not_before=latest + delay if delay else 0.0)
