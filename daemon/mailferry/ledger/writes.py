"""Rows into the tables: plain orders, and the replay of what a crash left over.

Each function runs inside a transaction of its caller's. A row comes with its
stamp: the number of the last note before it was ordered. A note with a higher
number is newer than the row; no clock is asked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from sqlalchemy import Connection, Table, delete, select, update
from sqlalchemy.exc import IntegrityError

from mailferry.ledger.changes import ChangeLog
from mailferry.ledger.dialect import upsert_text
from mailferry.ledger.frames import Note, Stamped
from mailferry.ledger.rows import (
    RecordKey,
    delivery_of,
    message_of,
    record_key,
    record_time,
    row_of,
    standing_of,
)
from mailferry.ledger.schema import DELIVERY, MESSAGE, STANDING
from mailferry.model import (
    DeliveryRecord,
    LedgerRecord,
    MessageId,
    MessageRecord,
    MessageState,
    StandingRecord,
)

_SLICE: Final = 500
"""Bound values in one statement; SQLite may have been built to allow only 999."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay did: rows written, and the words about groups that contradict the ledger."""

    applied: int
    refused: tuple[str, ...] = ()


def write_records(connection: Connection, rows: Collection[Stamped], log: ChangeLog) -> None:
    """Write whole rows by primary key, and log them; no two may be of the same row."""
    if rows:
        put_rows(connection, rows)
        log.append(connection, rows)


def put_rows(connection: Connection, rows: Collection[Stamped]) -> None:
    """Write whole rows by primary key."""
    messages = [row for row in rows if isinstance(row.record, MessageRecord)]
    # A UIDL that comes again: the old message must be gone before the new one is there.
    messages.sort(key=_comes_later)
    _put(connection, MESSAGE, messages)
    _put(connection, DELIVERY, [row for row in rows if isinstance(row.record, DeliveryRecord)])
    _put(connection, STANDING, [row for row in rows if isinstance(row.record, StandingRecord)])


def _comes_later(row: Stamped) -> bool:
    return not (isinstance(row.record, MessageRecord) and row.record.state is MessageState.GONE)


def adopt_messages(connection: Connection, rows: Sequence[Stamped], log: ChangeLog) -> None:
    """Write messages under new UIDLs, which others of them may have had until now."""
    step_aside(connection, [row.record.message_id for row in rows if isinstance(row.record, MessageRecord)])
    write_records(connection, rows, log)


def step_aside(connection: Connection, numbers: Sequence[MessageId]) -> None:
    """Take messages out of the way of the unique index, until their rows are written."""
    for first in range(0, len(numbers), _SLICE):
        ours = MESSAGE.c.message_id.in_(numbers[first : first + _SLICE])
        connection.execute(update(MESSAGE).where(ours).values(state=MessageState.GONE.value))


def replay_records(connection: Connection, notes: Sequence[Note], log: ChangeLog) -> Replayed:
    """Write those noted records that are newer than their rows and say something else.

    Doing it twice changes nothing. When the ledger refuses the whole, records
    that were noted together are written together, and a note that contradicts
    the ledger is left out and told of.
    """
    latest: dict[RecordKey, Stamped] = {}
    for note in sorted(notes, key=lambda note: note.sequence):
        latest.update(_stamped(note))
    try:
        return Replayed(_put_news(connection, latest.values(), log))
    except IntegrityError:
        return _replay_singly(connection, notes, log)


def _replay_singly(connection: Connection, notes: Sequence[Note], log: ChangeLog) -> Replayed:
    applied = 0
    refused: list[str] = []
    for note in notes:
        try:
            applied += _put_news(connection, _stamped(note).values(), log)
        except IntegrityError as error:
            refused.append(f"{record_key(note.records[0])}: {error.orig}")
    return Replayed(applied, tuple(refused))


def _stamped(note: Note) -> dict[RecordKey, Stamped]:
    return {record_key(record): Stamped(record, note.sequence) for record in note.records}


def _put_news(connection: Connection, rows: Collection[Stamped], log: ChangeLog) -> int:
    stored = stored_rows(connection, [row.record for row in rows])
    news = [row for row in rows if _is_news(row, stored.get(record_key(row.record)))]
    with connection.begin_nested():
        write_records(connection, news, log)
    return len(news)


def prune_slice(connection: Connection, before: float, limit: int) -> int:
    """Delete up to `limit` gone messages last changed before a time, with their deliveries."""
    oldest = (
        select(MESSAGE.c.message_id)
        .where(MESSAGE.c.state == MessageState.GONE.value, MESSAGE.c.updated_at < before)
        .order_by(MESSAGE.c.updated_at)
        .limit(limit)
    )
    # The foreign key takes the deliveries along (ON DELETE CASCADE).
    return connection.execute(delete(MESSAGE).where(MESSAGE.c.message_id.in_(oldest))).rowcount


def _put(connection: Connection, table: Table, rows: Sequence[Stamped]) -> None:
    # By the driver itself: to make named parameters of rows and positional ones of these takes as long as SQLite does.
    if rows:
        values = [(*row_of(record), stamp) for record, stamp in rows]
        connection.exec_driver_sql(upsert_text(connection.dialect, table), values)


def _is_news(row: Stamped, stored: Stamped | None) -> bool:
    if stored is None:
        return True
    if row.record == stored.record:
        return False
    if stored.stamp:
        return row.stamp > stored.stamp
    # A row from before rows had stamps: all that is left is what the clock said.
    return record_time(row.record) >= record_time(stored.record)


def stored_rows(connection: Connection, records: Iterable[LedgerRecord]) -> Mapping[RecordKey, Stamped]:
    """Return the rows that these records have in the ledger."""
    found: dict[RecordKey, Stamped] = {}
    for part in _slices(records):
        messages = [record.message_id for record in part if isinstance(record, MessageRecord)]
        deliveries = [record.message_id for record in part if isinstance(record, DeliveryRecord)]
        names = [record.name for record in part if isinstance(record, StandingRecord)]
        for row in _select_rows(connection, messages, deliveries, names):
            found[record_key(row.record)] = row
    return found


def _select_rows(
    connection: Connection, messages: list[MessageId], deliveries: list[MessageId], names: list[str]
) -> Iterator[Stamped]:
    if messages:
        rows = connection.execute(select(MESSAGE).where(MESSAGE.c.message_id.in_(messages)))
        yield from (Stamped(message_of(row[:-1]), row.noted) for row in rows)
    if deliveries:
        rows = connection.execute(select(DELIVERY).where(DELIVERY.c.message_id.in_(deliveries)))
        yield from (Stamped(delivery_of(row[:-1]), row.noted) for row in rows)
    if names:
        rows = connection.execute(select(STANDING).where(STANDING.c.name.in_(names)))
        yield from (Stamped(standing_of(row[:-1]), row.noted) for row in rows)


def _slices(records: Iterable[LedgerRecord]) -> Iterator[list[LedgerRecord]]:
    iterator = iter(records)
    while part := list(islice(iterator, _SLICE)):
        yield part
