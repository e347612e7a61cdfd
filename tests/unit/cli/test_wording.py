from __future__ import annotations

import time

import pytest

from mailferry.cli.wording import ago, counted, local_time, span


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "0 s"),
        (-5, "0 s"),
        (1, "1 s"),
        (89, "89 s"),
        (90, "2 min"),
        (180, "3 min"),
        (5399, "90 min"),
        (5400, "2 h"),
        (35 * 3600, "35 h"),
        (36 * 3600, "2 days"),
        (400 * 86400, "400 days"),
    ],
)
def test_spans(seconds, words) -> None:
    assert span(seconds) == words


@pytest.mark.parametrize(
    ("then", "words"),
    [(None, "never"), (0.0, "never"), (999.5, "just now"), (1005.0, "just now"), (820.0, "3 min ago")],
)
def test_times_past(then, words) -> None:
    assert ago(then, 1000.0) == words


def test_counts_have_their_plural() -> None:
    assert [counted(n, "message") for n in (0, 1, 2)] == ["0 messages", "1 message", "2 messages"]
    assert counted(2, "copy", "copies") == "2 copies"


def test_local_times_are_local(monkeypatch) -> None:
    monkeypatch.setenv("TZ", "UTC-3")  # POSIX: three hours east
    time.tzset()
    try:
        assert local_time(0.0) == "1970-01-01 03:00:00"
    finally:
        monkeypatch.undo()
        time.tzset()
