"""Hours go by, and the book keeps the last 24 of them."""

from __future__ import annotations

from dataclasses import dataclass

from mailferry.events import PollFinished, ReceiverMessageReceived
from mailferry.telemetry.daybook import HOUR_SECONDS, HOURS, DayBook


@dataclass
class Clock:
    now: float = 500_000 * HOUR_SECONDS + 100

    def __call__(self) -> float:
        return self.now


def poll(result: str = "ok", relayed: int = 0, rejected: int = 0, maildrop: str = "alice") -> PollFinished:
    return PollFinished(maildrop, "p1", result, 1.0, relayed=relayed, rejected=rejected)


def test_messages_and_failures_stand_in_their_hour() -> None:
    clock = Clock()
    book = DayBook(clock)
    book(poll(relayed=3))
    clock.now += HOUR_SECONDS
    book(poll("connect_failed"))
    book(poll(relayed=1, rejected=2))
    book(poll("stopped"))
    row = book.day("alice")
    assert row.relayed[-2:] == (3, 1)
    assert row.failures[-2:] == (0, 3)
    assert len(row.relayed) == len(row.failures) == HOURS
    assert book.day("bob").relayed == (0,) * HOURS


def test_a_day_later_nothing_is_left_and_all_are_counted_together() -> None:
    clock = Clock()
    book = DayBook(clock)
    book(poll(relayed=3))
    book(poll(relayed=4, maildrop="bob"))
    book(ReceiverMessageReceived("s", "c", 1, 1, "accepted", "250", 0.1))
    assert book.day().relayed[-1] == 8
    clock.now += 23 * HOUR_SECONDS
    assert book.day().relayed[0] == 8
    clock.now += HOUR_SECONDS
    assert sum(book.day().relayed) == 0
    book(poll(relayed=1))
    assert book.day("alice").relayed[-1] == 1


def test_a_clock_that_is_set_does_no_harm() -> None:
    clock = Clock()
    book = DayBook(clock)
    book(poll(relayed=3))
    for jump in (1e9, -2e9, -7200.0):
        clock.now += jump
        book(poll(relayed=1))
        assert book.day("alice").relayed[-1] == 1


def test_what_the_ledger_knows_of_earlier_hours_is_added() -> None:
    clock = Clock()
    book = DayBook(clock)
    hour = int(clock.now // HOUR_SECONDS)
    book.add_earlier([("alice", hour - 2, 5), ("alice", hour - 30, 7), ("bob", hour, 1)])
    assert book.day("alice").relayed[-3:] == (5, 0, 0)
    assert sum(book.day("alice").relayed) == 5
    assert sum(book.day().relayed) == 6


def test_removed_maildrops_are_forgotten() -> None:
    book = DayBook(Clock())
    book(poll(relayed=3))
    book(poll(relayed=3, maildrop="bob"))
    book.keep_only(["bob"])
    assert sum(book.day("alice").relayed) == 0
    assert sum(book.day("bob").relayed) == 3
