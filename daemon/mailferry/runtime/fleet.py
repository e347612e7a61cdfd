"""All that the configuration in force has put to work, and how it is changed while it works.

What a change does not name is not touched: its session goes on, its turn comes when it
would have come, its pauses and breakers stay. A changed maildrop gives way when the
session in flight has ended. A changed destination takes what is submitted from now on,
while the former one finishes what it has. A removed one goes when no maildrop
can submit to it any more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, MutableMapping

from mailferry.model import DestinationName, MaildropName
from mailferry.runtime.berth import Berth, Successor
from mailferry.runtime.etrn_turns import EtrnTurns
from mailferry.runtime.schedule import Schedule, Timetable
from mailferry.runtime.turn import Turns
from mailferry.services.route import Route

_bugs = logging.getLogger("mailferry.bugs")

Gone = Callable[[], None]
"""Called when the last of something has ended."""


class Fleet:
    """The maildrops, the servers to ask, and the destinations.

    Args:
        destinations: what polls deliver to; the fleet changes it.
    """

    def __init__(self, schedule: Schedule, destinations: MutableMapping[DestinationName, Route]) -> None:
        self._schedule = schedule
        self._routes = destinations
        self._maildrops: dict[MaildropName, Berth[Turns]] = {}
        self._etrn: dict[str, Berth[EtrnTurns]] = {}
        self._retiring: dict[asyncio.Task[None], Route] = {}
        self._leaving: dict[DestinationName, asyncio.Task[None]] = {}

    # -- what there is

    @property
    def maildrops(self) -> Mapping[MaildropName, Turns]:
        """The maildrops that are polled, or whose last session goes on."""
        return {name: berth.job for name, berth in self._maildrops.items() if berth.job is not None}

    @property
    def etrn(self) -> Mapping[str, EtrnTurns]:
        """The servers that are asked for mail."""
        return {name: berth.job for name, berth in self._etrn.items() if berth.job is not None}

    @property
    def destinations(self) -> Mapping[DestinationName, Route]:
        """The destinations that take mail."""
        return self._routes

    @property
    def to_drain(self) -> list[Route]:
        """Every destination that may have something under way."""
        return [*self._routes.values(), *self._retiring.values()]

    def describe(self) -> str:
        """Say in a few words what is going on."""
        maildrops = list(self.maildrops.values())
        polled = sum(turns.running for turns in maildrops)
        failing = sum(turns.standing.consecutive_failures > 0 for turns in maildrops)
        paused = [str(name) for name, route in self._routes.items() if not route.available]
        words = [f"polling {polled} of {len(maildrops)} maildrop{'s' * (len(maildrops) != 1)}"]
        if failing:
            words.append(f"{failing} failing")
        if paused:
            words.append(f"no mail to {', '.join(paused[:3])}{' and others' * (len(paused) > 3)}")
        return ", ".join(words)

    # -- the beginning

    def hold_maildrop(self, turns: Turns, timetable: Timetable) -> None:
        """Add a maildrop before `enter`."""
        self._maildrop(turns.name).hold(turns, timetable)

    def hold_etrn(self, turns: EtrnTurns, timetable: Timetable) -> None:
        """Add a server that is asked for mail before `enter`."""
        self._server(turns.name).hold(turns, timetable)

    def enter(self) -> None:
        """Put everything onto the schedule."""
        for berth in self._berths():
            berth.enter()

    # -- changes

    def put_maildrop(self, name: MaildropName, successor: Successor[Turns]) -> None:
        """Add a maildrop, or let its new settings follow the old ones."""
        self._maildrop(name).give_to(successor)

    def remove_maildrop(self, name: MaildropName, gone: Gone) -> None:
        """Poll a maildrop no more; `gone` comes after its last session, unless it was added again."""

        def emptied() -> None:
            del self._maildrops[name]
            gone()

        berth = self._maildrop(name)
        berth.on_empty = emptied
        berth.give_to(None)

    def put_etrn(self, name: str, successor: Successor[EtrnTurns]) -> None:
        """Add a server, or let its new settings follow the old ones."""
        self._server(name).give_to(successor)

    def remove_etrn(self, name: str, gone: Gone) -> None:
        """Ask a server no more."""

        def emptied() -> None:
            del self._etrn[name]
            gone()

        berth = self._server(name)
        berth.on_empty = emptied
        berth.give_to(None)

    def put_destination(self, route: Route) -> None:
        """Add a destination, or let another one follow it."""
        leaving = self._leaving.pop(route.name, None)
        if leaving is not None:
            leaving.cancel()
        former = self._routes.get(route.name)
        self._routes[route.name] = route
        if former is not None:
            self._retire(former)

    def remove_destination(self, name: DestinationName, gone: Gone) -> None:
        """Let a destination go when nobody can submit to it any more; call it after the maildrops' changes."""
        loop = asyncio.get_running_loop()
        self._leaving[name] = task = loop.create_task(self._let_go(name, gone), name=f"leave {name}")
        task.add_done_callback(_tell_bug)

    async def settled(self, seconds: float) -> list[MaildropName]:
        """Wait until the changes of maildrops are in force; return those that are not within so many seconds."""
        changes = {berth.change: name for name, berth in self._maildrops.items() if berth.change is not None}
        if not changes:
            return []
        _, late = await asyncio.wait(changes, timeout=seconds)
        return sorted(changes[task] for task in late)

    # -- the end

    def stop(self) -> None:
        """Begin nothing more."""
        for berth in self._berths():
            berth.close()
        for task in self._leaving.values():
            task.cancel()

    async def wait_ended(self, deadline: float) -> bool:
        """Wait for what is under way after `stop`; cut it off when the loop's time is `deadline`."""
        loop = asyncio.get_running_loop()
        clean = True
        for berth in list(self._berths()):
            clean &= await berth.wait_ended(deadline - loop.time())
        if self._retiring:  # their destinations have been drained, so this is quick
            await asyncio.wait(self._retiring, timeout=max(deadline - loop.time(), 0))
        for task in list(self._retiring):
            task.cancel()
        return clean

    # -- how

    def _berths(self) -> Iterator[Berth[Turns] | Berth[EtrnTurns]]:
        yield from self._maildrops.values()
        yield from self._etrn.values()

    def _maildrop(self, name: MaildropName) -> Berth[Turns]:
        berth = self._maildrops.setdefault(name, Berth(name, self._schedule))
        berth.on_empty = lambda: None
        return berth

    def _server(self, name: str) -> Berth[EtrnTurns]:
        berth = self._etrn.setdefault(name, Berth(f"etrn {name}", self._schedule))
        berth.on_empty = lambda: None
        return berth

    async def _let_go(self, name: DestinationName, gone: Gone) -> None:
        changes = [berth.change for berth in self._berths() if berth.change is not None]
        if changes:  # until then sessions under the old settings may fetch for it
            await asyncio.wait(changes)
        del self._leaving[name]
        former = self._routes.pop(name, None)
        if former is not None:
            self._retire(former, gone)

    def _retire(self, route: Route, gone: Gone = lambda: None) -> None:
        task = asyncio.get_running_loop().create_task(route.retire(), name=f"retire {route.name}")
        self._retiring[task] = route

        def retired(task: asyncio.Task[None]) -> None:
            self._retiring.pop(task, None)
            _tell_bug(task)
            if route.name not in self._routes:
                gone()

        task.add_done_callback(retired)


def _tell_bug(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _bugs.error("%s", task.get_name(), exc_info=error)
