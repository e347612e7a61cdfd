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

    def next_run_at(self, name: str) -> float | None:
        """When a job is due next (seconds since the epoch)."""
        job = self._scheduler.get_job(name)
        due = job.next_run_time if job is not None else None
        return due.timestamp() if due is not None else None

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    def _note_lag(self, event: JobSubmissionEvent) -> None:
        due = event.scheduled_run_times[-1].timestamp()
        self.lag_seconds = max(self._clock() - due, 0.0)


@dataclass(frozen=True, slots=True)
class _CronField:
    first: int
    last: int
    names: tuple[str, ...] = ()

    def listed(self, text: str) -> str:
        """Write out every number that the field means: `*/20` of the minutes is `0,20,40`."""
        return "*" if text == "*" else ",".join(map(str, sorted(self.numbers(text))))

    def numbers(self, text: str) -> set[int]:
        """Return every number that the field means."""
        found: set[int] = set()
        for part in text.split(","):
            span, _, step = part.partition("/")
            low, _, high = (f"{self.first}-{self.last}" if span == "*" else span).partition("-")
            begin = self._number(low)
            end = self._number(high) if high else (self.last if step else begin)
            found.update(range(begin, end + 1, int(step or 1)))
        return found

    def _number(self, text: str) -> int:
        return self.names.index(text[:3]) + self.first if text[:3] in self.names else int(text)


_WEEKDAY_NAMES = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

_MINUTES = _CronField(0, 59)
_HOURS = _CronField(0, 23)
_DAYS = _CronField(1, 31)
_MONTHS = _CronField(1, 12, _MONTH_NAMES)
_WEEKDAYS = _CronField(0, 6, _WEEKDAY_NAMES)


def _cron_trigger(expression: str, jitter_seconds: float) -> CronTrigger | OrTrigger:
    """Make the trigger for five cron fields, in local time, with cron's own meaning.

    Cron counts weekdays from Sunday (0 and 7) and, when day and weekday are both
    restricted, takes either; APScheduler counts from Monday and wants both to fit. It
    also refuses steps beyond the range and steps of named months, so every field
    reaches it as a list of numbers (weekdays by name).
    """
    minute, hour, day, month, weekday = expression.lower().split()
    common = {
        "minute": _MINUTES.listed(minute),
        "hour": _HOURS.listed(hour),
        "month": _MONTHS.listed(month),
        "jitter": jitter_seconds or None,
    }
    days, weekdays = _DAYS.listed(day), _weekdays(weekday)
    if day.startswith("*") or weekday.startswith("*"):
        return CronTrigger(day=days, day_of_week=weekdays, **common)
    return OrTrigger([CronTrigger(day=days, **common), CronTrigger(day_of_week=weekdays, **common)])


def _weekdays(text: str) -> str:
    if text == "*":
        return "*"
    return ",".join(_WEEKDAY_NAMES[day] for day in sorted({number % 7 for number in _WEEKDAYS.numbers(text)}))
