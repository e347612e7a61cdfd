"""When a segment may be used again, and what a replay then finds."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailferry.errors import StoreError
from mailferry.ledger import journal as journal_module
from mailferry.ledger.frames import build_frame
from mailferry.ledger.journal import ReceiptJournal
from mailferry.ledger.rows import record_key
from mailferry.model import LedgerRecord, MessageState
from support.ledger_contract import delivery, message, standing

SMALL = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.journal"


@pytest.fixture
def journal(path: Path) -> Iterator[ReceiptJournal]:
    opened = ReceiptJournal(path, SMALL)
    assert opened.open() == []
    yield opened
    opened.close()


def found(path: Path) -> list[tuple[LedgerRecord, ...]]:
    """What a replay would find if the process died now."""
    other = ReceiptJournal(path, SMALL)
    notes = other.open()
    other.close()
    return [note.records for note in notes]


def settle(journal: ReceiptJournal, *records: LedgerRecord) -> None:
    for record in records:
        journal.release(record_key(record), journal.sequence)


def segments(path: Path) -> list[Path]:
    return sorted(path.parent.glob("ledger.journal.*"))


def fill(journal: ReceiptJournal, octets: int) -> list[LedgerRecord]:
    """Note deliveries until about so many octets are used."""
    size = len(build_frame(b"8 octets", 1, [delivery(1)]))
    deliveries: list[LedgerRecord] = [delivery(number) for number in range(1, octets // size + 2)]
    for record in deliveries:
        journal.note([record])
    return deliveries


def test_space_is_allocated_before_anything_is_noted(journal: ReceiptJournal, path: Path) -> None:
    assert [segment.stat().st_size for segment in segments(path)] == [SMALL, SMALL]
    assert all(segment.stat().st_blocks * 512 >= SMALL for segment in segments(path))
    assert [segment.stat().st_mode & 0o777 for segment in segments(path)] == [0o600, 0o600]


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL])
def test_zeros_are_written_where_allocation_is_not_supported(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(fd: int, offset: int, length: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    journal = ReceiptJournal(path, SMALL)
    journal.open()
    journal.note([message(1)])
    journal.close()
    assert found(path) == [(message(1),)]  # a second allocation keeps what is there
    assert all(segment.stat().st_blocks * 512 >= SMALL for segment in segments(path))


def test_no_space_for_the_segments_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(StoreError, match=r"ledger\.journal.*No space left.*free space"):
        ReceiptJournal(path).open()


def test_a_note_is_found_until_it_is_overwritten(journal: ReceiptJournal, path: Path) -> None:
    journal.note([message(1), delivery(1)])
    assert found(path) == [(message(1), delivery(1))]
    settle(journal, message(1), delivery(1))
    assert found(path) == [(message(1), delivery(1))]
    journal.note([message(2)])
    assert found(path) == [(message(2),)]


def test_a_note_is_outstanding_until_all_its_rows_are_settled(journal: ReceiptJournal, path: Path) -> None:
    journal.note([message(1), delivery(1)])
    settle(journal, message(1))
    journal.note([message(2)])
    assert found(path) == [(message(1), delivery(1)), (message(2),)]


def test_an_order_that_was_queued_before_the_note_settles_nothing(
    journal: ReceiptJournal, path: Path
) -> None:
    stamp = journal.sequence
    journal.note([message(1)])
    journal.release(record_key(message(1)), stamp)
    assert journal.holds(record_key(message(1)), journal.sequence)
    journal.note([message(2)])
    assert found(path) == [(message(1),), (message(2),)]


def test_a_row_that_is_noted_again_waits_for_the_later_order(journal: ReceiptJournal, path: Path) -> None:
    journal.note([message(1)])
    stamp = journal.sequence
    newer = message(1, state=MessageState.DELETE_PENDING)
    journal.note([newer])
    journal.release(record_key(newer), stamp)
    journal.note([message(2)])
    assert found(path) == [(message(1),), (newer,), (message(2),)]
    settle(journal, newer, message(2))
    journal.note([message(3)])
    assert found(path) == [(message(3),)]


def test_the_other_segment_takes_over_when_one_is_half_full(journal: ReceiptJournal, path: Path) -> None:
    deliveries = fill(journal, SMALL // 2)
    journal.note([message(77)])  # this one goes to the other segment
    settle(journal, *deliveries)
    assert found(path) == [*((record,) for record in deliveries), (message(77),)]
    more = fill(journal, SMALL // 2)  # and these come back to the first, over the old frames
    journal.note([message(78)])
    assert found(path)[0] == (message(77),)
    assert set(found(path)) >= {(record,) for record in more[-3:]} | {(message(78),)}
    assert [segment.stat().st_size for segment in segments(path)] == [SMALL, SMALL]


def test_nothing_outstanding_is_ever_overwritten(journal: ReceiptJournal, path: Path) -> None:
    waiting: dict[int, LedgerRecord] = {}
    for number in range(1, 400):
        journal.note([delivery(number)])
        waiting[number] = delivery(number)
        if number % 5 == 0:  # every fifth stays, for ever
            waiting.pop(number - 4)
            settle(journal, delivery(number - 4))
        if number > 20 and number % 3 == 0 and (done := waiting.pop(number - 20, None)):
            settle(journal, done)
    assert {record for group in found(path) for record in group} >= set(waiting.values())


def test_a_segment_grows_when_nothing_is_free_and_shrinks_again(journal: ReceiptJournal, path: Path) -> None:
    deliveries = fill(journal, 4 * SMALL)
    assert max(segment.stat().st_size for segment in segments(path)) > SMALL
    assert found(path) == [(record,) for record in deliveries]
    settle(journal, *deliveries)
    journal.note([message(1)])
    journal.clear()
    settle(journal, message(1))
    journal.clear()
    assert [segment.stat().st_size for segment in segments(path)] == [SMALL, SMALL]
    assert found(path) == []


def test_a_segment_that_cannot_grow_refuses_the_note_and_loses_none(
    journal: ReceiptJournal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliveries = fill(journal, SMALL - 500)
    monkeypatch.setattr(os, "pwrite", limited_pwrite(SMALL))
    while journal._segments[journal._active].offset + 400 < SMALL:
        deliveries.append(message(len(deliveries) + 100))
        journal.note(deliveries[-1:])
    with pytest.raises(StoreError, match="No space left"):
        journal.note([message(999), delivery(999)])
    assert found(path) == [(record,) for record in deliveries]
    assert not journal.holds(record_key(message(999)), 10**9)
    settle(journal, *deliveries)
    journal.note([message(1)])  # there is room again, in the old frames' place
    assert (message(1),) in found(path)


def limited_pwrite(limit: int) -> Callable[[int, bytes, int], int]:
    """A disk that is full at `limit`: part of the octets, then ENOSPC."""
    write = os.pwrite

    def pwrite(fd: int, octets: bytes, offset: int) -> int:
        if offset >= limit:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, octets[: limit - offset], offset)

    return pwrite


def test_a_frame_torn_by_a_failure_does_not_hide_the_next(
    journal: ReceiptJournal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.note([message(1)])
    used = len(build_frame(b"8 octets", 1, [message(1)]))
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", limited_pwrite(used + 300))
        with pytest.raises(StoreError):
            journal.note([message(2), delivery(2), delivery(2, "vault")])
    assert found(path) == [(message(1),)]
    journal.note([standing()])
    assert found(path) == [(message(1),), (standing(),)]


def test_numbers_rise_across_restarts(path: Path) -> None:
    first = ReceiptJournal(path, SMALL)
    first.open()
    fill(first, SMALL // 2)
    first.note([message(1)])
    first.close()
    second = ReceiptJournal(path, SMALL)
    notes = second.open()
    second.note([message(1, state=MessageState.GONE)])
    assert second.sequence == notes[-1].sequence + 1 == first.sequence + 1
    second.close()


def test_clear_wipes_only_what_is_settled(journal: ReceiptJournal, path: Path) -> None:
    deliveries = fill(journal, SMALL // 2)
    journal.note([message(1)])
    settle(journal, *deliveries)
    journal.clear()
    assert found(path) == [(message(1),)]
    settle(journal, message(1))
    journal.clear()
    assert found(path) == []


def test_a_note_of_another_version_says_what_to_do(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = ReceiptJournal(path, SMALL)
    journal.open()
    with monkeypatch.context() as patch:
        patch.setattr(journal_module, "build_frame", lambda token, number, records: odd_frame(token, number))
        journal.note([message(1)])
    journal.close()
    with pytest.raises(StoreError, match=r"ledger\.journal: .*another version.*start the version"):
        ReceiptJournal(path, SMALL).open()


def odd_frame(token: bytes, number: int) -> bytes:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mailferry.ledger.frames._fields", lambda record: ("future", 1))
        return build_frame(token, number, [message(1)])


def test_a_journal_that_is_not_open_says_so(path: Path) -> None:
    with pytest.raises(StoreError, match="not open"):
        ReceiptJournal(path).note([message(1)])
    with pytest.raises(StoreError, match="create its directory"):
        ReceiptJournal(path.parent / "missing" / "journal").open()
