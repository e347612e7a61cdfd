"""The ledger for a page that anybody may ask for again and again: every question has an end.

SQLite is interrupted when a question's time is over. A search keeps what it has found until
then, newest change first, and says that there may be more.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, Integer, Row, cast, func, select, tuple_
from sqlalchemy.exc import OperationalError

from mailferry.errors import StoreError
from mailferry.ledger import queries
from mailferry.ledger.queries import HistoryFilter
from mailferry.ledger.reader import LedgerReader, existing_database
from mailferry.ledger.schema import MESSAGE, MESSAGE_FIELDS
from mailferry.ledger.sqlite import connect
from mailferry.model import KnownMessage, MessageId

LONGEST_SECONDS: Final = 2.0
_STEPS_BETWEEN_LOOKS: Final = 2_000
"""Of SQLite's virtual machine; some 0.1 ms."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Found:
    """What a search brought.

    Attributes:
        messages: the newest change first.
        more: whether there are others behind them.
        complete: False when the time was over before all was looked at.
    """

    messages: list[KnownMessage]
    more: bool = False
    complete: bool = True


class LedgerBrowser(LedgerReader):
    """A reader whose questions take so many seconds at most; every method may raise `StoreError`."""

    def __init__(self, engine: Engine, database: Path, seconds: float = LONGEST_SECONDS) -> None:
        self._seconds = seconds
        super().__init__(engine, database)

    def search(self, wanted: HistoryFilter, before: tuple[float, int] | None = None) -> Found:
        """Return messages that fit.

        Args:
            wanted: as for `history`.
            before: the time of the last change, and the number, of the message behind which to begin.
        """
        return self._ask(lambda connection: _search(connection, wanted, before))

    def message(self, number: MessageId) -> KnownMessage | None:
        """Return one message."""
        return self._ask(lambda connection: queries.messages_by_number(connection, [number]).get(number))

    def relayed_by_hour(self, since: float, until: float) -> list[tuple[str, int, int]]:
        """Return maildrop, hour since the epoch, and how many of its messages every destination accepted then."""
        return self._ask(lambda connection: _relayed_by_hour(connection, since, until))

    def _ask(self, work: Callable[[Connection], T]) -> T:
        def bounded(connection: Connection) -> T:
            try:
                with _deadline(connection, self._seconds):
                    return work(connection)
            except OperationalError as error:
                if not _was_interrupted(error):
                    raise
                raise StoreError(f"the ledger needs more than {self._seconds:g} s for that") from error

        return super()._ask(bounded)


def open_browser(url: str, seconds: float = LONGEST_SECONDS) -> LedgerBrowser:
    """Return the ledger that a URL names; the caller closes it.

    Raises:
        StoreError: it is not there, not readable, or not of this version.
    """
    database = existing_database(url)
    engine = connect(database, read_only=True)
    try:
        return LedgerBrowser(engine, database, seconds)
    except BaseException:
        engine.dispose()
        raise


@contextmanager
def _deadline(connection: Connection, seconds: float) -> Iterator[None]:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    ends_at = time.monotonic() + seconds
    driver.set_progress_handler(lambda: time.monotonic() > ends_at, _STEPS_BETWEEN_LOOKS)
    try:
        yield
    finally:
        driver.set_progress_handler(None, 0)


def _search(connection: Connection, wanted: HistoryFilter, before: tuple[float, int] | None) -> Found:
    statement = select(*MESSAGE_FIELDS).where(*queries.conditions(connection, wanted))
    if before is not None:
        place = tuple_(MESSAGE.c.updated_at, MESSAGE.c.message_id)
        # The first condition says nothing new, and lets an index be used.
        statement = statement.where(MESSAGE.c.updated_at <= before[0], place < tuple_(*before))
    newest_first = (MESSAGE.c.updated_at.desc(), MESSAGE.c.message_id.desc())
    statement = statement.order_by(*newest_first).limit(wanted.limit + 1)
    rows: list[Row[Any]] = []
    complete = True
    try:
        rows += connection.execute(statement)  # it fetches row by row; what came before the end counts
    except OperationalError as error:
        if not _was_interrupted(error):
            raise
        complete = False
    with _deadline(connection, LONGEST_SECONDS):  # by number, so this takes no time
        messages = queries.with_deliveries(connection, rows[: wanted.limit])
    return Found(messages, len(rows) > wanted.limit, complete)


def _relayed_by_hour(connection: Connection, since: float, until: float) -> list[tuple[str, int, int]]:
    hour = cast(MESSAGE.c.accepted_at / 3600, Integer)
    accepted = MESSAGE.c.accepted_at.between(since, until)
    # No row is older than what it tells, so the index by change is good enough.
    rows = select(MESSAGE.c.maildrop, hour, func.count()).where(MESSAGE.c.updated_at >= since, accepted)
    return [
        (name, at, number) for name, at, number in connection.execute(rows.group_by(MESSAGE.c.maildrop, hour))
    ]


def _was_interrupted(error: OperationalError) -> bool:
    return getattr(error.orig, "sqlite_errorname", "") == "SQLITE_INTERRUPT"
