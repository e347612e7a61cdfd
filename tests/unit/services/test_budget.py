from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from mailferry.services.budget import SPOOLED_OCTETS, MemoryBudget
from support.virtual_time import settle, timeless


class Waiter:
    """Takes octets, sooner or later."""

    def __init__(self, budget: MemoryBudget, octets: int, then: Callable[[], None] = lambda: None) -> None:
        self.octets = octets
        self.has_it = False
        self._then = then
        if budget.take(octets, self.granted):
            self.has_it = True

    def granted(self) -> None:
        assert not self.has_it
        self.has_it = True
        self._then()


def test_takes_up_to_the_limit_and_no_further() -> None:
    budget = MemoryBudget(100)
    first, second, third = (Waiter(budget, n) for n in (60, 40, 1))
    assert [w.has_it for w in (first, second, third)] == [True, True, False]
    assert budget.in_use_octets == 100
    budget.give_back(40)
    assert third.has_it
    assert budget.in_use_octets == 61


def test_those_who_wait_are_served_in_their_order_though_a_later_one_would_fit() -> None:
    budget = MemoryBudget(100)
    Waiter(budget, 90)
    large, small = Waiter(budget, 50), Waiter(budget, 5)
    assert (large.has_it, small.has_it) == (False, False)
    budget.give_back(90)
    assert (large.has_it, small.has_it) == (True, True)


def test_a_demand_above_the_whole_budget_is_met_alone() -> None:
    budget = MemoryBudget(100)
    Waiter(budget, 1)
    huge, next_one = Waiter(budget, 5000), Waiter(budget, 1)
    assert not huge.has_it
    budget.give_back(1)
    assert (huge.has_it, next_one.has_it) == (True, False)
    budget.give_back(5000)
    assert next_one.has_it


def test_who_withdraws_lets_the_next_one_try() -> None:
    budget = MemoryBudget(100)
    Waiter(budget, 90)
    large, small = Waiter(budget, 50), Waiter(budget, 5)
    budget.withdraw(large.granted)
    assert (large.has_it, small.has_it) == (False, True)
    budget.give_back(90)
    assert not large.has_it
    assert budget.in_use_octets == 5


def test_withdrawing_what_was_never_asked_changes_nothing() -> None:
    budget = MemoryBudget(100)
    waiter = Waiter(budget, 90)
    budget.withdraw(waiter.granted)
    assert budget.in_use_octets == 90


def test_a_grant_that_gives_back_and_takes_again_at_once() -> None:
    budget = MemoryBudget(10)
    Waiter(budget, 10)
    order: list[str] = []

    def pass_on() -> None:
        order.append("first")
        budget.give_back(10)
        Waiter(budget, 10, lambda: order.append("again"))

    Waiter(budget, 10, pass_on)
    Waiter(budget, 10, lambda: order.append("second"))
    budget.give_back(10)
    assert order == ["first", "second"]
    budget.give_back(10)
    assert order == ["first", "second", "again"]


@given(st.lists(st.integers(1, 150), max_size=20), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_everybody_gets_it_and_all_comes_back(sizes: list[int], chance: random.Random) -> None:
    budget = MemoryBudget(100)
    waiting = [Waiter(budget, size) for size in sizes]
    while waiting:
        out = [waiter for waiter in waiting if waiter.has_it]
        assert out, "nobody has anything, and nobody is served"
        total = sum(waiter.octets for waiter in out)
        assert total == budget.in_use_octets
        assert total <= 100 or len(out) == 1
        back = chance.choice(out)
        waiting.remove(back)
        budget.give_back(back.octets)
    assert budget.in_use_octets == 0


@timeless
async def test_reserve_waits_for_its_turn_and_takes_nothing_when_it_is_given_up() -> None:
    budget = MemoryBudget(100)
    await budget.reserve(90)
    given_up, waits = (asyncio.create_task(budget.reserve(octets)) for octets in (50, 60))
    await settle()
    given_up.cancel()
    await settle()
    assert (given_up.cancelled(), waits.done()) == (True, False)
    budget.give_back(90)
    await waits
    assert budget.in_use_octets == 60


@timeless
async def test_a_reserve_that_is_granted_while_it_is_given_up_gives_back() -> None:
    for granted_first in (True, False):
        budget = MemoryBudget(100)
        await budget.reserve(90)
        task = asyncio.create_task(budget.reserve(50))
        await settle()
        steps = [lambda budget=budget: budget.give_back(90), task.cancel]
        for step in steps if granted_first else reversed(steps):
            step()
        await settle()
        assert (task.cancelled(), budget.in_use_octets) == (True, 0)


class InAFile:
    """A content of so many octets that is not in memory."""

    def __init__(self, octets: int) -> None:
        self._octets = octets

    def __len__(self) -> int:
        return self._octets


def test_a_message_in_a_file_counts_in_part_and_for_no_less_than_a_held_one() -> None:
    budget = MemoryBudget(1 << 30, spool_threshold_octets=4 << 20)
    assert [budget.share_of(octets) for octets in (1, 4 << 20, 1 << 30)] == [1, 4 << 20, 4 << 20]
    assert budget.share_of_content(b"x" * 100) == 100
    assert budget.share_of_content(InAFile(1 << 30)) == 4 << 20  # type: ignore[arg-type]


def test_with_a_small_threshold_a_file_still_needs_its_pieces() -> None:
    budget = MemoryBudget(1 << 30, spool_threshold_octets=1 << 16)
    assert [budget.share_of(octets) for octets in (1 << 17, 1 << 30)] == [1 << 17, SPOOLED_OCTETS]


def test_without_a_spool_everything_counts() -> None:
    assert MemoryBudget(100).share_of(1 << 40) == 1 << 40


def test_another_limit_counts_at_once() -> None:
    budget = MemoryBudget(100)
    granted: list[int] = []
    assert budget.take(80, lambda: None)
    assert not budget.take(60, lambda: granted.append(60))
    budget.resize(140)
    assert granted == [60]
    budget.resize(50)
    assert not budget.take(10, lambda: granted.append(10)), "what is out counts, however much it is"
    budget.give_back(80)
    assert granted == [60]
    budget.give_back(60)
    assert (granted, budget.in_use_octets) == ([60, 10], 10)
