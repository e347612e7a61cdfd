"""One maildrop, some destinations and a ledger, all fakes, and the polls between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mailferry.events import Event
from mailferry.model import DestinationName, MessageId
from mailferry.services.budget import MemoryBudget
from mailferry.services.context import MaildropPolicy, Surroundings
from mailferry.services.memory import PollMemory
from mailferry.services.poll import Poll, PollReport
from support.fakes import ALICE, FakeDestination, FakeLedger, FakeMail, FakeMaildrop, FakeQuarantine
from support.virtual_time import FakeClock, settle


class Rig:
    """One maildrop, some destinations, a ledger, and the polls between them."""

    def __init__(self, *mails: FakeMail, to: Sequence[str] = ("office",), budget: int = 1 << 20) -> None:
        self.effects: list[str] = []
        self.events: list[Event] = []
        self.clock = FakeClock()
        self.ledger = FakeLedger(self.effects)
        self.maildrop = FakeMaildrop(list(mails), self.effects)
        self.to = {name: FakeDestination(name, self.effects) for name in to}
        self.budget = MemoryBudget(budget)
        self.quarantine = FakeQuarantine(self.effects)
        self.memory = PollMemory()
        self.policy = MaildropPolicy(ALICE, "pop.example.net", tuple(map(DestinationName, to)))
        numbers = iter(range(1, 1_000_000))
        self.around = Surroundings(
            ledger=self.ledger,
            destinations={d.name: d for d in self.to.values()},
            budget=self.budget,
            emit=self.events.append,
            clock=self.clock,
            quarantine=self.quarantine,
            chance=lambda: 0.5,
            new_message_id=lambda: MessageId(next(numbers)),
        )

    def set(self, **changes: Any) -> Rig:
        """Change the maildrop's policy."""
        self.policy = replace(self.policy, **changes)
        return self

    def poll(self) -> Poll:
        return Poll(self.policy, self.maildrop, self.around, self.memory)

    async def run_poll(self) -> PollReport:
        """Poll once; whatever came of it, the memory budget is whole again."""
        report = await self.poll().run()
        await settle()
        assert self.budget.in_use_octets == 0, "octets of the budget were not given back"
        return report

    def told(self, kind: type[Event]) -> list[Any]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def did(self, *starts: str) -> list[str]:
        """The effects that begin with one of these words, in order."""
        return [effect for effect in self.effects if effect.split()[0] in starts]
