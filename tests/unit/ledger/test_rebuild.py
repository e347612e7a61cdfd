"""A damaged, missing or outdated ledger is put together again, with every row that it had."""

from __future__ import annotations

import errno
import random
import shutil
import sqlite3
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection

from mailferry.errors import StoreError
from mailferry.events import Event, LedgerCopied, LedgerFailed, LedgerRecovered, LedgerRestored
from mailferry.ledger import HistoryFilter, SqlLedger, open_ledger, open_writer
from mailferry.ledger.changes import ChangeLog, read_chain
from mailferry.ledger.files import LedgerFiles
from mailferry.ledger.frames import Stamped
from mailferry.ledger.schema import VERSION_TABLE
from mailferry.model import KnownMessage, MessageState, Uidl
from support.ledger_contract import ALICE, delivery, message, standing

ROWS = 300


def files_of(directory: Path) -> LedgerFiles:
    return LedgerFiles(directory / "ledger.sqlite3", directory / "ledger.journal")


async def opened(directory: Path, events: list[Event] | None = None) -> SqlLedger:
    return await open_ledger(
        f"sqlite:///{directory}/ledger.sqlite3",
        journal_path=directory / "ledger.journal",
        emit=(lambda event: None) if events is None else events.append,
    )


def listed(directory: Path, pattern: str = "*") -> list[Path]:
    return sorted(directory.glob(pattern))


async def contents(directory: Path, events: list[Event] | None = None) -> list[object]:
    """Open, read everything, close."""
    ledger = await opened(directory, events)
    found: list[object] = [*await ledger.history(HistoryFilter(limit=9999))]
    found += (await ledger.standings()).values()
    await ledger.close()
    return found


def told(events: list[Event], kind: type[Event]) -> list[Event]:
    return [event for event in events if isinstance(event, kind)]


async def fill(ledger: SqlLedger, first: int = 1, last: int = ROWS) -> None:
    for number in range(first, last + 1, 50):
        rows = [row for n in range(number, number + 50) for row in (message(n), delivery(n))]
        await ledger.save([*rows, standing(f"s{number}")])
    await ledger.save([message(first, state=MessageState.GONE), message(last + 1000, b"uidl-%d" % first)])


@pytest.fixture
async def filled(state_dir: Path) -> Path:
    """A ledger with two copies, a log with changes of every kind, closed well."""
    ledger = await opened(state_dir)
    await fill(ledger)
    assert ledger._worker is not None
    await ledger._keeper.make(ledger._worker)
    await fill(ledger, 1001, 1100)
    first, second = message(1001, state=MessageState.ACCEPTED), message(1002)
    first = replace(first, uidl=Uidl(b"moved"))
    await ledger.save([first])
    await ledger.adopt([replace(first, uidl=second.uidl), replace(second, uidl=first.uidl)])
    await ledger.close()
    return state_dir


def overwrite(database: Path, seed: int) -> None:
    """Overwrite a page's worth somewhere."""
    content = bytearray(database.read_bytes())
    chance = random.Random(seed)
    at = chance.randrange(len(content) - 4096)
    content[at : at + 4096] = chance.randbytes(4096)
    database.write_bytes(content)


def empty_database(path: Path) -> None:
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("VACUUM")
    connection.close()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "removed": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "cut in a page": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "cut after a page": lambda path: path.write_bytes(path.read_bytes()[:-4096]),
    "cut in the middle": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "one page left": lambda path: path.write_bytes(path.read_bytes()[:4096]),
    "no database": lambda path: path.write_bytes(b"From alice@example.org\r\n" * 1000),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "an empty database": empty_database,
    **{f"a page overwritten, {seed}": lambda path, seed=seed: overwrite(path, seed) for seed in range(12)},  # type: ignore[misc]
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_whatever_happens_to_the_ledger_nothing_is_forgotten(filled: Path, damage: str) -> None:
    before = await contents(filled)
    assert len(before) > ROWS
    files = files_of(filled)
    DAMAGES[damage](files.database)
    bad = files.database.read_bytes() if files.database.exists() else None
    events: list[Event] = []
    assert await contents(filled, events) == before
    (event,) = told(events, LedgerRestored)
    assert isinstance(event, LedgerRestored)
    assert event.records > 50
    assert "damaged" in event.reason or "missing" in event.reason or "empty" in event.reason
    aside = [path.read_bytes() for path in listed(filled, "ledger.sqlite3.damaged-*")]
    assert aside == ([] if bad is None else [bad])  # never deleted, never changed
    events.clear()
    assert await contents(filled, events) == before  # and all is well again
    assert events == []


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("message.state", "'accepte'"),
        ("message.uidl", "'text'"),
        ("message.updated_at", "'late'"),
        ("message.subject", "CAST(x'ff00ff' AS TEXT)"),
        ("delivery.state", "'x'"),
        ("delivery.accepted_recipients", "'[\"a@example.org'"),
        ("delivery.receipt", "CAST(x'c3' AS TEXT)"),
        ("standing.last_error", "x'00'"),
    ],
)
async def test_text_garbled_inside_a_page_is_found(filled: Path, column: str, value: str) -> None:
    before = await contents(filled)
    table, _, name = column.partition(".")
    connection = sqlite3.connect(files_of(filled).database)
    connection.execute(f"UPDATE {table} SET {name} = {value} WHERE rowid = (SELECT max(rowid) FROM {table})")
    connection.commit()
    connection.close()
    events: list[Event] = []
    assert await contents(filled, events) == before
    assert len(told(events, LedgerRestored)) == 1


async def test_an_index_that_contradicts_its_table_is_found(filled: Path) -> None:
    before = await contents(filled)
    database = files_of(filled).database
    content = database.read_bytes()
    # Both where the row has it and where the index has it; quick_check looks at neither.
    at = content.index(b"uidl-77")
    database.write_bytes(content[:at] + b"uidl-XX" + content[at + 7 :])
    events: list[Event] = []
    assert await contents(filled, events) == before
    assert len(told(events, LedgerRestored)) == 1


async def test_the_older_copy_serves_when_the_newer_is_bad(filled: Path) -> None:
    before = await contents(filled)
    files = files_of(filled)
    overwrite(files.copies[0], 1)
    files.database.unlink()
    events: list[Event] = []
    assert await contents(filled, events) == before
    (event,) = told(events, LedgerRestored)
    assert isinstance(event, LedgerRestored)
    assert event.records > 2 * ROWS  # all that came after the first, empty copy
    assert told(events, LedgerCopied)  # a good one is made at once


async def test_a_copy_from_before_an_upgrade_serves(filled: Path) -> None:
    before = await contents(filled)
    files = files_of(filled)
    copy = sqlite3.connect(files.copies[0])
    for column in ("last_attempt_at", "last_reply"):
        copy.execute(f"ALTER TABLE standing DROP COLUMN {column}")
    copy.execute("DROP INDEX ix_message_received")
    copy.execute(f"UPDATE {VERSION_TABLE} SET version_num = '0002'")
    copy.commit()
    copy.close()
    files.database.unlink()
    assert await contents(filled) == before


async def test_without_a_good_copy_the_start_is_refused_in_words(filled: Path) -> None:
    files = files_of(filled)
    files.database.unlink()
    for copy in files.copies:
        copy.write_bytes(b"garbage")
    names = listed(filled)
    with pytest.raises(StoreError, match=r"is missing.*copy is damaged.*copy\.old is damaged.*restore FILE"):
        await opened(filled)
    assert listed(filled) == names


async def test_a_copy_without_all_changes_is_not_enough(filled: Path) -> None:
    files = files_of(filled)
    files.database.unlink()
    log = files.logs()[-1]
    content = bytearray(log.read_bytes())
    at = len(content) // 2
    content[at : at + 10] = b"0123456789"
    log.write_bytes(content)
    with pytest.raises(StoreError, match="not all changes since then are known"):
        await opened(filled)
    log.unlink()
    with pytest.raises(StoreError, match="not all changes since then are known"):
        await opened(filled)


async def test_a_frame_cut_off_by_death_is_no_damage(filled: Path) -> None:
    before = await contents(filled)
    files = files_of(filled)
    files.database.unlink()
    with files.logs()[-1].open("ab") as log:
        log.write(log.name.encode()[:8])  # neither a frame nor its token
    assert await contents(filled) == before


async def test_only_a_directory_without_traces_begins_anew(filled: Path) -> None:
    files = files_of(filled)
    for path in (files.database, *files.copies, *files.logs()):
        path.unlink()
    with pytest.raises(StoreError, match=r"is missing.*ledger\.journal\.0"):
        await opened(filled)
    for path in files.segments():
        path.unlink()
    assert await contents(filled) == []


async def test_the_write_ahead_log_of_another_ledger_is_not_applied(
    filled: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    killed = tmp_path_factory.mktemp("killed")
    ledger = await opened(filled)
    await ledger.save([message(5000), delivery(5000)])
    for file in listed(filled, "ledger.*"):
        shutil.copy(file, killed)
    await ledger.close()
    before = await contents(filled)
    files_of(killed).database.unlink()
    assert await contents(killed) == before
    (aside,) = killed.glob("ledger.sqlite3.damaged-*-wal")
    assert aside.stat().st_size


@pytest.mark.parametrize("damage", ["removed", "empty", "cut", "garbled"])
async def test_a_lost_write_ahead_log_makes_no_ledger_of_yesterday(
    filled: Path, tmp_path_factory: pytest.TempPathFactory, damage: str
) -> None:
    killed = tmp_path_factory.mktemp("killed")
    ledger = await opened(filled)
    await fill(ledger, 5000, 5099)
    for file in listed(filled, "ledger.*"):
        if not file.name.endswith("-shm"):
            shutil.copy(file, killed)
    await ledger.close()
    before = await contents(filled)
    wal = killed / "ledger.sqlite3-wal"
    content = wal.read_bytes()
    assert len(content) > 40_000
    if damage == "removed":
        wal.unlink()
    else:
        cut = {"empty": b"", "cut": content[: len(content) // 2], "garbled": content[:60] + b"x" * 400}
        wal.write_bytes(cut[damage])
    events: list[Event] = []
    assert await contents(killed, events) == before
    assert told(events, LedgerRecovered)


async def test_a_ledger_of_last_week_is_brought_up(filled: Path) -> None:
    files = files_of(filled)
    before = await contents(filled)
    shutil.copy(files.copies[1], files.database)
    events: list[Event] = []
    assert await contents(filled, events) == before
    assert told(events, LedgerRecovered)


async def test_a_ledger_that_lacks_changes_that_nobody_knows_is_told_of(filled: Path) -> None:
    files = files_of(filled)
    await contents(filled)
    shutil.copy(files.copies[1], files.database)
    logs = files.logs()
    assert len(logs) == 2
    logs[0].unlink()
    files.copies[0].unlink()
    events: list[Event] = []
    await contents(filled, events)
    (event,) = told(events, LedgerFailed)
    assert "is older than the log of changes" in str(event)
    events.clear()
    await contents(filled, events)
    assert not events


async def test_a_lost_write_ahead_log_older_than_all_logs_is_no_loss(
    ledger: SqlLedger, state_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Found by the model: nothing but the copies knows of the row then."""
    await ledger.save([message(1)])
    assert ledger._worker is not None
    await ledger._keeper.make(ledger._worker)
    await ledger._keeper.make(ledger._worker)
    killed = tmp_path_factory.mktemp("killed")
    for file in listed(state_dir, "ledger.*"):
        if not file.name.endswith(("-shm", "-wal")):
            shutil.copy(file, killed)
    assert await contents(killed) == [KnownMessage(message(1))]


async def test_a_log_that_lost_its_end_leads_to_a_new_copy(filled: Path) -> None:
    before = await contents(filled)
    log = files_of(filled).logs()[-1]
    log.write_bytes(log.read_bytes()[: log.stat().st_size // 2])
    events: list[Event] = []
    assert await contents(filled, events) == before
    assert told(events, LedgerCopied)
    files_of(filled).database.unlink()
    assert await contents(filled) == before


async def test_a_command_on_a_ledger_of_yesterday_hides_nothing_that_its_log_knows(filled: Path) -> None:
    """Its change is numbered as one that the log has, and stands behind all others there."""
    files = files_of(filled)
    ledger = await opened(filled)
    await ledger.save([message(9001, state=MessageState.REJECTED)])
    await ledger.close()
    yesterday = filled / "yesterday"
    shutil.copy(files.database, yesterday)
    ledger = await opened(filled)
    await ledger.save([message(9002)])
    await ledger.save([message(9003)])
    await ledger.close()
    shutil.copy(yesterday, files.database)
    with open_writer(f"sqlite:///{files.database}") as writer:
        assert writer.retry_rejected(uidl=b"uidl-9001") == 1
    known = {
        entry.message.message_id: entry.message.state
        for entry in await contents(filled)
        if isinstance(entry, KnownMessage)
    }
    assert known[message(9001).message_id] is MessageState.DEFERRED
    assert {message(9002).message_id, message(9003).message_id} <= known.keys()
    ledger = await opened(filled)
    await ledger.save([message(9004)])
    await ledger.close()
    before = await contents(filled)
    assert not read_chain(files.logs()).gaps
    files.database.unlink()
    assert await contents(filled) == before


async def test_what_commands_changed_is_not_forgotten_either(ledger: SqlLedger, state_dir: Path) -> None:
    url = f"sqlite:///{state_dir}/ledger.sqlite3"
    await ledger.save([message(1, state=MessageState.REJECTED), delivery(1)])
    with open_writer(url) as writer:
        assert writer.retry_rejected() == 1
        assert ledger._worker is not None
        await ledger._keeper.make(ledger._worker)  # another log is begun meanwhile
        await ledger.save([message(2, state=MessageState.REJECTED)])
        assert writer.retry_rejected() == 1
    await ledger.save([message(3)])
    await ledger.close()
    assert not read_chain(files_of(state_dir).logs()).gaps
    before = await contents(state_dir)
    files_of(state_dir).database.unlink()
    assert await contents(state_dir) == before
    assert sum(isinstance(k, KnownMessage) and k.message.state is MessageState.DEFERRED for k in before) == 2


@pytest.mark.parametrize("who", ["daemon", "command"])
async def test_a_failed_change_is_taken_back_before_anybody_else_can_append(
    ledger: SqlLedger, state_dir: Path, who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what another process appends in between would be cut off as well."""
    await ledger.save([message(1, state=MessageState.REJECTED)])
    locked: list[bool] = []
    take_back = ChangeLog._take_back

    def look(log: ChangeLog) -> None:
        other = sqlite3.connect(files_of(state_dir).database, timeout=0, isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            locked.append(False)
        except sqlite3.OperationalError:
            locked.append(True)
        finally:
            other.close()
        take_back(log)

    append = ChangeLog.append

    def fail(log: ChangeLog, connection: Connection, rows: Collection[Stamped]) -> None:
        append(log, connection, rows)
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(ChangeLog, "_take_back", look)
        patch.setattr(ChangeLog, "append", fail)
        with open_writer(f"sqlite:///{files_of(state_dir).database}") as writer:
            if who == "daemon":
                with pytest.raises(StoreError):
                    await ledger.save([message(2)])
            else:
                with pytest.raises(StoreError):
                    writer.retry_rejected()
    assert locked == [True]
    await ledger.save([message(3)])
    assert not read_chain(files_of(state_dir).logs()).gaps


async def test_a_transaction_that_fails_leaves_nothing_in_the_log(ledger: SqlLedger, state_dir: Path) -> None:
    await ledger.save([message(1)])
    (log,) = files_of(state_dir).logs()
    size = log.stat().st_size
    with pytest.raises(StoreError):
        await ledger.save([message(2), delivery(99)])
    assert ledger._worker is not None

    def fail(connection: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(StoreError):
        await ledger._worker.run(fail)
    assert log.stat().st_size == size
    await ledger.save([message(3)])
    assert not read_chain([log]).gaps
    assert ALICE  # the maildrop of all of them
