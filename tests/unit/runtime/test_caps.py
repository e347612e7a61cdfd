from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from mailferry.runtime.caps import SessionCaps
from support.virtual_time import settle, timeless


class Guests:
    """Sessions that stay until they are told to go."""

    def __init__(self, caps: SessionCaps) -> None:
        self.caps = caps
        self.inside: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._gates: dict[str, asyncio.Event] = {}

    async def come(self, *names: str) -> None:
        """`name` is `host/anything`."""
        for name in names:
            self._gates[name] = asyncio.Event()
            self.tasks[name] = asyncio.create_task(self._stay(name))
        await settle()

    async def go(self, name: str) -> None:
        self._gates[name].set()
        await settle()

    async def _stay(self, name: str) -> None:
        async with self.caps.place(name.partition("/")[0]):
            self.inside.append(name)
            try:
                await self._gates[name].wait()
            finally:
                self.inside.remove(name)


@asynccontextmanager
async def guests(total: int, per_host: int) -> AsyncIterator[Guests]:
    party = Guests(SessionCaps(total, per_host))
    yield party
    for task in party.tasks.values():
        task.cancel()
    await asyncio.gather(*party.tasks.values(), return_exceptions=True)
    assert (party.caps.in_use, party.caps.waiting) == (0, 0)


@timeless
async def test_one_host_has_no_more_than_its_places() -> None:
    async with guests(total=10, per_host=2) as party:
        await party.come("a/1", "a/2", "a/3", "b/1")
        assert party.inside == ["a/1", "a/2", "b/1"]
        assert (party.caps.in_use, party.caps.waiting) == (3, 1)
        await party.go("a/1")
        assert party.inside == ["a/2", "b/1", "a/3"]
        assert party.caps.waiting == 0


@timeless
async def test_the_name_of_a_host_has_no_case() -> None:
    async with guests(total=10, per_host=1) as party:
        await party.come("POP.example.net/1", "pop.EXAMPLE.net/2")
        assert party.inside == ["POP.example.net/1"]


@timeless
async def test_all_hosts_together_have_no_more_than_the_total() -> None:
    async with guests(total=2, per_host=2) as party:
        await party.come("a/1", "b/1", "c/1")
        assert party.inside == ["a/1", "b/1"]
        await party.go("b/1")
        assert party.inside == ["a/1", "c/1"]


@timeless
async def test_a_crowd_at_one_host_takes_no_places_of_the_others() -> None:
    async with guests(total=3, per_host=1) as party:
        await party.come(*(f"slow/{n}" for n in range(50)), "b/1", "c/1")
        assert party.inside == ["slow/0", "b/1", "c/1"]


@timeless
async def test_those_who_wait_are_served_in_their_order() -> None:
    async with guests(total=1, per_host=1) as party:
        await party.come("a/1", "a/2", "a/3")
        for leaver, follower in (("a/1", "a/2"), ("a/2", "a/3")):
            await party.go(leaver)
            assert party.inside == [follower]


@pytest.mark.parametrize(
    ("total", "per_host", "first", "canceled", "last"),
    [(9, 1, "a/1", "a/2", "a/3"), (1, 9, "a/1", "b/2", "b/3")],
    ids=["at the host", "at the total"],
)
@timeless
async def test_who_gives_up_waiting_blocks_nobody(
    total: int, per_host: int, first: str, canceled: str, last: str
) -> None:
    async with guests(total, per_host) as party:
        await party.come(first, canceled, last)
        party.tasks[canceled].cancel()
        await settle()
        assert party.caps.waiting == 1
        await party.go(first)
        assert party.inside == [last]


@timeless
async def test_who_gives_up_in_the_very_moment_of_being_served_blocks_nobody() -> None:
    async with guests(total=1, per_host=1) as party:
        await party.come("a/1", "a/2", "a/3")
        party._gates["a/1"].set()
        await asyncio.sleep(0)  # a/1 leaves, a/2 is being woken
        party.tasks["a/2"].cancel()
        await settle()
        assert party.inside == ["a/3"]


@timeless
async def test_a_session_that_breaks_gives_its_place_back() -> None:
    caps = SessionCaps(1, 1)
    for _ in range(3):
        with pytest.raises(LookupError):
            async with caps.place("a"):
                raise LookupError
    assert (caps.in_use, caps.waiting) == (0, 0)


@timeless
async def test_other_numbers_count_at_once_and_end_no_session() -> None:
    async with guests(total=4, per_host=1) as party:
        await party.come("a/1", "a/2", "b/1")
        assert sorted(party.inside) == ["a/1", "b/1"]
        party.caps.resize(4, 2)
        await settle()
        assert sorted(party.inside) == ["a/1", "a/2", "b/1"]
        party.caps.resize(1, 1)
        await party.come("c/1")
        for name in ("a/1", "a/2"):
            await party.go(name)
        assert party.inside == ["b/1"], "fewer than there are: nobody comes before enough have gone"
        await party.go("b/1")
        assert party.inside == ["c/1"]
