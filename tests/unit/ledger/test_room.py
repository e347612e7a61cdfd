"""The last rows of a full disk, and the proof that is asked for before mail is touched."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

import pytest

from mailferry.errors import StoreError
from mailferry.events import Event, LedgerFailed
from mailferry.ledger import SqlLedger, writes
from mailferry.ledger import worker as worker_module
from mailferry.ledger.room import RESERVE_OCTETS, Reserve
from support.ledger_contract import ALICE, delivery, message


@pytest.fixture
def reserve(state_dir: Path) -> Path:
    return state_dir / "ledger.sqlite3.reserve"


def octets_of(path: Path) -> int:
    return path.stat().st_size


class FullDisk:
    """A disk with no room but that which the reserve gives back."""

    def __init__(self, patch: pytest.MonkeyPatch, reserve: Path) -> None:
        self.refused = 0
        self._patch = patch
        self._reserve = reserve
        self._write = writes.write_records
        patch.setattr(worker_module, "write_records", self._maybe_write)
        patch.setattr("mailferry.ledger.room.allocate", self._allocate)

    def free(self) -> None:
        self._patch.undo()

    def _maybe_write(self, *arguments: object) -> None:
        if self._reserve.stat().st_size:
            self.refused += 1
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorname = "SQLITE_FULL"  # as the driver sets it
            raise error
        self._write(*arguments)  # type: ignore[arg-type]  # as they came

    def _allocate(self, fd: int, octets: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def disk(ledger: SqlLedger, reserve: Path, monkeypatch: pytest.MonkeyPatch) -> FullDisk:
    assert octets_of(reserve) == RESERVE_OCTETS
    return FullDisk(monkeypatch, reserve)


async def test_the_last_rows_are_written_into_the_reserve(
    ledger: SqlLedger, disk: FullDisk, reserve: Path, events: list[Event]
) -> None:
    await ledger.save([message(1), delivery(1)])
    assert (disk.refused, octets_of(reserve)) == (1, 0)
    assert not [event for event in events if isinstance(event, LedgerFailed)]


async def test_then_nobody_is_told_what_is_known_until_there_is_room(
    ledger: SqlLedger, disk: FullDisk, reserve: Path, events: list[Event]
) -> None:
    await ledger.save([message(1)])
    with pytest.raises(StoreError, match="No space left on device: free space"):
        await ledger.known_messages(ALICE)
    assert any(isinstance(event, LedgerFailed) for event in events)
    disk.free()
    assert set(await ledger.known_messages(ALICE)) == {b"uidl-1"}
    assert octets_of(reserve) == RESERVE_OCTETS


async def test_the_proof_writes_to_the_disk(
    ledger: SqlLedger, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = state_dir / "ledger.sqlite3-wal"
    before = octets_of(log)
    await ledger.save([])
    assert octets_of(log) > before

    def refuse(connection: object) -> None:
        raise sqlite3.OperationalError("attempt to write a readonly database")

    monkeypatch.setattr(worker_module, "touch", refuse)
    with pytest.raises(StoreError, match="readonly"):
        await ledger.save([])


async def test_a_failure_that_no_room_would_mend_leaves_the_reserve(
    ledger: SqlLedger, reserve: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(worker_module, "write_records", refuse)
    with pytest.raises(StoreError, match="locked"):
        await ledger.save([message(1)])
    assert octets_of(reserve) == RESERVE_OCTETS


def test_a_reserve_is_taken_and_given_up(tmp_path: Path) -> None:
    path = tmp_path / "reserve"
    reserve = Reserve(path, 100_000)
    assert not reserve.give_up()
    reserve.take()
    assert (path.stat().st_size, path.stat().st_mode & 0o777) == (100_000, 0o600)
    assert path.stat().st_blocks * 512 >= 100_000  # room, not a hole
    assert reserve.whole
    assert reserve.give_up()
    assert (path.stat().st_size, reserve.whole) == (0, False)
    assert not reserve.give_up()
