"""Rows into the tables: plain orders, and the replay of what a crash left over.

Each function runs inside a transaction of its caller's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Final

from sqlalchemy import Connection, Table, delete, select, update
from sqlalchemy.exc import IntegrityError

from mailferry.ledger.dialect import upsert
from mailferry.ledger.rows import (
    RecordKey,
    delivery_of,
    delivery_row,
    message_of,
    message_row,
    record_key,
    record_time,
    standing_of,
    standing_row,
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


def write_records(connection: Connection, records: Collection[LedgerRecord]) -> None:
    """Write whole rows by primary key; no two records may be of the same row."""
    messages = [record for record in records if isinstance(record, MessageRecord)]
    # A UIDL that comes again: the old message must be gone before the new one is there.
    messages.sort(key=lambda record: record.state is not MessageState.GONE)
    _put(connection, MESSAGE, [message_row(record) for record in messages])
    _put(
        connection,
        DELIVERY,
        [delivery_row(record) for record in records if isinstance(record, DeliveryRecord)],
    )
    _put(
        connection,
        STANDING,
        [standing_row(record) for record in records if isinstance(record, StandingRecord)],
    )


def adopt_messages(connection: Connection, records: Sequence[MessageRecord]) -> None:
    """Write rows under new UIDLs, which others of them may have had until now."""
    numbers = [record.message_id for record in records]
    for first in range(0, len(numbers), _SLICE):
        # Out of the way of the unique index, for no longer than this transaction.
        ours = MESSAGE.c.message_id.in_(numbers[first : first + _SLICE])
        connection.execute(update(MESSAGE).where(ours).values(state=MessageState.GONE.value))
    write_records(connection, records)


def replay_records(connection: Connection, groups: Sequence[Sequence[LedgerRecord]]) -> Replayed:
    """Write those records that are not older than their rows and say something else.

    Doing it twice changes nothing. When the ledger refuses the whole, records
    that were noted together are written together, and a group that contradicts
    the ledger is left out and told of.
    """
    latest: dict[RecordKey, LedgerRecord] = {}
    for record in chain.from_iterable(groups):
        if _is_news(record, latest.get(key := record_key(record))):
            latest[key] = record
    try:
        return Replayed(_put_news(connection, latest.values()))
    except IntegrityError:
        return _replay_singly(connection, groups)


def _replay_singly(connection: Connection, groups: Sequence[Sequence[LedgerRecord]]) -> Replayed:
    applied = 0
    refused: list[str] = []
    for group in groups:
        try:
            applied += _put_news(connection, {record_key(record): record for record in group}.values())
        except IntegrityError as error:
            refused.append(f"{record_key(group[0])}: {error.orig}")
    return Replayed(applied, tuple(refused))


def _put_news(connection: Connection, records: Collection[LedgerRecord]) -> int:
    stored = _stored(connection, records)
    news = [record for record in records if _is_news(record, stored.get(record_key(record)))]
    with connection.begin_nested():
        write_records(connection, news)
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


def _put(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(upsert(connection.dialect.name, table), rows)


def _is_news(record: LedgerRecord, stored: LedgerRecord | None) -> bool:
    if stored is None:
        return True
    return record_time(record) >= record_time(stored) and record != stored


def _stored(connection: Connection, records: Iterable[LedgerRecord]) -> Mapping[RecordKey, LedgerRecord]:
    found: dict[RecordKey, LedgerRecord] = {}
    for part in _slices(records):
        messages = [record.message_id for record in part if isinstance(record, MessageRecord)]
        deliveries = [record.message_id for record in part if isinstance(record, DeliveryRecord)]
        names = [record.name for record in part if isinstance(record, StandingRecord)]
        for record in _select_records(connection, messages, deliveries, names):
            found[record_key(record)] = record
    return found


def _select_records(
    connection: Connection, messages: list[MessageId], deliveries: list[MessageId], names: list[str]
) -> Iterator[LedgerRecord]:
    if messages:
        rows = connection.execute(select(MESSAGE).where(MESSAGE.c.message_id.in_(messages)))
        yield from map(message_of, rows)
    if deliveries:
        rows = connection.execute(select(DELIVERY).where(DELIVERY.c.message_id.in_(deliveries)))
        yield from map(delivery_of, rows)
    if names:
        rows = connection.execute(select(STANDING).where(STANDING.c.name.in_(names)))
        yield from map(standing_of, rows)


def _slices(records: Iterable[LedgerRecord]) -> Iterator[list[LedgerRecord]]:
    iterator = iter(records)
    while part := list(islice(iterator, _SLICE)):
        yield part
