"""The ledger for commands that only look: no lock, beside a running daemon or without one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from mailferry.errors import StoreError
from mailferry.ledger import queries
from mailferry.ledger.faults import store_error
from mailferry.ledger.location import database_path
from mailferry.ledger.migrate import require_head
from mailferry.ledger.queries import Counts, HistoryFilter, Standings
from mailferry.ledger.sqlite import connect
from mailferry.model import KnownMessage, MaildropName, Uidl

_PAGE: Final = 500

T = TypeVar("T")


class LedgerReader:
    """Answers questions on the calling thread; a context manager. Every method may raise `StoreError`."""

    def __init__(self, engine: Engine, database: Path) -> None:
        self._engine = engine
        self._place = str(database)
        self._ask(lambda connection: require_head(connection, self._place))

    def known_messages(self, maildrop: MaildropName) -> dict[Uidl, KnownMessage]:
        """Return every message of the maildrop that is not gone, by UIDL."""
        return self._ask(lambda connection: queries.known_messages(connection, maildrop))

    def standings(self) -> Standings:
        """Return all standings."""
        return self._ask(queries.standings)

    def counts(self) -> Counts:
        """Return how many messages of each maildrop stand where."""
        return self._ask(queries.counts)

    def history(self, wanted: HistoryFilter) -> list[KnownMessage]:
        """Return messages that fit, the one that changed last first."""
        return self._ask(lambda connection: queries.history(connection, wanted))

    def messages(self) -> Iterator[KnownMessage]:
        """Yield every message, each as it stands when its turn comes; memory stays bounded."""
        last = -1
        while page := self._ask(partial(queries.page_of_messages, after=last, limit=_PAGE)):
            yield from page
            last = page[-1].message.message_id

    def close(self) -> None:
        """Let go of the file; safe to call twice."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, work: Callable[[Connection], T]) -> T:
        try:
            with self._engine.begin() as connection:
                return work(connection)
        except SQLAlchemyError as error:
            raise store_error(error, self._place) from error


def _is_there(database: Path) -> bool:
    try:
        return database.exists()
    except OSError as error:
        raise StoreError(
            f"{database}: cannot be looked at: {error.strerror}: "
            "run this as the daemon's user or root, or look at [daemon] state_dir"
        ) from error


def existing_database(url: str) -> Path:
    """Return the file that a URL names.

    Raises:
        StoreError: it is not there.
    """
    database = database_path(url).absolute()
    if not _is_there(database):
        raise StoreError(f"{database}: no ledger yet: start the daemon once, or look at [daemon] state_dir")
    return database


def open_reader(url: str) -> LedgerReader:
    """Return the ledger that a URL names, for reading only; the caller closes it.

    Raises:
        StoreError: it is not there, not readable, or not of this version.
    """
    database = existing_database(url)
    engine = connect(database, read_only=True)
    try:
        return LedgerReader(engine, database)
    except BaseException:
        engine.dispose()
        raise
