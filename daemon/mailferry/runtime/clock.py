"""The system's clock, and what follows when somebody sets it.

Ages and pauses are told by the wall clock, since they outlive the process. A machine
that comes up with a wrong clock, is restored from a snapshot, or is set by hand, makes
all of them wrong at once. So the wall clock is compared with one that nobody can set:

- set forward, everything seems old: for an hour nothing is deleted because of its age,
  and a person has time to see the warning;
- set back, pauses seem to last for ever: `policy.backoff.is_due` takes what is further
  away than a pause can be for due, and the schedule is moved along.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from mailferry.events import ClockJumped
from mailferry.ports import Emit

JUMP_SECONDS = 120.0
"""A smaller step (NTP, a leap second) harms nothing that is counted here."""

SETTLING_SECONDS = 3600.0
"""How long ages do not count after the clock was set forward."""

# A laptop that wakes up has not had its clock set: the time asleep must count here, too.
# Only Linux has a clock of its own for that.
_STEADY_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def steady_seconds() -> float:
    """Return seconds since some moment, by a clock that nobody can set."""
    return time.clock_gettime(_STEADY_CLOCK)


class SystemClock:
    """Seconds since the epoch; notices when they jump.

    Every reading is compared. Telling is left to `look`, as a reading may be taken
    anywhere, in the middle of what a listener would change.
    """

    def __init__(
        self,
        emit: Emit,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = steady_seconds,
    ) -> None:
        self._emit = emit
        self._wall = wall
        self._steady = steady
        self._ahead = wall() - steady()
        self._ages_count_from = steady()
        self._untold: list[float] = []
        self._listeners: list[Callable[[float], None]] = []

    def __call__(self) -> float:
        """Return the time."""
        now, steady = self._wall(), self._steady()
        jump, self._ahead = now - steady - self._ahead, now - steady
        if abs(jump) >= JUMP_SECONDS:
            self._untold.append(jump)
            if jump > 0:
                self._ages_count_from = steady + SETTLING_SECONDS
        return now

    def on_jump(self, listener: Callable[[float], None]) -> None:
        """Let somebody know of every jump, in seconds, negative when the clock was set back."""
        self._listeners.append(listener)

    def look(self) -> None:
        """Compare, and tell of jumps that have not been told yet, each once."""
        self()
        while self._untold:
            jump = self._untold.pop(0)
            self._emit(ClockJumped(jump))
            for listener in self._listeners:
                listener(jump)

    def ages_count(self) -> bool:
        """Whether something may be deleted because it seems old.

        True also speaks for every time that was read from this clock before the call.
        """
        self.look()
        return self._steady() >= self._ages_count_from
