"""Asks one server for the queued mail of some nodes (RFC 1985), and watches whether any comes.

One node's answer, whatever it is, never keeps the next from being asked. A session that
ends early (421, a lost link) is followed by another as long as each brings at least one
answer; a node at which two sessions ended is left for later, and so is everything when
two sessions in a row brought nothing.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mailferry.errors import EtrnNotOfferedError, HopError, MailferryError
from mailferry.events import EtrnAcceptedButSilent, EtrnMailCame, EtrnPendingButSilent
from mailferry.policy.etrn import ACCEPTED, EtrnAnswer, EtrnResult, failure_result, judge, releases
from mailferry.ports import Clock, Emit, EtrnConnector, EtrnSession, EtrnTraits, Listener

LOST_SESSIONS = 2
"""So many sessions in a row without an answer, or at one node, and it is left for later."""


@dataclass(frozen=True, slots=True)
class EtrnPolicy:
    """How one server is asked.

    Attributes:
        nodes: in the configuration's order; all that are ever asked for.
        min_gap_seconds: between two requests for one node.
        nodes_per_session: nodes asked for in one session, at most.
        silent_after_seconds: how long to wait for mail after an accepted request.
        watched: nodes whose mail would come in through a receiver of ours.
        insist: ask even if the server does not offer ETRN.
    """

    name: str
    server: str
    nodes: tuple[str, ...]
    min_gap_seconds: float = 300.0
    nodes_per_session: int = 8
    silent_after_seconds: float = 1800.0
    watched: frozenset[str] = frozenset()
    insist: bool = False


@dataclass(frozen=True, slots=True)
class NodeOutcome:
    """What came of asking for one node; without an answer the link ended at it.

    Attributes:
        asked_at: when the request was sent, seconds since the epoch.
        reply: what the server said, or why nothing was heard.
        more: there may be more mail than came over the connection that ended; ask again, gap permitting.
    """

    node: str
    asked_at: float
    answer: EtrnAnswer
    reply: str
    answered: bool = True
    more: bool = False

    @property
    def accepted(self) -> bool:
        """Whether the server took the request."""
        return self.answer.result in ACCEPTED


@dataclass(slots=True)
class RoundReport:
    """What became of one round.

    Attributes:
        connected: whether a session was ready for requests at least once.
        failure: why not every node was asked; None when all were.
        unasked: the nodes for which no request was made, in their order.
    """

    connected: bool = False
    failure: Exception | None = None
    unasked: tuple[str, ...] = ()


class Round(Protocol):
    """One time of asking a server for some nodes, whichever command it takes."""

    async def run(self, nodes: Sequence[str]) -> RoundReport:
        """Ask for these nodes; what goes wrong is in the report."""

    def drain(self) -> bool:
        """Bring what is under way to its next safe point; False when nothing is lost by a cancellation."""


class AskedServer(Protocol):
    """One configured server, ready to be asked with its command."""

    @property
    def policy(self) -> EtrnPolicy:
        """How it is asked."""

    @property
    def listener(self) -> Listener | None:
        """Who would take the mail, to be looked at before; None when nobody looks."""

    def round(self, clock: Clock, tell: Callable[[NodeOutcome], None]) -> Round:
        """Begin a round; `tell` is called for each node as soon as its fate is known."""


@dataclass(frozen=True, slots=True)
class EtrnServer:
    """A server that is asked with ETRN."""

    policy: EtrnPolicy
    connector: EtrnConnector
    listener: Listener | None = None

    def round(self, clock: Clock, tell: Callable[[NodeOutcome], None]) -> EtrnRound:
        """Begin a round."""
        return EtrnRound(self.policy, self.connector, clock, tell)


class EtrnRound:
    """Asks for some nodes once, in as many sessions as that takes.

    `tell` is called for each node as soon as its fate is known.
    """

    def __init__(
        self,
        policy: EtrnPolicy,
        connector: EtrnConnector,
        clock: Clock,
        tell: Callable[[NodeOutcome], None],
    ) -> None:
        self._policy = policy
        self._connector = connector
        self._clock = clock
        self._tell = tell
        self._left: deque[str] = deque()
        self._lost_at: Counter[str] = Counter()
        self._report = RoundReport()
        self._answers = 0

    async def run(self, nodes: Sequence[str]) -> RoundReport:
        """Ask for these nodes; what goes wrong is in the report."""
        self._left.extend(nodes)
        barren = 0
        while self._left:
            before = self._answers
            try:
                await self._one_session()
            except MailferryError as error:
                barren = 0 if self._answers > before else barren + 1
                if barren >= LOST_SESSIONS or not self._report.connected:
                    self._report.failure = error
                    break
        self._report.unasked = tuple(self._left)
        return self._report

    def drain(self) -> bool:
        """Tell that a request may be cut off at any time."""
        return False

    async def _one_session(self) -> None:
        session = await self._connector.open()
        try:
            self._check_offer(session.traits)
            self._report.connected = True
            for _ in range(min(self._policy.nodes_per_session, len(self._left))):
                await self._ask_next(session)
            await session.quit()
        finally:
            session.abort()

    def _check_offer(self, traits: EtrnTraits) -> None:
        if not traits.offered and not self._policy.insist:
            raise EtrnNotOfferedError(f"{self._policy.server}: {not_offered('ETRN', traits)}")

    async def _ask_next(self, session: EtrnSession) -> None:
        node, asked_at = self._left.popleft(), self._clock()
        try:
            reply = await session.ask(node)
        except MailferryError as error:
            self._lost(node, asked_at, error)
            raise
        answer = judge(reply, protected=session.traits.protected, logged_in=session.traits.logged_in)
        if answer.ends_session:
            end = HopError(f"ETRN: {reply}")
            self._lost(node, asked_at, end)
            raise end
        self._answers += 1
        self._tell(NodeOutcome(node, asked_at, answer, str(reply)))

    def _lost(self, node: str, asked_at: float, error: MailferryError) -> None:
        """Put a node at which a session ended behind the others, or give it up."""
        self._lost_at[node] += 1
        if self._lost_at[node] < LOST_SESSIONS:
            self._left.append(node)
            return
        answer = EtrnAnswer(failure_result(error))
        self._tell(NodeOutcome(node, asked_at, answer, str(error), answered=False))


def not_offered(verb: str, traits: EtrnTraits) -> str:
    """Say that the server does not name this command in EHLO, and what may be behind it."""
    said = f"the server does not offer {verb} here, so it was not asked"
    if traits.offers_tls and not traits.protected:
        return f'{said}; perhaps it does under TLS: set tls = "starttls"'
    if traits.offers_auth and not traits.logged_in:
        return f"{said}; perhaps it does after a login: set username and password"
    return f"{said}: ask its operator whether {verb} is on, and open to this address"


# -- whether mail comes ----------------------------------------------------------


@dataclass(slots=True)
class _Watched:
    """A node whose mail comes in through a receiver of ours.

    Attributes:
        since: when waiting began, by the steady clock; None while nothing is awaited.
        told: how loudly the silence was told: not at all, as news, as a warning.
    """

    silent_after_seconds: float
    on_change: Callable[[bool], None]
    told: int = 0
    since: float | None = None
    accepted_at: float = 0.0
    promised: bool = False
    pending: int = 0
    mail_at: float = float("-inf")


_AS_NEWS = 1
_AS_WARNING = 2


class ArrivalWatch:
    """Notices when a request was accepted and no mail came since.

    Silence is told once, and once more in other words when the server promises mail
    that does not come: 250 is said for an empty queue, too, 252 and 253 are not.

    Args:
        steady: seconds by a clock that nobody can set.
    """

    def __init__(self, emit: Emit, clock: Clock, steady: Callable[[], float]) -> None:
        self._emit = emit
        self._clock = clock
        self._steady = steady
        self._nodes: dict[tuple[str, str], _Watched] = {}

    def watch(
        self,
        etrn: str,
        node: str,
        silent_after_seconds: float,
        on_change: Callable[[bool], None] = lambda _silent: None,
        *,
        silent: bool = False,
    ) -> None:
        """Begin to watch a node; `on_change` is told when its silence begins and ends."""
        self._nodes[etrn, node] = _Watched(silent_after_seconds, on_change, told=int(silent))

    def unwatch(self, etrn: str, node: str) -> None:
        """Watch a node no more."""
        self._nodes.pop((etrn, node), None)

    def answered(self, etrn: str, outcome: NodeOutcome) -> None:
        """Note what a server said; nodes that are not watched pass."""
        watched = self._nodes.get((etrn, outcome.node))
        if watched is None:
            return
        if outcome.answer.result is EtrnResult.NOTHING_WAITING:
            self._calm(watched)  # there was nothing that could have come
        elif outcome.accepted and watched.mail_at < outcome.asked_at:
            self._await_mail(watched, outcome)

    def mail_came(self, domain: str) -> None:
        """Note that a message for this domain came in through the receiver."""
        for (etrn, node), watched in self._nodes.items():
            if not releases(node, domain):
                continue
            watched.mail_at = self._clock()
            if self._calm(watched):
                self._emit(EtrnMailCame(etrn, node))

    def look(self) -> None:
        """Tell of nodes that have been silent for too long by now."""
        now = self._steady()
        for (etrn, node), watched in self._nodes.items():
            if watched.since is not None and now - watched.since >= watched.silent_after_seconds:
                self._tell(etrn, node, watched, now - watched.since)

    def _await_mail(self, watched: _Watched, outcome: NodeOutcome) -> None:
        promise = outcome.answer.promised and not watched.promised
        if watched.since is None or promise:
            watched.since = self._steady()
            watched.accepted_at = outcome.asked_at
        watched.promised |= outcome.answer.promised
        watched.pending = outcome.answer.pending or watched.pending

    def _calm(self, watched: _Watched) -> bool:
        """Stop waiting; return whether the node had been called silent."""
        was_silent, watched.told = bool(watched.told), 0
        watched.since, watched.promised, watched.pending = None, False, 0
        if was_silent:
            watched.on_change(False)
        return was_silent

    def _tell(self, etrn: str, node: str, watched: _Watched, seconds: float) -> None:
        loudness = _AS_WARNING if watched.promised else _AS_NEWS
        if watched.told >= loudness:
            return
        first, watched.told = not watched.told, loudness
        at = watched.accepted_at
        if watched.promised:
            self._emit(EtrnPendingButSilent(etrn, node, at, seconds, watched.pending))
        else:
            self._emit(EtrnAcceptedButSilent(etrn, node, at, seconds))
        if first:
            watched.on_change(True)
