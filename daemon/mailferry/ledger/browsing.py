"""The ledger for a page that anybody may ask for again and again: every question has an end.

SQLite is interrupted when a question's time is over. A search for words, which no index serves,
goes back in slices, keeps what it has found when its time is over, and says how far it came.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Integer,
    Row,
    Select,
    Tuple,
    cast,
    func,
    select,
    tuple_,
)
from sqlalchemy.exc import OperationalError

from mailferry.errors import StoreError
from mailferry.ledger import queries
from mailferry.ledger.queries import HistoryFilter
from mailferry.ledger.reader import LedgerReader, existing_database
from mailferry.ledger.schema import MESSAGE, MESSAGE_FIELDS
from mailferry.ledger.sqlite import connect
from mailferry.model import KnownMessage, MessageId

LONGEST_SECONDS: Final = 2.0
SEARCH_SECONDS: Final = 1.5
"""For all slices of a search together; the last one may take a little longer."""
SLICE: Final = 5_000
"""Messages that are looked at in one go: some 30 ms."""
_STEPS_BETWEEN_LOOKS: Final = 2_000
"""Of SQLite's virtual machine; some 0.1 ms."""

T = TypeVar("T")
_NEWEST_FIRST: Final = (MESSAGE.c.updated_at.desc(), MESSAGE.c.message_id.desc())
Place = tuple[float, int]
"""Where a message stands among all: the time of its last change, and its number."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a search brought.

    Attributes:
        messages: the newest change first.
        more: whether there are others behind them.
        searched_to: the last change, and the number, of the message at which the search gave up;
            None when it came to its end. What lies behind can be asked for with `before`.
    """

    messages: list[KnownMessage]
    more: bool = False
    searched_to: Place | None = None


class LedgerBrowser(LedgerReader):
    """A reader whose questions take so many seconds at most; every method may raise `StoreError`."""

    def __init__(self, engine: Engine, database: Path, seconds: float = LONGEST_SECONDS) -> None:
        self._seconds = seconds
        super().__init__(engine, database)

    def search(self, wanted: HistoryFilter, before: Place | None = None) -> Found:
        """Return messages that fit.

        Args:
            wanted: as for `history`.
            before: the place of the message behind which to begin.
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


def _search(connection: Connection, wanted: HistoryFilter, before: Place | None) -> Found:
    rows: list[Row[Any]] = []
    ends_at = time.monotonic() + SEARCH_SECONDS
    while True:
        last = _slice_end(connection, wanted, before)
        rows += connection.execute(_within(connection, wanted, before, last, wanted.limit + 1 - len(rows)))
        enough = len(rows) > wanted.limit
        if enough or last is None or time.monotonic() > ends_at:
            break
        before = last
    messages = queries.with_deliveries(connection, rows[: wanted.limit])
    return Found(messages, enough, None if enough else last)


def _slice_end(connection: Connection, wanted: HistoryFilter, before: Place | None) -> Place | None:
    """Return the place of the last message of the next slice; None when it reaches to the end of all."""
    if not wanted.text:  # an index finds what fits
        return None
    anything = replace(wanted, text=None)
    places = select(MESSAGE.c.updated_at, MESSAGE.c.message_id).where(
        *queries.conditions(connection, anything), *_behind(before)
    )
    row = connection.execute(places.order_by(*_NEWEST_FIRST).offset(SLICE - 1).limit(1)).first()
    return (row.updated_at, row.message_id) if row is not None else None


def _within(
    connection: Connection, wanted: HistoryFilter, before: Place | None, last: Place | None, limit: int
) -> Select[Any]:
    statement = select(*MESSAGE_FIELDS).where(*queries.conditions(connection, wanted), *_behind(before))
    if last is not None:
        statement = statement.where(MESSAGE.c.updated_at >= last[0], _place() >= tuple_(*last))
    return statement.order_by(*_NEWEST_FIRST).limit(limit)


def _behind(before: Place | None) -> tuple[ColumnElement[bool], ...]:
    # The first condition says nothing new, and lets an index be used.
    return () if before is None else (MESSAGE.c.updated_at <= before[0], _place() < tuple_(*before))


def _place() -> Tuple:
    return tuple_(MESSAGE.c.updated_at, MESSAGE.c.message_id)


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
