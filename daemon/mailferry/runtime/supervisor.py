"""The daemon's life: start, wait for a signal, drain, end.

SIGHUP reads the configuration anew; see `Supervisor.reload`.

On SIGTERM or SIGINT nothing new begins; what is between a 250 and its row is
finished, sessions are closed with QUIT, all within the stop timeout. A second
signal ends at once. Nothing is lost either way: the ledger tells the next start
where each message stands.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mailferry.errors import StoreError
from mailferry.events import DaemonStarted, DaemonStopped, DaemonStopping
from mailferry.model import MaildropName
from mailferry.runtime.companion import Companion
from mailferry.runtime.fleet import Fleet
from mailferry.runtime.pulse import Pulse
from mailferry.runtime.reload import Reload, ReloadReport
from mailferry.runtime.schedule import Schedule, Timetable
from mailferry.services.context import Surroundings
from mailferry.services.notice import NoticeService
from mailferry.services.poll import PollReport

_log = logging.getLogger("mailferry")
_bugs = logging.getLogger("mailferry.bugs")

_PRUNE_EVERY_SECONDS = 6 * 3600.0
_COPY_EVERY_SECONDS = 3600.0
"""How often the ledger is asked whether a copy is due."""

_LOOK_EVERY_SECONDS = 10.0
"""How often to see whether a node, whose mail was asked for, has been silent for too long."""

_LAST_ROWS_SECONDS = 2.0
"""Time for the last rows after destinations had to be cut off."""

_ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True)
class SupervisorSettings:
    """How the daemon starts and stops; a reload puts others in their place.

    Attributes:
        history_seconds: how long rows of messages that are gone are kept.
        watch_config: whether a changed file is reason enough for a reload.
    """

    version: str
    stop_timeout_seconds: float
    history_seconds: float
    watch_config: bool = False


class Supervisor:
    """Runs the turns of all maildrops, by schedule or once."""

    def __init__(
        self,
        settings: SupervisorSettings,
        surroundings: Surroundings,
        fleet: Fleet,
        schedule: Schedule,
        notices: NoticeService | None = None,
        look_for_silence: Callable[[], object] | None = None,
    ) -> None:
        self.started = False
        self.stopping = False
        self.settings = settings
        self.fleet = fleet
        self.reloader: Reload | None = None
        """How to reload; None for a run that is not the daemon's."""
        self.pulse: Pulse | None = None
        """Who tells the service manager; None when nobody needs to."""
        self.on_ready: Callable[[], None] = lambda: None
        """Called when a configuration is in force, at the start and after each reload."""
        self._ledger = surroundings.ledger
        self._schedule = schedule
        self._notices = notices
        self._look_for_silence = look_for_silence
        self._emit = surroundings.emit
        self._clock = surroundings.clock
        self._ages_count = surroundings.ages_count
        self._pruning: asyncio.Task[None] | None = None
        self._copying: asyncio.Task[None] | None = None
        self._stop_asked = asyncio.Event()
        self._up = asyncio.Event()
        self._reloading: set[asyncio.Task[ReloadReport]] = set()
        self._companions: list[Companion] = []

    def attend(self, companion: Companion) -> None:
        """Let a part start before the schedule does, and end with what is under way; before `run`."""
        self._companions.append(companion)

    @property
    def schedule_running(self) -> bool:
        """Whether maildrops have their turns."""
        return self._schedule.running

    @property
    def maildrop_count(self) -> int:
        """How many maildrops there are."""
        return len(self.fleet.maildrops)

    async def run(self) -> None:
        """Run by schedule until a signal asks for the end.

        Raises:
            MailferryError: a companion cannot start.
        """
        with self._signals():
            for companion in self._companions:
                await companion.start()
            self._start_notices()
            self._start_schedule()
            self.started = True
            count = len(self.fleet.destinations)
            self._emit(DaemonStarted(self.settings.version, self.maildrop_count, count))
            self._up.set()
            self._tell_ready()
            await self._stop_asked.wait()
            await self._drain()

    async def run_once(
        self, names: Sequence[MaildropName], on_end: Callable[[MaildropName, PollReport | None], None]
    ) -> None:
        """Poll these maildrops now, whatever their schedule and pauses say, then drain."""
        with self._signals():
            self._start_notices()
            self.started = True
            maildrops = self.fleet.maildrops
            tasks = {name: maildrops[name].start(despite_pause=True) for name in names}
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
        if self.pulse is not None:
            self.pulse.stopping()
        self._stop_asked.set()

    async def reload(self) -> ReloadReport:
        """Read the configuration anew and put what changed in force; a bad one changes nothing.

        Returns when the new configuration is in force, but for maildrops whose last
        session under the old one takes long; they are named in the report.
        """
        if self.reloader is None:
            return ReloadReport(accepted=False, problems=("this is not the daemon",))
        await self._up.wait()  # what is not on the schedule yet cannot be changed there
        if self.stopping:
            return ReloadReport(accepted=False, problems=("the daemon is stopping",))
        if self.pulse is not None:
            self.pulse.reloading()
        try:
            return await self.reloader()
        finally:
            if not self.stopping:
                self._tell_ready()

    def _tell_ready(self) -> None:
        self.on_ready()
        if self.pulse is not None:
            self.pulse.ready(self._schedule, self.fleet.describe)

    async def replace_notices(self, notices: NoticeService | None) -> None:
        """Let the former summaries tell what they have, and others follow."""
        former, self._notices = self._notices, notices
        if former is not None:
            await former.close()
        if self.started and not self.stopping:
            self._start_notices()

    def _hang_up(self) -> None:
        if self.reloader is None:
            _log.warning("SIGHUP is passed over: there is nothing to reload")
            return
        if len(self._reloading) > 1:
            return  # they take turns, so the last one has not read the files yet
        task = asyncio.get_running_loop().create_task(self.reload(), name="reload")
        self._reloading.add(task)  # the loop keeps no reference of its own
        task.add_done_callback(self._reloading.discard)

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
        self.fleet.enter()
        if self._look_for_silence is not None:  # also without a node: a reload may bring the first one
            self._schedule.add(
                "etrn silence", Timetable(every_seconds=_LOOK_EVERY_SECONDS), self._look_for_silence
            )
        self._schedule.add("history pruning", Timetable(every_seconds=_PRUNE_EVERY_SECONDS), self._prune)
        self._schedule.add("ledger copy", Timetable(every_seconds=_COPY_EVERY_SECONDS), self._copy_ledger)
        for companion in self._companions:
            companion.enter(self._schedule)
        self._schedule.start()

    def _prune(self) -> None:
        before = self._clock() - self.settings.history_seconds
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
        deadline = loop.time() + self.settings.stop_timeout_seconds
        self.fleet.stop()
        for companion in self._companions:
            companion.stop()
        clean = await self._drain_destinations(deadline)
        if not clean:  # what was cut off is in doubt, and the rows that say so are being written
            deadline = max(deadline, loop.time() + _LAST_ROWS_SECONDS)
        clean &= await self.fleet.wait_ended(deadline)
        for companion in self._companions:
            clean &= await companion.wait_ended(deadline - loop.time())
        if self._notices is not None:
            await self._notices.close()
        self._emit(DaemonStopped(clean))

    async def _drain_destinations(self, deadline: float) -> bool:
        drains = [asyncio.ensure_future(destination.drain()) for destination in self.fleet.to_drain]
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
        return _SignalHandlers(self.ask_to_stop, self._hang_up)


async def _first_of(*futures: asyncio.Future[Any]) -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


class _SignalHandlers:
    """SIGTERM and SIGINT ask for the end; a second one gets the system's own treatment.

    SIGHUP must not end the process by its default action, whatever else it means.
    """

    def __init__(self, ask: Callable[[str], None], hang_up: Callable[[], None]) -> None:
        self._ask = ask
        self._hang_up = hang_up
        self._former_hang_up = signal.getsignal(signal.SIGHUP)

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        for number in _ENDING_SIGNALS:
            loop.add_signal_handler(number, self._handle, number)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)

    def __exit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for number in _ENDING_SIGNALS:
            loop.remove_signal_handler(number)
        # asyncio would leave the default action, which ends the process while the ledger is being closed.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        loop.remove_signal_handler(signal.SIGHUP)
        signal.signal(signal.SIGHUP, self._former_hang_up)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})

    def _handle(self, number: signal.Signals) -> None:
        loop = asyncio.get_running_loop()
        for ending in _ENDING_SIGNALS:
            loop.remove_signal_handler(ending)
        self._ask(signal.Signals(number).name)
