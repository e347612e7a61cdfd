"""The file under the ledger: made once, checked always, never replaced by an empty one."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import select
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from mailferry.errors import StoreError
from mailferry.ledger import HistoryFilter, SqlLedger, migrate, open_ledger, open_reader
from mailferry.ledger.dialect import octets_contain, upsert
from mailferry.ledger.schema import DELIVERY, HEAD, MESSAGE, METADATA, STANDING, VERSION_TABLE
from mailferry.ledger.sqlite import connect
from mailferry.model import KnownMessage, StandingKind
from support.ledger_contract import ALICE, delivery, message, standing

BESIDE = (
    "ledger.sqlite3.copy",
    "ledger.sqlite3.changes.1",
    "ledger.sqlite3.reserve",
    "ledger.journal.0",
    "ledger.journal.1",
    "ledger.lock",
)


async def opened(directory: Path) -> SqlLedger:
    return await open_ledger(
        f"sqlite:///{directory}/ledger.sqlite3",
        journal_path=directory / "ledger.journal",
        emit=lambda event: None,
    )


def forget_copies(directory: Path) -> None:
    for file in directory.glob("ledger.sqlite3.c*"):
        file.unlink()


def execute(database: Path, *statements: str) -> None:
    connection = sqlite3.connect(database)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def modes_of(directory: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mode & 0o777 for file in directory.iterdir()}


async def test_a_new_ledger_is_made_private_and_whole(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        ledger = await opened(tmp_path)
        await ledger.save([message(1), delivery(1)])
        modes = modes_of(tmp_path)
    finally:
        os.umask(old)
    await ledger.close()
    assert set(modes.values()) == {0o600}
    assert set(modes) == {
        "ledger.sqlite3",
        "ledger.sqlite3-shm",
        "ledger.sqlite3-wal",
        *BESIDE,
    }


async def test_migrations_and_schema_agree(ledger: SqlLedger, state_dir: Path) -> None:
    engine = connect(state_dir / "ledger.sqlite3")
    with engine.begin() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_type": True}
        )
        assert compare_metadata(context, METADATA) == []
    engine.dispose()
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_columns_stand_in_the_order_of_the_records_fields() -> None:
    for table, record in ((MESSAGE, message(1)), (DELIVERY, delivery(1)), (STANDING, standing())):
        assert tuple(table.c.keys()) == (*record.__slots__, "noted")


def test_the_statements_are_fit_for_postgresql() -> None:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy has no types here
    for table in METADATA.tables.values():
        assert "ON CONFLICT" in str(upsert("postgresql", table).compile(dialect=dialect))
        CreateTable(table).compile(dialect=dialect)
        for index in table.indexes:
            CreateIndex(index).compile(dialect=dialect)
    assert "BIGINT" in str(CreateTable(MESSAGE).compile(dialect=dialect))

    class Connection:
        pass

    connection = Connection()
    connection.dialect = dialect  # type: ignore[attr-defined]  # all that is asked of it
    found = select(MESSAGE.c.uidl).where(octets_contain(connection, MESSAGE.c.uidl, b"x"))  # type: ignore[arg-type]  # same
    assert "position(" in str(found.compile(dialect=dialect))
    assert "IN message.uidl)" in str(found.compile(dialect=dialect))


async def test_durability_is_what_done_promises(ledger: SqlLedger) -> None:
    assert ledger._worker is not None
    values = await ledger._worker.run(
        lambda connection: [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
    )
    assert values == ["wal", 2, 1, 5000]


async def test_a_file_that_others_can_read_is_made_private(state_dir: Path) -> None:
    database = state_dir / "ledger.sqlite3"
    database.chmod(0o644)
    ledger = await opened(state_dir)
    await ledger.close()
    assert database.stat().st_mode & 0o777 == 0o600


async def damaged(state_dir: Path, content: bytes) -> None:
    """Every damage must be refused, named, and left as it is, where there is no copy."""
    database = state_dir / "ledger.sqlite3"
    forget_copies(state_dir)
    database.write_bytes(content)
    with pytest.raises(StoreError, match=r"ledger\.sqlite3: .*put back a copy"):
        await opened(state_dir)
    assert database.read_bytes() == content
    assert not database.with_name("ledger.sqlite3.new").exists()


async def filled(state_dir: Path) -> bytes:
    ledger = await opened(state_dir)
    await ledger.save([record for number in range(1, 301) for record in (message(number), delivery(number))])
    await ledger.close()
    return (state_dir / "ledger.sqlite3").read_bytes()


async def test_an_empty_file_is_refused(state_dir: Path) -> None:
    await damaged(state_dir, b"")


async def test_garbage_is_refused(state_dir: Path) -> None:
    await damaged(state_dir, b"From alice@example.org\r\n" * 1000)


async def test_a_truncated_ledger_is_refused(state_dir: Path) -> None:
    content = await filled(state_dir)
    for cut in (50, 100, 4096, len(content) // 2, len(content) - 4096, len(content) - 100):
        await damaged(state_dir, content[:cut])


async def test_overwritten_pages_are_refused(state_dir: Path) -> None:
    content = bytearray(await filled(state_dir))
    content[4096 * 5 : 4096 * 9] = b"\xa5" * 4096 * 4
    await damaged(state_dir, bytes(content))


async def test_a_ledger_that_vanished_from_its_log_is_refused(state_dir: Path) -> None:
    database = state_dir / "ledger.sqlite3"
    forget_copies(state_dir)
    database.rename(state_dir / "ledger.sqlite3-wal")
    with pytest.raises(StoreError, match=r"is missing.*move these files away: ledger\.sqlite3-wal"):
        await opened(state_dir)
    assert not database.exists()


async def test_what_a_first_start_left_half_done_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite3.new").write_bytes(b"half")
    (tmp_path / "ledger.sqlite3.new-wal").write_bytes(b"half")
    ledger = await opened(tmp_path)
    await ledger.save([message(1)])
    await ledger.close()
    assert set(modes_of(tmp_path)) == {"ledger.sqlite3", *BESIDE}


async def test_a_ledger_of_a_newer_program_is_refused(state_dir: Path) -> None:
    execute(state_dir / "ledger.sqlite3", f"UPDATE {VERSION_TABLE} SET version_num = '0999'")
    with pytest.raises(StoreError, match=r"newer mailferry.*0999.*install that mailferry again"):
        await opened(state_dir)
    with pytest.raises(StoreError, match="newer mailferry"):
        open_reader(f"sqlite:///{state_dir}/ledger.sqlite3")


async def test_a_version_that_nobody_knows_is_refused(state_dir: Path) -> None:
    execute(state_dir / "ledger.sqlite3", f"UPDATE {VERSION_TABLE} SET version_num = '0000x'")
    with pytest.raises(StoreError, match="cannot be upgraded"):
        await opened(state_dir)
    with pytest.raises(StoreError, match="start the daemon once"):
        open_reader(f"sqlite:///{state_dir}/ledger.sqlite3")


async def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    database = tmp_path / "ledger.sqlite3"
    execute(database, "CREATE TABLE recipes (name TEXT)")
    with pytest.raises(StoreError, match=r"another program \(recipes\)"):
        await opened(tmp_path)
    with pytest.raises(StoreError, match="no ledger"):
        open_reader(f"sqlite:///{database}")


async def test_a_second_daemon_is_refused(ledger: SqlLedger, state_dir: Path) -> None:
    with pytest.raises(StoreError, match=rf"ledger\.lock: another mailferry \(process {os.getpid()}\)"):
        await opened(state_dir)
    await ledger.save([message(1)])  # and the first is none the worse for it
    with pytest.raises(StoreError, match="open already"):
        await ledger.open()
    await ledger.save([message(2)])
    await ledger.close()
    again = await opened(state_dir)
    assert len(await again.known_messages(ALICE)) == 2
    await again.close()


async def test_a_second_daemon_with_its_own_journal_or_link_is_refused(
    ledger: SqlLedger, state_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "link.sqlite3").symlink_to(state_dir / "ledger.sqlite3")
    with pytest.raises(StoreError, match="another mailferry"):
        await open_ledger(
            f"sqlite:///{other}/link.sqlite3", journal_path=other / "j", emit=lambda event: None
        )
    with pytest.raises(StoreError, match="another mailferry"):
        await open_ledger(
            f"sqlite:///{other}/new.sqlite3",
            journal_path=state_dir / "ledger.journal",
            emit=lambda event: None,
        )


@pytest.fixture
def unwritable() -> Iterator[Path]:
    """A directory that may be entered and not written to, also when root runs the tests."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o555)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield directory
    os.seteuid(user)
    directory.chmod(0o700)
    shutil.rmtree(directory)


async def test_an_unwritable_directory_is_told(unwritable: Path) -> None:
    with pytest.raises(
        StoreError, match=rf"{unwritable}/ledger\.lock: Permission denied: make it .*writable"
    ):
        await opened(unwritable)


async def test_a_missing_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"missing/ledger\.lock: No such file.*create its directory"):
        await opened(tmp_path / "missing")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ledger.sqlite3",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///x?mode=ro",
        "mysql://u:hunter2@h/d",
        "postgresql://u:hunter2@h/d",
        "sqlite://h:nan/x",
    ],
)
def test_a_url_that_names_no_ledger_is_told_without_its_password(url: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"\[ledger\] url: .*allowed is sqlite:///") as caught:
        SqlLedger(url, journal_path=tmp_path / "j", emit=lambda event: None)
    assert "hunter2" not in str(caught.value)


async def test_odd_file_names_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "50% off? #1 ü&mode=memory"
    directory.mkdir()
    name = str(directory / "led ger.db").replace("%", "%25").replace("?", "%3F")
    async with SqlLedger(
        f"sqlite:///{name}", journal_path=directory / "j", emit=lambda event: None
    ) as ledger:
        await ledger.save([message(1)])
    assert (directory / "led ger.db").stat().st_size > 0
    with open_reader(f"sqlite:///{name}") as reader:
        assert set(reader.known_messages(ALICE)) == {b"uidl-1"}
    monkeypatch.chdir(directory)
    with open_reader("sqlite:///led ger.db") as reader:
        assert set(reader.known_messages(ALICE)) == {b"uidl-1"}


async def test_a_reader_works_beside_the_daemon_and_without_it(
    ledger: SqlLedger, url: str, state_dir: Path
) -> None:
    await ledger.save([message(1), delivery(1), standing()])
    with open_reader(url) as reader:
        assert reader.history(HistoryFilter()) == [KnownMessage(message(1), (delivery(1),))]
        await ledger.save([message(2)])
        assert set(reader.known_messages(ALICE)) == {b"uidl-1", b"uidl-2"}
        assert sum(reader.counts().values()) == 2
    await ledger.close()
    before = (state_dir / "ledger.sqlite3").read_bytes()
    with open_reader(url) as reader:
        assert reader.standings() == {(StandingKind.MAILDROP, "alice"): standing()}
    assert (state_dir / "ledger.sqlite3").read_bytes() == before
    again = await opened(state_dir)
    assert len(await again.known_messages(ALICE)) == 2
    await again.close()


def test_a_reader_without_a_ledger_says_so_and_makes_none(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no ledger yet: start the daemon once"):
        open_reader(f"sqlite:///{tmp_path}/ledger.sqlite3")
    assert list(tmp_path.iterdir()) == []


def test_a_reader_of_garbage_says_so(tmp_path: Path) -> None:
    database = tmp_path / "ledger.sqlite3"
    database.write_bytes(b"garbage" * 1000)
    with pytest.raises(
        StoreError, match=r"ledger\.sqlite3: file is not a database: a start of mailferry puts it together"
    ):
        open_reader(f"sqlite:///{database}")
