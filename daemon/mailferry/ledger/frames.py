"""The octets of the receipt journal and of the log of changes.

A frame is `token (8) | sequence (8) | length (4) | crc32 (4) | payload`, numbers
big-endian; the CRC covers everything but itself. A segment is read from its
start up to the first frame that is not whole or bears another token than the
first: what follows is zeros, a frame torn by a crash, or the remains of an
earlier use. Tokens are random, so text that a peer sent cannot pass for a frame.

A log of changes is read beyond damage, too: its token tells where the next whole
frame begins, and its numbers tell what is missing.

The payload is a JSON list of records, each a list that begins with a letter for
its kind; in a log the row's stamp comes before that. Changed fields get a new
letter: a frame is read by the program that wrote it or refused, never guessed at.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from mailferry.errors import StoreError
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

TOKEN_OCTETS: Final = 8
_HEAD: Final = struct.Struct(">8sQI")
_CRC: Final = struct.Struct(">I")
_OVERHEAD: Final = _HEAD.size + _CRC.size

# check_circular costs a dictionary entry per list, and records have no cycles.
_encode: Final = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class Frame(NamedTuple):
    """One note as it was read back."""

    sequence: int
    payload: bytes

    @property
    def octets(self) -> int:
        """Its length in the file."""
        return _OVERHEAD + len(self.payload)


class Stamped(NamedTuple):
    """A row: a record, and the number of the last note before it was ordered."""

    record: LedgerRecord
    stamp: int


@dataclass(frozen=True, slots=True)
class Note:
    """The records that one call put down together."""

    sequence: int
    records: tuple[LedgerRecord, ...]


def build_frame(token: bytes, sequence: int, records: Sequence[LedgerRecord]) -> bytes:
    """Return the frame for records that belong together."""
    return _build(token, sequence, [_fields(record) for record in records])


def build_change(token: bytes, sequence: int, rows: Iterable[Stamped]) -> bytes:
    """Return the frame for rows that one transaction writes; for none, the beginning of a log."""
    return _build(token, sequence, [(row.stamp, *_fields(row.record)) for row in rows])


def read_frames(segment: bytes) -> list[Frame]:
    """Return the whole frames of a segment's present use, in the order they were written."""
    frames: list[Frame] = []
    token = segment[:TOKEN_OCTETS]
    offset = 0
    while (frame := _frame_at(segment, offset, token)) is not None:
        frames.append(frame)
        offset += _OVERHEAD + len(frame.payload)
    return frames


def read_log(log: bytes) -> tuple[list[Frame], int]:
    """Return all whole frames of a log, and the octets between them that are not to be read.

    What comes after the last whole frame does not count: it was being written
    when the process died, and what it said was never confirmed to anyone.
    """
    frames: list[Frame] = []
    token = log[:TOKEN_OCTETS]
    offset, lost = 0, 0
    if not any(token):  # a lost block: no log begins so, and to look for zeros in zeros would take minutes
        return frames, lost
    while 0 <= offset < len(log) and len(token) == TOKEN_OCTETS:
        frame = _frame_at(log, offset, token)
        if frame is not None:
            frames.append(frame)
            offset += _OVERHEAD + len(frame.payload)
            continue
        found = _next_frame(log, offset + 1, token)
        lost += found - offset if found >= 0 else 0
        offset = found
    return frames, lost


def read_change(frame: Frame) -> list[Stamped]:
    """Return the rows of a log's frame.

    Raises:
        StoreError: another version of the program wrote it.
    """
    try:
        return [Stamped(_READERS[kind](*fields), stamp) for stamp, kind, *fields in json.loads(frame.payload)]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise StoreError(f"a change of another version of mailferry ({type(error).__name__})") from error


def read_note(frame: Frame) -> Note:
    """Return the records of a frame.

    Raises:
        StoreError: another version of the program wrote it.
    """
    try:
        records = tuple(_READERS[kind](*fields) for kind, *fields in json.loads(frame.payload))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise StoreError(f"a note of another version of mailferry ({type(error).__name__})") from error
    return Note(frame.sequence, records)


def _build(token: bytes, sequence: int, fields: list[tuple[object, ...]]) -> bytes:
    payload = _encode(fields).encode("ascii")
    head = _HEAD.pack(token, sequence, len(payload))
    return b"".join((head, _CRC.pack(zlib.crc32(payload, zlib.crc32(head))), payload))


def _next_frame(log: bytes, offset: int, token: bytes) -> int:
    """Return where the next whole frame begins, -1 if there is none."""
    while (offset := log.find(token, offset)) >= 0 and _frame_at(log, offset, token) is None:
        offset += 1
    return offset


def _frame_at(segment: bytes, offset: int, token: bytes) -> Frame | None:
    if offset + _OVERHEAD > len(segment):
        return None
    found, sequence, length = _HEAD.unpack_from(segment, offset)
    start = offset + _OVERHEAD
    if found != token or not length or start + length > len(segment):
        return None
    payload = segment[start : start + length]
    crc = zlib.crc32(payload, zlib.crc32(segment[offset : offset + _HEAD.size]))
    if _CRC.unpack_from(segment, offset + _HEAD.size)[0] != crc:
        return None
    return Frame(sequence, payload)


def _fields(record: LedgerRecord) -> tuple[object, ...]:
    if isinstance(record, MessageRecord):
        return _message_fields(record)
    if isinstance(record, DeliveryRecord):
        return _delivery_fields(record)
    return _standing_fields(record)


def _message_fields(record: MessageRecord) -> tuple[object, ...]:
    return (
        "m",
        record.message_id,
        record.maildrop,
        record.uidl.hex(),
        record.state,
        record.size_octets,
        record.first_seen_at,
        record.updated_at,
        record.header_digest.hex(),
        record.content_digest.hex(),
        record.sender,
        record.recipient,
        record.subject,
        record.reason,
        record.fetch_attempts,
        record.next_fetch_at,
        record.accepted_at,
    )


def _delivery_fields(record: DeliveryRecord) -> tuple[object, ...]:
    return (
        "d",
        record.message_id,
        record.destination,
        record.state,
        record.attempts,
        record.next_attempt_at,
        record.updated_at,
        record.receipt,
        record.error,
        record.accepted_recipients,
        record.refused_recipients,
    )


def _standing_fields(record: StandingRecord) -> tuple[object, ...]:
    return (
        "t",
        record.kind,
        record.name,
        record.last_success_at,
        record.last_error_at,
        record.last_error,
        record.consecutive_failures,
        record.not_before,
        record.login_delay_seconds,
        record.last_attempt_at,
        record.last_reply,
    )


# The fields come out of JSON, where a type checker sees nothing: hence Any.
def _message(message_id: int, maildrop: str, uidl: str, state: str, *rest: Any) -> LedgerRecord:
    size_octets, first_seen_at, updated_at, header_digest, content_digest, *others = rest
    return MessageRecord(
        MessageId(message_id),
        MaildropName(maildrop),
        Uidl(bytes.fromhex(uidl)),
        MessageState(state),
        size_octets,
        first_seen_at,
        updated_at,
        bytes.fromhex(header_digest),
        bytes.fromhex(content_digest),
        *others,
    )


def _delivery(message_id: int, destination: str, state: str, *rest: Any) -> LedgerRecord:
    attempts, next_attempt_at, updated_at, receipt, error, accepted, refused = rest
    return DeliveryRecord(
        MessageId(message_id),
        DestinationName(destination),
        DeliveryState(state),
        attempts,
        next_attempt_at,
        updated_at,
        receipt,
        error,
        tuple(accepted),
        tuple(refused),
    )


def _standing(kind: str, *rest: Any) -> LedgerRecord:
    return StandingRecord(StandingKind(kind), *rest)


def _standing_without_attempts(kind: str, *rest: Any) -> LedgerRecord:
    name, success_at, error_at, error, failures, not_before, login_delay_seconds = rest
    return StandingRecord(
        StandingKind(kind), name, success_at, error_at, error, failures, not_before, login_delay_seconds
    )


_READERS: Final[dict[str, Callable[..., LedgerRecord]]] = {
    "m": _message,
    "d": _delivery,
    "s": _standing_without_attempts,  # until ledger version 0002
    "t": _standing,
}
