"""Makes what works for a configured name: for all at the start, for what is new at a reload."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from mailferry.assembly.destinations import make_destination
from mailferry.assembly.etrn import MAX_SESSIONS, etrn_server, etrn_settings, etrn_timetable
from mailferry.assembly.maildrops import make_maildrop, timetable_of
from mailferry.assembly.making import Making
from mailferry.assembly.odmr import odmr_server
from mailferry.config.changes import enabled
from mailferry.config.models import MaildropSettings, Settings
from mailferry.model import DestinationName, MaildropName, StandingKind, StandingRecord
from mailferry.ports import Clock, Emit
from mailferry.receiver.sessions import ReceiverSessions
from mailferry.runtime.berth import Successor
from mailferry.runtime.caps import SessionCaps
from mailferry.runtime.etrn_turns import EtrnTurns
from mailferry.runtime.fleet import Fleet
from mailferry.runtime.schedule import Schedule, Timetable
from mailferry.runtime.turn import Turns, without_pause
from mailferry.services.context import Surroundings
from mailferry.services.etrn import ArrivalWatch, AskedServer
from mailferry.services.route import Route, RouteStandings

Standings = Mapping[tuple[StandingKind, str], StandingRecord]


@dataclass(frozen=True, slots=True)
class Routes:
    """The routes to all destinations in use, which a reload changes, and how one is made."""

    making: Making
    emit: Emit
    clock: Clock
    held: Callable[[str], bool] = lambda _target: False
    """Tells whether somebody has paused a target, as `destination.office`, by hand."""
    by_name: dict[DestinationName, Route] = field(default_factory=dict)

    def make_all(self, settings: Settings, standings: Standings) -> None:
        """Make what the start needs."""
        for text in enabled(settings, "destination"):
            name = DestinationName(text)
            self.by_name[name] = self.make(name, settings, standings.get((StandingKind.DESTINATION, text)))

    def make(self, name: DestinationName, settings: Settings, standing: StandingRecord | None) -> Route:
        """Make one."""
        inner = make_destination(name, settings.destination[name], self.making)
        route = Route(inner, self.emit, self.clock, random.random, standing)
        route.held = partial(self.held, f"destination.{name}")
        return route

    def make_next(self, name: DestinationName, settings: Settings, standings: Standings) -> Route:
        """Make one that is new, or that follows another one: what failed before is tried at once."""
        former = self.by_name.get(name)
        standing = former.standing if former else standings.get((StandingKind.DESTINATION, name))
        return self.make(name, settings, replace(standing, not_before=0.0) if standing else None)


@dataclass(frozen=True, slots=True)
class Arriving:
    """What mail that was asked for meets when it comes.

    Attributes:
        watch: notices when none comes.
        sessions: the server side of connections whose roles turned round.
    """

    watch: ArrivalWatch
    sessions: ReceiverSessions


class Workshop:
    """Makes what is put onto the schedule."""

    def __init__(
        self, making: Making, routes: Routes, around: Surroundings, caps: SessionCaps, arriving: Arriving
    ) -> None:
        self.making = making
        self.routes = routes
        self.watch = arriving.watch
        self._sessions = arriving.sessions
        self._around = around
        self._caps = caps
        self._etrn_caps = SessionCaps(MAX_SESSIONS, per_host=1)
        self._route_standings = RouteStandings(routes.by_name)

    def fleet(self, settings: Settings, schedule: Schedule, standings: Standings) -> Fleet:
        """Make all of it, for the start."""
        fleet = Fleet(schedule, self.routes.by_name)
        for text, table in enabled(settings, "maildrop").items():
            name = MaildropName(text)
            maildrop, standing = (
                make_maildrop(name, table, self.making),
                standings.get((StandingKind.MAILDROP, text)),
            )
            turns = Turns(maildrop, self._around, self._caps, self._route_standings, standing)
            fleet.hold_maildrop(turns, timetable_of(table))
        for server, _ in etrn_settings(settings):
            fleet.hold_etrn(*self.etrn_after(server, settings, standings)(None))
        return fleet

    def maildrop_after(
        self, name: MaildropName, table: MaildropSettings, standings: Standings
    ) -> Successor[Turns]:
        """Make a maildrop ready to follow what is there; what failed before is tried at once."""
        maildrop, timetable = make_maildrop(name, table, self.making), timetable_of(table)

        def successor(former: Turns | None) -> tuple[Turns, Timetable]:
            last = former.standing if former else standings.get((StandingKind.MAILDROP, name))
            standing = without_pause(last) if last else None
            return Turns(maildrop, self._around, self._caps, self._route_standings, standing), timetable

        return successor

    def etrn_after(self, name: str, settings: Settings, standings: Standings) -> Successor[EtrnTurns]:
        """Make a server ready to be asked after what is there; how soon, the standings of its nodes say."""
        server, table = self._asked(name, settings), settings.etrn[name]

        def successor(_former: EtrnTurns | None) -> tuple[EtrnTurns, Timetable]:
            turns = EtrnTurns(server, self._around, self._etrn_caps, self.watch, standings)
            return turns, etrn_timetable(table, turns.last_attempt_at, time.time())

        return successor

    def _asked(self, name: str, settings: Settings) -> AskedServer:
        if settings.etrn[name].mode == "odmr":
            return odmr_server(name, settings, self.making, self._around, self._sessions)
        return etrn_server(name, settings, self.making.hostname, self.making.tracer, self.making.watch)
