"""The log of changes onto a ledger that lacks some of them.

Slice by slice, each a state that the ledger once had. What a later change says
of a UIDL is true against every row, so that nothing can contradict it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import Connection, bindparam, select, update

from mailferry.ledger.changes import Chain, ChangeLog, mend_tail, position, read_chain, set_position
from mailferry.ledger.files import LedgerFiles
from mailferry.ledger.frames import Frame, Stamped, read_change
from mailferry.ledger.rows import RecordKey, record_key, row_of
from mailferry.ledger.schema import MESSAGE
from mailferry.ledger.soundness import open_raw
from mailferry.ledger.writes import put_rows, stored_rows
from mailferry.model import DeliveryRecord, LedgerRecord, MessageId, MessageRecord, MessageState

_SLICE_ROWS: Final = 4000
_NUMBERS: Final = 500

_TAKE_UIDL: Final = (
    update(MESSAGE)
    .where(
        MESSAGE.c.maildrop == bindparam("of_maildrop"),
        MESSAGE.c.uidl == bindparam("of_uidl"),
        MESSAGE.c.message_id != bindparam("by"),
        MESSAGE.c.state != MessageState.GONE.value,
    )
    .values(state=MessageState.GONE.value)
)


def overlay(connection: Connection, chain: Chain, after: int) -> int:
    """Write every row that changed after a number and differs; return how many there were.

    The ledger's position is that of the log afterwards, if that is further on.

    Raises:
        StoreError: another version of the program wrote the log.
    """
    sequence, noted = position(connection)
    differed = 0
    for rows in _slices(chain.between(after, chain.last)):
        differed += _put_what_differs(connection, rows)
        noted = max(noted, *(row.stamp for row in rows.values()))
    set_position(connection, max(chain.last, sequence), noted)
    return differed


def compare(connection: Connection, chain: Chain, up_to: int) -> int:
    """Write every row that differs from what the log says of it up to a number that the ledger has.

    A row that is not there, and whose message has gone, was pruned since.
    """
    differed = 0
    for rows in _slices(chain.between(chain.first, up_to)):
        stored = stored_rows(connection, (row.record for row in rows.values()))
        there = {key: row for key, row in rows.items() if key in stored or not _has_gone(row.record)}
        differed += _put_what_differs(connection, there)
    return differed


def _has_gone(record: LedgerRecord) -> bool:
    return isinstance(record, MessageRecord) and record.state is MessageState.GONE


def _put_what_differs(connection: Connection, rows: dict[RecordKey, Stamped]) -> int:
    stored = stored_rows(connection, (row.record for row in rows.values()))
    news = {key: row for key, row in rows.items() if not _same(row, stored.get(key))}
    _put(connection, news)
    return len(news)


def _same(row: Stamped, stored: Stamped | None) -> bool:
    if stored is None or row.stamp != stored.stamp:
        return False
    # Text of peers is cut and cleaned on its way into the table.
    return row.record == stored.record or row_of(row.record) == row_of(stored.record)


@dataclass(frozen=True, slots=True)
class Joined:
    """How a ledger and its log of changes were found to fit each other.

    Attributes:
        fits: the log goes on, and the copy is good with it; else both are made anew.
        records: rows that the ledger had lost.
        noted: the highest number of a note that a row has.
        missing: what to tell when changes are known to be missing.
    """

    fits: bool
    records: int
    noted: int
    missing: str = ""


def join_log(connection: Connection, log: ChangeLog, files: LedgerFiles, *, unclean: bool) -> Joined:
    """Bring a ledger up with its log, and let the log go on.

    A write-ahead log that was lost or garbled leaves a ledger that is whole and of
    yesterday: no check of SQLite's can find that.

    Raises:
        StoreError, OSError: the log cannot be read.
    """
    logs = files.logs()
    if logs:
        mend_tail(logs[-1])
    chain = read_chain(logs)
    sequence, noted = position(connection)
    complete = chain.complete_from(sequence)
    missing = ""
    records = 0
    if complete or sequence < chain.last:
        # After a crash the place of a row says nothing about the place of its neighbours.
        if complete and (unclean or chain.disordered):
            records = compare(connection, chain, sequence)
        records += overlay(connection, chain, sequence)
        if not complete:
            missing = "is older than the log of changes beside it, which lacks some: what it says of them is not known"
    copied_up_to, log_number = _marks_of_copy(files)
    fits = complete and chain.complete_from(copied_up_to) and files.log(log_number).exists()
    if fits:
        log.go_on()
    return Joined(fits, records, max(noted, position(connection)[1]), missing)


def _marks_of_copy(files: LedgerFiles) -> tuple[int, int]:
    """Return the number of the last change that the copy has, and of the log after it; -1 if unreadable."""
    try:
        with closing(open_raw(files.copies[0], "ro")) as copy:
            (log_number,) = copy.execute("PRAGMA user_version").fetchone()
            row = copy.execute("SELECT sequence FROM ledger_position").fetchone()
    except sqlite3.Error:
        return -1, 0
    return (row[0], log_number) if row and isinstance(row[0], int) else (-1, 0)


def _slices(frames: Iterable[Frame]) -> Iterator[dict[RecordKey, Stamped]]:
    rows: dict[RecordKey, Stamped] = {}
    for frame in frames:
        for row in read_change(frame):
            key = record_key(row.record)
            rows.pop(key, None)  # so that rows stand in the order of their last change
            rows[key] = row
        if len(rows) >= _SLICE_ROWS:
            yield rows
            rows = {}
    if rows:
        yield rows


def _put(connection: Connection, rows: dict[RecordKey, Stamped]) -> None:
    there: dict[tuple[str, bytes], MessageId] = {}
    for record, _ in rows.values():
        if isinstance(record, MessageRecord) and record.state is not MessageState.GONE:
            there[record.maildrop, record.uidl] = record.message_id
    if there:
        connection.execute(
            _TAKE_UIDL, [{"of_maildrop": m, "of_uidl": u, "by": number} for (m, u), number in there.items()]
        )
    known = _existing(connection, rows)
    # A delivery whose message is unknown: that was pruned since.
    fit = (
        row
        for row in rows.values()
        if not isinstance(row.record, DeliveryRecord) or row.record.message_id in known
    )
    put_rows(connection, [_in_its_place(row, there) for row in fit])


def _in_its_place(row: Stamped, there: dict[tuple[str, bytes], MessageId]) -> Stamped:
    record = row.record
    if (
        isinstance(record, MessageRecord)
        and record.state is not MessageState.GONE
        and there[record.maildrop, record.uidl] != record.message_id
    ):
        return Stamped(replace(record, state=MessageState.GONE), row.stamp)
    return row


def _existing(connection: Connection, rows: dict[RecordKey, Stamped]) -> set[MessageId]:
    """Return the messages that deliveries of these rows may belong to."""
    known = {row.record.message_id for row in rows.values() if isinstance(row.record, MessageRecord)}
    wanted = {row.record.message_id for row in rows.values() if isinstance(row.record, DeliveryRecord)}
    missing = list(wanted - known)
    for first in range(0, len(missing), _NUMBERS):
        part = missing[first : first + _NUMBERS]
        known.update(
            connection.scalars(select(MESSAGE.c.message_id).where(MESSAGE.c.message_id.in_(part))).all()
        )
    return known
