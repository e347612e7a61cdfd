"""How many SMTP sessions pay, as a table."""

from __future__ import annotations

import pytest

from mailferry.policy.session_count import ENOUGH_REPLIES, NEAR_SECONDS, Pace, sessions_that_pay


@pytest.mark.parametrize(
    ("waiting", "trip_ms", "opening_ms", "sessions"),
    [
        # 20 ms away, an opening is four round trips: one session for each four that wait.
        (0, 20, 80, 0),
        (3, 20, 80, 0),
        (4, 20, 80, 1),
        (127, 20, 80, 31),
        # With TLS and a login an opening takes longer, and pays later.
        (127, 20, 160, 15),
        # A greeting that is held back for seconds must earn them.
        (100, 20, 3000, 0),
        (1000, 20, 3000, 6),
        # Across the world.
        (10, 250, 1000, 2),
        # Near: whatever waits, and however slow it is.
        (5000, 1, 4, 0),
        (5000, 10, 30, 0),
        # An opening cannot be quicker than its own round trip.
        (10, 20, 0, 10),
    ],
)
def test_sessions_pay_by_what_waits_and_how_far_it_is(
    waiting: int, trip_ms: int, opening_ms: int, sessions: int
) -> None:
    assert sessions_that_pay(Pace(waiting, ENOUGH_REPLIES, trip_ms / 1000, opening_ms / 1000)) == sessions


def test_one_late_reply_is_not_enough() -> None:
    assert sessions_that_pay(Pace(1000, 0, 1.0, 1.0)) == 0
    assert sessions_that_pay(Pace(1000, ENOUGH_REPLIES - 1, 1.0, 1.0)) == 0
    assert sessions_that_pay(Pace(1000, ENOUGH_REPLIES, 1.0, 1.0)) == 1000


def test_the_border_of_what_is_near() -> None:
    assert sessions_that_pay(Pace(100, ENOUGH_REPLIES, NEAR_SECONDS, 0.01)) == 0
    assert sessions_that_pay(Pace(100, ENOUGH_REPLIES, NEAR_SECONDS * 1.01, 0.01)) > 0
