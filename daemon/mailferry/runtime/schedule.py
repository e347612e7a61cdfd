"""When maildrops have their turn. The only place that knows APScheduler.

Interval or cron, with jitter. First turns are spread: a thousand maildrops do not
begin in one second. A turn that is due while the last one still runs is dropped
by `Turns`, missed ones (a suspended laptop) become one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from apscheduler.events import EVENT_JOB_SUBMITTED, JobSubmissionEvent
from apscheduler.executors.asyncio import AsyncIOExecutor
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from mailferry.policy.cron import read_cron


@dataclass(frozen=True, slots=True)
class Timetable:
    """When something is due: every so many seconds, or by a cron expression of five fields."""

    every_seconds: float | None = None
    cron: str | None = None
    jitter_seconds: float = 0.0


class Schedule:
    """Calls functions when they are due."""

    def __init__(self, clock: Callable[[], float], *, start_rate_per_second: float = 20.0) -> None:
        self.lag_seconds = 0.0
        """How late the last call was."""
        self._clock = clock
        self._start_rate = start_rate_per_second
        self._spread = 0
        self._scheduler = AsyncIOScheduler(
            timezone=UTC,
            executors={"default": AsyncIOExecutor()},
            jobstores={"default": MemoryJobStore()},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        self._scheduler.add_listener(self._note_lag, EVENT_JOB_SUBMITTED)

    def add(self, name: str, timetable: Timetable, call: Callable[[], object]) -> None:
        """Add a job; with an interval its first turn comes soon after the start."""

        async def fire() -> None:  # a coroutine function: others would run in a thread
            call()

        if timetable.cron is not None:
            trigger = _cron_trigger(timetable.cron, timetable.jitter_seconds)
            self._scheduler.add_job(fire, trigger, id=name)
            return
        every = timetable.every_seconds or 300.0
        first = min(self._spread / self._start_rate, every)
        self._spread += 1
        self._scheduler.add_job(
            fire,
            IntervalTrigger(seconds=every, jitter=timetable.jitter_seconds or None),
            id=name,
            next_run_time=self._now() + timedelta(seconds=first),
        )

    def start(self) -> None:
        """Begin to call."""
        self._scheduler.start()

    def stop(self) -> None:
        """Call nothing more."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    @property
    def running(self) -> bool:
        """Whether the schedule is in force."""
        return bool(self._scheduler.running)

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
