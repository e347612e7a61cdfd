"""A trouble that goes on is told once in full, then counted: no outage floods the log.

Which events may be counted together, their classes say (`Event.alike`): those fields
name the peer and the cause. Numbers in a cause do not tell two apart, since servers put
times and queue names there. Each message that needs a person is told, whatever comes:
those classes name no fields. With `log_level = "debug"` nothing is held back.

There is no timer: what was counted is told before the next event that comes after its
time, and events come all the time. At the end of the daemon all of it is told.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mailferry.events import DaemonStopped, Event, EventRepeated, MaildropRecovered, RouteResumed

PERIOD_SECONDS = 600.0
"""So long the same trouble is counted after it was told in full."""

MAX_TROUBLES = 4096
"""Beyond that the oldest is told and forgotten."""

MAX_RECORDS = 512

_CAUSE_CHARACTERS = 300
_NUMBER = re.compile(r"[0-9A-Za-z]*[0-9][0-9A-Za-z]*")
_RECOVERIES = {MaildropRecovered: "maildrop", RouteResumed: "destination"}

_Key = tuple[type[Event], tuple[str, ...]]


def without_numbers(text: str) -> str:
    """Return a text in which words with digits are all the same: numbers, times, queue names."""
    return _NUMBER.sub("#", text[:_CAUSE_CHARACTERS])


@dataclass(slots=True)
class _Trouble:
    """A trouble that was told in full, and what came since.

    Attributes:
        began: when it was told, by the steady clock; `since_at` by the wall clock.
        last: the latest of those that were counted.
    """

    began: float
    since_at: float
    last: Event
    times: int = 0


class Repetition:
    """Decides which events become lines."""

    def __init__(
        self, clock: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._steady = steady
        self._troubles: OrderedDict[_Key, _Trouble] = OrderedDict()

    def sift(self, event: Event) -> Iterator[Event]:
        """Yield what is to be logged now: summaries that are due, and the event unless it is counted."""
        kind = type(event)
        if self._troubles:
            yield from self._due()
            if kind is DaemonStopped:
                yield from self._end(list(self._troubles))
            elif kind in _RECOVERIES:
                yield from self._end(self._of(_RECOVERIES[kind], event))
        if not kind.alike or self._is_new(event):
            yield event
        if len(self._troubles) > MAX_TROUBLES:
            yield from self._end([next(iter(self._troubles))])

    def _is_new(self, event: Event) -> bool:
        key = type(event), tuple(without_numbers(str(getattr(event, name))) for name in event.alike)
        known = self._troubles.get(key)
        if known is None:
            self._troubles[key] = _Trouble(self._steady(), self._clock(), event)
            return True
        known.times += 1
        known.last = event
        return False

    def _due(self) -> Iterator[Event]:
        """Tell of those whose time is over; they stand in the order in which they began."""
        now = self._steady()
        while self._troubles:
            key, oldest = next(iter(self._troubles.items()))
            if now - oldest.began < PERIOD_SECONDS:
                return
            yield from self._end([key])

    def _of(self, field: str, event: Event) -> list[_Key]:
        """Return the troubles of a peer that is well again: what comes next is told in full."""
        name = getattr(event, field)
        return [key for key, each in self._troubles.items() if getattr(each.last, field, None) == name]

    def _end(self, keys: list[_Key]) -> Iterator[Event]:
        for key in keys:
            trouble = self._troubles.pop(key)
            if trouble.times:
                yield _summary(trouble)


class RepeatedRecords(logging.Filter):
    """Does the same for what libraries log, from whatever thread; the next one says how many were held back."""

    def __init__(self, steady: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._steady = steady
        self._lock = threading.Lock()
        self._told: OrderedDict[tuple[str, int, str], tuple[float, int]] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Let the first through, and one in each period after it."""
        key = record.name, record.levelno, without_numbers(record.getMessage())
        now = self._steady()
        with self._lock:
            began, held_back = self._told.pop(key, (-PERIOD_SECONDS, 0))
            if now - began < PERIOD_SECONDS:
                self._told[key] = began, held_back + 1
                return False
            self._told[key] = now, 0
            if len(self._told) > MAX_RECORDS:
                self._told.popitem(last=False)
        record.held_back = held_back
        return True


def _summary(trouble: _Trouble) -> EventRepeated:
    last = trouble.last
    words = (getattr(last, name, "") for name in ("reason", "error"))
    return EventRepeated(
        of=last.name,
        times=trouble.times,
        since_at=trouble.since_at,
        maildrop=str(getattr(last, "maildrop", "")),
        destination=str(getattr(last, "destination", "")),
        reason=str(next((each for each in words if each), "")),
    )
