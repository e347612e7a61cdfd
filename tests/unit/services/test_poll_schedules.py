"""Whatever finishes in whatever order, and whatever breaks: nothing lost, nothing doubled, no hang."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from mailferry.errors import ConnectionLostError
from mailferry.model import (
    Deferred,
    Delivered,
    DeliveryRecord,
    DeliveryReport,
    LedgerRecord,
    Scope,
)
from support.fakes import mail
from support.rig import Rig
from support.virtual_time import run, settle

OUTCOMES = {
    "accepted": DeliveryReport(Delivered("250")),
    "deferred": DeliveryReport(Deferred(Scope.MESSAGE, "451")),
    "next hop": DeliveryReport(Deferred(Scope.NEXT_HOP, "421")),
    "untried": DeliveryReport(Deferred(Scope.NEXT_HOP, "stopping", attempted=False)),
}


@dataclass(frozen=True)
class Troubles:
    """What goes wrong in the first poll, and when (counted in actions)."""

    sizes: tuple[int, ...]
    prefetch: int
    budget: int
    destinations: int
    outcomes: tuple[str, ...]
    refused: frozenset[tuple[str, int]]
    dies_after: int
    stops_after: int
    cancelled_after: int
    failing_commit: int
    seed: int


never = st.just(10**6)
troubles = st.builds(
    Troubles,
    sizes=st.lists(st.sampled_from([1, 300, 2000]), min_size=1, max_size=6).map(tuple),
    prefetch=st.integers(1, 4),
    budget=st.sampled_from([1, 500, 10**6]),
    destinations=st.integers(1, 2),
    outcomes=st.lists(st.sampled_from(sorted(OUTCOMES)), max_size=5).map(tuple),
    refused=st.frozensets(st.tuples(st.sampled_from(["retr", "dele"]), st.integers(1, 6)), max_size=2),
    dies_after=never | st.integers(0, 20),
    stops_after=never | st.integers(0, 20),
    cancelled_after=never | st.integers(0, 20),
    failing_commit=never | st.integers(0, 6),
    seed=st.integers(0, 2**32),
)


class Driver:
    """Lets one thing finish after the other, in an order that chance decides."""

    def __init__(self, case: Troubles) -> None:
        names = ("office", "vault")[: case.destinations]
        mails = (mail(f"u{n}", body="x" * size) for n, size in enumerate(case.sizes, 1))
        self.rig = Rig(*mails, to=names, budget=case.budget).set(prefetch=case.prefetch)
        self.case = case
        self.accepted: Counter[tuple[str, bytes]] = Counter()
        self._chance = random.Random(case.seed)
        self._outcomes = list(case.outcomes)
        self._commits = 0

    async def run(self) -> None:
        await self.first_poll()
        await self.healing_polls()
        self.check_effects()

    async def first_poll(self) -> None:
        rig, case = self.rig, self.case
        rig.maildrop.held = rig.ledger.held = True
        rig.maildrop.refuses = set(case.refused)
        rig.ledger.fails = self._fails
        for destination in rig.to.values():
            destination.when = "held"
        poll = rig.poll()
        task = asyncio.create_task(poll.run())
        idle = 0
        for step in range(500):
            await settle(12)
            self.check_bounds()
            if step == case.dies_after and rig.maildrop.sessions:
                rig.maildrop.session.die(ConnectionLostError("reset"))
            if step == case.stops_after:
                poll.stop()
            if step == case.cancelled_after:
                task.cancel()
            actions = self.actions()
            if task.done() and not actions:
                break
            if actions:
                self._chance.choice(actions)()
            assert actions or idle < 5, "nothing is left to finish, and the poll is not over"
            idle = 0 if actions else idle + 1
        assert task.done()
        assert rig.budget.in_use_octets == 0

    def actions(self) -> list[Callable[[], None]]:
        rig = self.rig
        actions: list[Callable[[], None]] = []
        if rig.maildrop.sessions and rig.maildrop.session.unread:
            actions.append(rig.maildrop.session.answer)
        if rig.ledger.waiting:
            actions.append(rig.ledger.sync)
        for name, destination in rig.to.items():
            actions += [lambda n=name, i=i: self._answer(n, i) for i in range(len(destination.held))]
        return actions

    def _answer(self, name: str, index: int) -> None:
        destination = self.rig.to[name]
        word = self._outcomes.pop() if self._outcomes else "accepted"
        if word == "accepted":
            self.accepted[name, destination.held[index].message.uidl] += 1
        destination.answer(OUTCOMES[word], index)

    def _fails(self, records: Sequence[LedgerRecord]) -> bool:
        if not any(isinstance(record, DeliveryRecord) for record in records):
            return False
        self._commits += 1
        return self._commits == self.case.failing_commit + 1

    async def healing_polls(self) -> None:
        """With all well again, two polls bring everything to its goal."""
        rig = self.rig
        rig.maildrop.held = rig.ledger.held = False
        rig.ledger.fails = lambda _: False
        rig.maildrop.refuses.clear()
        before = {name: len(destination.submitted) for name, destination in rig.to.items()}
        for destination in rig.to.values():
            destination.when = "soon"
        for _ in range(2):
            rig.clock.base += 86400
            assert (await rig.run_poll()).failure is None
        for name, destination in rig.to.items():
            for delivery in destination.submitted[before[name] :]:
                self.accepted[name, delivery.message.uidl] += 1
        assert rig.maildrop.mails == []
        assert rig.budget.in_use_octets == 0

    def check_bounds(self) -> None:
        rig, case = self.rig, self.case
        fetching = 0
        if rig.maildrop.sessions:
            fetching = sum(1 for verb, *_ in rig.maildrop.session.unread if verb == "retr")
        held = {delivery.message.uidl for d in rig.to.values() for delivery in d.held}
        assert fetching + len(held) <= case.prefetch
        assert rig.budget.in_use_octets <= case.budget or fetching + len(held) <= 1

    def check_effects(self) -> None:
        names = list(self.rig.to)
        uidls = [b"u%d" % n for n in range(1, len(self.case.sizes) + 1)]
        assert self.accepted == Counter({(name, uidl): 1 for name in names for uidl in uidls})
        seen: set[str] = set()
        for effect in self.rig.effects:
            if effect.startswith("synced"):
                seen.update(effect.split()[1:])
            if effect.startswith("dele "):
                uidl = effect.split()[1]
                assert f"{uidl}=delete-pending" in seen, f"{effect} before its row was synced"


@given(troubles)
@settings(max_examples=120, deadline=None)
def test_nothing_is_lost_or_doubled(case: Troubles) -> None:
    run(Driver(case).run(), debug=False)
