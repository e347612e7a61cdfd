"""The turns of one server that is asked with ETRN, or ATRN: never two at once, no node too soon, remembered.

A tick of the schedule makes every node due. A node stays due until the server has
accepted a request for it; when it may be asked next follows from what was said: not
before `min_gap` in any case, and later after a refusal. A server that cannot be reached,
and our own listener when it is away, put off all nodes together.

Each answer is ordered into the ledger at once, so that a stop loses none. What a command
has asked beside the daemon is read there before each round.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace

from mailferry.errors import StoreError
from mailferry.events import (
    EtrnAnswered,
    EtrnDelayed,
    EtrnFailed,
    EtrnPostponed,
    EtrnRecovered,
    EtrnRefused,
    EtrnResumed,
    EtrnUnanswered,
    EtrnUnusable,
)
from mailferry.model import StandingKind, StandingRecord
from mailferry.policy.etrn import (
    LONGEST_PAUSE_SECONDS,
    NEEDS_PERSON,
    EtrnResult,
    failure_result,
    is_silent,
    result_of,
    standing_name,
)
from mailferry.runtime.caps import SessionCaps
from mailferry.runtime.clock import JUMP_SECONDS
from mailferry.services.context import Surroundings
from mailferry.services.etrn import ArrivalWatch, AskedServer, NodeOutcome, Round
from mailferry.services.etrn_fate import EtrnFate

_bugs = logging.getLogger("mailferry.bugs")

Standings = Mapping[tuple[StandingKind, str], StandingRecord]

_LEAST_PAUSE_SECONDS = 1.0
"""Between two rounds of one server, whatever the reasons for the next are."""

_CUT_OFF_SECONDS = 1.0
"""For a session to let go of its link."""


class EtrnTurns:
    """Asks one server when it is due, and remembers what was said.

    Attributes:
        asked: the server.
    """

    def __init__(
        self,
        server: AskedServer,
        surroundings: Surroundings,
        caps: SessionCaps,
        watch: ArrivalWatch,
        standings: Standings,
    ) -> None:
        self.policy = server.policy
        self.name = server.policy.name
        self.asked = server
        self._around = surroundings
        self._caps = caps
        self._watch = watch
        self._server = EtrnFate(_looked_at_anew(self._stored(standings, "")))
        self._nodes = {node: EtrnFate(self._stored(standings, node)) for node in self.policy.nodes}
        self._due: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._round: Round | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stopping = False
        for node in self.policy.watched:
            self._watch_node(node)

    @property
    def last_attempt_at(self) -> float | None:
        """When any of the nodes was last asked for; None for never."""
        times = [fate.standing.last_attempt_at for fate in self._nodes.values()]
        return max((time for time in times if time is not None), default=None)

    @property
    def running(self) -> bool:
        """Whether a round is under way, or waits for its place."""
        return self._task is not None

    def start(self) -> None:
        """Make every node due, and ask for those that may be asked now."""
        self._due.update(self.policy.nodes)
        self._go()

    def resume(self) -> None:
        """Go on after a pause by hand: ask for what has become due meanwhile."""
        if self._due:
            self._go()

    @property
    def standings(self) -> list[StandingRecord]:
        """How the server and each of its nodes fare."""
        return [self._server.standing, *(fate.standing for fate in self._nodes.values())]

    def stop(self) -> None:
        """Ask nothing more, and let go of the present session unless mail is coming over it."""
        self._stopping = True
        self._disarm()
        drains = self._round is not None and self._round.drain()
        if self._task is not None and not drains:
            self._task.cancel()

    async def wait_ended(self, deadline_seconds: float) -> bool:
        """Wait for the present round after `stop`, and cut it off; return whether it ended in time."""
        if self._task is None:
            return True
        _, late = await asyncio.wait({self._task}, timeout=max(deadline_seconds, 0))
        for task in late:
            task.cancel()
            await asyncio.wait({task}, timeout=_CUT_OFF_SECONDS)
        return not late

    async def ended(self) -> None:
        """Wait for the present round, however long it takes."""
        if self._task is not None:
            await asyncio.wait({self._task})

    # -- whose turn it is ------------------------------------------------------

    def _go(self) -> None:
        if self._task is None and not self._stopping and not self._around.held(f"etrn.{self.name}"):
            self._disarm()
            self._task = asyncio.get_running_loop().create_task(self._take(), name=f"etrn {self.name}")

    def _ready(self) -> list[str]:
        """Return the nodes to ask for now, in the configuration's order."""
        if self._left(self._server) > 0:
            return []
        return [
            node for node in self.policy.nodes if node in self._due and self._left(self._nodes[node]) <= 0
        ]

    def _left(self, fate: EtrnFate) -> float:
        """Return how long a pause goes on; 0 as well when none can be as long as that."""
        left = fate.standing.not_before - self._around.clock()
        longest = max(LONGEST_PAUSE_SECONDS, self.policy.min_gap_seconds)
        # Beyond that the clock was set back since.
        return left if 0 < left <= longest + JUMP_SECONDS else 0.0

    def _arm(self) -> None:
        """Come back when the first pause of a node that is due is over."""
        self._disarm()
        if not self._due or self._stopping:
            return
        soonest = min(self._left(self._nodes[node]) for node in self._due)
        seconds = max(soonest, self._left(self._server), _LEAST_PAUSE_SECONDS)
        self._timer = asyncio.get_running_loop().call_later(seconds, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._go()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- one round ---------------------------------------------------------------

    async def _take(self) -> None:
        try:
            await self.read_others_words()
            if self._ready():
                async with self._caps.place(self.policy.server):
                    await self._ask(self._ready())
        except Exception as error:  # noqa: BLE001  a bug of ours must stay one server's trouble
            _bugs.exception("etrn %s", self.name)
            self._server_failed(EtrnResult.INTERNAL_ERROR, f"{type(error).__name__}", self._ready())
        finally:
            self._task = self._round = None
            self._arm()

    async def _ask(self, nodes: list[str]) -> None:
        listener = self.asked.listener
        trouble = await listener.trouble() if listener is not None else ""
        if trouble:
            self._server_failed(EtrnResult.POSTPONED, trouble, nodes)
            return
        if self._server.told is EtrnResult.POSTPONED:
            self._server_well()
        self._round = self.asked.round(self._around.clock, self._learn)
        report = await self._round.run(nodes)
        if report.failure is None:
            self._server_well()
        else:
            self._server_failed(failure_result(report.failure), str(report.failure), report.unasked)

    async def read_others_words(self) -> None:
        """Take over what a command has asked since: no node is asked too soon, no pause outlives its reason."""
        try:
            standings = await self._around.ledger.standings()
        except StoreError:
            return  # told by the ledger as an event; to ask once too often harms nobody
        stored = self._stored(standings, "")
        if (stored.last_success_at or 0.0) > (self._server.standing.last_success_at or 0.0):
            ended = self._server.adopt(stored)
            if ended:
                self._around.emit(EtrnResumed(self.name, ended))
        for node, fate in self._nodes.items():
            stored = self._stored(standings, node)
            if (stored.last_attempt_at or 0.0) > (fate.standing.last_attempt_at or 0.0):
                self._adopt(node, fate, stored)

    def _adopt(self, node: str, fate: EtrnFate, stored: StandingRecord) -> None:
        ended = fate.adopt(stored)
        if ended:
            self._around.emit(EtrnRecovered(self.name, node, ended))
        if not stored.consecutive_failures:
            self._due.discard(node)

    # -- what was said about a node ------------------------------------------------

    def _learn(self, outcome: NodeOutcome) -> None:
        fate, result = self._nodes[outcome.node], outcome.answer.result
        change = fate.learn(
            outcome,
            now=self._around.clock(),
            chance=self._around.chance(),
            least_pause_seconds=self.policy.min_gap_seconds,
        )
        if outcome.answered:
            pending = outcome.answer.pending or 0
            self._around.emit(EtrnAnswered(self.name, outcome.node, result, outcome.reply, pending))
        else:
            self._around.emit(EtrnUnanswered(self.name, outcome.node, result))
        if outcome.accepted and not outcome.more:
            self._due.discard(outcome.node)
        if change.ended_failures:
            self._around.emit(EtrnRecovered(self.name, outcome.node, change.ended_failures))
        elif change.is_news:
            self._tell_refusal(outcome, fate.standing)
        self._watch.answered(self.name, outcome)
        self._remember(fate)

    def _tell_refusal(self, outcome: NodeOutcome, standing: StandingRecord) -> None:
        answer = outcome.answer
        where = (self.name, outcome.node, answer.result, outcome.reply)
        if answer.result in NEEDS_PERSON:
            event = EtrnRefused(*where, answer.advice, standing.consecutive_failures, standing.not_before)
            self._around.emit(event)
        else:
            self._around.emit(EtrnDelayed(*where, standing.consecutive_failures, standing.not_before))

    # -- how the server, or our listener, fares ------------------------------------

    def _server_failed(self, result: EtrnResult, error: str, unasked: list[str] | tuple[str, ...]) -> None:
        fate = self._server
        is_news = fate.failed(result, error, now=self._around.clock(), chance=self._around.chance())
        for node in unasked:
            self._around.emit(EtrnUnanswered(self.name, node, result))
        if is_news:
            self._tell_failure(result, error, fate.standing)
        self._remember(fate)

    def _tell_failure(self, result: EtrnResult, error: str, standing: StandingRecord) -> None:
        failures, not_before = standing.consecutive_failures, standing.not_before
        if result is EtrnResult.POSTPONED:
            self._around.emit(EtrnPostponed(self.name, error, not_before))
        elif result in NEEDS_PERSON:
            self._around.emit(EtrnUnusable(self.name, result, error, failures, not_before))
        else:
            self._around.emit(EtrnFailed(self.name, result, error, failures, not_before))

    def _server_well(self) -> None:
        failures = self._server.went_well(self._around.clock())
        if failures:
            self._around.emit(EtrnResumed(self.name, failures))
        self._remember(self._server)

    # -- what is remembered ----------------------------------------------------------

    def _stored(self, standings: Standings, node: str) -> StandingRecord:
        name = standing_name(self.name, node)
        return standings.get((StandingKind.ETRN, name)) or StandingRecord(StandingKind.ETRN, name)

    def _watch_node(self, node: str) -> None:
        fate = self._nodes[node]

        def silence_changed(silent: bool) -> None:
            if fate.note_silence(silent, self._around.clock()):
                self._remember(fate)

        silent = is_silent(fate.standing.last_error)
        self._watch.watch(self.name, node, self.policy.silent_after_seconds, silence_changed, silent=silent)

    def _remember(self, fate: EtrnFate) -> None:
        def written(_error: Exception | None) -> None:
            """A failure is told by the ledger as an event; the standing is written with the next answer."""

        try:
            self._around.ledger.commit([fate.standing], written)
        except StoreError:
            return  # the same, told at once


def _looked_at_anew(server: StandingRecord) -> StandingRecord:
    """After a start look for our listener at once: it may well be what was restarted, too."""
    postponed = server.consecutive_failures and result_of(server.last_error) is EtrnResult.POSTPONED
    return replace(server, not_before=0.0) if postponed else server
