"""The ledger as an SQLite file: its creation, its checks, its connections.

A ledger that cannot be read is never replaced by an empty one: to forget what
was delivered would deliver everything again. Therefore a new file gets its
tables under another name and is renamed when it is whole, so that under the
right name an empty file is always a damaged one.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.pool import ConnectionPoolEntry

from mailferry.errors import StoreError
from mailferry.ledger.faults import RESTORE
from mailferry.ledger.migrate import migrate

BUSY_TIMEOUT_MS: Final = 5000
_COMPANIONS: Final = ("-wal", "-shm", "-journal")


def open_database(database: Path) -> Engine:
    """Return an engine for a ledger that was checked and has the present tables.

    The caller holds the lock. Everything happens on the calling thread, which
    must be the one that uses the engine.

    Raises:
        StoreError, SQLAlchemyError, sqlite3.Error, OSError: it cannot be used.
    """
    if database.exists():
        _require_whole(database)
    else:
        _create(database)
    engine = connect(database)
    try:
        _check_size(engine, database)
        with engine.begin() as connection:
            _quick_check(connection, database)
            migrate(connection, str(database))
    except BaseException:
        engine.dispose()
        raise
    return engine


def connect(database: Path, *, read_only: bool = False) -> Engine:
    """Return an engine for an existing file; it never creates one."""
    # As a URI, so that a file that vanished is an error and not a new empty ledger.
    query = {"mode": "ro" if read_only else "rw", "uri": "true"}
    url = URL.create("sqlite", database=f"file:{quote(str(database.absolute()))}", query=query)
    engine = create_engine(url, pool_size=1, max_overflow=0, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
        _configure(connection, database, read_only=read_only)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # At once: a transaction that first reads and then writes would fail when another
        # process (a command, see `writer`) commits in between.
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def _configure(connection: sqlite3.Connection, database: Path, *, read_only: bool) -> None:
    # Python's driver begins transactions by its own lights, not before DDL or
    # SELECT; with None it leaves that to the `begin` hook.
    connection.isolation_level = None
    # SQLite's own lower() knows ASCII only, and subjects come in every script.
    connection.create_function("lower", 1, _lower, deterministic=True)
    _pragma(connection, f"busy_timeout = {BUSY_TIMEOUT_MS}")
    _pragma(connection, "foreign_keys = ON")
    if read_only:
        return
    mode = _pragma(connection, "journal_mode = WAL")
    if mode != "wal":
        raise StoreError(
            f"{database}: this file system does not allow SQLite's write-ahead log (it offers {mode}): "
            "put [daemon] state_dir on a local disk"
        )
    # In WAL mode only FULL syncs at every commit, and `done` promises just that.
    _pragma(connection, "synchronous = FULL")


def _pragma(connection: sqlite3.Connection, words: str) -> Any:
    row = connection.execute(f"PRAGMA {words}").fetchone()
    return row[0] if row else None


def _lower(value: str | bytes | float | None) -> str | bytes | float | None:
    return value.lower() if isinstance(value, str) else value


def _check_size(engine: Engine, database: Path) -> None:
    """Refuse a file that ends within a page: SQLite reads the missing part as zeros."""
    pooled = engine.raw_connection()
    try:
        cursor = pooled.cursor()
        # A crash may have left a page half written whose whole is in the log.
        cursor.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        ((page_octets,),) = cursor.execute("PRAGMA page_size").fetchall()
    finally:
        pooled.close()
    if database.stat().st_size % page_octets:
        raise _damage(database, "its last page is cut")


def _quick_check(connection: Connection, database: Path) -> None:
    words = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar())
    if words != "ok":
        raise _damage(database, " ".join(words.split()))


def _damage(database: Path, words: str) -> StoreError:
    return StoreError(f"{database}: is damaged ({words}): {RESTORE}")


def _require_whole(database: Path) -> None:
    status = database.stat()
    if not status.st_size:
        raise StoreError(
            f"{database}: is empty, which a ledger never is: put back a copy that is whole, "
            "or remove the file to begin anew, which fetches all mail once more"
        )
    if status.st_mode & 0o077:
        database.chmod(0o600)  # subjects and addresses are nobody else's business


def _create(database: Path) -> None:
    if (log := database.with_name(f"{database.name}-wal")).exists():
        raise StoreError(
            f"{database}: is missing, but its write-ahead log {log.name} is there: put the ledger back beside it, "
            "or remove the log as well to begin anew, which fetches all mail once more"
        )
    draft = database.with_name(f"{database.name}.new")
    for suffix in ("", *_COMPANIONS):
        draft.with_name(draft.name + suffix).unlink(missing_ok=True)
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    engine = connect(draft)
    try:
        with engine.begin() as connection:
            migrate(connection, str(database))
    finally:
        engine.dispose()  # the last connection takes the write-ahead log along
    draft.rename(database)
    _sync_directory(database.parent)


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
