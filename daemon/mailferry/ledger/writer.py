"""The ledger for commands that change a few rows beside a running daemon.

A second writer is safe because every transaction of it is short, takes the
database's write lock before it looks (the daemon's do, too), changes only rows
that still stand where it expects them, and puts them into the log of changes. The daemon reads the rows anew at
each poll, so what is written here is in force at the next one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from mailferry.errors import StoreError
from mailferry.ledger import queries
from mailferry.ledger.changes import ChangeLog, position
from mailferry.ledger.faults import store_error
from mailferry.ledger.files import LedgerFiles
from mailferry.ledger.frames import Stamped
from mailferry.ledger.location import database_path
from mailferry.ledger.migrate import require_head
from mailferry.ledger.rows import record_key
from mailferry.ledger.sqlite import connect
from mailferry.ledger.writes import write_records
from mailferry.model import (
    DeliveryRecord,
    DeliveryState,
    KnownMessage,
    LedgerRecord,
    MessageState,
    StandingRecord,
)

SLICE: Final = 200
"""Messages in one transaction: the daemon waits for it no longer than for a commit of its own."""

T = TypeVar("T")


class LedgerWriter:
    """Changes rows on the calling thread; a context manager. Every method may raise `StoreError`."""

    def __init__(self, engine: Engine, database: Path, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._place = str(database)
        self._log = ChangeLog(LedgerFiles(database))
        self._clock = clock
        self._do(lambda connection: require_head(connection, self._place))

    def retry_rejected(self, maildrop: str | None = None, uidl: bytes | None = None) -> int:
        """Let refused messages be tried again at the next poll; return how many.

        What a destination has accepted stays accepted. What is left out of the
        choice (`None`) does not restrict it.
        """
        retried = 0
        while number := self._do(lambda connection: self._retry_slice(connection, maildrop, uidl)):
            retried += number
        return retried

    def hurry_postponed(self, maildrop: str | None = None, uidl: bytes | None = None) -> int:
        """Let messages that wait for their next attempt be due at once; return how many. Chosen as above."""
        hurried = 0
        while number := self._do(lambda connection: self._hurry_slice(connection, maildrop, uidl)):
            hurried += number
        return hurried

    def record(self, deliveries: Sequence[DeliveryRecord]) -> None:
        """Write what was delivered by a command.

        A row that says `accepted` already keeps its receipt; a message that the
        ledger has forgotten meanwhile is passed over.
        """
        for first in range(0, len(deliveries), SLICE):
            self._do(partial(self._record, deliveries=deliveries[first : first + SLICE]))

    def remember(self, standings: Sequence[StandingRecord]) -> None:
        """Write how something fared that a command did by itself."""
        self._do(lambda connection: self._write(connection, standings))

    def close(self) -> None:
        """Let go of the file; safe to call twice."""
        self._log.close()
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _retry_slice(self, connection: Connection, maildrop: str | None, uidl: bytes | None) -> int:
        found = queries.rejected_messages(connection, maildrop, uidl, SLICE)
        now = self._clock()
        self._write(connection, [row for known in found for row in _reopened(known, now)])
        return len(found)

    def _hurry_slice(self, connection: Connection, maildrop: str | None, uidl: bytes | None) -> int:
        now = self._clock()
        found = queries.postponed_messages(connection, maildrop, uidl, now, SLICE)
        self._write(connection, [row for known in found for row in _due_at_once(known, now)])
        return len(found)

    def _record(self, connection: Connection, deliveries: Sequence[DeliveryRecord]) -> None:
        known = queries.messages_by_number(connection, [delivery.message_id for delivery in deliveries])
        accepted = {
            record_key(delivery)
            for entry in known.values()
            for delivery in entry.deliveries
            if delivery.state is DeliveryState.ACCEPTED
        }
        fit = {
            record_key(d): d for d in deliveries if d.message_id in known and record_key(d) not in accepted
        }
        self._write(connection, list(fit.values()))

    def _write(self, connection: Connection, records: Sequence[LedgerRecord]) -> None:
        # The daemon may have begun another log meanwhile; now, behind the lock, it cannot.
        self._log.go_on()
        _, noted = position(connection)
        # Newer than all that was noted of rows like these, so that no replay undoes it.
        write_records(connection, [Stamped(record, noted) for record in records], self._log)

    def _do(self, work: Callable[[Connection], T]) -> T:
        try:
            with self._engine.connect() as connection, self._log.transaction():
                connection.begin()
                done = work(connection)
                connection.commit()  # here: while it can fail nobody else may append
                return done
        except (SQLAlchemyError, OSError) as error:
            raise store_error(error, self._place) from error


def open_writer(url: str) -> LedgerWriter:
    """Return the ledger that a URL names, for a few changes beside the daemon; the caller closes it.

    Raises:
        StoreError: it is not there, not writable, or not of this version.
    """
    database = database_path(url).absolute()
    if not database.is_file():
        raise StoreError(f"{database}: no ledger yet: start the daemon once, or look at [daemon] state_dir")
    engine = connect(database)
    try:
        return LedgerWriter(engine, database)
    except BaseException:
        engine.dispose()
        raise


def _reopened(known: KnownMessage, now: float) -> list[LedgerRecord]:
    """Return the rows of a refused message as one that is due now."""
    message = replace(
        known.message,
        state=MessageState.DEFERRED,
        reason="",
        fetch_attempts=0,
        next_fetch_at=0.0,
        updated_at=max(now, known.message.updated_at),
    )
    unsettled = (d for d in known.deliveries if d.state is not DeliveryState.ACCEPTED)
    return [message, *(_due_again(delivery, now) for delivery in unsettled)]


def _due_at_once(known: KnownMessage, now: float) -> list[LedgerRecord]:
    """Return those rows of a message that put it off, without their reason to wait; what was tried counts."""
    rows: list[LedgerRecord] = []
    if known.message.next_fetch_at > now:
        updated_at = max(now, known.message.updated_at)
        rows.append(replace(known.message, next_fetch_at=0.0, updated_at=updated_at))
    rows += (
        replace(delivery, next_attempt_at=0.0, updated_at=max(now, delivery.updated_at))
        for delivery in known.deliveries
        if delivery.next_attempt_at > now
    )
    return rows


def _due_again(delivery: DeliveryRecord, now: float) -> DeliveryRecord:
    return replace(
        delivery,
        state=DeliveryState.DEFERRED,
        attempts=0,
        next_attempt_at=0.0,
        updated_at=max(now, delivery.updated_at),
        # Else they would count as settled, and nobody would be asked again.
        refused_recipients=(),
    )
