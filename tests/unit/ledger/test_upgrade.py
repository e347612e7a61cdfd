"""Tables of an earlier version are brought up; what was there before lies in a copy."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import Connection

from mailferry.errors import StoreError
from mailferry.events import Event, LedgerCopied
from mailferry.ledger import HistoryFilter, SqlLedger, open_ledger
from mailferry.ledger.migrate import migrate
from mailferry.ledger.schema import HEAD
from mailferry.ledger.soundness import examine
from mailferry.ledger.sqlite import connect
from mailferry.model import KnownMessage
from support.ledger_contract import message


async def opened(directory: Path, events: list[Event] | None = None) -> SqlLedger:
    return await open_ledger(
        f"sqlite:///{directory}/ledger.sqlite3",
        journal_path=directory / "ledger.journal",
        emit=(lambda event: None) if events is None else events.append,
    )


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The ledger of the first version, with a message."""
    database = tmp_path / "ledger.sqlite3"
    os.close(os.open(database, os.O_CREAT | os.O_WRONLY, 0o600))
    engine = connect(database)
    with monkeypatch.context() as patch, engine.begin() as connection:
        patch.setattr("mailferry.ledger.migrate.HEAD", "0001")
        assert migrate(connection, "here")
        connection.exec_driver_sql(
            "INSERT INTO message VALUES (1, 'alice', x'7569646c2d31', 'accepted', 4711, 900.5, 1000.0, ?, ?,"
            " 'Алиса <alice@example.org>', 'bob@example.net', 'Привет, Bob', '', 2, 0.25, 999.125)",
            (message(1).header_digest, message(1).content_digest),
        )
    engine.dispose()
    return tmp_path


async def test_an_upgrade_keeps_the_rows_and_a_copy_of_what_was(old: Path) -> None:
    events: list[Event] = []
    ledger = await opened(old, events)
    assert await ledger.history(HistoryFilter()) == [KnownMessage(message(1))]
    await ledger.close()
    before = old / f"ledger.sqlite3.before-{HEAD}"
    assert examine(before, alone=False).version == "0001"
    assert before.stat().st_mode & 0o777 == 0o600
    assert any(isinstance(event, LedgerCopied) for event in events)
    written_at = before.stat().st_mtime_ns
    ledger = await opened(old)
    await ledger.close()
    assert before.stat().st_mtime_ns == written_at  # made by an upgrade only


async def test_an_upgrade_that_fails_leaves_all_as_it_was(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(connection: Connection, place: str) -> None:
        connection.exec_driver_sql("ALTER TABLE message ADD COLUMN half TEXT")
        connection.exec_driver_sql("DELETE FROM message")
        raise StoreError(f"{place}: cannot be upgraded: a fault of ours")

    with monkeypatch.context() as patch:
        patch.setattr("mailferry.ledger.migrate._upgrade", half)
        with pytest.raises(StoreError, match="cannot be upgraded"):
            await opened(old)
    connection = sqlite3.connect(old / "ledger.sqlite3")
    columns = [row[1] for row in connection.execute("PRAGMA table_info(message)")]
    assert "half" not in columns
    assert connection.execute("SELECT count(*) FROM message").fetchone() == (1,)
    connection.close()
    ledger = await opened(old)
    assert await ledger.history(HistoryFilter()) == [KnownMessage(message(1))]
    await ledger.close()


async def test_an_upgrade_without_room_for_the_copy_is_not_begun(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("mailferry.ledger.copies.sync", full)
    with pytest.raises(StoreError, match="No space left"):
        await opened(old)
    assert examine(old / "ledger.sqlite3", alone=False).version == "0001"
