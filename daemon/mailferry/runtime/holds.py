"""What somebody has paused by hand, and until when.

Targets are named as in the configuration: `maildrop.alice`, `destination.office`,
`etrn.head-office`. A pause is of a name, not of the object behind it, so that a reload
does not end it. A new start does: it is meant for an hour of work on a server, and one that
is forgotten must not outlive the daemon; `enabled = false` is for good.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mailferry.events import PauseBegan, PauseEnded
from mailferry.ports import Clock, Emit

LONGEST_SECONDS = 366 * 86_400.0


@dataclass(frozen=True, slots=True)
class _Hold:
    ends_at: float
    timer: asyncio.TimerHandle | None


class Holds:
    """The pauses by hand; one object for the life of the daemon."""

    def __init__(self, emit: Emit, clock: Clock) -> None:
        self._emit = emit
        self._clock = clock
        self._holds: dict[str, _Hold] = {}

    def is_held(self, target: str) -> bool:
        """Tell whether a target is paused by hand."""
        return target in self._holds

    @property
    def ends(self) -> Mapping[str, float]:
        """What is paused, and when each pause ends in seconds since the epoch; 0 for not by itself."""
        return {target: hold.ends_at for target, hold in self._holds.items()}

    def hold(self, target: str, seconds: float | None, on_end: Callable[[], None]) -> float:
        """Pause a target, or pause it anew; `on_end` is called when the time is over.

        Returns when that will be; 0 for not by itself.
        """
        self._forget(target)
        ends_at, timer = 0.0, None
        if seconds is not None:
            seconds = min(seconds, LONGEST_SECONDS)
            ends_at = self._clock() + seconds
            timer = asyncio.get_running_loop().call_later(seconds, self._time_over, target, on_end)
        self._holds[target] = _Hold(ends_at, timer)
        self._emit(PauseBegan(target, ends_at))
        return ends_at

    def release(self, target: str) -> bool:
        """End a pause; return whether there was one. `on_end` is not called."""
        if not self._forget(target):
            return False
        self._emit(PauseEnded(target, "asked"))
        return True

    def close(self) -> None:
        """Let go of the timers, at the daemon's end."""
        for target in list(self._holds):
            self._forget(target)

    def _forget(self, target: str) -> bool:
        hold = self._holds.pop(target, None)
        if hold is not None and hold.timer is not None:
            hold.timer.cancel()
        return hold is not None

    def _time_over(self, target: str, on_end: Callable[[], None]) -> None:
        del self._holds[target]
        self._emit(PauseEnded(target, "time"))
        on_end()
