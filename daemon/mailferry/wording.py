"""Times, spans and counts as a person says them."""

from __future__ import annotations

from datetime import datetime

_SPANS = ((86400.0, 36 * 3600.0, "day", "days"), (3600.0, 5400.0, "h", "h"), (60.0, 90.0, "min", "min"))
"""Unit in seconds, from which span on it is used, its name for one and for many."""


def span(seconds: float) -> str:
    """Say how long something is: `12 s`, `3 min`, `5 h`, `4 days`."""
    for unit, least, one, many in _SPANS:
        if seconds >= least:
            number = round(seconds / unit)
            return f"{number} {one if number == 1 else many}"
    return f"{max(round(seconds), 0)} s"


def ago(then: float | None, now: float) -> str:
    """Say when something was; `never` for None, and clocks that were set back are forgiven."""
    if not then:
        return "never"
    return "just now" if now - then < 1 else f"{span(now - then)} ago"


def local_time(seconds: float) -> str:
    """Format seconds since the epoch in the time zone of this machine."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def counted(number: int, one: str, many: str | None = None) -> str:
    """Say a number with its noun: `1 message`, `3 messages`."""
    return f"{number} {one if number == 1 else many or one + 's'}"
