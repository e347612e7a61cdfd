"""When maildrops have their turn. The only place that knows APScheduler.

Interval or cron, with jitter that moves each turn and not those that follow. First turns are
spread: a thousand maildrops do not begin in one second, nor in the last one of the interval. A turn that is due while the last one still runs is dropped
by `Turns`, missed ones (a suspended laptop) become one.

APScheduler goes by the wall clock. When that is set, intervals are moved along with it,
so that they stay what they were, and cron jobs are worked out anew. This must happen
before the scheduler looks what is due: set forward by years, it would count every turn
that seems to have been missed.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from apscheduler.events import EVENT_JOB_SUBMITTED, JobSubmissionEvent
from apscheduler.executors.asyncio import AsyncIOExecutor
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger

from mailferry.policy.cron import read_cron
from mailferry.policy.intervals import Grid


@dataclass(frozen=True, slots=True)
class Timetable:
    """When something is due: every so many seconds, or by a cron expression of five fields.

    Attributes:
        first_seconds: when the first turn comes, from the start; None for soon after it,
            or for what the cron expression says.
    """

    every_seconds: float | None = None
    cron: str | None = None
    jitter_seconds: float = 0.0
    first_seconds: float | None = None


LOOK_SECONDS = 10.0
"""How often the scheduler looks what is due though nothing should be: its timer does not
run while the machine sleeps, and knows nothing of a clock that was set."""


class _Scheduler(AsyncIOScheduler):  # type: ignore[misc]  # the library has no types
    """APScheduler's, which looks at the clock before it looks what is due."""

    look: Callable[[], None]
    looked_at = 0.0
    """When the last look was over, by a clock that nobody can set."""

    def _process_jobs(self) -> float | None:
        # Private, but `wakeup` only asks the loop to call this: the clock could be set in between.
        self.look()
        seconds: float | None = super()._process_jobs()
        self.looked_at = time.monotonic()
        return seconds


class _EveryTrigger(BaseTrigger):  # type: ignore[misc]  # the library has no types
    """Comes due by a grid; the library's own lets the jitter of all turns add up."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        due = self.grid.after((previous_fire_time or now).timestamp())
        return datetime.fromtimestamp(due, UTC)


class Schedule:
    """Calls functions when they are due.

    `look` is called before anything is found due; it is to call `clock_jumped` if the
    clock was set.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        start_rate_per_second: float = 20.0,
        look: Callable[[], None] = lambda: None,
    ) -> None:
        self.lag_seconds = 0.0
        """How late the last call was."""
        self._clock = clock
        self._start_rate = start_rate_per_second
        self._spread = 0
        self._looking: asyncio.TimerHandle | None = None
        self._jobs = MemoryJobStore()
        self._scheduler = _Scheduler(
            timezone=UTC,
            executors={"default": AsyncIOExecutor()},
            jobstores={"default": self._jobs},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        self._scheduler.look = look
        self._scheduler.add_listener(self._note_lag, EVENT_JOB_SUBMITTED)

    def add(self, name: str, timetable: Timetable, call: Callable[[], object]) -> None:
        """Add a job; with an interval its first turn comes soon after the start, unless it says otherwise."""

        async def fire() -> None:  # a coroutine function: others would run in a thread
            call()

        if timetable.cron is not None:
            self._add_cron(name, timetable.cron, timetable, fire)
            return
        every = timetable.every_seconds or 300.0
        first = self._clock() + self._first_seconds(timetable, every)
        grid = Grid(first, every, timetable.jitter_seconds, zlib.crc32(name.encode()))
        due = datetime.fromtimestamp(first, UTC)
        self._scheduler.add_job(fire, _EveryTrigger(grid), id=name, next_run_time=due)

    def next_at(self, name: str) -> float | None:
        """Return when a job is due, in seconds since the epoch; None when there is none of that name."""
        job = self._scheduler.get_job(name)
        due = getattr(job, "next_run_time", None)  # missing before the schedule has been started
        return due.timestamp() if due is not None else None

    def remove(self, name: str) -> None:
        """Call nothing of that name any more; nothing happens when there is none."""
        if self._scheduler.get_job(name) is not None:
            self._scheduler.remove_job(name)

    def spread_anew(self, start_rate_per_second: float) -> None:
        """Let the first turns of what is added from now on be spread from now on."""
        self._start_rate = start_rate_per_second
        self._spread = 0

    def _add_cron(
        self, name: str, cron: str, timetable: Timetable, fire: Callable[[], Coroutine[None, None, None]]
    ) -> None:
        trigger = _cron_trigger(cron, timetable.jitter_seconds)
        if timetable.first_seconds is None:
            self._scheduler.add_job(fire, trigger, id=name)
            return
        first = self._now() + timedelta(seconds=timetable.first_seconds)
        self._scheduler.add_job(fire, trigger, id=name, next_run_time=first)

    def _first_seconds(self, timetable: Timetable, every_seconds: float) -> float:
        if timetable.first_seconds is not None:
            return timetable.first_seconds
        # More than fit into an interval begin between the first ones.
        first = (self._spread / self._start_rate) % every_seconds
        self._spread += 1
        return first

    def start(self) -> None:
        """Begin to call."""
        self._scheduler.looked_at = time.monotonic()
        self._scheduler.start()
        self._look_later()

    def stop(self) -> None:
        """Call nothing more."""
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def clock_jumped(self, jump_seconds: float) -> None:
        """Go on as if the clock had always been as it is now."""
        if not self._scheduler.running:
            return
        self._scheduler.pause()  # or every change would wake it up
        for job in self._scheduler.get_jobs():
            if isinstance(job.trigger, _EveryTrigger):
                grid = job.trigger.grid
                job.trigger.grid = replace(grid, first=grid.first + jump_seconds)
                job.modify(next_run_time=job.next_run_time + timedelta(seconds=jump_seconds))
            else:
                job.modify(next_run_time=job.trigger.get_next_fire_time(None, self._now()))
        self._scheduler.resume()

    def _look_later(self) -> None:
        self._looking = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look_now)

    def _look_now(self) -> None:
        self._look_later()
        self._scheduler.wakeup()

    @property
    def running(self) -> bool:
        """Whether the schedule is in force."""
        return bool(self._scheduler.running)

    @property
    def stood_still_seconds(self) -> float:
        """How long nobody has looked what is due; 0 when there is nothing to look at."""
        return time.monotonic() - self._scheduler.looked_at if self.running else 0.0

    @property
    def overdue_seconds(self) -> float:
        """How long ago the next job should have begun; 0 when it lies ahead, or there is none."""
        due: datetime | None = self._jobs.get_next_run_time()
        return max(self._clock() - due.timestamp(), 0.0) if due is not None else 0.0

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    def _note_lag(self, event: JobSubmissionEvent) -> None:
        due = event.scheduled_run_times[-1].timestamp()
        self.lag_seconds = max(self._clock() - due, 0.0)


_WEEKDAY_NAMES = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


def _cron_trigger(expression: str, jitter_seconds: float) -> CronTrigger | OrTrigger:
    """Make the trigger for a cron expression, in local time."""
    times = read_cron(expression)
    days = _listed(times.days)
    weekdays = ",".join(_WEEKDAY_NAMES[number] for number in times.weekdays)  # APScheduler's 0 is Monday
    common = {
        "minute": _listed(times.minutes),
        "hour": _listed(times.hours),
        "month": _listed(times.months),
        "jitter": jitter_seconds or None,
    }
    if times.either_day:
        return OrTrigger([CronTrigger(day=days, **common), CronTrigger(day_of_week=weekdays, **common)])
    return CronTrigger(day=days, day_of_week=weekdays, **common)


def _listed(numbers: tuple[int, ...]) -> str:
    return ",".join(map(str, numbers))
