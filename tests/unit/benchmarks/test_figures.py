"""What became of mail, and figures from runs."""

from __future__ import annotations

import pytest

from benchmarks.figures import Fate, Spread, fate_of, ratio, spread_of
from benchmarks.mail import MailMaker, parse_record, wire_octets

EXPECTED = {1: "aa 10", 2: "bb 20", 3: "cc 30"}


def test_mail_that_came_once_and_whole_is_clean() -> None:
    fate = fate_of(EXPECTED, [(2, "bb 20"), (1, "aa 10"), (3, "cc 30")])

    assert fate.clean


@pytest.mark.parametrize(
    ("arrived", "fate"),
    [
        ([(1, "aa 10")], Fate(lost=2)),
        ([(1, "aa 10"), (1, "aa 10"), (1, "aa 10"), (2, "bb 20"), (3, "cc 30")], Fate(doubled=2)),
        ([(1, "aa 10"), (2, "bb 21"), (3, "cc 30")], Fate(altered=1)),
        ([(1, "aa 10"), (2, "bb 20"), (3, "cc 30"), (-1, "dd 1"), (4, "ee 1")], Fate(strange=2)),
        ([(1, "aa 10"), (1, "zz 10"), (2, "bb 20")], Fate(lost=1, doubled=1, altered=1)),
        ([], Fate(lost=3)),
    ],
)
def test_every_harm_is_counted(arrived: list[tuple[int, str]], fate: Fate) -> None:
    assert fate_of(EXPECTED, arrived) == fate
    assert not fate.clean


def test_nothing_expected_and_nothing_come_is_clean() -> None:
    assert fate_of({}, []).clean


def test_the_middle_is_the_median_and_not_the_mean() -> None:
    assert spread_of([100.0, 1.0, 3.0]) == Spread(3.0, 1.0, 100.0)
    assert spread_of([1.0, 2.0]).middle == 1.5
    assert spread_of([5.0]) == Spread(5.0, 5.0, 5.0)
    with pytest.raises(ValueError, match="no figures"):
        spread_of([])


def test_a_ratio_says_how_many_times_better_ours_is() -> None:
    assert ratio(800, 100) == 8
    assert ratio(0.2, 0.4, less_is_better=True) == 2
    assert ratio(0.4, 0.2, less_is_better=True) == 0.5
    assert ratio(0, 100) == 0
    assert ratio(100, 0) == 0


def test_messages_have_their_size_and_a_number_and_are_the_same_each_time() -> None:
    first, again, other = (
        MailMaker().message(7, 4096),
        MailMaker().message(7, 4096),
        MailMaker().message(8, 4096),
    )

    assert first == again
    assert first != other
    assert b"\nX-Bench-Id: 7\n" in first
    assert b"\n.stuffed" in first
    assert 4096 - 160 < wire_octets(first) < 4096 + 160


def test_a_large_message_is_longer_than_the_pool_that_it_is_made_from() -> None:
    content = MailMaker().message(4095, 1_000_000)

    assert 999_800 < wire_octets(content) < 1_000_200
    assert max(len(line) for line in content.splitlines()) <= 78


def test_a_record_of_the_sink_keeps_digest_and_size_together() -> None:
    assert parse_record("12 00ff00ff 4096") == (12, "00ff00ff 4096")
    assert parse_record("-1 00 9") == (-1, "00 9")
