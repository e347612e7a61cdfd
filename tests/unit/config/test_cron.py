from __future__ import annotations

import pytest

from mailferry.config.cron import parse_cron


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("*/5 * * * *", "*/5 * * * *"),
        ("0,30 8-18/2 * JAN-mar *", "0,30 8-18/2 * jan-mar *"),
        ("  0   0 1 * * ", "0 0 1 * *"),
        ("0 0 29 2 *", "0 0 29 2 *"),
        ("0 0 31 1,2 *", "0 0 31 1,2 *"),
        ("0 0 13 * fri", "0 0 13 * fri"),
    ],
)
def test_a_schedule_is_kept(written: str, canonical: str) -> None:
    assert parse_cron(written) == canonical


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("", "five fields"),
        ("@hourly", "five fields"),
        ("* * * * * *", "five fields"),
        (5, "five fields"),
        ("60 * * * *", "minute must be from 0 to 59"),
        ("* 24 * * *", "hour must be from 0 to 23"),
        ("* * 0 * *", "day of the month must be from 1 to 31"),
        ("* * * foo *", "month must be from 1 to 12 or jan to dec"),
        ("* * * * 8", "day of the week must be from 0 to 7 or sun to sat"),
        ("5-1 * * * *", "run upward"),
        ("* * * * fri-mon", "run upward"),
        ("*/0 * * * *", "at least 1"),
        ("5/10 * * * *", "follow"),
        ("1,,2 * * * *", "lists of them"),
        ("1- * * * *", "lists of them"),
        ("L * * * *", "must be from"),
        ("0 0 30 2 *", "never come due"),
        ("0 0 31 apr,jun *", "never come due"),
    ],
)
def test_what_is_no_schedule(written: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_cron(written)
