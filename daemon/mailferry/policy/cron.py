"""What a cron expression of five fields means, as numbers that leave nothing to interpret.

crontab(5) and schedulers differ: weekdays from Sunday or from Monday, day and
weekday either or both, steps beyond a range. So expressions are read here, once,
and everybody else sees numbers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LONGEST_MONTH = {1: 31, 2: 29, 3: 31, 4: 30, 5: 31, 6: 30, 7: 31, 8: 31, 9: 30, 10: 31, 11: 30, 12: 31}

_PART = re.compile(r"(\*|[0-9a-z]{1,3}(?:-[0-9a-z]{1,3})?)(?:/([0-9]{1,3}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    first: int
    last: int
    words: tuple[str, ...] = ()

    def values(self, text: str) -> set[int]:
        """Return every number that the field's text stands for."""
        found: set[int] = set()
        for part in text.split(","):
            found.update(self._part(part))
        return found

    def _part(self, part: str) -> range:
        match = _PART.fullmatch(part)
        if not match:
            raise ValueError(
                f"the {self.name} must be *, numbers, ranges (1-5), steps (*/5) or lists of them"
            )
        span, step = match[1], int(match[2] or 1)
        if step == 0 or (match[2] and span != "*" and "-" not in span):
            raise ValueError(f"a step in the {self.name} must be at least 1 and follow * or a range")
        first, last = self._span(span)
        if first > last:
            raise ValueError(f"a range in the {self.name} must run upward")
        return range(first, last + 1, step)

    def _span(self, span: str) -> tuple[int, int]:
        if span == "*":
            return self.first, self.last
        low, _, high = span.partition("-")
        return self._number(low), self._number(high or low)

    def _number(self, text: str) -> int:
        if text in self.words:
            return self.words.index(text) + self.first
        if text.isdecimal() and self.first <= int(text) <= self.last:
            return int(text)
        names = f" or {self.words[0]} to {self.words[-1]}" if self.words else ""
        raise ValueError(f"the {self.name} must be from {self.first} to {self.last}{names}")


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of the week", 0, 7, _WEEKDAYS),
)


@dataclass(frozen=True, slots=True)
class CronTimes:
    """When something is due; each tuple rises, weekdays count from Sunday (0) to Saturday (6).

    Attributes:
        either_day: both kinds of day are limited, and a day that fits one of them will
            do; otherwise a day must fit both.
    """

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]
    either_day: bool


def read_cron(expression: str) -> CronTimes:
    """Read an expression: minute, hour, day of the month, month, day of the week.

    Raises:
        ValueError: it is malformed or can never come due.
    """
    texts = expression.lower().split()
    if len(texts) != len(_FIELDS):
        raise ValueError(
            'must have five fields: minute, hour, day of the month, month, day of the week, such as "*/5 * * * *"'
        )
    minutes, hours, days, months, weekdays = (
        field.values(text) for field, text in zip(_FIELDS, texts, strict=True)
    )
    either_day = not texts[2].startswith("*") and not texts[4].startswith("*")
    if not either_day and min(days) > max(_LONGEST_MONTH[month] for month in months):
        raise ValueError("names a day that none of its months has, so it would never come due")
    return CronTimes(
        minutes=tuple(sorted(minutes)),
        hours=tuple(sorted(hours)),
        days=tuple(sorted(days)),
        months=tuple(sorted(months)),
        weekdays=tuple(sorted({number % 7 for number in weekdays})),
        either_day=either_day,
    )


_DAYS = 5 * 366
"""Enough to meet every kind of year, a leap day included."""


def longest_gap_seconds(times: CronTimes) -> float:
    """Return the longest time between two moments at which something is due.

    Changes between summer and winter time are left out of account.
    """
    of_day = [60 * hour + minute for hour in times.hours for minute in times.minutes]
    within = max((later - earlier for earlier, later in pairwise(of_day)), default=0)
    first = date(2024, 1, 1)
    days = [number for number in range(_DAYS) if _is_due(times, first + timedelta(days=number))]
    between = max((later - earlier for earlier, later in pairwise(days)), default=_DAYS)
    overnight = between * 24 * 60 - (of_day[-1] - of_day[0])
    return 60.0 * max(within, overnight)


def _is_due(times: CronTimes, day: date) -> bool:
    of_month, of_week = day.day in times.days, day.isoweekday() % 7 in times.weekdays
    fits = (of_month or of_week) if times.either_day else (of_month and of_week)
    return fits and day.month in times.months
