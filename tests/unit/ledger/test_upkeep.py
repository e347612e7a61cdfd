"""The ledger as a whole, by commands: looked at, backed up, put back."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from mailferry.errors import StoreError
from mailferry.ledger import HistoryFilter, SqlLedger, open_ledger, open_reader
from mailferry.ledger.files import LedgerFiles
from mailferry.ledger.schema import VERSION_TABLE
from mailferry.ledger.upkeep import back_up, check_ledger, restore_ledger
from mailferry.model import KnownMessage
from support.ledger_contract import delivery, message, standing


@pytest.fixture
def files(state_dir: Path) -> LedgerFiles:
    return LedgerFiles(state_dir / "ledger.sqlite3", state_dir / "ledger.journal")


@pytest.fixture
def journal(state_dir: Path) -> Path:
    return state_dir / "ledger.journal"


def problems(url: str, journal: Path) -> dict[str, str]:
    return {part.name: part.problem for part in check_ledger(url, journal) if part.problem}


async def test_a_healthy_state_has_no_problem_beside_the_daemon_and_without_it(
    ledger: SqlLedger, url: str, journal: Path
) -> None:
    await ledger.save([message(1), delivery(1), standing()])
    ledger.note([message(2)])
    parts = check_ledger(url, journal)
    assert [part.name for part in parts] == ["ledger", "copy", "changes", "journal", "journal", "reserve"]
    assert not any(part.problem for part in parts)
    assert [part.detail for part in parts if part.name == "journal"] == ["1 notes", "0 notes"]
    await ledger.close()
    assert not problems(url, journal)


async def test_each_damage_is_told_and_nothing_is_written(
    ledger: SqlLedger, url: str, journal: Path, files: LedgerFiles, state_dir: Path
) -> None:
    for number in range(1, 200):
        await ledger.save([message(number), delivery(number)])
    await ledger.close()

    def beside() -> list[Path]:
        # A reader may leave an index and an empty log of SQLite's.
        return sorted(f for f in state_dir.iterdir() if not f.name.endswith(("-shm", "-wal")))

    def garble(path: Path) -> dict[str, str]:
        whole = path.read_bytes()
        at = len(whole) // 2
        path.write_bytes(whole[:at] + b"\xa5" * 3000 + whole[at + 3000 :])
        octets = [file.read_bytes() for file in beside()]
        found = problems(url, journal)
        assert [file.read_bytes() for file in beside()] == octets
        path.write_bytes(whole)
        return found

    assert list(garble(files.database)) == ["ledger"]
    assert list(garble(files.copies[0])) == ["copy"]
    # Without all changes the copy is of no use either.
    assert list(garble(files.logs()[0])) == ["copy", "changes"]
    files.reserve.unlink()
    assert list(problems(url, journal)) == ["reserve"]
    files.logs()[0].unlink()
    assert list(problems(url, journal)) == ["copy", "changes", "reserve"]
    files.copies[0].unlink()
    assert problems(url, journal)["copy"] == "is missing"
    files.database.unlink()
    assert problems(url, journal)["ledger"] == "is missing"


def test_where_there_never_was_one_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no ledger yet"):
        check_ledger(f"sqlite:///{tmp_path}/ledger.sqlite3", tmp_path / "j")
    assert list(tmp_path.iterdir()) == []


async def test_a_backup_holds_what_was_committed(ledger: SqlLedger, url: str, tmp_path: Path) -> None:
    await ledger.save([message(1), delivery(1)])
    target = tmp_path / "backup"
    made = back_up(url, target)
    await ledger.save([message(2)])
    assert (made.octets, made.problem) == (target.stat().st_size, "")
    assert target.stat().st_mode & 0o777 == 0o600
    with open_reader(f"sqlite:///{target}") as reader:
        assert reader.history(HistoryFilter()) == [KnownMessage(message(1), (delivery(1),))]
    with pytest.raises(StoreError, match=r"is there already: .*--force"):
        back_up(url, target)
    back_up(url, target, force=True)
    with open_reader(f"sqlite:///{target}") as reader:
        assert len(reader.history(HistoryFilter())) == 2
    assert not target.with_name("backup.part").exists()


async def test_a_backup_never_overwrites_the_ledger_or_its_copies(
    ledger: SqlLedger, url: str, files: LedgerFiles, state_dir: Path
) -> None:
    for path in (files.database, files.copies[0], files.logs()[0]):
        with pytest.raises(StoreError, match="belongs to the ledger itself"):
            back_up(url, path, force=True)
    with pytest.raises(StoreError, match="is a directory"):
        back_up(url, state_dir, force=True)
    with pytest.raises(StoreError, match="nowhere"):
        back_up(url, state_dir / "nowhere" / "backup")


async def history(url: str, journal: Path) -> list[KnownMessage]:
    ledger = await open_ledger(url, journal_path=journal, emit=lambda event: None)
    found = await ledger.history(HistoryFilter(limit=9999))
    await ledger.close()
    return found


async def test_what_is_put_back_gets_every_later_change_and_receipt(
    ledger: SqlLedger, url: str, journal: Path, files: LedgerFiles, tmp_path: Path
) -> None:
    await ledger.save([message(1), delivery(1)])
    target = tmp_path / "backup"
    back_up(url, target)
    await ledger.save([message(2), delivery(2)])
    ledger.note([message(3)])
    with pytest.raises(StoreError, match=r"another mailferry .* stop it"):
        restore_ledger(url, journal, target)
    await ledger.close()
    present = files.database.read_bytes()
    done = restore_ledger(url, journal, target)
    assert (done.records, done.missing) == (2, False)
    assert done.aside is not None
    assert done.aside.read_bytes() == present
    assert {known.message for known in await history(url, journal)} == {message(n) for n in (1, 2, 3)}
    assert not problems(url, journal)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
async def test_what_root_puts_back_belongs_to_the_daemons_user(
    ledger: SqlLedger, url: str, journal: Path, files: LedgerFiles, state_dir: Path, tmp_path: Path
) -> None:
    """Else the daemon could not open its own ledger."""
    target = tmp_path / "backup"
    back_up(url, target)
    await ledger.close()
    locks = [state_dir / "ledger.lock"]
    for path in locks:
        path.unlink()
    os.chown(state_dir, 4242, 4343)
    restore_ledger(url, journal, target)
    for path in (files.database, *locks):
        assert (path.stat().st_uid, path.stat().st_gid) == (4242, 4343), path
        assert path.stat().st_mode & 0o777 == 0o600


async def test_changes_that_nobody_knows_are_told_of(
    ledger: SqlLedger, url: str, journal: Path, files: LedgerFiles, tmp_path: Path
) -> None:
    target = tmp_path / "backup"
    back_up(url, target)
    await ledger.save([message(1)])
    await ledger.close()
    for path in (*files.logs(), *files.copies[:1]):
        path.unlink()
    files.database.write_bytes(b"")
    with pytest.raises(StoreError, match="restore FILE"):
        await history(url, journal)
    assert restore_ledger(url, journal, target).missing
    assert await history(url, journal) == []
    assert not problems(url, journal)  # with a copy and a log of its own again


async def test_what_is_no_ledger_is_not_put_back(
    ledger: SqlLedger, url: str, journal: Path, files: LedgerFiles, tmp_path: Path
) -> None:
    await ledger.save([message(1)])
    await ledger.close()
    before = files.database.read_bytes()
    bad = tmp_path / "bad"
    bad.write_bytes(before[:-100])
    foreign, newer = tmp_path / "foreign", tmp_path / "newer"
    for path, statement in (
        (foreign, "CREATE TABLE recipes (name TEXT)"),
        (newer, f"UPDATE {VERSION_TABLE} SET version_num = '0999'"),
    ):
        if path == newer:
            shutil.copy(files.database, path)
        connection = sqlite3.connect(path)
        connection.execute(statement)
        connection.commit()
        connection.close()
    for path, words in (
        (bad, "is damaged"),
        (foreign, "holds no ledger"),
        (newer, "newer mailferry"),
        (tmp_path / "missing", "is missing"),
        (files.database, "is the ledger itself"),
    ):
        with pytest.raises(StoreError, match=words):
            restore_ledger(url, journal, path)
        assert files.database.read_bytes() == before


async def test_everything_can_be_read_page_by_page(ledger: SqlLedger, url: str) -> None:
    await ledger.save([row for number in range(1, 1203) for row in (message(number), delivery(number))])
    with open_reader(url) as reader:
        found = list(reader.messages())
    assert found == [KnownMessage(message(number), (delivery(number),)) for number in range(1, 1203)]
