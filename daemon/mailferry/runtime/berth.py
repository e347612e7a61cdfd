"""The place of one configured name on the schedule, whoever holds it by the time.

A reload may want to put something else there while a session is under way. That one
is brought to an end first: what is in hand is finished, nothing new is begun, and only
then the successor takes its place. So there are never two sessions for one name, and
each message meets one set of settings. The wait has no bound of its own, since every
session has: to cut it off would leave mail in doubt for no need.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from mailferry.runtime.schedule import Schedule, Timetable

_bugs = logging.getLogger("mailferry.bugs")


class Job(Protocol):
    """What is called by the schedule, and can be brought to an end."""

    def start(self) -> object:
        """Begin when the time has come."""

    def stop(self) -> None:
        """Begin nothing more, and finish what is in hand."""

    async def ended(self) -> None:
        """Wait until nothing is under way."""

    async def wait_ended(self, deadline_seconds: float) -> bool:
        """Wait until nothing is under way; return whether that came in time."""


J = TypeVar("J", bound=Job)

Successor = Callable[[J | None], tuple[J, Timetable]]
"""Takes the former holder, which has ended, and returns the next one with its timetable."""


class Berth(Generic[J]):
    """One name on the schedule."""

    def __init__(self, name: str, schedule: Schedule, on_empty: Callable[[], None] = lambda: None) -> None:
        """Make a place; `on_empty` is called when its last holder has gone."""
        self.job: J | None = None
        self.on_empty = on_empty
        self._name = name
        self._schedule = schedule
        self._timetable: Timetable | None = None
        self._wanted: Successor[J] | None = None
        self._revision = 0
        self._change: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def change(self) -> asyncio.Task[None] | None:
        """The change under way, if there is one."""
        return self._change

    def hold(self, job: J, timetable: Timetable) -> None:
        """Put a job here, to be called after `enter`."""
        self.job = job
        self._timetable = timetable

    def enter(self) -> None:
        """Let the job be called from now on."""
        if self.job is not None and self._timetable is not None:
            self._schedule.add(self._name, self._timetable, self.job.start)

    def give_to(self, successor: Successor[J] | None) -> None:
        """Bring the holder to an end and let another one follow; None for nobody. The last word counts."""
        if self._closed:
            return
        self._schedule.remove(self._name)
        if self.job is not None:
            self.job.stop()
        self._wanted = successor
        self._revision += 1
        if self._change is None:
            task = asyncio.get_running_loop().create_task(self._hand_over(), name=f"change {self._name}")
            self._change = task
            task.add_done_callback(self._changed)

    def close(self) -> None:
        """Bring the holder to an end, and let nobody follow."""
        self._closed = True
        if self.job is not None:
            self.job.stop()

    async def wait_ended(self, deadline_seconds: float) -> bool:
        """Wait for the holder's end after `close`; return whether it came in time."""
        return self.job is None or await self.job.wait_ended(deadline_seconds)

    async def _hand_over(self) -> None:
        revision = -1
        while revision != self._revision:  # else there was another word meanwhile
            revision = self._revision
            if self.job is not None:
                await self.job.ended()
        former, self.job = self.job, None
        if self._wanted is not None and not self._closed:
            self.hold(*self._wanted(former))
            self.enter()

    def _changed(self, task: asyncio.Task[None]) -> None:
        self._change = None
        if not task.cancelled() and (error := task.exception()) is not None:
            _bugs.error("change of %s", self._name, exc_info=error)
        if self.job is None:
            self.on_empty()
