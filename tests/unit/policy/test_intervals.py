"""Times on a grid: none is left out, none comes twice, and the jitter does not add up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mailferry.policy.intervals import Grid

FIRST = 1_700_000_000.25


def times(grid: Grid, count: int) -> list[float]:
    due = [grid.first]
    while len(due) < count:
        due.append(grid.after(due[-1]))
    return due


def test_without_jitter_the_times_are_the_grid() -> None:
    assert times(Grid(FIRST, 300, 0, 7), 4) == [FIRST, FIRST + 300, FIRST + 600, FIRST + 900]


def test_jobs_are_moved_differently() -> None:
    assert times(Grid(FIRST, 300, 30, 1), 9)[1:] != times(Grid(FIRST, 300, 30, 2), 9)[1:]


@given(
    st.floats(0.5, 86_400),
    st.floats(0, 1),
    st.integers(0, 2**32 - 1),
    st.floats(-1e6, 1e6),
)
def test_each_point_of_the_grid_has_its_turn_whatever_the_jitter(
    every: float, part: float, seed: int, start: float
) -> None:
    grid = Grid(FIRST + start, every, part * every, seed)
    due = times(grid, 50)
    late = [at - grid.first - every * number for number, at in enumerate(due)]
    assert all(-1e-3 <= seconds <= part * every + 1e-3 for seconds in late)


@given(st.floats(0, 1e6), st.integers(0, 2**32 - 1))
def test_after_any_moment_comes_the_next_of_the_same_times(moment: float, seed: int) -> None:
    grid = Grid(0.0, 60, 60, seed)
    due = grid.after(moment)
    assert moment < due <= moment + 120
    assert grid.after(due - 0.01) in (due, grid.after(moment))


def test_a_time_that_went_through_roundings_does_not_come_twice() -> None:
    grid = Grid(FIRST, 300, 30, 7)
    due = grid.after(FIRST)
    assert grid.after(due - 0.0005) > due + 200
