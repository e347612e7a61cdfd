"""A day as a small picture: messages upwards, failures downwards, an hour beside the other.

Plain SVG of two paths; colours and patterns come from the style sheet. What the picture shows is
told in words, too, so that nobody needs to see it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, sqrt

from mailferry.web.page.model import Day
from mailferry.wording import counted

STEP, BAR = 5, 4
_UP, _DOWN, _GAP = 24, 8, 2
WIDTH, HEIGHT = 24 * STEP - 1, _UP + _GAP + _DOWN
HOUR_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class DayPicture:
    """What the template draws: paths in a box of `WIDTH` by `HEIGHT`, and the words for it.

    Attributes:
        unknown_width: how much of the left part is before failures were known.
    """

    messages: str
    failures: str
    unknown_width: int
    words: str
    width: int = WIDTH
    height: int = HEIGHT
    baseline: int = _UP
    failures_top: int = _UP + _GAP


def day_picture(day: Day) -> DayPicture:
    """Return the picture of a day."""
    return DayPicture(
        _bars(day.relayed, _up),
        _bars(day.failures, _down),
        _unknown_hours(day) * STEP,
        _words(day),
    )


def hours_of(day: Day) -> list[tuple[float, int, int | None]]:
    """Return for each hour when it began, messages, and failures; None for those that nobody knows."""
    first = day.hour_began_at - (len(day.relayed) - 1) * HOUR_SECONDS
    unknown = _unknown_hours(day)
    return [
        (first + number * HOUR_SECONDS, relayed, failures if number >= unknown else None)
        for number, (relayed, failures) in enumerate(zip(day.relayed, day.failures, strict=True))
    ]


def _bars(numbers: Sequence[int], bar: Callable[[int, int, int], str]) -> str:
    most = max(numbers, default=0)
    return "".join(bar(place * STEP, number, most) for place, number in enumerate(numbers) if number)


def _up(x: int, number: int, most: int) -> str:
    height = _height(number, most, _UP)
    return f"M{x} {_UP}v-{height}h{BAR}v{height}z"


def _down(x: int, number: int, most: int) -> str:
    height = _height(number, most, _DOWN)
    return f"M{x} {_UP + _GAP}v{height}h{BAR}v-{height}z"


def _height(number: int, most: int, room: int) -> int:
    """Return how high a bar is: by the square root, so that one message is seen beside a thousand."""
    return max(2, ceil(room * sqrt(number / most)))


def _unknown_hours(day: Day) -> int:
    first = day.hour_began_at - (len(day.failures) - 1) * HOUR_SECONDS
    return min(max(int((day.failures_since - first) // HOUR_SECONDS), 0), len(day.failures))


def _words(day: Day) -> str:
    messages, failures = sum(day.relayed), sum(day.failures)
    return f"Last 24 hours: {counted(messages, 'message')} relayed, {counted(failures, 'failure')}."
