from __future__ import annotations

import asyncio

import pytest

from mailferry.runtime.config_watch import LOOK_SECONDS, watching
from mailferry.runtime.reload import ReloadReport
from support.virtual_time import timeless


class Files:
    """A fingerprint that the test turns."""

    def __init__(self) -> None:
        self.now = "1"
        self.wanted = True
        self.loaded: list[str] = []

    async def reload(self) -> ReloadReport:
        self.loaded.append(self.now)
        return ReloadReport(accepted=True)


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(function: object) -> object:
        return function()  # type: ignore[operator]  # a fingerprint

    monkeypatch.setattr("mailferry.runtime.config_watch.asyncio.to_thread", at_once)


@timeless
async def test_a_change_counts_when_it_has_stood_for_one_look() -> None:
    files = Files()
    async with watching(lambda: files.now, files.reload, lambda: files.wanted):
        await asyncio.sleep(LOOK_SECONDS * 3.5)
        for files.now in ("2", "3", "4"):  # being written
            await asyncio.sleep(LOOK_SECONDS)
        assert files.loaded == []
        await asyncio.sleep(LOOK_SECONDS)
        assert files.loaded == ["4"]
        await asyncio.sleep(LOOK_SECONDS * 5)
        assert files.loaded == ["4"], "once; a refused one is not tried again before the next change"
    files.now = "5"
    await asyncio.sleep(LOOK_SECONDS * 5)
    assert files.loaded == ["4"]


@timeless
async def test_switched_on_later_it_notices_what_has_changed_since_the_start() -> None:
    files = Files()
    files.wanted = False
    async with watching(lambda: files.now, files.reload, lambda: files.wanted):
        await asyncio.sleep(LOOK_SECONDS)
        files.now = "2"
        await asyncio.sleep(LOOK_SECONDS * 5)
        assert files.loaded == []
        files.wanted = True
        await asyncio.sleep(LOOK_SECONDS * 2.5)
        assert files.loaded == ["2"]
