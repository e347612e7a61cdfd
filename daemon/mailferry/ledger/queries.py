"""Everything that is asked of the ledger; the daemon and the command line share it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, CursorResult, exists, func, or_, select
from sqlalchemy.sql import Select

from mailferry.ledger.dialect import octets_contain
from mailferry.ledger.rows import delivery_of, message_of, standing_of
from mailferry.ledger.schema import (
    DELIVERY,
    DELIVERY_FIELDS,
    MESSAGE,
    MESSAGE_FIELDS,
    NOT_GONE,
    RECEIVED,
    STANDING_FIELDS,
)
from mailferry.message.received import message_number
from mailferry.model import (
    DeliveryRecord,
    KnownMessage,
    MaildropName,
    MessageId,
    MessageState,
    StandingKind,
    StandingRecord,
    Uidl,
)

HISTORY_LIMIT: Final = 10_000
"""The most that one question returns, whatever it asked for."""

_FETCH_ROWS: Final = 500

Counts = dict[tuple[MaildropName, MessageState], int]
Standings = dict[tuple[StandingKind, str], StandingRecord]

_DELIVERIES: Final = select(*DELIVERY_FIELDS).order_by(DELIVERY.c.message_id, DELIVERY.c.destination)


@dataclass(frozen=True, slots=True)
class HistoryFilter:
    """Which messages to show: all that is given must fit.

    Attributes:
        maildrop: the maildrop's name.
        text: occurs in sender, recipient, subject, UIDL or a receipt; upper and
            lower case are alike (not in a UIDL, whose octets are opaque). Or it is the
            whole number of a message, as its Received field has it.
        state: where the message stands.
        since: changed at or after this time, in seconds since the epoch.
        limit: the most messages to return, newest change first.
    """

    maildrop: str | None = None
    text: str | None = None
    state: MessageState | None = None
    since: float | None = None
    limit: int = 50


def known_messages(connection: Connection, maildrop: MaildropName) -> dict[Uidl, KnownMessage]:
    """Return every message of the maildrop that is not gone, by UIDL."""
    here = (MESSAGE.c.maildrop == maildrop, NOT_GONE)
    numbers = select(MESSAGE.c.message_id).where(*here)
    deliveries = _grouped(connection.execute(_DELIVERIES.where(DELIVERY.c.message_id.in_(numbers))))
    rows = _rows(connection.execute(select(*MESSAGE_FIELDS).where(*here)))
    return {known.message.uidl: known for known in _known(rows, deliveries)}


def received_messages(
    connection: Connection, uidls: Sequence[Uidl], since: float
) -> dict[Uidl, KnownMessage]:
    """Return those of some messages that came by SMTP, by UIDL; gone ones if they changed since then.

    A UIDL that has several rows is told by the one that is not gone, else by the newest.
    """
    wanted = (RECEIVED, MESSAGE.c.uidl.in_(uidls), or_(NOT_GONE, MESSAGE.c.updated_at >= since))
    rows = connection.execute(select(*MESSAGE_FIELDS).where(*wanted)).all()  # no ORDER BY: it misleads SQLite
    known = list(_known(rows, _deliveries_of(connection, [row.message_id for row in rows])))
    known.sort(key=lambda each: (each.message.state is not MessageState.GONE, each.message.updated_at))
    return {each.message.uidl: each for each in known}


def history(connection: Connection, wanted: HistoryFilter) -> list[KnownMessage]:
    """Return messages that fit, the one that changed last first."""
    newest = (MESSAGE.c.updated_at.desc(), MESSAGE.c.message_id.desc())
    statement = select(*MESSAGE_FIELDS).where(*conditions(connection, wanted)).order_by(*newest)
    rows = connection.execute(statement.limit(max(0, min(wanted.limit, HISTORY_LIMIT)))).all()
    return list(_known(rows, _deliveries_of(connection, [row.message_id for row in rows])))


def rejected_messages(
    connection: Connection, maildrop: str | None, uidl: bytes | None, limit: int
) -> list[KnownMessage]:
    """Return messages that were refused for good, of one maildrop or with one UIDL if that is given."""
    wanted = select(*MESSAGE_FIELDS).where(MESSAGE.c.state == MessageState.REJECTED.value)
    if maildrop is not None:
        wanted = wanted.where(MESSAGE.c.maildrop == maildrop)
    if uidl is not None:
        wanted = wanted.where(MESSAGE.c.uidl == uidl)
    rows = connection.execute(wanted.limit(limit)).all()
    return list(_known(rows, _deliveries_of(connection, [row.message_id for row in rows])))


def postponed_messages(
    connection: Connection, maildrop: str | None, uidl: bytes | None, now: float, limit: int
) -> list[KnownMessage]:
    """Return messages on their server that wait for a time, of one maildrop or with one UIDL if that is given."""
    delivery_waits = exists(
        select(DELIVERY.c.message_id).where(
            DELIVERY.c.message_id == MESSAGE.c.message_id, DELIVERY.c.next_attempt_at > now
        )
    )
    wanted = select(*MESSAGE_FIELDS).where(
        MESSAGE.c.state == MessageState.DEFERRED.value,
        or_(MESSAGE.c.next_fetch_at > now, delivery_waits),
    )
    if maildrop is not None:
        wanted = wanted.where(MESSAGE.c.maildrop == maildrop)
    if uidl is not None:
        wanted = wanted.where(MESSAGE.c.uidl == uidl)
    rows = connection.execute(wanted.limit(limit)).all()
    return list(_known(rows, _deliveries_of(connection, [row.message_id for row in rows])))


def messages_by_number(connection: Connection, numbers: list[MessageId]) -> dict[MessageId, KnownMessage]:
    """Return those of some messages that the ledger has; at most 500 can be asked for."""
    rows = connection.execute(select(*MESSAGE_FIELDS).where(MESSAGE.c.message_id.in_(numbers))).all()
    known = _known(rows, _deliveries_of(connection, [row.message_id for row in rows]))
    return {entry.message.message_id: entry for entry in known}


def page_of_messages(connection: Connection, after: int, limit: int) -> list[KnownMessage]:
    """Return up to `limit` messages with numbers above one, lowest first."""
    page = select(*MESSAGE_FIELDS).where(MESSAGE.c.message_id > after).order_by(MESSAGE.c.message_id)
    rows = connection.execute(page.limit(limit)).all()
    return list(_known(rows, _deliveries_of(connection, [row.message_id for row in rows])))


def counts(connection: Connection) -> Counts:
    """Return how many messages of each maildrop stand where."""
    columns = (MESSAGE.c.maildrop, MESSAGE.c.state)
    rows = connection.execute(select(*columns, func.count()).group_by(*columns))
    return {(MaildropName(maildrop), MessageState(state)): number for maildrop, state, number in rows}


def standings(connection: Connection) -> Standings:
    """Return all standings."""
    records = map(standing_of, connection.execute(select(*STANDING_FIELDS)))
    return {(record.kind, record.name): record for record in records}


def with_deliveries(connection: Connection, rows: Sequence[Any]) -> list[KnownMessage]:
    """Return the messages of some rows of `MESSAGE_FIELDS`."""
    return list(_known(rows, _deliveries_of(connection, [row.message_id for row in rows])))


def conditions(connection: Connection, wanted: HistoryFilter) -> Iterator[ColumnElement[bool]]:
    """Yield what a message must fulfil to fit."""
    if wanted.maildrop is not None:
        yield MESSAGE.c.maildrop == wanted.maildrop
    if wanted.state is not None:
        yield MESSAGE.c.state == wanted.state.value
    if wanted.since is not None:
        yield MESSAGE.c.updated_at >= wanted.since
    if wanted.text:
        yield _mentions(connection, wanted.text)


def _mentions(connection: Connection, text: str) -> ColumnElement[bool]:
    in_receipt: Select[Any] = select(DELIVERY.c.message_id).where(
        DELIVERY.c.message_id == MESSAGE.c.message_id, DELIVERY.c.receipt.icontains(text, autoescape=True)
    )
    columns = (MESSAGE.c.sender, MESSAGE.c.recipient, MESSAGE.c.subject)
    number = message_number(text.strip())
    return or_(
        *(() if number is None else (MESSAGE.c.message_id == number,)),
        *(column.icontains(text, autoescape=True) for column in columns),
        # RFC 1939 s.7: 0x21 to 0x7E, so the text's octets are the UIDL's.
        octets_contain(connection, MESSAGE.c.uidl, text.encode("utf-8", "replace")),
        exists(in_receipt),
    )


def _deliveries_of(
    connection: Connection, numbers: list[MessageId]
) -> dict[MessageId, tuple[DeliveryRecord, ...]]:
    grouped: dict[MessageId, tuple[DeliveryRecord, ...]] = {}
    for start in range(0, len(numbers), 500):
        part = numbers[start : start + 500]
        grouped |= _grouped(connection.execute(_DELIVERIES.where(DELIVERY.c.message_id.in_(part))))
    return grouped


def _grouped(result: CursorResult[Any]) -> dict[MessageId, tuple[DeliveryRecord, ...]]:
    grouped: dict[MessageId, tuple[DeliveryRecord, ...]] = {}
    for row in _rows(result):
        record = delivery_of(row)
        grouped[record.message_id] = (*grouped.get(record.message_id, ()), record)
    return grouped


def _known(
    rows: Iterable[Sequence[Any]], deliveries: dict[MessageId, tuple[DeliveryRecord, ...]]
) -> Iterator[KnownMessage]:
    for row in rows:
        message = message_of(row)
        yield KnownMessage(message, deliveries.get(message.message_id, ()))


def _rows(result: CursorResult[Any]) -> Iterator[tuple[Any, ...]]:
    """Fetch in slices: row by row costs twice the time, all at once the memory.

    The driver's tuples, not SQLAlchemy's rows: columns are taken by position, none needs
    a conversion, and a maildrop of 30,000 messages is read in three quarters of the time.
    """
    cursor = result.cursor
    try:
        while cursor is not None and (part := cursor.fetchmany(_FETCH_ROWS)):
            yield from part
    finally:
        result.close()
