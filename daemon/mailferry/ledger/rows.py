"""Records to rows and back.

Text that a peer sent is made storable here, once for every engine: lone
surrogates and NUL, which one or the other database refuses, become U+FFFD, and
its length has a bound. Names, unique-ids and recipients are never changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

from mailferry.model import (
    DeliveryRecord,
    DeliveryState,
    DestinationName,
    LedgerRecord,
    MaildropName,
    MessageId,
    MessageRecord,
    MessageState,
    StandingKind,
    StandingRecord,
    Uidl,
)

RecordKey = int | tuple[int, str] | tuple[StandingKind, str]
"""A row's primary key; the three tables' keys can never be equal to each other."""

TEXT_LIMIT: Final = 4096
"""Characters of a subject, reason, receipt or error that are kept."""

_MESSAGE_STATES: Final = {state.value: state for state in MessageState}
_DELIVERY_STATES: Final = {state.value: state for state in DeliveryState}


def record_key(record: LedgerRecord) -> RecordKey:
    """Return the primary key of the row that the record is."""
    if isinstance(record, MessageRecord):
        return record.message_id
    if isinstance(record, DeliveryRecord):
        return (record.message_id, record.destination)
    return (record.kind, record.name)


def record_time(record: LedgerRecord) -> float:
    """Return when the record's facts came about; of two versions the later one is the newer."""
    if isinstance(record, StandingRecord):
        times = (record.last_success_at, record.last_error_at, record.last_attempt_at)
        return max(time or 0.0 for time in times)
    return record.updated_at


def storable(text: str) -> str:
    """Return text that every engine can store, at most `TEXT_LIMIT` characters of it."""
    if text.isascii() and "\0" not in text:
        return text if len(text) <= TEXT_LIMIT else text[:TEXT_LIMIT]
    cleaned = text[:TEXT_LIMIT].replace("\0", "\ufffd")
    # Encoding errors give "?"; surrogates are U+FFFD everywhere else in the program.
    return cleaned.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


Row = tuple[Any, ...]
"""The values of a record's columns, in their order."""


def message_row(record: MessageRecord) -> Row:
    """Return the row of a message."""
    return (
        record.message_id,
        record.maildrop,
        record.uidl,
        record.state.value,
        record.size_octets,
        record.first_seen_at,
        record.updated_at,
        record.header_digest,
        record.content_digest,
        storable(record.sender),
        storable(record.recipient),
        storable(record.subject),
        storable(record.reason),
        record.fetch_attempts,
        record.next_fetch_at,
        record.accepted_at,
    )


def delivery_row(record: DeliveryRecord) -> Row:
    """Return the row of a delivery; recipients become JSON text."""
    return (
        record.message_id,
        record.destination,
        record.state.value,
        record.attempts,
        record.next_attempt_at,
        record.updated_at,
        storable(record.receipt),
        storable(record.error),
        _recipients_text(record.accepted_recipients),
        _recipients_text(record.refused_recipients),
    )


def standing_row(record: StandingRecord) -> Row:
    """Return the row of a standing."""
    return (
        record.kind.value,
        record.name,
        record.last_success_at,
        record.last_error_at,
        storable(record.last_error),
        record.consecutive_failures,
        record.not_before,
        record.login_delay_seconds,
        record.last_attempt_at,
        storable(record.last_reply),
    )


def row_of(record: LedgerRecord) -> Row:
    """Return the row of a record, whatever it is of."""
    if isinstance(record, MessageRecord):
        return message_row(record)
    return delivery_row(record) if isinstance(record, DeliveryRecord) else standing_row(record)


def message_of(row: Iterable[Any]) -> MessageRecord:
    """Return the record of a row that has all columns of `MESSAGE`, in order."""
    message_id, maildrop, uidl, state, *rest = row
    return MessageRecord(
        MessageId(message_id), MaildropName(maildrop), Uidl(uidl), _MESSAGE_STATES[state], *rest
    )


def delivery_of(row: Iterable[Any]) -> DeliveryRecord:
    """Return the record of a row that has all columns of `DELIVERY`, in order."""
    (
        message_id,
        destination,
        state,
        attempts,
        next_attempt_at,
        updated_at,
        receipt,
        error,
        accepted,
        refused,
    ) = row
    return DeliveryRecord(
        MessageId(message_id),
        DestinationName(destination),
        _DELIVERY_STATES[state],
        attempts,
        next_attempt_at,
        updated_at,
        receipt,
        error,
        _recipients_of(accepted),
        _recipients_of(refused),
    )


def standing_of(row: Iterable[Any]) -> StandingRecord:
    """Return the record of a row that has all columns of `STANDING`, in order."""
    kind, *rest = row
    return StandingRecord(StandingKind(kind), *rest)


# A destination's recipients are the same in thousands of rows: written and parsed once.
@lru_cache(maxsize=1024)
def _recipients_text(recipients: tuple[str, ...]) -> str:
    return json.dumps(recipients)


@lru_cache(maxsize=1024)
def _recipients_of(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))
