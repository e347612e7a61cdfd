"""The daemon's pulse: proof that it lives, for whoever restarts what does not.

It beats on the event loop, so a loop that is blocked is silent by itself. It is silent
as well while the schedule does not move: nothing looks what is due any more, or what is
due is not begun. While the daemon starts or drains there is no schedule to look at; then
it asks for more time instead, as long as the loop turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from mailferry.events import ScheduleStuck
from mailferry.ports import Emit
from mailferry.runtime.notify import ServiceManager

BEAT_SECONDS = 5.0
"""The longest time between two beats; a status is never told more often than once in a beat."""

STUCK_SECONDS = 60.0
"""How late the schedule may be: it looks every few seconds, so this is no busy machine."""

GRACE_SECONDS = 20.0
"""How long that must last: a clock that was set looks the same until the schedule notices."""

EXTENSION_SECONDS = 30.0
"""What is asked for with each beat while the daemon starts or ends."""


class Moving(Protocol):
    """A schedule, by what shows whether it moves."""

    @property
    def running(self) -> bool:
        """Whether it is in force."""

    @property
    def stood_still_seconds(self) -> float:
        """How long nobody has looked what is due."""

    @property
    def overdue_seconds(self) -> float:
        """How long ago the next job should have begun; 0 when it lies ahead."""


class Pulse:
    """Beats while the daemon makes progress."""

    def __init__(self, manager: ServiceManager, emit: Emit) -> None:
        self._manager = manager
        self._emit = emit
        self._schedule: Moving | None = None
        self._describe: Callable[[], str] = lambda: ""
        self._timer: asyncio.TimerHandle | None = None
        self._status = ""
        self._trouble_since: float | None = None
        self._told = False

    def start(self) -> None:
        """Begin to beat; the daemon counts as starting."""
        self._beat()

    def ready(self, schedule: Moving, describe: Callable[[], str]) -> None:
        """Tell that the configuration is in force: at the start, or again when a reload is over.

        Args:
            schedule: what must move from now on.
            describe: says in a few words what the daemon does.
        """
        self._schedule, self._describe = schedule, describe
        self._status = describe()
        self._manager.ready(self._status)

    def reloading(self) -> None:
        """Tell that a reload begins."""
        self._manager.reloading()

    def stopping(self) -> None:
        """Tell that the end begins; nothing has to move any more."""
        self._schedule = None
        self._manager.stopping()

    def stop(self) -> None:
        """Beat no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._manager.close()

    @property
    def trouble(self) -> str:
        """Why the schedule does not move; empty while it does, or while it need not."""
        schedule = self._schedule
        if schedule is None:
            return ""
        if not schedule.running:
            return "the schedule has ended"
        if schedule.stood_still_seconds > STUCK_SECONDS:
            return f"nobody has looked what is due for {schedule.stood_still_seconds:.0f} s"
        if schedule.overdue_seconds > STUCK_SECONDS:
            return f"what is due has not been begun for {schedule.overdue_seconds:.0f} s"
        return ""

    def _beat(self) -> None:
        watchdog = self._manager.watchdog_seconds
        # sd_watchdog_enabled(3) recommends half of the time.
        seconds = min(watchdog / 2, BEAT_SECONDS) if watchdog else BEAT_SECONDS
        self._timer = asyncio.get_running_loop().call_later(seconds, self._beat)
        if self._is_stuck():
            return
        if watchdog:
            self._manager.alive()
        if self._schedule is None:
            self._manager.extend(EXTENSION_SECONDS)
        else:
            self._tell_status()

    def _is_stuck(self) -> bool:
        trouble, now = self.trouble, asyncio.get_running_loop().time()
        if not trouble:
            self._trouble_since, self._told = None, False
            return False
        if self._trouble_since is None:
            self._trouble_since = now
        if now - self._trouble_since < GRACE_SECONDS:
            return False
        if not self._told:
            self._told = True
            self._emit(ScheduleStuck(trouble))
        return True

    def _tell_status(self) -> None:
        status = self._describe()
        if status != self._status:
            self._status = status
            self._manager.status(status)
