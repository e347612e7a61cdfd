"""The octets of the journal: what is read is what was written, or nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mailferry.errors import StoreError
from mailferry.ledger.frames import Frame, build_frame, read_change, read_frames, read_log, read_note
from mailferry.model import LedgerRecord, StandingKind, StandingRecord
from support.ledger_contract import delivery, message, standing

TOKEN = b"\x01\xfetoken\x00"
GROUPS: list[list[LedgerRecord]] = [[message(1, b"\xff \x00"), delivery(1)], [delivery(2)], [standing()]]
FRAMES = [build_frame(TOKEN, number, group) for number, group in enumerate(GROUPS, 1)]
SEGMENT = b"".join(FRAMES)


def records(segment: bytes) -> list[list[LedgerRecord]]:
    return [list(read_note(frame).records) for frame in read_frames(segment)]


def test_every_kind_of_record_comes_back_equal() -> None:
    assert records(SEGMENT + bytes(5000)) == GROUPS


def test_numbers_that_json_does_not_know_come_back() -> None:
    never = StandingRecord(StandingKind.ETRN, "node", not_before=float("inf"))
    assert records(build_frame(TOKEN, 1, [never])) == [[never]]


def test_text_with_lone_surrogates_comes_back() -> None:
    odd = StandingRecord(StandingKind.ETRN, "node", last_error="\ud800\0\N{SNOWMAN}")
    assert records(build_frame(TOKEN, 1, [odd])) == [[odd]]


def test_a_segment_cut_at_any_octet_gives_the_whole_frames_before_the_cut() -> None:
    ends = [len(b"".join(FRAMES[:number])) for number in range(len(FRAMES) + 1)]
    for cut in range(len(SEGMENT)):
        whole = sum(end <= cut for end in ends) - 1
        assert records(SEGMENT[:cut]) == GROUPS[:whole]
        assert records(SEGMENT[:cut] + bytes(300)) == GROUPS[:whole]


def test_one_flipped_bit_anywhere_ends_the_reading_before_its_frame() -> None:
    for position in range(len(SEGMENT)):
        damaged = bytearray(SEGMENT)
        damaged[position] ^= 1 << position % 8
        whole, end = 0, 0
        while (end := end + len(FRAMES[whole])) <= position:
            whole += 1
        assert read_frames(bytes(damaged)) == read_frames(SEGMENT)[:whole]


def test_frames_of_an_earlier_use_do_not_count() -> None:
    earlier = b"".join(build_frame(b"earlier!", number, GROUPS[1]) for number in range(1, 9))
    one = build_frame(TOKEN, 50, GROUPS[1])
    # Overwritten in place, at a frame's end and in the middle of one.
    assert [frame.sequence for frame in read_frames(one + earlier[len(one) :])] == [50]
    assert [frame.sequence for frame in read_frames(FRAMES[0] + earlier[len(FRAMES[0]) :])] == [1]


@pytest.mark.parametrize("segment", [b"", bytes(19), bytes(20), bytes(4096), b"\xff" * 4096, b"ledger" * 999])
def test_other_octets_are_no_frames(segment: bytes) -> None:
    assert read_frames(segment) == []


@pytest.mark.parametrize(
    "payload", [b'[["x",1]]', b'[["m",1]]', b"{}x", b'[["d"]]', b"[3]", b'[["s","?","n"]]']
)
def test_a_note_of_another_version_is_refused(payload: bytes) -> None:
    with pytest.raises(StoreError, match="another version"):
        read_note(Frame(1, payload))


@pytest.mark.parametrize("read", [read_note, read_change])
def test_brackets_without_end_are_refused_as_well(read: Callable[[Frame], object]) -> None:
    with pytest.raises(StoreError, match="another version"):
        read(Frame(1, b"[" * 100_000))


def test_a_log_that_is_nothing_but_zeros_is_given_up_at_once() -> None:
    assert read_log(bytes(32 << 20)) == ([], 0)
