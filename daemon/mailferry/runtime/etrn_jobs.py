"""All servers that are asked with ETRN, as the supervisor starts and stops them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from mailferry.runtime.etrn_turns import EtrnTurns
from mailferry.runtime.schedule import Schedule, Timetable
from mailferry.services.etrn import ArrivalWatch

LOOK_SECONDS = 10.0
"""How often to see whether somebody has been silent for too long."""


class EtrnJobs:
    """The turns of every server, each with its timetable, and the watch on what comes."""

    def __init__(self, jobs: Sequence[tuple[EtrnTurns, Timetable]], watch: ArrivalWatch) -> None:
        self._jobs = tuple(jobs)
        self._watch = watch

    def enter(self, schedule: Schedule) -> None:
        """Put everything into the schedule."""
        for turns, timetable in self._jobs:
            schedule.add(f"etrn {turns.name}", timetable, turns.start)
        if any(turns.policy.watched for turns, _ in self._jobs):
            schedule.add("etrn silence", Timetable(every_seconds=LOOK_SECONDS), self._watch.look)

    def stop(self) -> None:
        """Ask nothing more."""
        for turns, _ in self._jobs:
            turns.stop()

    async def wait_ended(self, deadline_seconds: float) -> bool:
        """Wait for sessions to end after `stop`; return whether all did in time."""
        deadline = asyncio.get_running_loop().time() + deadline_seconds
        clean = True
        for turns, _ in self._jobs:
            clean &= await turns.wait_ended(deadline - asyncio.get_running_loop().time())
        return clean
