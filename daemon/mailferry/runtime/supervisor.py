"""The daemon's life: start, wait for a signal, drain, end.

On SIGTERM or SIGINT nothing new begins; what is between a 250 and its row is
finished, sessions are closed with QUIT, all within the stop timeout. A second
signal ends at once. Nothing is lost either way: the ledger tells the next start
where each message stands.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mailferry.errors import StoreError
from mailferry.events import DaemonStarted, DaemonStopped, DaemonStopping
from mailferry.model import MaildropName
from mailferry.runtime.etrn_jobs import EtrnJobs
from mailferry.runtime.schedule import Schedule, Timetable
from mailferry.runtime.turn import Turns
from mailferry.services.context import Surroundings
from mailferry.services.notice import NoticeService
from mailferry.services.poll import PollReport

_log = logging.getLogger("mailferry")
_bugs = logging.getLogger("mailferry.bugs")

_PRUNE_EVERY_SECONDS = 6 * 3600.0
_COPY_EVERY_SECONDS = 3600.0
"""How often the ledger is asked whether a copy is due."""

_LAST_ROWS_SECONDS = 2.0
"""Time for the last rows after destinations had to be cut off."""

_ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True)
class SupervisorSettings:
    """How the daemon starts and stops.

    Attributes:
        history_seconds: how long rows of messages that are gone are kept.
    """

    version: str
    stop_timeout_seconds: float
    history_seconds: float


class Supervisor:
    """Runs the turns of all maildrops, by schedule or once."""

    def __init__(
        self,
        settings: SupervisorSettings,
        surroundings: Surroundings,
        turns: Mapping[MaildropName, tuple[Turns, Timetable]],
        schedule: Schedule,
        notices: NoticeService | None = None,
        etrn: EtrnJobs | None = None,
    ) -> None:
        self.started = False
        self.stopping = False
        self._settings = settings
        self._turns = turns
        self._destinations = list(surroundings.destinations.values())
        self._ledger = surroundings.ledger
        self._schedule = schedule
        self._notices = notices
        self._etrn = etrn
        self._emit = surroundings.emit
        self._clock = surroundings.clock
        self._ages_count = surroundings.ages_count
        self._pruning: asyncio.Task[None] | None = None
        self._copying: asyncio.Task[None] | None = None
        self._stop_asked = asyncio.Event()

    @property
    def schedule_running(self) -> bool:
        """Whether maildrops have their turns."""
        return self._schedule.running

    @property
    def maildrop_count(self) -> int:
        """How many maildrops there are."""
        return len(self._turns)

    async def run(self) -> None:
        """Run by schedule until a signal asks for the end."""
        with self._signals():
            self._start_notices()
            self._start_schedule()
            self.started = True
            self._emit(DaemonStarted(self._settings.version, len(self._turns), len(self._destinations)))
            await self._stop_asked.wait()
            await self._drain()

    async def run_once(
        self, names: Sequence[MaildropName], on_end: Callable[[MaildropName, PollReport | None], None]
    ) -> None:
        """Poll these maildrops now, whatever their schedule and pauses say, then drain."""
        with self._signals():
            self._start_notices()
            self.started = True
            tasks = {name: self._turns[name][0].start(despite_pause=True) for name in names}
            waits = [self._tell_end(name, task, on_end) for name, task in tasks.items() if task is not None]
            ended = asyncio.ensure_future(asyncio.gather(*waits))
            stopped = asyncio.ensure_future(self._stop_asked.wait())
            await _first_of(ended, stopped)
            stopped.cancel()
            await self._drain()
            await ended

    def ask_to_stop(self, reason: str) -> None:
        """Begin the end; called by a signal."""
        if self._stop_asked.is_set():
            return
        self.stopping = True
        self._emit(DaemonStopping(reason))
        self._stop_asked.set()

    async def _tell_end(
        self,
        name: MaildropName,
        task: asyncio.Task[PollReport],
        on_end: Callable[[MaildropName, PollReport | None], None],
    ) -> None:
        await asyncio.wait({task})
        on_end(name, None if task.cancelled() else task.result())

    def _start_notices(self) -> None:
        if self._notices is not None:
            self._notices.start()

    def _start_schedule(self) -> None:
        for name, (turns, timetable) in self._turns.items():
            self._schedule.add(name, timetable, turns.start)
        if self._etrn is not None:
            self._etrn.enter(self._schedule)
        self._schedule.add("history pruning", Timetable(every_seconds=_PRUNE_EVERY_SECONDS), self._prune)
        self._schedule.add("ledger copy", Timetable(every_seconds=_COPY_EVERY_SECONDS), self._copy_ledger)
        self._schedule.start()

    def _prune(self) -> None:
        before = self._clock() - self._settings.history_seconds
        if not self._ages_count():
            return  # what only seems old is not forgotten either
        self._pruning = asyncio.get_running_loop().create_task(self._prune_rows(before))

    def _copy_ledger(self) -> None:
        self._copying = asyncio.get_running_loop().create_task(self._ledger.keep_copy())

    async def _prune_rows(self, before: float) -> None:
        try:
            await self._ledger.prune(before)
        except StoreError:
            return  # told as an event by the ledger; the next run prunes what this one did not

    async def _drain(self) -> None:
        """Let what is under way reach a safe point, within the stop timeout."""
        self._schedule.stop()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.stop_timeout_seconds
        running = [turns for turns, _ in self._turns.values()]
        for turns in running:
            turns.stop()
        if self._etrn is not None:
            self._etrn.stop()
        clean = await self._drain_destinations(deadline)
        if not clean:  # what was cut off is in doubt, and the rows that say so are being written
            deadline = max(deadline, loop.time() + _LAST_ROWS_SECONDS)
        for turns in running:
            clean &= await turns.wait_ended(deadline - loop.time())
        if self._etrn is not None:
            clean &= await self._etrn.wait_ended(deadline - loop.time())
        if self._notices is not None:
            await self._notices.close()
        self._emit(DaemonStopped(clean))

    async def _drain_destinations(self, deadline: float) -> bool:
        drains = [asyncio.ensure_future(destination.drain()) for destination in self._destinations]
        if not drains:
            return True
        left = max(deadline - asyncio.get_running_loop().time(), 0)
        _, late = await asyncio.wait(drains, timeout=left)
        for task in late:
            task.cancel()
        results = await asyncio.gather(*drains, return_exceptions=True)
        failures = [result for result in results if isinstance(result, Exception)]
        for failure in failures:  # a fault of ours; the others must still be drained
            _bugs.error("drain of a destination", exc_info=failure)
        return not late and not failures

    def _signals(self) -> _SignalHandlers:
        return _SignalHandlers(self.ask_to_stop)


async def _first_of(*futures: asyncio.Future[Any]) -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


class _SignalHandlers:
    """SIGTERM and SIGINT ask for the end; a second one gets the system's own treatment.

    SIGHUP, from habit taken for "read your configuration again", must not end the
    daemon by its default action and with it the mail: it is told and passed over.
    """

    def __init__(self, ask: Callable[[str], None]) -> None:
        self._ask = ask

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        for number in _ENDING_SIGNALS:
            loop.add_signal_handler(number, self._handle, number)
        loop.add_signal_handler(signal.SIGHUP, _tell_hang_up)

    def __exit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for number in (*_ENDING_SIGNALS, signal.SIGHUP):
            loop.remove_signal_handler(number)

    def _handle(self, number: signal.Signals) -> None:
        loop = asyncio.get_running_loop()
        for ending in _ENDING_SIGNALS:
            loop.remove_signal_handler(ending)
        self._ask(signal.Signals(number).name)


def _tell_hang_up() -> None:
    _log.warning("SIGHUP is passed over: a changed configuration takes a restart")
