"""A server that is asked with ETRN, in memory: what it says to which node, and when it hangs up."""

from __future__ import annotations

import asyncio
from typing import Any

from mailferry.errors import ConnectError, ConnectionLostError, MailferryError
from mailferry.events import Event
from mailferry.model import StandingKind, StandingRecord
from mailferry.policy.etrn import standing_name
from mailferry.ports import EtrnTraits
from mailferry.protocol.smtp_replies import SmtpReply, make_reply
from mailferry.runtime.caps import SessionCaps
from mailferry.runtime.etrn_turns import EtrnTurns
from mailferry.services.budget import MemoryBudget
from mailferry.services.context import Surroundings
from mailferry.services.etrn import ArrivalWatch, EtrnPolicy, EtrnServer
from support.fakes import FakeLedger
from support.virtual_time import FakeClock, settle

NODES = ("a.example.org", "b.example.org", "c.example.org")


def reply(line: str) -> SmtpReply:
    code, _, text = line.partition(" ")
    return make_reply(int(code), (text,))


class FakeEtrnServer:
    """Implements `ports.EtrnConnector`; its sessions follow the script.

    Attributes:
        says: by node, its replies in order, the last one again and again; an exception
            breaks the link there. What is not in it is started.
        opens: what `open` does, session by session: an exception is raised; then it works.
        session_limit: commands after which a session is dropped with a 421; 0 for none.
        asked: every node that was asked for, with the number of the session.
        stalls: nodes to which nothing is ever said.
    """

    def __init__(self) -> None:
        self.says: dict[str, list[str | MailferryError]] = {}
        self.opens: list[MailferryError] = []
        self.session_limit = 0
        self.traits = EtrnTraits(offered=True, protected=True, logged_in=True)
        self.asked: list[tuple[int, str]] = []
        self.stalls: set[str] = set()
        self.sessions = 0
        self.open_now = 0
        self.most_open = 0
        self.quits = 0

    @property
    def nodes_asked(self) -> list[str]:
        return [node for _, node in self.asked]

    async def open(self) -> _FakeSession:
        await asyncio.sleep(0)
        if self.opens:
            raise self.opens.pop(0)
        self.sessions += 1
        self.open_now += 1
        self.most_open = max(self.most_open, self.open_now)
        return _FakeSession(self, self.sessions)

    def refuse_connections(self, times: int) -> None:
        self.opens = [ConnectError("mx: cannot connect: refused") for _ in range(times)]

    def answer(self, node: str) -> SmtpReply:
        said = self.says.get(node)
        if not said:
            return reply("250 2.0.0 started")
        word = said[0] if len(said) == 1 else said.pop(0)
        if isinstance(word, MailferryError):
            raise word
        return reply(word)


class _FakeSession:
    def __init__(self, server: FakeEtrnServer, number: int) -> None:
        self._server = server
        self._number = number
        self._asked = 0
        self._over = False
        self._dead = False
        self.traits = server.traits

    async def ask(self, node: str) -> SmtpReply:
        assert not self._over, "asked in a session that is over"
        await asyncio.sleep(0)
        self._asked += 1
        self._server.asked.append((self._number, node))
        if node in self._server.stalls:
            await asyncio.get_running_loop().create_future()
        if self._server.session_limit and self._asked > self._server.session_limit:
            self._over = True
            return reply("421 too many")
        try:
            return self._server.answer(node)
        except MailferryError:
            self._over = True
            raise

    async def quit(self) -> None:
        await asyncio.sleep(0)
        self._server.quits += 1
        self._end()

    def abort(self) -> None:
        self._end()

    def _end(self) -> None:
        if not self._dead:
            self._dead = self._over = True
            self._server.open_now -= 1


class FakeListener:
    """Implements `ports.Listener`: `says` is what is wrong, empty for nothing."""

    def __init__(self) -> None:
        self.says = ""
        self.looks = 0

    async def trouble(self) -> str:
        await asyncio.sleep(0)
        self.looks += 1
        return self.says


class EtrnRig:
    """One server, the turns at it, a ledger, and every event."""

    def __init__(self, *nodes: str, listener: FakeListener | None = None, **policy: Any) -> None:
        self.events: list[Event] = []
        self.effects: list[str] = []
        self.ledger = FakeLedger(self.effects)
        self.clock = FakeClock()
        self.server = FakeEtrnServer()
        self.listener = listener
        self.caps = SessionCaps(8, 1)
        self.policy = EtrnPolicy("head-office", "mx.example.net", nodes or NODES, **policy)
        self.watch = ArrivalWatch(self.events.append, self.clock, lambda: asyncio.get_running_loop().time())
        self.around = Surroundings(
            ledger=self.ledger,
            destinations={},
            budget=MemoryBudget(1),
            emit=self.events.append,
            clock=self.clock,
            chance=lambda: 0.5,
        )

    def turns(self) -> EtrnTurns:
        """The turns as a start of the daemon makes them, from what the ledger has."""
        server = EtrnServer(self.policy, self.server, self.listener)
        return EtrnTurns(server, self.around, self.caps, self.watch, self.ledger.standing_rows)

    async def round(self, turns: EtrnTurns) -> None:
        """One tick of the schedule, until nothing more happens without time passing."""
        turns.start()
        await settle()

    def told(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def standing(self, node: str = "") -> StandingRecord:
        """What the ledger has of a node; of the server without one."""
        return self.ledger.standing_rows[StandingKind.ETRN, standing_name("head-office", node)]


def lost(where: str = "mx") -> ConnectionLostError:
    return ConnectionLostError(f"{where}: connection lost")
