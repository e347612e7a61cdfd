"""Puts in force what differs between two configurations, while everything works.

First all that can fail: the new objects are made. Then the old ones are replaced, in one
go between two turns of the event loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from mailferry.assembly.etrn import etrn_settings
from mailferry.assembly.notices import Notices
from mailferry.assembly.observing import expect_all
from mailferry.assembly.workshop import Standings, Workshop
from mailferry.config.changes import Changes
from mailferry.config.models import Settings
from mailferry.model import DestinationName, MaildropName, StandingKind
from mailferry.runtime.berth import Successor
from mailferry.runtime.caps import SessionCaps
from mailferry.runtime.etrn_turns import EtrnTurns
from mailferry.runtime.schedule import Schedule, Timetable
from mailferry.runtime.supervisor import Supervisor
from mailferry.runtime.turn import Turns
from mailferry.services.context import Surroundings
from mailferry.services.route import Route
from mailferry.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Running:
    """What a reload changes.

    Attributes:
        apply_logging: takes over what `[daemon]` says about logs and traces.
    """

    workshop: Workshop
    around: Surroundings
    caps: SessionCaps
    schedule: Schedule
    supervisor: Supervisor
    notices: Notices
    metrics: Metrics
    apply_logging: Callable[[Settings], None]


@dataclass(slots=True)
class _Made:
    routes: list[Route] = field(default_factory=list)
    maildrops: dict[MaildropName, Successor[Turns]] = field(default_factory=dict)
    servers: dict[str, Successor[EtrnTurns]] = field(default_factory=dict)


class Changeover:
    """One change from the settings in force to others."""

    def __init__(self, old: Settings, changes: Changes, running: Running, standings: Standings) -> None:
        """Make all that is new; nothing is in force yet, and nothing is told."""
        self._old = old
        self._new = changes.in_force
        self._changes = changes
        self._running = running
        self._standings = standings
        self._asked = dict(etrn_settings(self._new))
        self._made = _Made()
        self._make()

    def _make(self) -> None:
        workshop, new, standings, made = self._running.workshop, self._new, self._standings, self._made
        destinations, maildrops, etrn = (
            self._changes.destinations,
            self._changes.maildrops,
            self._changes.etrn,
        )
        for name in map(DestinationName, (*destinations.added, *destinations.changed, *destinations.renewed)):
            made.routes.append(workshop.routes.make_next(name, new, standings))
        for drop in map(MaildropName, (*maildrops.added, *maildrops.changed)):
            made.maildrops[drop] = workshop.maildrop_after(drop, new.maildrop[drop], standings)
        for server in (*etrn.added, *etrn.changed, *etrn.renewed):
            if server in self._asked:
                made.servers[server] = workshop.etrn_after(server, new, standings)

    async def carry_out(self) -> None:
        """Put it in force; returns before the last sessions under the old settings have ended."""
        self._apply_keys()
        self._running.schedule.spread_anew(self._new.daemon.start_rate)
        self._change_destinations()
        self._change_maildrops()
        self._change_servers()
        for name in map(DestinationName, self._changes.destinations.removed):
            gone = partial(self._running.metrics.remove_destination, name)
            self._running.supervisor.fleet.remove_destination(name, gone)
        expect_all(self._running.metrics, self._new)
        self._restore_times()
        await self._change_notices()

    def _apply_keys(self) -> None:
        running, daemon = self._running, self._new.daemon
        running.apply_logging(self._new)
        running.around.budget.resize(daemon.memory_budget)
        running.caps.resize(daemon.max_sessions, daemon.max_sessions_per_host)
        running.supervisor.settings = replace(
            running.supervisor.settings,
            stop_timeout_seconds=daemon.stop_timeout,
            history_seconds=daemon.history,
            watch_config=daemon.watch_config,
        )

    def _change_destinations(self) -> None:
        for route in self._made.routes:
            self._running.metrics.add_destination(route.name)
            self._running.supervisor.fleet.put_destination(route)

    def _change_maildrops(self) -> None:
        fleet = self._running.supervisor.fleet
        for name, successor in self._made.maildrops.items():
            self._running.metrics.add_maildrop(name)
            fleet.put_maildrop(name, successor)
        for name in map(MaildropName, self._changes.maildrops.removed):
            fleet.remove_maildrop(name, partial(self._running.metrics.remove_maildrop, name))
        for name in map(MaildropName, self._changes.maildrops.renewed):
            turns = fleet.maildrops.get(name)
            if turns is not None:
                turns.try_again()

    def _change_servers(self) -> None:
        running, etrn = self._running, self._changes.etrn
        for name, successor in self._made.servers.items():
            for node in self._nodes(name):
                running.metrics.add_etrn_node(name, node)
            running.supervisor.fleet.put_etrn(name, self._after_dropping_nodes(name, successor))
        for name in (*etrn.changed, *etrn.removed):
            if name not in self._made.servers:
                running.supervisor.fleet.remove_etrn(name, partial(self._drop_nodes, name))

    def _nodes(self, name: str) -> tuple[str, ...]:
        return self._asked[name].nodes if name in self._asked else ()

    def _after_dropping_nodes(self, name: str, successor: Successor[EtrnTurns]) -> Successor[EtrnTurns]:
        def dropping(former: EtrnTurns | None) -> tuple[EtrnTurns, Timetable]:
            self._drop_nodes(name)
            return successor(former)

        return dropping

    def _drop_nodes(self, name: str) -> None:
        """Forget the nodes that are asked for no more; call it when the last round for them has ended."""
        former = self._old.etrn.get(name)
        for node in former.nodes if former else ():
            if node not in self._nodes(name):
                self._running.workshop.watch.unwatch(name, node)
                self._running.metrics.remove_etrn_node(name, node)

    def _restore_times(self) -> None:
        """Let what is new show when it last did well, if it was here before."""
        added = {
            *((StandingKind.MAILDROP, name) for name in self._changes.maildrops.added),
            *((StandingKind.DESTINATION, name) for name in self._changes.destinations.added),
        }
        known = [self._standings[each] for each in added if each in self._standings]
        self._running.metrics.restore(known, time.time())

    async def _change_notices(self) -> None:
        """Let the summary go the way that is configured now, if that is another one."""
        running, new, destinations = self._running, self._new, self._changes.destinations
        ways = {self._old.notice.destination, new.notice.destination} - {None}
        if new.notice == self._old.notice and not ways & {*destinations.changed, *destinations.renewed}:
            return
        making = running.workshop.making
        running.notices.address(new, making)
        service = running.notices.service(new, making, running.around, self._standings)
        await running.supervisor.replace_notices(service)
