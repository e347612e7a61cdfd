from __future__ import annotations

import pytest

from mailferry.model import TraceFacts
from mailferry.policy.loops import LoopLimits, find_loop

TWICE = ("alice@example.org",)


@pytest.mark.parametrize(
    ("trace", "words"),
    [
        (TraceFacts(100), "mail loop: 100 Received fields, max_hops is 100"),
        (TraceFacts(2000), "mail loop: 2000 Received fields, max_hops is 100"),
        (TraceFacts(20, 3), "mail loop: came by here 3 times before"),
        (TraceFacts(9, 1, TWICE), "mail loop: came by here before and reached alice@example.org twice"),
        (TraceFacts(100, 3, TWICE), "mail loop: 100 Received fields, max_hops is 100"),
    ],
)
def test_a_loop_is_told_in_words(trace: TraceFacts, words: str) -> None:
    assert find_loop(trace, LoopLimits()) == words


@pytest.mark.parametrize(
    "trace",
    [
        TraceFacts(),
        TraceFacts(99),
        TraceFacts(12, 2),
        TraceFacts(12, 0, TWICE),
        TraceFacts(12, 2, ()),
    ],
)
def test_what_sound_mail_shows_is_no_loop(trace: TraceFacts) -> None:
    assert find_loop(trace, LoopLimits()) is None


def test_the_limits_are_the_maildrop_s() -> None:
    assert find_loop(TraceFacts(5), LoopLimits(max_hops=5)) == "mail loop: 5 Received fields, max_hops is 5"
    assert find_loop(TraceFacts(150), LoopLimits(max_hops=1000)) is None
