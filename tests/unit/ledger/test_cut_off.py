"""Copies and repairs cut off at each of their steps: the next start finds everything.

The directory is copied before each step that changes it, which is what `kill -9` there would leave.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from mailferry.events import Event
from mailferry.ledger import HistoryFilter, SqlLedger, open_ledger
from mailferry.ledger.files import LedgerFiles
from mailferry.ledger.upkeep import restore_ledger
from mailferry.model import KnownMessage
from support.ledger_contract import delivery, message


async def opened(directory: Path) -> SqlLedger:
    return await open_ledger(
        f"sqlite:///{directory}/ledger.sqlite3", journal_path=directory / "ledger.journal", emit=ignore
    )


def ignore(event: Event) -> None:
    """Nobody listens."""


async def contents(directory: Path) -> list[KnownMessage]:
    ledger = await opened(directory)
    found = await ledger.history(HistoryFilter(limit=9999))
    await ledger.close()
    return found


class Snapshots:
    """A copy of the directory before each step."""

    def __init__(self, directory: Path, target: Path, patch: pytest.MonkeyPatch) -> None:
        self.taken: list[Path] = []
        self._directory = directory
        self._target = target
        self._active = False
        for owner, name in ((Path, "rename"), (Path, "unlink"), (os, "fsync"), (os, "open")):
            patch.setattr(owner, name, self._before(getattr(owner, name)))

    def _before(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **more: Any) -> Any:
            self._take()
            return step(*arguments, **more)

        return wrapped

    def _take(self) -> None:
        if self._active:
            self._active = False
            place = self._target / str(len(self.taken))
            shutil.copytree(self._directory, place, ignore=shutil.ignore_patterns("*-shm"))
            self.taken.append(place)
            self._active = True

    def __enter__(self) -> Self:
        self._active = True
        return self

    def __exit__(self, *_: object) -> None:
        self._active = False


@pytest.fixture
def snapshots(
    state_dir: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Snapshots]:
    target = tmp_path_factory.mktemp("snapshots")
    with monkeypatch.context() as patch:
        yield Snapshots(state_dir, target, patch)
    shutil.rmtree(target)


async def filled(state_dir: Path) -> list[KnownMessage]:
    ledger = await opened(state_dir)
    for number in range(1, 40):
        await ledger.save([message(number), delivery(number)])
    assert ledger._worker is not None
    await ledger._keeper.make(ledger._worker)
    for number in range(40, 60):
        await ledger.save([message(number), delivery(number)])
    await ledger.close()
    return await contents(state_dir)


async def check(snapshots: Snapshots, expected: list[KnownMessage], least: int) -> None:
    assert len(snapshots.taken) >= least
    for place in snapshots.taken:
        # As it was left, and once more with the ledger lost in the same moment.
        if (place / "ledger.sqlite3").exists():
            lost = place.with_name(f"{place.name}-lost")
            shutil.copytree(place, lost)
            for suffix in ("", "-wal"):
                (lost / f"ledger.sqlite3{suffix}").unlink(missing_ok=True)
            assert await contents(lost) == expected, f"lost at step {place.name}"
        assert await contents(place) == expected, f"step {place.name}"


async def test_a_copy_cut_off_at_each_step(state_dir: Path, snapshots: Snapshots) -> None:
    expected = await filled(state_dir)
    ledger = await opened(state_dir)
    assert ledger._worker is not None
    with snapshots:
        await ledger._keeper.make(ledger._worker)
    await ledger.close()
    await check(snapshots, expected, 8)


async def test_a_repair_cut_off_at_each_step(state_dir: Path, snapshots: Snapshots) -> None:
    expected = await filled(state_dir)
    database = state_dir / "ledger.sqlite3"
    database.write_bytes(database.read_bytes()[:5000])
    with snapshots:
        ledger = await opened(state_dir)
    await ledger.close()
    await check(snapshots, expected, 8)


async def test_putting_back_cut_off_at_each_step(
    state_dir: Path, snapshots: Snapshots, tmp_path_factory: pytest.TempPathFactory
) -> None:
    expected = await filled(state_dir)
    files = LedgerFiles(state_dir / "ledger.sqlite3", state_dir / "ledger.journal")
    backup = tmp_path_factory.mktemp("backup") / "backup"
    shutil.copy(files.copies[1], backup)
    with snapshots:
        restore_ledger(f"sqlite:///{files.database}", state_dir / "ledger.journal", backup)
    await check(snapshots, expected, 5)


async def test_a_first_start_cut_off_at_each_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "state"
    directory.mkdir()
    with monkeypatch.context() as patch:
        snapshots = Snapshots(directory, tmp_path / "snapshots", patch)
        with snapshots:
            ledger = await opened(directory)
        await ledger.close()
    assert len(snapshots.taken) >= 10
    for place in snapshots.taken:
        assert await contents(place) == []
