from __future__ import annotations

import time

import pytest

from mailferry.events import ClockJumped, Event
from mailferry.runtime.clock import JUMP_SECONDS, SETTLING_SECONDS, SystemClock, steady_seconds

DAY = 86_400.0


class Bench:
    """A clock over two that the test moves."""

    def __init__(self) -> None:
        self.wall, self.steady = 1_700_000_000.0, 50.0
        self.events: list[Event] = []
        self.clock = SystemClock(self.events.append, lambda: self.wall, lambda: self.steady)

    def pass_time(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds

    @property
    def jumps(self) -> list[float]:
        return [event.jump_seconds for event in self.events if isinstance(event, ClockJumped)]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_it_is_the_wall_clock(bench: Bench) -> None:
    assert bench.clock() == bench.wall
    bench.wall += 10 * DAY
    assert bench.clock() == bench.wall


def test_time_that_passes_is_no_jump(bench: Bench) -> None:
    for seconds in (1.0, DAY, 400 * DAY):
        bench.pass_time(seconds)
        bench.clock.look()
    assert bench.jumps == []
    assert bench.clock.ages_count()


@pytest.mark.parametrize("jump", [JUMP_SECONDS, -JUMP_SECONDS, DAY, -DAY, 55 * 365 * DAY])
def test_a_jump_is_told_once(bench: Bench, jump: float) -> None:
    heard: list[float] = []
    bench.clock.on_jump(heard.append)
    bench.wall += jump
    for _ in range(3):
        bench.clock.look()
        bench.pass_time(10)
    assert bench.jumps == heard == [pytest.approx(jump)]


def test_small_steps_are_passed_over_also_when_they_add_up(bench: Bench) -> None:
    for _ in range(100):
        bench.wall += JUMP_SECONDS - 1
        bench.clock.look()
    assert bench.jumps == []


def test_there_and_back_are_two(bench: Bench) -> None:
    bench.wall += DAY
    bench.clock.look()
    bench.wall -= DAY
    bench.clock.look()
    assert bench.jumps == [DAY, -DAY]


def test_a_reading_notices_but_leaves_the_telling_to_a_look(bench: Bench) -> None:
    bench.wall += DAY
    bench.clock()
    bench.wall -= DAY
    bench.clock()
    assert bench.jumps == []
    bench.clock.look()
    assert bench.jumps == [DAY, -DAY]


def test_ages_do_not_count_for_an_hour_after_a_jump_forward(bench: Bench) -> None:
    bench.wall += DAY
    assert not bench.clock.ages_count()
    assert bench.jumps == [DAY]
    bench.pass_time(SETTLING_SECONDS - 1)
    assert not bench.clock.ages_count()
    bench.pass_time(1)
    assert bench.clock.ages_count()


def test_the_hour_is_one_of_the_steady_clock(bench: Bench) -> None:
    bench.wall += DAY
    bench.clock.look()
    bench.wall += DAY
    bench.pass_time(SETTLING_SECONDS - 1)
    assert not bench.clock.ages_count()
    bench.pass_time(1)
    assert not bench.clock.ages_count(), "the second jump was noticed only with the last second"


def test_a_time_that_was_read_before_the_question_is_spoken_for(bench: Bench) -> None:
    bench.wall += DAY
    now = bench.clock()
    bench.wall -= DAY  # and is right again
    assert now == bench.wall + DAY
    assert not bench.clock.ages_count()


def test_after_a_jump_back_ages_count_nothing_seems_older_than_it_is(bench: Bench) -> None:
    bench.wall -= DAY
    assert bench.clock.ages_count()
    assert bench.jumps == [-DAY]


def test_the_steady_clock_is_no_wall_clock() -> None:
    before = steady_seconds()
    assert before <= steady_seconds() < before + 60
    assert abs(steady_seconds() - time.time()) > 10**6
