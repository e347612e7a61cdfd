"""When copies are made, what a failure does, and what stays small."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailferry.errors import StoreError
from mailferry.events import Event, LedgerCopied, LedgerCopyFailed
from mailferry.ledger import SqlLedger, copies, keeper, open_ledger
from mailferry.ledger.changes import read_chain
from mailferry.ledger.copies import copy_database
from mailferry.ledger.files import LedgerFiles
from mailferry.ledger.schema import HEAD
from mailferry.ledger.soundness import examine
from mailferry.model import LedgerRecord
from support.ledger_contract import ALICE, delivery, message


def rows(first: int, last: int) -> list[LedgerRecord]:
    return [row for number in range(first, last) for row in (message(number), delivery(number))]


def copied(events: list[Event]) -> int:
    return sum(isinstance(event, LedgerCopied) for event in events)


@pytest.fixture
def files(state_dir: Path) -> LedgerFiles:
    return LedgerFiles(state_dir / "ledger.sqlite3", state_dir / "ledger.journal")


async def reopened(files: LedgerFiles, events: list[Event]) -> SqlLedger:
    assert files.journal is not None
    return await open_ledger(f"sqlite:///{files.database}", journal_path=files.journal, emit=events.append)


async def test_a_copy_is_one_private_file_with_all_rows(ledger: SqlLedger, files: LedgerFiles) -> None:
    await ledger.save(rows(1, 100))
    target = files.beside(".mine")
    finding = copy_database(files.database, target)
    assert (finding.damage, finding.version) == ("", HEAD)
    assert target.stat().st_mode & 0o777 == 0o600
    connection = sqlite3.connect(f"file:{target}?mode=ro&immutable=1", uri=True)
    assert connection.execute("SELECT count(*) FROM delivery").fetchone() == (99,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    connection.close()


async def test_a_copy_that_fails_leaves_nothing(
    ledger: SqlLedger, files: LedgerFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(copies, "sync", broken)
    target = files.beside(".mine")
    with pytest.raises(StoreError, match=r"mine: No space left on device: free space"):
        copy_database(files.database, target)
    assert not target.exists()


async def test_a_long_log_leads_to_a_copy(
    ledger: SqlLedger, files: LedgerFiles, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger._keeper._limit = 50_000
    for first in range(1, 400, 20):
        await ledger.save(rows(first, first + 20))
    await ledger.keep_copy()
    assert copied(events) >= 1
    assert len(files.logs()) <= 3
    chain = read_chain(files.logs())
    assert not chain.gaps
    for copy in files.copies:
        finding = examine(copy, alone=False)
        assert not finding.damage
        assert finding.sequence is not None
        assert chain.complete_from(finding.sequence)


async def test_commits_go_on_while_a_copy_is_made(
    ledger: SqlLedger, files: LedgerFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ledger.save(rows(1, 50))
    asked, made = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(*arguments: object) -> int:
        loop.call_soon_threadsafe(asked.set)
        future = asyncio.run_coroutine_threadsafe(made.wait(), loop)
        future.result(10)
        return copies.make_good_copy(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(keeper, "make_good_copy", slow)
    assert ledger._worker is not None
    copy = asyncio.ensure_future(ledger._keeper.make(ledger._worker))
    await asked.wait()
    await ledger.save(rows(50, 99))
    made.set()
    await copy
    await ledger.save(rows(99, 120))
    await ledger.close()
    files.database.unlink()
    again = await reopened(files, [])
    assert len(await again.known_messages(ALICE)) == 119
    await again.close()


async def test_a_day_old_copy_is_renewed_if_something_changed(
    ledger: SqlLedger, files: LedgerFiles, events: list[Event]
) -> None:
    await ledger.keep_copy()
    yesterday = time.time() - 25 * 3600
    os.utime(files.copies[0], (yesterday, yesterday))
    await ledger.keep_copy()
    assert copied(events) == 0  # nothing has changed
    await ledger.save(rows(1, 2))
    await ledger.keep_copy()
    await ledger.keep_copy()
    assert copied(events) == 1


async def test_a_clean_end_copies_what_is_due(
    ledger: SqlLedger, files: LedgerFiles, events: list[Event]
) -> None:
    await ledger.save(rows(1, 2))
    yesterday = time.time() - 25 * 3600
    os.utime(files.copies[0], (yesterday, yesterday))
    await ledger.close()
    assert copied(events) == 1
    assert files.copies[0].stat().st_mtime > yesterday + 3600


class FullDisk:
    """No room for copies."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        usage = shutil.disk_usage("/")
        patch.setattr("mailferry.ledger.copies.shutil.disk_usage", lambda path: usage._replace(free=0))


async def test_a_copy_without_room_is_a_warning_and_tried_again_later(
    ledger: SqlLedger, files: LedgerFiles, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    await ledger.save(rows(1, 50))
    ledger._keeper._limit = 10_000
    with monkeypatch.context() as patch:
        FullDisk(patch)
        await ledger.keep_copy()
    (failed,) = (event for event in events if isinstance(event, LedgerCopyFailed))
    assert "too little free space" in failed.error
    assert examine(files.copies[0], alone=False).damage == ""  # the one that was there
    assert not files.beside(".copy.new").exists()
    await ledger.keep_copy()  # too soon
    assert copied(events) == 0
    ledger._keeper._not_before = 0.0
    await ledger.keep_copy()
    assert copied(events) == 1


async def test_a_log_that_becomes_a_burden_is_given_up(
    ledger: SqlLedger, files: LedgerFiles, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger._keeper._limit = 1000
    with monkeypatch.context() as patch:
        FullDisk(patch)
        await ledger.save(rows(1, 50))
        await ledger.keep_copy()
    assert files.logs() == []
    await ledger.save(rows(50, 60))  # the ledger itself goes on
    ledger._keeper._not_before = 0.0
    await ledger.keep_copy()
    assert len(files.logs()) == 1
    await ledger.save(rows(60, 70))
    await ledger.close()
    files.database.unlink()
    again = await reopened(files, [])
    assert len(await again.known_messages(ALICE)) == 69
    await again.close()


async def test_a_log_that_cannot_be_synced_has_no_other_beside_it(
    ledger: SqlLedger, files: LedgerFiles, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that nobody writes to would end the chain before the changes that come."""
    await ledger.save(rows(1, 50))

    def failing() -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(ledger._log, "sync", failing)
        ledger._keeper._limit = 10_000
        await ledger.keep_copy()
    assert [type(event) for event in events if isinstance(event, LedgerCopyFailed)]
    await ledger.save(rows(50, 60))
    assert len(files.logs()) == 1
    chain = read_chain(files.logs())
    assert chain.last == chain.frames[-1].sequence == max(frame.sequence for frame in chain.frames)


async def test_logs_that_cannot_be_given_up_do_not_keep_the_ledger_from_closing(
    ledger: SqlLedger, files: LedgerFiles, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger._keeper._limit = 1000
    await ledger.save(rows(1, 50))

    def failing() -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    FullDisk(monkeypatch)
    monkeypatch.setattr(ledger._log, "give_up", failing)
    ledger._keeper._not_before = 0.0
    await ledger.close()
    assert [event for event in events if isinstance(event, LedgerCopyFailed)]
    monkeypatch.undo()
    again = await reopened(files, [])  # the lock is free
    await again.close()


async def test_without_a_log_a_copy_is_of_no_use(
    ledger: SqlLedger, files: LedgerFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ledger.save(rows(1, 50))
    assert ledger._worker is not None
    await ledger._worker.call(ledger._log.give_up)
    await ledger.save(rows(50, 60))
    FullDisk(monkeypatch)
    await ledger.close()
    files.database.unlink()
    with pytest.raises(StoreError, match="not all changes since then are known"):
        await reopened(files, [])


@pytest.fixture
def unwritable_log(ledger: SqlLedger, files: LedgerFiles) -> Iterator[None]:
    """The log's descriptor becomes one that takes nothing."""
    (log,) = files.logs()
    kept = os.dup(ledger._log._fd)
    reading = os.open(log, os.O_RDONLY)
    os.dup2(reading, ledger._log._fd)
    os.close(reading)
    yield
    os.dup2(kept, ledger._log._fd)
    os.close(kept)


async def test_what_cannot_be_logged_is_not_committed(ledger: SqlLedger, unwritable_log: None) -> None:
    with pytest.raises(StoreError, match=r"log of changes"):
        await ledger.save(rows(1, 2))
    assert await ledger.known_messages(ALICE) == {}
