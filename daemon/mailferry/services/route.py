"""A destination's route: paused after a failure that blames the next hop, not a message.

Wraps any destination. While the route is paused nothing is fetched for it and
what is submitted comes back untried, so that no message is blamed (promise 5). When
the pause is over a single delivery goes first; only an answer of the next hop about
that message opens the route.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from mailferry.events import RouteAuthRejected, RoutePaused, RouteProbeFailed, RouteResumed
from mailferry.model import (
    Deferred,
    Delivered,
    Delivery,
    DeliveryReport,
    DestinationName,
    PermanentFailure,
    Scope,
    StandingKind,
    StandingRecord,
)
from mailferry.policy.backoff import ROUTE_AUTH_BACKOFF, ROUTE_BACKOFF, is_due
from mailferry.ports import Clock, Destination, Emit
from mailferry.services.handover import hand_over

_FINE_SECONDS = 0.5
"""How exactly the time of the last success is kept: not to the message, of which there may be thousands a second."""


class Route:
    """Implements `ports.Destination` around another one."""

    def __init__(
        self,
        inner: Destination,
        emit: Emit,
        clock: Clock,
        chance: Callable[[], float],
        standing: StandingRecord | None = None,
    ) -> None:
        self._inner = inner
        self._emit = emit
        self._clock = clock
        self._chance = chance
        self._standing = standing or StandingRecord(StandingKind.DESTINATION, inner.name)
        self._saved = self._standing
        self._probing = False
        self._behind_probe: deque[Delivery] = deque()
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.held: Callable[[], bool] = lambda: False
        """Tells whether somebody has paused it by hand."""
        self._pause_told = self._paused
        if self._paused:  # before the restart, and still: logs and metrics must know
            failures, until = self._standing.consecutive_failures, self._standing.not_before
            emit(RoutePaused(self.name, self._standing.last_error, failures, until))

    @property
    def name(self) -> DestinationName:
        """The name in the configuration."""
        return self._inner.name

    @property
    def available(self) -> bool:
        """Whether the route is neither paused nor being probed."""
        return not (self._paused or self._probing or self.held())

    @property
    def half_open(self) -> bool:
        """Whether nothing has shown yet that a pause is really over."""
        return self._standing.consecutive_failures > 0

    @property
    def _paused(self) -> bool:
        # The longer of the two back-offs: what it allows, a clock that was set back has not made.
        return not is_due(self._standing.not_before, self._clock(), ROUTE_AUTH_BACKOFF)

    def changed_standing(self) -> StandingRecord | None:
        """Return the standing if it is not the one that was saved last."""
        return None if self._standing == self._saved else self._standing

    def standing_saved(self, standing: StandingRecord) -> None:
        """Take note that a standing, as `changed_standing` gave it, is in the ledger."""
        self._saved = standing

    def submit(self, delivery: Delivery) -> None:
        """Pass the order on, unless the route is paused or being probed."""
        if self.held():
            delivery.done(_untried("paused by hand"))
        elif self._paused:
            delivery.done(_untried(f"route paused: {self._standing.last_error}"))
        elif not self.half_open:
            self._pass_on(delivery)
        elif self._probing:
            self._behind_probe.append(delivery)
        else:
            self._probing = True
            self._pass_on(delivery)

    @property
    def standing(self) -> StandingRecord:
        """How the next hop fares."""
        return self._standing

    def try_again(self) -> None:
        """End a pause that follows from a failure: the next message may try the route, alone."""
        self._standing = replace(self._standing, not_before=0.0)

    async def retire(self) -> None:
        """Let the last delivery that was submitted come to its end, then drain.

        For a route that another one of the same name has followed: nothing more may be
        submitted. How it fares now is nobody's concern but the messages', and told of them.
        """
        self._emit = lambda _event: None
        await self._idle.wait()
        await self.drain()

    async def drain(self) -> None:
        """Refuse what waits behind a probe, and drain the destination."""
        self._release_waiting("the daemon is stopping")
        await self._inner.drain()

    def _pass_on(self, delivery: Delivery) -> None:
        self._under_way += 1
        self._idle.clear()
        suspect = self.half_open or delivery.attempt > 1

        def done(report: DeliveryReport) -> None:
            self._learn(report)
            delivery.done(_counted(report) if suspect else report)
            self._under_way -= 1
            self._after_probe()
            if not self._under_way:  # what waited behind a probe has been passed on, or given back
                self._idle.set()

        hand_over(self._inner, delivery.answered_by(done))

    def _learn(self, report: DeliveryReport) -> None:
        match report.outcome:
            case Deferred(scope=Scope.NEXT_HOP, attempted=True):
                self._pause(report.outcome)
            case Deferred(attempted=False):
                self._probing = False  # nothing was learned
            case Deferred(in_doubt=True):
                self._pause(report.outcome)  # the link broke: blame it, too
            case Delivered() | Deferred() | PermanentFailure():
                self._resume(delivered=isinstance(report.outcome, Delivered))

    def _pause(self, why: Deferred) -> None:
        now = self._clock()
        self._probing = False
        if self._paused:
            return  # the other sessions' share of the same failure
        failures = self._standing.consecutive_failures + 1
        backoff = ROUTE_AUTH_BACKOFF if why.credentials else ROUTE_BACKOFF
        not_before = now + backoff.pause_seconds(failures, self._chance())
        self._standing = replace(
            self._standing,
            last_error_at=now,
            last_error=why.reason[:1000],
            consecutive_failures=failures,
            not_before=not_before,
        )
        # One line for each change of state: a probe that fails changes nothing.
        event = RouteProbeFailed if self._pause_told else RoutePaused
        self._pause_told = True
        self._emit(event(self.name, why.reason, failures, not_before))
        if why.credentials:
            self._emit(RouteAuthRejected(self.name, why.reason, failures))

    def _resume(self, *, delivered: bool) -> None:
        failures = self._standing.consecutive_failures
        now = self._clock() if delivered else None
        if (
            not failures
            and now is not None
            and 0 <= now - (self._standing.last_success_at or 0.0) < _FINE_SECONDS
        ):
            self._probing = self._pause_told = False
            return  # one of thousands: the standing says so already
        self._standing = replace(
            self._standing,
            last_success_at=now if now is not None else self._standing.last_success_at,
            consecutive_failures=0,
            not_before=0.0,
        )
        self._probing = self._pause_told = False
        if failures:
            self._emit(RouteResumed(self.name, failures))

    def _after_probe(self) -> None:
        if self._probing or not self._behind_probe:
            return
        if self._paused:
            self._release_waiting(f"route paused: {self._standing.last_error}")
            return
        waiting, self._behind_probe = self._behind_probe, deque()
        for delivery in waiting:
            self.submit(delivery)

    def _release_waiting(self, reason: str) -> None:
        waiting, self._behind_probe = self._behind_probe, deque()
        for delivery in waiting:
            delivery.done(_untried(reason))


class RouteStandings:
    """The standings of all routes, for whoever writes them down."""

    def __init__(self, routes: Mapping[DestinationName, Route]) -> None:
        self._routes = routes

    def changed(self) -> list[StandingRecord]:
        """Return those that are not in the ledger as they stand now."""
        changed = (route.changed_standing() for route in self._routes.values())
        return [standing for standing in changed if standing is not None]

    def saved(self, standings: Iterable[StandingRecord]) -> None:
        """Take note that these have been written."""
        for standing in standings:
            route = self._routes.get(DestinationName(standing.name))
            if route is not None:  # else it was removed while the row was written
                route.standing_saved(standing)


def _counted(report: DeliveryReport) -> DeliveryReport:
    """Let a second failure in the middle of a transaction count for the message that met it, too.

    Else one at which a next hop always hangs up, or says 421, would be every probe, and hold up
    all others for ever.
    """
    outcome = report.outcome
    if not isinstance(outcome, Deferred) or not outcome.in_transaction:
        return report
    return replace(report, outcome=replace(outcome, counts=True))


def _untried(reason: str) -> DeliveryReport:
    return DeliveryReport(Deferred(Scope.NEXT_HOP, reason, attempted=False))
