"""Asks one provider for the mail of some domains (ATRN, RFC 2645), and has it taken in.

One command asks for several domains and has one answer for all. A login without access to
one of them gets nothing for any (s.5.2.1), so after a refusal each is asked for by itself.
A session in which the roles have turned is used up; the next domains get a session of
their own. Otherwise as with ETRN: an answer for one never keeps the others from being
asked, and two sessions in a row without an answer end the round.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from mailferry.errors import EtrnNotOfferedError, HopError, MailferryError
from mailferry.events import EtrnMailTaken
from mailferry.model import DestinationName
from mailferry.policy.etrn import EtrnAnswer, EtrnResult, failure_result
from mailferry.policy.odmr import batches, judge_atrn, one_by_one
from mailferry.ports import (
    Clock,
    Destination,
    Emit,
    EtrnTraits,
    Listener,
    OdmrConnector,
    OdmrSession,
    TurnReport,
)
from mailferry.services.etrn import LOST_SESSIONS, EtrnPolicy, NodeOutcome, RoundReport, not_offered

_Domains = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OdmrServices:
    """What a round needs beside its policy; `steady` is seconds by a clock that nobody can set."""

    connector: OdmrConnector
    clock: Clock
    steady: Callable[[], float]
    emit: Emit


class OdmrRound:
    """Asks for the mail of some domains once; implements `etrn.Round`.

    `tell` is called for each domain as soon as its fate is known.
    """

    def __init__(
        self, policy: EtrnPolicy, services: OdmrServices, tell: Callable[[NodeOutcome], None]
    ) -> None:
        self._policy = policy
        self._with = services
        self._tell = tell
        self._left: deque[_Domains] = deque()
        self._lost_at: Counter[_Domains] = Counter()
        self._report = RoundReport()
        self._answers = 0
        self._taking: OdmrSession | None = None
        self._draining = False

    async def run(self, nodes: Sequence[str]) -> RoundReport:
        """Ask for these domains and take their mail in; what goes wrong is in the report."""
        self._left.extend(batches(nodes, self._policy.nodes_per_session))
        barren = 0
        while self._left and not self._draining:
            before = self._answers
            try:
                await self._one_session()
            except MailferryError as error:
                barren = 0 if self._answers > before else barren + 1
                if barren >= LOST_SESSIONS or not self._report.connected:
                    self._report.failure = error
                    break
        self._report.unasked = tuple(chain.from_iterable(self._left))
        return self._report

    def drain(self) -> bool:
        """Ask no more; a message whose end has come is answered before the connection ends."""
        self._draining = True
        if self._taking is None:
            return False
        self._taking.drain()
        return True

    async def _one_session(self) -> None:
        session = await self._with.connector.open()
        try:
            self._check_offer(session.traits)
            self._report.connected = True
            for _ in range(self._policy.nodes_per_session):
                if not self._left:
                    break
                if await self._ask_next(session):
                    return
            await session.quit()
        finally:
            session.abort()

    def _check_offer(self, traits: EtrnTraits) -> None:
        if not traits.offered and not self._policy.insist:
            raise EtrnNotOfferedError(f"{self._policy.server}: {not_offered('ATRN', traits)}")

    async def _ask_next(self, session: OdmrSession) -> bool:
        """Ask for the next domains; return whether the session is used up by their mail."""
        domains, asked_at = self._left.popleft(), self._with.clock()
        try:
            reply = await session.ask(domains)
        except MailferryError as error:
            self._lost(domains, asked_at, error)
            raise
        answer = judge_atrn(reply, protected=session.traits.protected, logged_in=session.traits.logged_in)
        if answer.ends_session:
            end = HopError(f"ATRN: {reply}")
            self._lost(domains, asked_at, end)
            raise end
        self._answers += 1
        if answer.result is EtrnResult.STARTED:
            await self._take_mail(session, domains, NodeOutcome("", asked_at, answer, str(reply)))
            return True
        if len(domains) > 1 and one_by_one(reply, answer):
            self._left.extendleft((domain,) for domain in reversed(domains))
        else:
            self._tell_all(domains, NodeOutcome("", asked_at, answer, str(reply)))
        return False

    async def _take_mail(self, session: OdmrSession, domains: _Domains, granted: NodeOutcome) -> None:
        began = self._with.steady()
        self._taking = session
        try:
            turn = await session.take_mail(domains)
        finally:
            self._taking = None
        self._emit(domains, turn, self._with.steady() - began)
        outcome = granted
        if turn.failure is not None and not turn.accepted:
            answer = EtrnAnswer(failure_result(turn.failure))
            outcome = NodeOutcome("", granted.asked_at, answer, str(turn.failure), answered=False)
        self._tell_all(domains, outcome, more=not turn.complete)

    def _emit(self, domains: _Domains, turn: TurnReport, seconds: float) -> None:
        counts = (turn.accepted, turn.deferred, turn.rejected, turn.refusals)
        error = str(turn.failure) if turn.failure is not None else ""
        self._with.emit(EtrnMailTaken(self._policy.name, domains, *counts, seconds, error))

    def _tell_all(self, domains: _Domains, said: NodeOutcome, *, more: bool = False) -> None:
        for domain in domains:
            self._tell(replace(said, node=domain, more=more))

    def _lost(self, domains: _Domains, asked_at: float, error: MailferryError) -> None:
        """Put domains at which a session ended behind the others, or give them up."""
        self._lost_at[domains] += 1
        if self._lost_at[domains] < LOST_SESSIONS:
            self._left.append(domains)
            return
        answer = EtrnAnswer(failure_result(error))
        self._tell_all(domains, NodeOutcome("", asked_at, answer, str(error), answered=False))


@dataclass(frozen=True, slots=True)
class OdmrServer:
    """One configured provider, ready to be asked; implements `etrn.AskedServer`."""

    policy: EtrnPolicy
    connector: OdmrConnector
    listener: Listener | None
    steady: Callable[[], float]
    emit: Emit

    def round(self, clock: Clock, tell: Callable[[NodeOutcome], None]) -> OdmrRound:
        """Begin a round."""
        return OdmrRound(self.policy, OdmrServices(self.connector, clock, self.steady, self.emit), tell)


class OpenWays:
    """Whether the destinations would take the mail now; implements `ports.Listener`.

    A message is taken over only when every destination has it: while one is known to be
    away, all that a provider sends would be sent in vain.
    """

    def __init__(
        self, destinations: Mapping[DestinationName, Destination], names: Sequence[DestinationName]
    ) -> None:
        self._destinations = destinations
        self._names = tuple(names)

    async def trouble(self) -> str:
        """Return which destination takes no mail now; empty when all do."""
        away = [name for name in self._names if not self._takes_mail(name)]
        return f"destination {', '.join(away)}: takes no mail at the moment" if away else ""

    def _takes_mail(self, name: DestinationName) -> bool:
        destination = self._destinations.get(name)  # a reload may have taken it away
        return destination is not None and destination.available
