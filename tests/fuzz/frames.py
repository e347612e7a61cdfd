"""The receipt journal after a crash: whatever a segment holds, what was written whole is read, and nothing else."""

from __future__ import annotations

import struct
import zlib

from fuzz.harness import SEPARATOR, Harness, dice_for
from mailferry.errors import StoreError
from mailferry.ledger.frames import Frame, build_frame, read_change, read_frames, read_log, read_note
from mailferry.model import DeliveryRecord, MessageRecord, StandingRecord

_TOKEN = b"\x01token\x02\x03"
_KINDS = (MessageRecord, DeliveryRecord, StandingRecord)


def check(data: bytes) -> None:
    for frame in (*read_frames(data), *read_log(data)[0]):
        _check_note(frame)
    payloads = data.split(SEPARATOR)[:8]
    written = [_frame(number, payload) for number, payload in enumerate(payloads) if payload]
    segment = b"".join(written)
    frames = read_frames(segment + bytes(40))
    assert [frame.payload for frame in frames] == [payload for payload in payloads if payload]
    for frame in frames:
        _check_note(frame)
        _check_change(frame)
    _check_torn(data, written, segment)
    _check_log(data, written)


def _frame(sequence: int, payload: bytes) -> bytes:
    head = struct.pack(">8sQI", _TOKEN, sequence, len(payload))
    return head + struct.pack(">I", zlib.crc32(payload, zlib.crc32(head))) + payload


def _check_note(frame: Frame) -> None:
    """A payload is refused, or understood and written again as it was meant."""
    try:
        note = read_note(frame)
    except StoreError as error:
        assert len(str(error)) < 200
        return
    assert note.sequence == frame.sequence
    assert all(isinstance(record, _KINDS) for record in note.records)
    if note.records:
        again = read_frames(build_frame(_TOKEN, note.sequence, note.records))
        assert [read_note(found) for found in again] == [note] or "NaN" in str(frame.payload)


def _check_change(frame: Frame) -> None:
    try:
        rows = read_change(frame)
    except StoreError as error:
        assert len(str(error)) < 200
        return
    assert all(isinstance(row.record, _KINDS) for row in rows)


def _check_log(data: bytes, written: list[bytes]) -> None:
    """Damage in the middle of a log costs the frame that it hit; the others are read all the same."""
    log = b"".join(written)
    frames, lost = read_log(log + bytes(40))
    assert [_frame(frame.sequence, frame.payload) for frame in frames] == written
    assert lost == 0
    if len(log) <= len(_TOKEN):
        return
    dice = dice_for(data)
    at = dice.randrange(len(_TOKEN), len(log))
    frames, lost = read_log(log[:at] + bytes([log[at] ^ 1 << dice.randrange(8)]) + log[at + 1 :])
    hit = next(number for number in range(len(written)) if at < len(b"".join(written[: number + 1])))
    others = written[:hit] + written[hit + 1 :]
    assert [_frame(frame.sequence, frame.payload) for frame in frames] == others
    assert lost == (len(written[hit]) if hit < len(written) - 1 else 0)


def _check_torn(data: bytes, written: list[bytes], segment: bytes) -> None:
    """A tear or a flipped bit costs the frame that it hit and what follows, no more and no less."""
    if not segment:
        return
    dice = dice_for(data)
    at = dice.randrange(len(segment))
    flipped = segment[:at] + bytes([segment[at] ^ 1 << dice.randrange(8)]) + segment[at + 1 :]
    for broken in (segment[:at], segment[:at] + bytes(len(segment) - at), flipped):
        untouched = [frames for frames in _beginnings(written) if broken.startswith(b"".join(frames))]
        found = read_frames(broken)
        assert [_frame(frame.sequence, frame.payload) for frame in found] == untouched[-1]


def _beginnings(written: list[bytes]) -> list[list[bytes]]:
    """Return the first none, the first one, the first two, and so on."""
    return [written[:count] for count in range(len(written) + 1)]


_HARNESS = Harness(
    name="frames",
    check=check,
    tokens=(
        b'["m",1,"a","00","deferred",1,1.0,2.0,"","","","","","",0,0.0,null]', b'["d",1,"x","accepted",1,0.0,1.0,"250","",["a"],[]]',
        b'["s","maildrop","a",null,null,"",0,0.0,0.0]', b"[", b"]", b"{", b"}", b'"', b",", b":", b"null", b"NaN", b"1e999", b"-1", b'"accepted"',
        b'"gone"', b'"destination"', b'"\\ud800"', b"\x01token\x02\x03\0\0\0\0\0\0\0\0", b"\0", b"\xff", SEPARATOR,
    ),
    max_octets=1500,
    modules=("ledger/frames.py",),
)  # fmt: skip

HARNESSES = (_HARNESS,)
