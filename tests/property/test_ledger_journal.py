"""The journal, whatever is noted and settled: nothing outstanding is lost, nothing foreign is read."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from mailferry.ledger.frames import build_frame, read_frames, read_note
from mailferry.ledger.journal import ReceiptJournal
from mailferry.ledger.rows import RecordKey, record_key
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

TEXT = st.text(st.characters(codec=None), max_size=40)  # lone surrogates included
TIME = st.floats(allow_nan=False)
MESSAGES = st.builds(
    MessageRecord,
    st.integers(0, 2**63 - 1).map(MessageId),
    TEXT.map(MaildropName),
    st.binary(max_size=70).map(Uidl),
    st.sampled_from(MessageState),
    st.integers(0, 2**63 - 1),
    TIME,
    TIME,
    st.binary(max_size=32),
    st.binary(max_size=32),
    *[TEXT] * 4,
    st.integers(0, 99),
    TIME,
    st.none() | TIME,
)
RECIPIENTS = st.lists(TEXT, max_size=3).map(tuple)
DELIVERIES = st.builds(
    DeliveryRecord,
    st.integers(0, 2**63 - 1).map(MessageId),
    TEXT.map(DestinationName),
    st.sampled_from(DeliveryState),
    st.integers(0, 99),
    TIME,
    TIME,
    TEXT,
    TEXT,
    RECIPIENTS,
    RECIPIENTS,
)
STANDINGS = st.builds(
    StandingRecord,
    st.sampled_from(StandingKind),
    TEXT,
    st.none() | TIME,
    st.none() | TIME,
    TEXT,
    st.integers(0, 99),
    TIME,
    TIME,
)
RECORDS = st.lists(MESSAGES | DELIVERIES | STANDINGS, min_size=1, max_size=3)


@given(
    groups=st.lists(RECORDS, max_size=4), token=st.binary(min_size=8, max_size=8), rest=st.binary(max_size=99)
)
def test_what_was_written_is_read(groups: list[list[LedgerRecord]], token: bytes, rest: bytes) -> None:
    segment = b"".join(build_frame(token, number, group) for number, group in enumerate(groups))
    frames = read_frames(segment + rest)
    assert [list(read_note(frame).records) for frame in frames[: len(groups)]] == groups
    assert len(frames) == len(groups)


@given(octets=st.binary(max_size=2000))
def test_any_octets_are_read_without_an_error(octets: bytes) -> None:
    assert read_frames(octets) == []


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["note", "settle", "old", "clear"]), st.integers(0, 9)), max_size=60
    )
)
def test_outstanding_notes_are_always_found(steps: list[tuple[str, int]]) -> None:
    """A segment holds about five notes here, so that switching, growth and reuse all happen."""
    with tempfile.TemporaryDirectory() as base:
        path = Path(base) / "journal"
        journal = ReceiptJournal(path, 512)
        journal.open()
        waiting: dict[RecordKey, LedgerRecord] = {}
        for time, (what, number) in enumerate(steps):
            record = StandingRecord(StandingKind.ETRN, str(number), float(time))
            key = record_key(record)
            if what == "note":
                journal.note([record])
                waiting[key] = record
            elif what == "settle":
                journal.release(key, journal.sequence)
                waiting.pop(key, None)
            elif what == "old":
                journal.release(key, 0)  # an order from before any note
            else:
                journal.clear()
            assert found(path).items() >= waiting.items()
        journal.close()


def found(path: Path) -> dict[RecordKey, LedgerRecord]:
    replay = ReceiptJournal(path, 512)
    notes = replay.open()
    replay.close()
    return {record_key(record): record for note in notes for record in note.records}
