"""How late the event loop is."""

from __future__ import annotations

import asyncio
import time

import pytest

from mailferry.runtime import loop_lag
from mailferry.runtime.loop_lag import LOOK_SECONDS, LoopLag
from support.virtual_time import timeless


@timeless
async def test_an_idle_loop_is_on_time() -> None:
    heard: list[float] = []
    lag = LoopLag(heard.append)
    lag.start()
    await asyncio.sleep(3.5 * LOOK_SECONDS)
    lag.stop()
    assert heard == pytest.approx([0.0, 0.0, 0.0])
    await asyncio.sleep(3 * LOOK_SECONDS)
    assert len(heard) == 3
    lag.stop()


async def test_what_blocks_the_loop_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_lag, "LOOK_SECONDS", 0.001)
    heard: list[float] = []
    lag = LoopLag(heard.append)
    lag.start()
    time.sleep(0.03)  # noqa: ASYNC251  what must not be done
    await asyncio.sleep(0.001)
    lag.stop()
    assert heard[0] >= 0.029
