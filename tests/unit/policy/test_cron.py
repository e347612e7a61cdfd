from __future__ import annotations

import pytest

from mailferry.policy.cron import longest_gap_seconds, read_cron


@pytest.mark.parametrize(
    ("weekday", "numbers"),
    [
        ("0", (0,)),
        ("7", (0,)),
        ("1-5", (1, 2, 3, 4, 5)),
        ("mon-fri", (1, 2, 3, 4, 5)),
        ("0-2", (0, 1, 2)),
        ("5-7", (0, 5, 6)),
        ("*/2", (0, 2, 4, 6)),
        ("*", (0, 1, 2, 3, 4, 5, 6)),
    ],
)
def test_weekdays_count_from_sunday(weekday: str, numbers: tuple[int, ...]) -> None:
    assert read_cron(f"0 0 * * {weekday}").weekdays == numbers


def test_every_field_becomes_numbers() -> None:
    times = read_cron("*/20 8-18/5,23 1,15 jan-mar *")
    assert times.minutes == (0, 20, 40)
    assert times.hours == (8, 13, 18, 23)
    assert times.days == (1, 15)
    assert times.months == (1, 2, 3)


@pytest.mark.parametrize(
    ("expression", "either"),
    [("0 0 13 * fri", True), ("0 0 13 * *", False), ("0 0 * * fri", False), ("0 0 */2 * fri", False)],
)
def test_two_limits_on_the_day_mean_either(expression: str, either: bool) -> None:
    assert read_cron(expression).either_day is either


def test_a_day_that_no_month_has_is_no_obstacle_where_a_weekday_will_do() -> None:
    assert read_cron("0 0 31 apr fri").either_day


@pytest.mark.parametrize(
    ("expression", "hours"),
    [
        ("*/5 * * * *", 1 / 12),
        ("0 * * * *", 1),
        ("0 7-19 * * *", 12),
        ("30 6 * * *", 24),
        ("0 6 * * mon-fri", 72),
        ("0 0 1 * *", 31 * 24),
        ("0 0 1 1 *", 366 * 24),
        ("0 0 29 2 *", (4 * 365 + 1) * 24),
        ("0 0 1,15 * sun", 7 * 24),
        ("0,10 8 * * *", 24 - 1 / 6),
    ],
)
def test_the_longest_gap(expression: str, hours: float) -> None:
    assert longest_gap_seconds(read_cron(expression)) == pytest.approx(hours * 3600)
