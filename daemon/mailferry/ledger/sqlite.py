"""Connections to an SQLite file, set up as a ledger needs them."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.pool import ConnectionPoolEntry

from mailferry.errors import StoreError

BUSY_TIMEOUT_MS: Final = 5000


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
