"""The composition root: settings become objects, objects become a running daemon.

Every object is made here and handed what it needs; nothing registers itself, no
module holds state.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Any, TextIO

from prometheus_client import CollectorRegistry

from mailferry import __version__
from mailferry.assembly.destinations import make_destination
from mailferry.assembly.etrn import etrn_jobs, etrn_server
from mailferry.assembly.maildrops import make_maildrop, timetable_of
from mailferry.assembly.making import Making
from mailferry.config.models import Settings
from mailferry.destinations.letter import Sender
from mailferry.ledger.store import SqlLedger
from mailferry.message.notice import NoticeEnvelope
from mailferry.message.spool import Spool
from mailferry.model import DestinationName, MaildropName, StandingKind, StandingRecord
from mailferry.net.switchboard import TraceSwitchboard
from mailferry.net.trace import Trace
from mailferry.ports import Clock, Destination, Emit
from mailferry.quarantine.store import QuarantineStore, quarantine_in
from mailferry.quarantine.tally import QuarantineTally
from mailferry.runtime.caps import SessionCaps
from mailferry.runtime.clock import SystemClock, steady_seconds
from mailferry.runtime.schedule import Schedule, Timetable
from mailferry.runtime.supervisor import Supervisor, SupervisorSettings
from mailferry.runtime.turn import Turns
from mailferry.services.budget import MemoryBudget
from mailferry.services.context import Surroundings
from mailferry.services.etrn import ArrivalWatch, EtrnServer
from mailferry.services.notice import STANDING_NAME, NoticePolicy, NoticeService
from mailferry.services.notice_board import NoticeBoard
from mailferry.services.poll import PollReport
from mailferry.services.route import Route, RouteStandings
from mailferry.telemetry.events import EventLog
from mailferry.telemetry.fanout import fan_out
from mailferry.telemetry.logging import configure_logging
from mailferry.telemetry.metrics import Metrics
from mailferry.web.server import WebServer

Standings = Mapping[tuple[StandingKind, str], StandingRecord]


class Application:
    """A configured mailferry; `opened` starts its parts and stops them again."""

    def __init__(self, settings: Settings, *, log_stream: TextIO = sys.stderr) -> None:
        self.settings = settings
        self.registry = CollectorRegistry()
        self._maildrops = {name: m for name, m in settings.maildrop.items() if m.enabled}
        self._log = self._make_log(log_stream)
        self.metrics = Metrics(
            self.registry,
            maildrops=list(self._maildrops),
            destinations=[name for name, d in settings.destination.items() if d.enabled],
            etrn_nodes=[(name, node) for name, e in settings.etrn.items() if e.enabled for node in e.nodes],
            version=__version__,
        )
        self._board = self._notice_board()
        self.emit: Emit = fan_out(*self._sinks)

    def _make_log(self, stream: TextIO) -> EventLog:
        daemon = self.settings.daemon
        level = "debug" if daemon.trace else daemon.log_level
        make_logger = configure_logging(format=daemon.log_format, level=level, stream=stream)
        return EventLog(make_logger(), make_logger.unfiltered())

    def listen_to_events(self, sink: Emit) -> None:
        """Let one more sink hear every event; before `opened`."""
        self.emit = fan_out(*self._sinks, sink)

    @property
    def _sinks(self) -> tuple[Emit, ...]:
        board = (self._board,) if self._board is not None else ()
        return (self._log, self.metrics.observe, *board)

    async def run(self) -> None:
        """Run as a daemon until a signal asks for the end.

        Raises:
            StoreError: the ledger cannot be used.
            MailferryError: the HTTP port cannot be had.
        """
        async with self.opened() as supervisor, self._web(supervisor):
            await supervisor.run()

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
        routes = self._routes(standings, clock)
        surroundings = Surroundings(
            ledger=ledger,
            destinations=routes,
            budget=MemoryBudget(daemon.memory_budget, spool_threshold_octets=self._spool.threshold_octets),
            emit=self.emit,
            clock=clock,
            ages_count=clock.ages_count,
            quarantine=self._quarantine(),
        )
        caps = SessionCaps(daemon.max_sessions, daemon.max_sessions_per_host)
        schedule = Schedule(clock, start_rate_per_second=daemon.start_rate, look=clock.look)
        clock.on_jump(schedule.clock_jumped)
        self.metrics.set_memory_in_use(lambda: surroundings.budget.in_use_octets)
        self.metrics.set_open_sessions("pop3", lambda: caps.in_use)
        self.metrics.set_schedule_lag(lambda: schedule.lag_seconds)

        route_standings = RouteStandings(routes)
        turns: dict[MaildropName, tuple[Turns, Timetable]] = {}
        for text, maildrop in self._maildrops.items():
            name = MaildropName(text)
            standing = standings.get((StandingKind.MAILDROP, text))
            turn = Turns(
                make_maildrop(name, maildrop, self._making), surroundings, caps, route_standings, standing
            )
            turns[name] = (turn, timetable_of(maildrop))
        life = SupervisorSettings(__version__, daemon.stop_timeout, daemon.history)
        etrn = etrn_jobs(self.settings, surroundings, self.arrivals, standings, self.etrn_server)
        notices = self._notices(surroundings, standings)
        return Supervisor(life, surroundings, turns, schedule, notices, etrn)

    # ETRN

    def etrn_server(self, name: str) -> EtrnServer:
        """Make a server of `[etrn.NAME]` that can be asked; also for a command that asks by itself."""
        return etrn_server(name, self.settings, self._hostname, self._tracer)

    @cached_property
    def arrivals(self) -> ArrivalWatch:
        """The watch that whoever receives mail tells of what came."""
        return ArrivalWatch(self.emit, time.time, steady_seconds)

    # The operator's summary

    def _notice_board(self) -> NoticeBoard | None:
        recipient = self.settings.notice.to
        if recipient is None:
            return None
        return NoticeBoard(NoticeEnvelope(self._hostname, recipient), time.time, steady_seconds)

    def _notices(self, surroundings: Surroundings, standings: Standings) -> NoticeService | None:
        notice = self.settings.notice
        if self._board is None or notice.to is None or notice.destination is None:
            return None
        settings = self.settings.destination[notice.destination]
        # The same server, but its own envelope, and one session that keeps no mail waiting.
        changes = {"recipients": (notice.to,), "sender": Sender.NULL.value, "max_sessions": 1}
        settings = settings.model_copy(update=changes)
        way = make_destination(DestinationName(notice.destination), settings, self._making)
        policy = NoticePolicy(NoticeEnvelope(self._hostname, notice.to), notice.every)
        standing = standings.get((StandingKind.NOTICE, STANDING_NAME))
        return NoticeService(policy, self._board, way, surroundings, standing)

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

    def _routes(self, standings: Standings, clock: Clock) -> dict[DestinationName, Route]:
        routes: dict[DestinationName, Route] = {}
        for text, settings in self.settings.destination.items():
            if not settings.enabled:
                continue
            name = DestinationName(text)
            inner = make_destination(name, settings, self._making)
            standing = standings.get((StandingKind.DESTINATION, text))
            routes[name] = Route(inner, self.emit, clock, random.random, standing)
        return routes

    @cached_property
    def _making(self) -> Making:
        return Making(self._hostname, self._spool, self._tracer)

    @cached_property
    def traces(self) -> TraceSwitchboard:
        """The switches of session traces."""
        return TraceSwitchboard(self.emit, always=self.settings.daemon.trace)

    def _tracer(self, peer: str) -> Callable[[], Trace]:
        return self.traces.tracer(peer)

    # HTTP

    @asynccontextmanager
    async def _web(self, supervisor: Supervisor) -> AsyncIterator[None]:
        host, port = self.settings.http.host, self.settings.http.port
        if host is None or port is None:
            yield
            return
        server = WebServer(host=host, port=port, registry=self.registry, health=_Health(supervisor))
        await server.start()
        try:
            yield
        finally:
            await server.stop()


class _Health:
    """Answers /healthz and /readyz."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def live(self) -> tuple[bool, dict[str, Any]]:
        """The event loop answers, so it lives; the schedule must run with it."""
        supervisor = self._supervisor
        well = supervisor.schedule_running or not supervisor.started or supervisor.stopping
        return well, {"version": __version__}

    def ready(self) -> tuple[bool, dict[str, Any]]:
        """Configured, ledger open, schedule running, not on its way out."""
        supervisor = self._supervisor
        well = supervisor.started and supervisor.schedule_running and not supervisor.stopping
        return well, {"version": __version__, "maildrops": supervisor.maildrop_count}
