"""A provider that is asked with ATRN, in memory: what it says to which domains, and what mail comes then."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from mailferry.errors import MailferryError
from mailferry.events import Event
from mailferry.policy.etrn import EtrnResult
from mailferry.ports import EtrnTraits, TurnReport
from mailferry.protocol.smtp_replies import SmtpReply
from mailferry.services.etrn import EtrnPolicy, NodeOutcome, RoundReport
from mailferry.services.odmr import OdmrServer
from support.fake_etrn import NODES, reply
from support.virtual_time import FakeClock

QUIT = TurnReport(complete=True)


class FakeProvider:
    """Implements `ports.OdmrConnector`.

    Attributes:
        says: by the domains of one command, joined by commas, its replies in order, the last
            one again and again; an exception breaks the link. What is not in it gets 250.
        turns: what comes of connections that have turned, in order; then nothing and QUIT.
        opens: what `open` does first, session by session: an exception is raised.
        asked: every command, with the number of its session.
        holding: set this to keep a turned connection open until it is drained.
        heedless: and this for one that does not end even then.
    """

    def __init__(self) -> None:
        self.says: dict[str, list[str | MailferryError]] = {}
        self.turns: list[TurnReport] = []
        self.opens: list[MailferryError] = []
        self.traits = EtrnTraits(offered=True, protected=True, logged_in=True)
        self.asked: list[tuple[int, str]] = []
        self.taken_for: list[tuple[str, ...]] = []
        self.holding = False
        self.heedless = False
        self.sessions = 0
        self.open_now = 0
        self.quits = 0

    async def open(self) -> _FakeSession:
        await asyncio.sleep(0)
        if self.opens:
            raise self.opens.pop(0)
        self.sessions += 1
        self.open_now += 1
        return _FakeSession(self, self.sessions)

    def answer(self, domains: str) -> SmtpReply:
        said = self.says.get(domains)
        if not said:
            return reply("250 OK now reversing the connection")
        word = said[0] if len(said) == 1 else said.pop(0)
        if isinstance(word, MailferryError):
            raise word
        return reply(word)


class _FakeSession:
    def __init__(self, provider: FakeProvider, number: int) -> None:
        self._provider = provider
        self._number = number
        self._dead = False
        self._turned = False
        self._drained = asyncio.Event()
        self.traits = provider.traits

    async def ask(self, domains: Sequence[str]) -> SmtpReply:
        assert not self._turned, "asked after the roles had turned"
        await asyncio.sleep(0)
        self._provider.asked.append((self._number, ",".join(domains)))
        said = self._provider.answer(",".join(domains))
        self._turned = said.code == 250
        return said

    async def take_mail(self, domains: Sequence[str]) -> TurnReport:
        assert self._turned, "no roles have turned"
        self._provider.taken_for.append(tuple(domains))
        await asyncio.sleep(0)
        if self._provider.holding:
            await self._drained.wait()
            return TurnReport(accepted=1)
        return self._provider.turns.pop(0) if self._provider.turns else QUIT

    def drain(self) -> None:
        if not self._provider.heedless:
            self._drained.set()

    async def quit(self) -> None:
        assert not self._turned, "QUIT is the provider's now"
        await asyncio.sleep(0)
        self._provider.quits += 1
        self.abort()

    def abort(self) -> None:
        if not self._dead:
            self._dead = True
            self._provider.open_now -= 1


class OdmrBench:
    """Rounds at one provider, what they told, and every event."""

    def __init__(self, *nodes: str, **policy: Any) -> None:
        self.events: list[Event] = []
        self.outcomes: dict[str, NodeOutcome] = {}
        self.provider = FakeProvider()
        self.clock = FakeClock()
        self.policy = EtrnPolicy("home", "odmr.example.net", nodes or NODES, **policy)

    @property
    def server(self) -> OdmrServer:
        return OdmrServer(
            self.policy, self.provider, None, asyncio.get_running_loop().time, self.events.append
        )

    async def run(self, *nodes: str) -> RoundReport:
        report = await self.server.round(self.clock, self.tell).run(nodes or self.policy.nodes)
        assert self.provider.open_now == 0, "a session was left open"
        return report

    def tell(self, outcome: NodeOutcome) -> None:
        assert outcome.node not in self.outcomes, f"{outcome.node} was told twice"
        self.outcomes[outcome.node] = outcome

    @property
    def results(self) -> dict[str, EtrnResult]:
        return {node: outcome.answer.result for node, outcome in self.outcomes.items()}
