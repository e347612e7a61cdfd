from __future__ import annotations

import asyncio

from mailferry.events import Event, PauseBegan, PauseEnded
from mailferry.runtime.holds import Holds
from support.virtual_time import START, FakeClock, timeless

ALICE = "maildrop.alice"


@timeless
async def test_a_pause_lasts_until_it_is_released() -> None:
    told: list[Event] = []
    holds = Holds(told.append, FakeClock())
    assert holds.hold(ALICE, None, lambda: None) == 0.0
    await asyncio.sleep(1e7)
    assert (holds.is_held(ALICE), holds.is_held("maildrop.bob"), dict(holds.ends)) == (
        True,
        False,
        {ALICE: 0.0},
    )
    assert (holds.release(ALICE), holds.release(ALICE), holds.is_held(ALICE)) == (True, False, False)
    assert told == [PauseBegan(ALICE, 0.0), PauseEnded(ALICE, "asked")]


@timeless
async def test_a_pause_for_a_time_ends_by_itself_once() -> None:
    told: list[Event] = []
    ended: list[str] = []
    holds = Holds(told.append, FakeClock())
    holds.hold(ALICE, 60, lambda: ended.append("first"))
    await asyncio.sleep(30)
    assert holds.hold(ALICE, 60, lambda: ended.append("second")) == START + 90
    await asyncio.sleep(59)
    assert holds.is_held(ALICE)
    await asyncio.sleep(2)
    assert (holds.is_held(ALICE), ended) == (False, ["second"])
    assert told[-1] == PauseEnded(ALICE, "time")


@timeless
async def test_nothing_is_called_after_the_end() -> None:
    ended: list[str] = []
    holds = Holds(lambda _event: None, FakeClock())
    holds.hold(ALICE, 1, lambda: ended.append("too late"))
    holds.close()
    await asyncio.sleep(5)
    assert ended == []
