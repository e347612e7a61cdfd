"""Fire times are computed, never waited for."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial

import pytest
from apscheduler.events import EVENT_JOB_SUBMITTED, JobSubmissionEvent
from hypothesis import given, settings
from hypothesis import strategies as st

from mailferry.events import Event
from mailferry.runtime.clock import SystemClock
from mailferry.runtime.schedule import LOOK_SECONDS, Schedule, Timetable, _cron_trigger
from support.virtual_time import START, FakeClock, settle, timeless

MONDAY = datetime(2024, 1, 1, tzinfo=UTC)
"""A Monday, the first of a month and of a leap year."""

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cron means local time; for the tests that is UTC."""
    monkeypatch.setattr("apscheduler.triggers.cron.get_localzone", lambda: UTC)


def fire_times(expression: str, count: int, start: datetime = MONDAY) -> list[datetime]:
    trigger = _cron_trigger(expression, 0.0)
    times: list[datetime] = []
    previous, now = None, start
    for _ in range(count):
        due = trigger.get_next_fire_time(previous, now)
        assert due is not None
        times.append(due)
        previous, now = due, due + timedelta(microseconds=1)
    return times


def weekdays(field: str) -> str:
    """On which days of the first week a job at noon comes due."""
    days = {
        time.weekday() for time in fire_times(f"0 12 * * {field}", 7) if time < MONDAY + timedelta(days=7)
    }
    return " ".join(DAYS[day] for day in sorted(days))


# -- cron ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "days"),
    [
        ("*", "mon tue wed thu fri sat sun"),
        ("0", "sun"),
        ("7", "sun"),
        ("1", "mon"),
        ("6", "sat"),
        ("sun", "sun"),
        ("Mon", "mon"),
        ("1-5", "mon tue wed thu fri"),
        ("mon-fri", "mon tue wed thu fri"),
        ("0-2", "mon tue sun"),
        ("5-7", "fri sat sun"),
        ("0-7", "mon tue wed thu fri sat sun"),
        ("*/2", "tue thu sat sun"),
        ("1-5/2", "mon wed fri"),
        ("mon,3,fri-6", "mon wed fri sat"),
        ("0,7", "sun"),
        ("*/9", "sun"),
    ],
)
def test_weekdays_are_counted_from_sunday(field: str, days: str) -> None:
    assert weekdays(field) == days


@pytest.mark.parametrize(
    ("expression", "first"),
    [
        ("*/5 * * * *", ["01-01 00:00", "01-01 00:05", "01-01 00:10"]),
        ("7 3 * * *", ["01-01 03:07", "01-02 03:07", "01-03 03:07"]),
        ("0,30 8-9 * * *", ["01-01 08:00", "01-01 08:30", "01-01 09:00"]),
        ("10-50/20 0 * * *", ["01-01 00:10", "01-01 00:30", "01-01 00:50"]),
        ("*/90 * * * *", ["01-01 00:00", "01-01 01:00", "01-01 02:00"]),
        ("0 0 */10 * *", ["01-01 00:00", "01-11 00:00", "01-21 00:00"]),
        ("0 0 31 * *", ["01-31 00:00", "03-31 00:00", "05-31 00:00"]),
        ("0 0 29 2 *", ["02-29 00:00"]),
        ("0 0 1 feb,Dec *", ["02-01 00:00", "12-01 00:00", "02-01 00:00"]),
        ("0 0 1 mar-jul/2 *", ["03-01 00:00", "05-01 00:00", "07-01 00:00"]),
        ("0 0 1 jun-8 *", ["06-01 00:00", "07-01 00:00", "08-01 00:00"]),
    ],
)
def test_fields_mean_what_they_mean_to_cron(expression: str, first: list[str]) -> None:
    assert [f"{time:%m-%d %H:%M}" for time in fire_times(expression, len(first))] == first


def test_a_day_and_a_weekday_fit_either() -> None:
    """crontab(5): when both are restricted, the job runs when either of them matches."""
    times = fire_times("0 0 10 * fri", 4)
    assert [f"{time:%m-%d}" for time in times] == ["01-05", "01-10", "01-12", "01-19"]


@pytest.mark.parametrize(("expression", "first"), [("0 0 */2 * fri", "01-05"), ("0 0 10 * */3", "01-10")])
def test_a_field_that_begins_with_a_star_does_not_count_as_restricted(expression: str, first: str) -> None:
    assert f"{fire_times(expression, 1)[0]:%m-%d}" == first


def test_a_day_that_is_also_the_weekday_comes_once() -> None:
    times = fire_times("0 0 5 * fri", 2)
    assert [f"{time:%m-%d}" for time in times] == ["01-05", "01-12"]


def test_jitter_moves_a_fire_time_by_no_more_than_it_says() -> None:
    trigger = _cron_trigger("0 12 * * *", 60.0)
    noon = MONDAY + timedelta(hours=12)
    late = [trigger.get_next_fire_time(None, MONDAY) - noon for _ in range(20)]
    assert all(timedelta(0) <= delay <= timedelta(seconds=60) for delay in late)
    assert len(set(late)) > 1


def part(first: int, last: int) -> st.SearchStrategy[str]:
    number = st.integers(first, last)
    span = st.tuples(number, number).map(lambda ends: f"{min(ends)}-{max(ends)}")
    step = st.integers(1, 99)
    return st.one_of(
        number.map(str), span, st.builds("{}/{}".format, st.one_of(st.just("*"), span), step), st.just("*")
    )


def field(first: int, last: int) -> st.SearchStrategy[str]:
    return st.lists(part(first, last), min_size=1, max_size=2).map(",".join)


@given(st.tuples(field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 7)).map(" ".join))
@settings(max_examples=40, deadline=None)
def test_any_valid_expression_comes_due(expression: str) -> None:
    assert _cron_trigger(expression, 0.0).get_next_fire_time(None, MONDAY) is not None


# -- intervals -------------------------------------------------------------------


def nothing() -> None:
    pass


@timeless
async def test_an_interval_begins_soon_and_goes_on_from_there() -> None:
    schedule = Schedule(FakeClock())
    schedule.add("alice", Timetable(every_seconds=300), nothing)
    (job,) = schedule._scheduler.get_jobs()
    assert job.next_run_time.timestamp() == START
    second = job.trigger.get_next_fire_time(job.next_run_time, job.next_run_time)
    assert second is not None
    assert second.timestamp() == START + 300


@timeless
async def test_first_turns_are_spread() -> None:
    schedule = Schedule(FakeClock(), start_rate_per_second=20)
    for n in range(1000):
        schedule.add(f"m{n}", Timetable(every_seconds=300), nothing)
    first = [job.next_run_time.timestamp() - START for job in schedule._scheduler.get_jobs()]
    assert first == pytest.approx([n / 20 for n in range(1000)])


@timeless
async def test_more_first_turns_than_fit_into_the_interval_begin_between_the_others() -> None:
    schedule = Schedule(FakeClock(), start_rate_per_second=2)
    for n in range(120):
        schedule.add(f"m{n}", Timetable(every_seconds=30), nothing)
    first = [job.next_run_time.timestamp() - START for job in schedule._scheduler.get_jobs()]
    assert sorted(first) == [n / 2 for n in range(60) for _ in range(2)]


@timeless
async def test_cron_jobs_take_no_place_in_the_spread() -> None:
    schedule = Schedule(FakeClock(), start_rate_per_second=1)
    schedule.add("cron", Timetable(cron="0 3 * * *"), nothing)
    schedule.add("first", Timetable(every_seconds=300), nothing)
    job = schedule._scheduler.get_job("first")
    assert job.next_run_time.timestamp() == START


@timeless
async def test_jitter_moves_each_turn_and_leaves_the_mean_as_it_is() -> None:
    schedule = Schedule(FakeClock())
    schedule.add("alice", Timetable(every_seconds=300, jitter_seconds=30), nothing)
    (job,) = schedule._scheduler.get_jobs()
    due = [job.next_run_time]
    for _ in range(500):
        due.append(job.trigger.get_next_fire_time(due[-1], due[-1]))
    late = [at.timestamp() - START - 300 * number for number, at in enumerate(due)]
    assert all(0 <= seconds <= 30 for seconds in late)
    assert 5 < sum(late) / len(late) < 25
    assert len(set(late)) > 400


# -- running ---------------------------------------------------------------------


async def test_what_is_due_is_called_and_stop_ends_it() -> None:
    calls: list[str] = []
    schedule = Schedule(time.time)
    schedule.add("alice", Timetable(every_seconds=3600), lambda: calls.append("alice"))
    assert not schedule.running
    schedule.start()
    assert schedule.running
    for _ in range(200):
        if calls:
            break
        await settle(1)
    assert calls == ["alice"]
    schedule.stop()
    await settle()
    assert not schedule.running
    schedule.stop()


@pytest.mark.parametrize(("late", "lag"), [(2.5, 2.5), (0.0, 0.0), (-5.0, 0.0)])
@timeless
async def test_the_lag_is_how_late_the_last_call_was(late: float, lag: float) -> None:
    clock = FakeClock()
    schedule = Schedule(clock)
    due = [datetime.fromtimestamp(START - 100, UTC), datetime.fromtimestamp(START, UTC)]
    clock.base += late
    event = JobSubmissionEvent(EVENT_JOB_SUBMITTED, "alice", "default", due)
    schedule._scheduler._dispatch_event(event)
    assert schedule.lag_seconds == pytest.approx(lag)


# -- a clock that is set -----------------------------------------------------------

HOUR, DAY, YEARS = 3600.0, 86_400.0, 50 * 365 * 86_400.0


class Hands:
    """A clock that can be set, and a schedule by it; APScheduler sees the same clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall = FakeClock(datetime(2024, 1, 1, tzinfo=UTC).timestamp())
        self.began = self.wall.base
        told: list[Event] = []
        self.clock = SystemClock(told.append, self.wall, lambda: asyncio.get_running_loop().time())
        self.schedule = Schedule(self.clock, look=self.clock.look)
        self.clock.on_jump(self.schedule.clock_jumped)
        self.calls: list[float] = []
        monkeypatch.setattr("apscheduler.schedulers.base.datetime", self.datetime())

    def datetime(self) -> type[datetime]:
        wall = self.wall

        class Datetime(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> Datetime:
                return cls.fromtimestamp(wall(), tz)

        return Datetime

    def begin(self, timetable: Timetable) -> None:
        self.schedule.add("alice", timetable, self.note)
        self.schedule.start()

    def note(self) -> None:
        self.calls.append(asyncio.get_running_loop().time())

    async def until(self, seconds: float) -> list[float]:
        """Return when it was called until then: seconds of the loop, which nobody can set."""
        await asyncio.sleep(seconds - asyncio.get_running_loop().time())
        return [round(call) for call in self.calls]


@pytest.mark.parametrize("jump", [0.0, DAY, -DAY, YEARS, -YEARS, 600.0, -600.0])
@timeless
async def test_a_clock_that_is_set_leaves_intervals_as_they_are(
    monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    hands = Hands(monkeypatch)
    hands.begin(Timetable(every_seconds=300))
    await hands.until(700)
    hands.wall.base += jump
    assert await hands.until(1300) == [0, 300, 600, 900, 1200]
    hands.schedule.stop()


@timeless
async def test_a_jump_of_years_is_seen_before_missed_turns_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hands = Hands(monkeypatch)
    hands.begin(Timetable(every_seconds=1))
    await hands.until(2.5)
    hands.wall.base += YEARS
    began = time.process_time()
    assert len(await hands.until(60)) >= 59
    assert time.process_time() - began < 5.0  # 1.5 thousand million turns would take an hour
    hands.schedule.stop()


@pytest.mark.parametrize(
    ("jump", "due"),
    [
        (DAY, 3 * HOUR),
        (-DAY, 3 * HOUR),
        (2 * HOUR, 1 * HOUR),
        (-2 * HOUR, 5 * HOUR),
        (YEARS, 3 * HOUR),
    ],
)
@timeless
async def test_cron_goes_by_the_clock_as_it_has_been_set(
    monkeypatch: pytest.MonkeyPatch, jump: float, due: float
) -> None:
    hands = Hands(monkeypatch)
    hands.begin(Timetable(cron="0 3 * * *"))
    await hands.until(60)
    hands.wall.base += jump
    assert await hands.until(due + 60) == [due]
    hands.schedule.stop()


@timeless
async def test_a_turn_that_sleep_has_made_late_is_taken_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop's time stands still while the machine sleeps; the other two clocks go on."""
    hands = Hands(monkeypatch)
    slept = 0.0
    monkeypatch.setattr(hands.clock, "_steady", lambda: asyncio.get_running_loop().time() + slept)
    hands.begin(Timetable(every_seconds=12 * HOUR))
    await hands.until(LOOK_SECONDS * 6.5)
    slept = 20 * HOUR
    hands.wall.base += slept
    assert await hands.until(LOOK_SECONDS * 8) == [0, LOOK_SECONDS * 7]
    hands.schedule.stop()


@timeless
async def test_a_jump_before_the_start_or_after_the_end_harms_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hands = Hands(monkeypatch)
    hands.schedule.clock_jumped(DAY)
    hands.begin(Timetable(every_seconds=300))
    await hands.until(10)
    hands.schedule.stop()
    await settle()
    hands.schedule.clock_jumped(DAY)
    assert await hands.until(1000) == [0]


# -- a reload, and whether it moves ------------------------------------------------


@timeless
async def test_what_is_removed_is_not_called_and_what_comes_later_is_spread_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hands = Hands(monkeypatch)
    schedule, calls = hands.schedule, list[str]()

    def add(*names: str) -> None:
        for name in names:
            schedule.add(name, Timetable(every_seconds=300), partial(calls.append, name))

    schedule.spread_anew(1.0)
    add("a", "b", "c")
    schedule.start()
    schedule.remove("b")
    schedule.remove("unknown")
    await hands.until(10)
    schedule.spread_anew(2.0)
    add("d", "e")
    await hands.until(11)
    schedule.stop()
    assert calls == ["a", "c", "d", "e"]


@timeless
async def test_it_shows_whether_it_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    hands = Hands(monkeypatch)
    schedule = hands.schedule
    assert schedule.stood_still_seconds == 0.0, "it has not begun"
    hands.begin(Timetable(every_seconds=300))
    await hands.until(400)
    assert schedule.overdue_seconds == 0.0
    schedule._scheduler.pause()  # as a fault would
    await hands.until(800)
    assert schedule.overdue_seconds == pytest.approx(200)
    schedule._scheduler.looked_at -= 90
    assert schedule.stood_still_seconds > 89
    schedule.stop()
