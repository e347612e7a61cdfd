"""Whether a ledger file is whole: the question that is asked at every start, and of every copy.

SQLite's `integrity_check` compares the tables with their indices, so that a UIDL,
maildrop, destination or state that was garbled in one place is found; `quick_check`
would not. What it cannot know is what makes sense here: words that are none of ours,
text that is no UTF-8, lists that are no JSON. All that together takes 0.15 s for 30,000
messages with deliveries and 1.8 s for 300,000. A checksum per row would also find a
letter changed in a subject, at the price of every row being read in Python at every start.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import quote

from mailferry.ledger.schema import VERSION_TABLE
from mailferry.model import DeliveryState, MessageState, StandingKind

_DAMAGE: Final = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
_BUSY_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What is to be said of a ledger file.

    Attributes:
        damage: why it cannot be used; empty when it can.
        version: the revision of its tables; None when it has none.
        sequence: the number of its last change; None before revision 0002.
        log_number: of a copy, which log goes on where it ends.
    """

    damage: str = ""
    version: str | None = None
    sequence: int | None = None
    log_number: int = 0


def examine(database: Path, *, alone: bool, deep: bool = True) -> Finding:
    """Look at every page and row of a file.

    Args:
        database: the file.
        alone: nobody else has it open, so that what its write-ahead log holds is
            brought in first. Without it nothing at all is written.
        deep: compare tables with indices, and look into the rows. Without it a tenth of the time
            tells of what would keep SQLite from reading the file.

    Raises:
        sqlite3.Error, OSError: it could not be looked at, which says nothing about it.
    """
    if not database.exists():
        return Finding("is missing")
    if not database.stat().st_size:
        return Finding("is empty, which a ledger never is")
    try:
        with closing(open_raw(database, "rw" if alone else "ro")) as connection:
            return _examine(connection, database, alone=alone, deep=deep)
    except sqlite3.Error as error:
        if (words := _words_of_damage(error)) is None:
            raise
        return Finding(f"is damaged ({words})")


def has_write_ahead_log(database: Path) -> bool:
    """Tell whether commits may lie in the log that are not in the file; a reader leaves an empty one."""
    log = database.with_name(f"{database.name}-wal")
    return log.exists() and log.stat().st_size > 0


def open_raw(database: Path, mode: str) -> sqlite3.Connection:
    """Open a file by the driver alone; `mode` is that of SQLite's URIs."""
    uri = f"file:{quote(str(database.absolute()))}?mode={mode}"
    return sqlite3.connect(
        uri, uri=True, isolation_level=None, timeout=_BUSY_SECONDS, check_same_thread=False
    )


def _examine(connection: sqlite3.Connection, database: Path, *, alone: bool, deep: bool) -> Finding:
    if alone:
        # A crash may have left a page half written whose whole is in the log.
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    page_octets = connection.execute("PRAGMA page_size").fetchone()[0]
    settled = alone or not has_write_ahead_log(database)
    # SQLite reads the missing part of a page as zeros.
    if settled and database.stat().st_size % page_octets:
        return Finding("is damaged (its last page is cut)")
    connection.execute("BEGIN")
    check = "integrity_check" if deep else "quick_check"
    words = str(connection.execute(f"PRAGMA {check}(1)").fetchone()[0])
    if words != "ok":
        return Finding(f"is damaged ({' '.join(words.split())})")
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return Finding("is damaged (it has no tables)")
    if VERSION_TABLE not in tables:
        return Finding()  # another program's: nothing that we could judge
    finding = _examine_marks(connection, tables)
    if deep and not finding.damage:
        for what in _nonsense(connection):
            return replace(finding, damage=f"is damaged ({what})")
    return finding


def _examine_marks(connection: sqlite3.Connection, tables: set[str]) -> Finding:
    (log_number,) = connection.execute("PRAGMA user_version").fetchone()
    row = connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone()  # noqa: S608 -- a constant
    if row is None:
        return Finding("is damaged (it has lost its version)")
    (version,) = row
    sequence: int | None = None
    if "ledger_position" in tables:
        positions = connection.execute("SELECT sequence, noted FROM ledger_position").fetchall()
        if len(positions) != 1 or not all(isinstance(number, int) for number in positions[0]):
            return Finding("is damaged (it has lost its position)", version)
        sequence = positions[0][0]
    return Finding("", version, sequence, log_number)


def _nonsense(connection: sqlite3.Connection) -> Iterator[str]:
    """Yield words for each kind of row that cannot be one of ours."""
    for table, condition in _SENSELESS.items():
        found = connection.execute(f"SELECT 1 FROM {table} WHERE {condition} LIMIT 1").fetchone()  # noqa: S608 -- constants
        if found:
            yield f"a row of {table} makes no sense"
    for table, wanted in _TEXTS.items():
        there = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
        columns = [column for column in wanted if column in there]
        for _ in connection.execute(f"SELECT {'||'.join(columns)} FROM {table}"):  # noqa: S608 -- constants
            pass  # reading is the test: what is no UTF-8 raises
    lists = "SELECT accepted_recipients FROM delivery UNION SELECT refused_recipients FROM delivery"
    for (text,) in connection.execute(lists):
        if not _is_list(text):
            yield "a row of delivery has no list of recipients"


def _is_list(text: str) -> bool:
    try:
        return isinstance(json.loads(text), list)
    except ValueError:
        return False


def _none_of(column: str, words: Iterable[str]) -> str:
    listed = ", ".join(f"'{word}'" for word in words)
    return f"{column} NOT IN ({listed})"


def _not_of_type(kind: str, *columns: str) -> str:
    return " OR ".join(f"typeof({column}) <> '{kind}'" for column in columns)


_SENSELESS: Final = {
    "message": " OR ".join(
        (
            _none_of("state", MessageState),
            _not_of_type("blob", "uidl", "header_digest", "content_digest"),
            _not_of_type("text", "maildrop", "sender", "recipient", "subject", "reason"),
            _not_of_type("real", "first_seen_at", "updated_at", "next_fetch_at"),
            _not_of_type("integer", "size_octets", "fetch_attempts"),
        )
    ),
    "delivery": " OR ".join(
        (
            _none_of("state", DeliveryState),
            _not_of_type("text", "destination", "receipt", "error"),
            _not_of_type("real", "updated_at", "next_attempt_at"),
            _not_of_type("integer", "attempts"),
        )
    ),
    "standing": " OR ".join((_none_of("kind", StandingKind), _not_of_type("text", "name", "last_error"))),
}
_TEXTS: Final = {
    "message": ("maildrop", "sender", "recipient", "subject", "reason"),
    "delivery": ("destination", "receipt", "error"),
    "standing": ("name", "last_error", "last_reply"),
}


def _words_of_damage(error: sqlite3.Error) -> str | None:
    if str(getattr(error, "sqlite_errorname", "")).startswith(_DAMAGE):
        return str(error)
    if "decode to UTF-8" in str(error):
        return "text that is no UTF-8"
    return None
