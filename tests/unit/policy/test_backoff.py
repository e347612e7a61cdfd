from __future__ import annotations

import pytest

from mailferry.policy.backoff import (
    AUTH_BACKOFF,
    FETCH_BACKOFF,
    MAILDROP_BACKOFF,
    MESSAGE_BACKOFF,
    ROUTE_BACKOFF,
    Backoff,
    is_due,
)

MIDDLE = 0.5
"""The chance that leaves a pause as long as it is."""


@pytest.mark.parametrize(("failures", "seconds"), [(1, 10), (2, 20), (3, 40), (4, 80), (5, 100), (6, 100)])
def test_pauses_double_up_to_the_limit(failures: int, seconds: float) -> None:
    assert Backoff(10, 100).pause_seconds(failures, MIDDLE) == seconds


@pytest.mark.parametrize("failures", [0, -5])
def test_no_failure_counts_as_the_first(failures: int) -> None:
    assert Backoff(10, 100).pause_seconds(failures, MIDDLE) == 10


def test_chance_spreads_the_pause_evenly_around_its_length() -> None:
    backoff = Backoff(100, 1000, jitter=0.25)
    assert backoff.pause_seconds(1, 0.0) == 75
    assert backoff.pause_seconds(1, 0.999999) == pytest.approx(125, abs=0.001)


def test_without_jitter_chance_decides_nothing() -> None:
    assert Backoff(100, 1000, jitter=0).pause_seconds(1, 0.9) == 100


def test_any_number_of_failures_is_a_number_of_seconds() -> None:
    assert Backoff(60, 3600, factor=10).pause_seconds(10**9, MIDDLE) == 3600


@pytest.mark.parametrize(
    "backoff", [MESSAGE_BACKOFF, FETCH_BACKOFF, ROUTE_BACKOFF, MAILDROP_BACKOFF, AUTH_BACKOFF]
)
def test_the_program_s_own_pauses_grow_and_end(backoff: Backoff) -> None:
    pauses = [backoff.pause_seconds(failures, MIDDLE) for failures in range(1, 30)]
    assert pauses == sorted(pauses)
    assert 0 < pauses[0] < pauses[-1] == backoff.limit_seconds <= 6 * 3600


def test_a_refused_password_is_tried_rarely() -> None:
    assert AUTH_BACKOFF.pause_seconds(1, 0.0) >= 7 * 60


@pytest.mark.parametrize("chance", [0.0, 0.5, 1 - 2**-53])
@pytest.mark.parametrize("failures", [1, 5, 100])
@pytest.mark.parametrize(
    "backoff", [AUTH_BACKOFF, FETCH_BACKOFF, MAILDROP_BACKOFF, MESSAGE_BACKOFF, ROUTE_BACKOFF]
)
def test_a_pause_is_over_when_its_time_has_come_and_not_before(
    backoff: Backoff, failures: int, chance: float
) -> None:
    now = 1_700_000_000.0
    at = now + backoff.pause_seconds(failures, chance)
    assert not is_due(at, now, backoff)
    assert not is_due(at, at - 0.001, backoff)
    assert is_due(at, at, backoff)
    assert is_due(at, at + 1, backoff)


def test_a_pause_longer_than_any_is_over_the_clock_was_set_back() -> None:
    backoff = Backoff(10, 100, jitter=0.25)
    assert not is_due(1125.0, 1000.0, backoff)
    assert is_due(1125.1, 1000.0, backoff)
    assert is_due(10**9, 0.0, backoff)
