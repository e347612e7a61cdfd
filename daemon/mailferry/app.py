"""The composition root: settings become objects, objects become a running daemon.

Every object is made here and handed what it needs; nothing registers itself, no
module holds state.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import cached_property, partial
from typing import TextIO

from prometheus_client import CollectorRegistry
from structlog.typing import FilteringBoundLogger

from mailferry import __version__
from mailferry.assembly.changeover import Running
from mailferry.assembly.control import ControlParts, control_channel
from mailferry.assembly.destinations import make_destination
from mailferry.assembly.etrn import etrn_server
from mailferry.assembly.making import Making
from mailferry.assembly.notices import Notices
from mailferry.assembly.observing import LinkWatcher, make_metrics, measured, read_gauges
from mailferry.assembly.receiver import Reception
from mailferry.assembly.reload import Reloader
from mailferry.assembly.web import web_side
from mailferry.assembly.workshop import Arriving, Routes, Standings, Workshop
from mailferry.config.models import Settings
from mailferry.config.source import ConfigSource
from mailferry.ledger.store import SqlLedger
from mailferry.message.spool import Spool
from mailferry.model import DestinationName, MaildropName
from mailferry.net.switchboard import TraceSwitchboard
from mailferry.net.trace import Trace
from mailferry.ports import Destination, Emit
from mailferry.quarantine.store import QuarantineStore, quarantine_in
from mailferry.quarantine.tally import QuarantineTally
from mailferry.runtime.caps import SessionCaps
from mailferry.runtime.clock import SystemClock, steady_seconds
from mailferry.runtime.config_watch import watching
from mailferry.runtime.holds import Holds
from mailferry.runtime.notify import ServiceManager
from mailferry.runtime.pulse import Pulse
from mailferry.runtime.schedule import Schedule
from mailferry.runtime.supervisor import Supervisor, SupervisorSettings
from mailferry.services.budget import MemoryBudget
from mailferry.services.context import Surroundings
from mailferry.services.etrn import ArrivalWatch, EtrnServer
from mailferry.services.poll import PollReport
from mailferry.telemetry.daybook import DayBook
from mailferry.telemetry.events import EventLog
from mailferry.telemetry.fanout import fan_out
from mailferry.telemetry.logging import configure_logging


class Application:
    """A configured mailferry; `opened` starts its parts and stops them again."""

    def __init__(
        self, settings: Settings, *, log_stream: TextIO = sys.stderr, source: ConfigSource | None = None
    ) -> None:
        """Take the settings, and for a daemon that can be reloaded where they came from."""
        self.settings = settings
        self._source = source
        self._log_stream = log_stream
        self._control_parts: ControlParts | None = None
        self.on_ready: Callable[[], None] = lambda: None
        self.registry = CollectorRegistry()
        self._maildrops = {name: m for name, m in settings.maildrop.items() if m.enabled}
        self._log = EventLog(*self._loggers(settings))
        self.metrics = make_metrics(settings, self.registry)
        self._notices = Notices()
        self._notices.address(settings, self._making)
        self._day_book = DayBook(time.time)
        self.emit: Emit = fan_out(*self._sinks)

    def _loggers(self, settings: Settings) -> tuple[FilteringBoundLogger, FilteringBoundLogger]:
        daemon = settings.daemon
        level = "debug" if daemon.trace else daemon.log_level
        make = configure_logging(format=daemon.log_format, level=level, stream=self._log_stream)
        return make(), make.unfiltered()

    def _apply_logging(self, settings: Settings) -> None:
        self._log.log_with(*self._loggers(settings))
        self.traces.set_always(on=settings.daemon.trace)

    def listen_to_events(self, sink: Emit) -> None:
        """Let one more sink hear every event; before `opened`."""
        self.emit = fan_out(*self._sinks, sink)

    @property
    def _sinks(self) -> tuple[Emit, ...]:
        return (self._log, self.metrics.observe, self._notices, self._day_book)

    async def run(self) -> None:
        """Run as a daemon until a signal asks for the end.

        Raises:
            StoreError: the ledger cannot be used.
            MailferryError: the HTTP port or the control socket cannot be had.
        """
        pulse = Pulse(ServiceManager.from_environment(os.environ), self.emit)
        pulse.start()
        try:
            async with (
                self.opened() as supervisor,
                measured(self.metrics),
                self._web(),
                self._control(),
                self._watching(supervisor),
            ):
                supervisor.pulse = pulse
                supervisor.on_ready = self.on_ready
                await supervisor.run()
        finally:
            pulse.stop()

    def _watching(self, supervisor: Supervisor) -> AbstractAsyncContextManager[None]:
        if self._source is None:
            return nullcontext()
        return watching(self._source.fingerprint, supervisor.reload, lambda: supervisor.settings.watch_config)

    async def run_once(
        self,
        names: Sequence[str],
        on_end: Callable[[MaildropName, PollReport | None], None],
    ) -> None:
        """Poll some maildrops (all when none is named) once."""
        chosen = [MaildropName(name) for name in names or self._maildrops]
        async with self.opened() as supervisor:
            await supervisor.run_once(chosen, on_end)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Supervisor]:
        """Open the ledger and put everything together around it."""
        settings = self.settings
        async with SqlLedger(
            settings.ledger_url, journal_path=settings.journal_path, emit=self.emit
        ) as ledger:
            standings = await ledger.standings()
            self.metrics.restore(standings.values(), time.time())
            self._spool.prepare()
            yield self._assemble(ledger, standings)

    def _assemble(self, ledger: SqlLedger, standings: Standings) -> Supervisor:
        daemon = self.settings.daemon
        clock = SystemClock(self.emit)
        routes = Routes(self._making, self.emit, clock, self.holds.is_held)
        routes.make_all(self.settings, standings)
        surroundings = Surroundings(
            ledger=ledger,
            destinations=routes.by_name,
            budget=MemoryBudget(daemon.memory_budget, spool_threshold_octets=self._spool.threshold_octets),
            emit=self.emit,
            clock=clock,
            ages_count=clock.ages_count,
            quarantine=self._quarantine(),
            held=self.holds.is_held,
        )
        caps = SessionCaps(daemon.max_sessions, daemon.max_sessions_per_host)
        schedule = Schedule(clock, start_rate_per_second=daemon.start_rate, look=clock.look)
        clock.on_jump(schedule.clock_jumped)
        read_gauges(self.metrics, self.settings, surroundings.budget, caps, schedule)

        reception = Reception(
            self.settings, surroundings, self._making, self.arrivals.mail_came, routes.by_name
        )
        arriving = Arriving(self.arrivals, reception.sessions)
        workshop = Workshop(self._making, routes, surroundings, caps, arriving)
        life = SupervisorSettings(__version__, daemon.stop_timeout, daemon.history, daemon.watch_config)
        fleet = workshop.fleet(self.settings, schedule, standings)
        notices = self._notices.service(self.settings, self._making, surroundings, standings)
        supervisor = Supervisor(life, surroundings, fleet, schedule, notices, self.arrivals.look)
        supervisor.attend(reception)
        self.metrics.set_open_sessions("receiver", lambda: reception.sessions.open_count)
        if self._source is not None:
            running = Running(
                workshop,
                surroundings,
                caps,
                schedule,
                supervisor,
                self._notices,
                self.metrics,
                self._apply_logging,
            )
            supervisor.reloader = Reloader(self.settings, self._source.load, running)
        in_force = partial(self._in_force, supervisor)
        self._control_parts = ControlParts(
            supervisor, schedule, surroundings, caps, self.holds, self.traces, in_force
        )
        return supervisor

    # Control

    @cached_property
    def holds(self) -> Holds:
        """What somebody has paused by hand."""
        return Holds(self.emit, time.time)

    def _in_force(self, supervisor: Supervisor) -> Settings:
        reloader = supervisor.reloader
        return reloader.settings if isinstance(reloader, Reloader) else self.settings

    def _control(self) -> AbstractAsyncContextManager[None]:
        return nullcontext() if self._control_parts is None else control_channel(self._control_parts)

    # ETRN

    def etrn_server(self, name: str) -> EtrnServer:
        """Make a server of `[etrn.NAME]` that can be asked; also for a command that asks by itself."""
        return etrn_server(name, self.settings, self._hostname, self._tracer)

    @cached_property
    def arrivals(self) -> ArrivalWatch:
        """The watch that whoever receives mail tells of what came."""
        return ArrivalWatch(self.emit, time.time, steady_seconds)

    def _quarantine(self) -> QuarantineStore:
        quarantine = quarantine_in(self.settings.daemon.state_dir)
        tally = QuarantineTally(quarantine.count)
        quarantine.on_new = tally.add_one
        self.metrics.set_quarantined(tally)
        return quarantine

    @cached_property
    def _spool(self) -> Spool:
        daemon = self.settings.daemon
        # A budget smaller than the threshold means that little memory is to be used.
        return Spool(daemon.state_dir / "spool", min(daemon.spool_threshold, daemon.memory_budget))

    @cached_property
    def _hostname(self) -> str:
        return self.settings.hostname  # may ask the resolver: once is enough

    # Destinations

    @asynccontextmanager
    async def destinations(self) -> AsyncIterator[dict[DestinationName, Destination]]:
        """Make the destinations for a command that delivers by itself; at the end they finish their work.

        They know of no pause: who asks by hand wants an answer now.
        """
        enabled = {name: each for name, each in self.settings.destination.items() if each.enabled}
        made = {
            DestinationName(name): make_destination(DestinationName(name), each, self._making)
            for name, each in enabled.items()
        }
        try:
            yield made
        finally:
            for destination in made.values():
                await destination.drain()

    @cached_property
    def _making(self) -> Making:
        return Making(
            self._hostname,
            self._spool,
            self._tracer,
            LinkWatcher(lambda event: self.emit(event), self.metrics),  # noqa: PLW0108  another emit may come
        )

    @cached_property
    def traces(self) -> TraceSwitchboard:
        """The switches of session traces."""
        return TraceSwitchboard(self.emit, always=self.settings.daemon.trace)

    def _tracer(self, peer: str) -> Callable[[], Trace]:
        return self.traces.tracer(peer)

    # HTTP

    def _web(self) -> AbstractAsyncContextManager[None]:
        if self._control_parts is None:
            return nullcontext()
        return web_side(self._control_parts, self.registry, self._day_book, self._hostname)
