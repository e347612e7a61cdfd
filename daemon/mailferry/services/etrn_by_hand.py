"""One round that a person asks for, in a process of its own, beside the daemon or without one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mailferry.model import StandingKind, StandingRecord
from mailferry.policy.etrn import EtrnResult, failure_result, standing_name
from mailferry.ports import Clock
from mailferry.services.etrn import AskedServer, NodeOutcome
from mailferry.services.etrn_fate import EtrnFate

Standings = Mapping[tuple[StandingKind, str], StandingRecord]


@dataclass(frozen=True, slots=True)
class RoundFailure:
    """Why a round ended before every node was asked for, in a word and in words."""

    result: EtrnResult
    text: str


@dataclass(slots=True)
class HandReport:
    """What came of it.

    Attributes:
        outcomes: by node, those that were asked for.
        too_soon: by node, how many seconds its gap still lasts; not asked for.
        postponed: why our own listener would take no mail; nobody was asked then.
        failure: why not every other node was asked for.
        standings: what the ledger is to remember.
    """

    outcomes: dict[str, NodeOutcome] = field(default_factory=dict)
    too_soon: dict[str, float] = field(default_factory=dict)
    postponed: str = ""
    failure: RoundFailure | None = None
    standings: list[StandingRecord] = field(default_factory=list)


class HandRequest:
    """A person's wish to have some nodes asked for now.

    Pauses after failures do not count for who asks by hand; the gap between two requests
    does, and so does a listener of ours that is away, unless they are overridden.
    """

    def __init__(
        self,
        server: AskedServer,
        standings: Standings,
        clock: Clock,
        chance: Callable[[], float],
        *,
        force: bool = False,
    ) -> None:
        self._server = server
        self._policy = server.policy
        self._standings = standings
        self._clock = clock
        self._chance = chance
        self._force = force
        self._report = HandReport()

    async def run(self, nodes: Sequence[str]) -> HandReport:
        """Ask for these nodes."""
        report = self._report
        if not self._force:
            report.too_soon = {node: left for node in nodes if (left := self._gap_left(node)) > 0}
        due = [node for node in nodes if node not in report.too_soon]
        if due and self._server.listener is not None and not self._force:
            report.postponed = await self._server.listener.trouble()
        if due and not report.postponed:
            await self._ask(due)
        return report

    async def _ask(self, nodes: Sequence[str]) -> None:
        made = await self._server.round(self._clock, self._learn).run(nodes)
        server = self._fate("")
        now = self._clock()
        if made.failure is None:
            server.went_well(now)
        else:
            failure = RoundFailure(failure_result(made.failure), str(made.failure))
            server.failed(failure.result, failure.text, now=now, chance=self._chance())
            self._report.failure = failure
        self._report.standings.append(server.standing)

    def _learn(self, outcome: NodeOutcome) -> None:
        fate = self._fate(outcome.node)
        gap = self._policy.min_gap_seconds
        fate.learn(outcome, now=self._clock(), chance=self._chance(), least_pause_seconds=gap)
        self._report.outcomes[outcome.node] = outcome
        self._report.standings.append(fate.standing)

    def _gap_left(self, node: str) -> float:
        asked_at = self._fate(node).standing.last_attempt_at
        passed = self._clock() - asked_at if asked_at is not None else -1.0
        # A time in the future was written before the clock was set back.
        return self._policy.min_gap_seconds - passed if passed >= 0 else 0.0

    def _fate(self, node: str) -> EtrnFate:
        stored = self._standings.get((StandingKind.ETRN, standing_name(self._policy.name, node)))
        return EtrnFate.of(stored, self._policy.name, node)
