"""A trouble that goes on is told once in full, then counted."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest

from mailferry import events
from mailferry.events import Event, EventRepeated
from mailferry.telemetry.events import EventLog
from mailferry.telemetry.logging import configure_logging
from mailferry.telemetry.reference import event_classes
from mailferry.telemetry.repetition import (
    MAX_RECORDS,
    MAX_TROUBLES,
    PERIOD_SECONDS,
    RepeatedRecords,
    Repetition,
    without_numbers,
)

WALL = 1_800_000_000.0


class Bench:
    """Sifts events while the test moves the clocks."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.repetition = Repetition(lambda: WALL + self.passed, lambda: self.passed)

    def tell(self, event: Event) -> list[Event]:
        return list(self.repetition.sift(event))


@pytest.fixture
def bench() -> Bench:
    return Bench()


def failed(maildrop: str = "alice", error: str = "cannot connect", result: str = "connect_failed") -> Event:
    return events.PollFailed(maildrop, "p", result, error, 1, 0.0)


def deferred(number: int, reason: str = "450 4.7.1 greylisted") -> Event:
    about: dict[str, Any] = {"maildrop": "alice", "poll_id": "p", "uidl": f"u{number}", "size_octets": 1}
    about |= {"sender": "", "recipient": "", "subject": "", "destination": "office", "attempt": 1}
    return events.MessageDeferred(**about, reason=reason, next_attempt_at=0.0)


OTHER = events.ClockJumped(1.0)


def test_the_first_is_told_and_the_next_are_counted(bench: Bench) -> None:
    first = failed()
    assert bench.tell(first) == [first]
    bench.passed = 30
    assert bench.tell(failed()) == []
    assert bench.tell(failed()) == []
    bench.passed = PERIOD_SECONDS - 1
    assert bench.tell(OTHER) == [OTHER]
    bench.passed = PERIOD_SECONDS
    summary = EventRepeated("poll.failed", 2, WALL, "alice", "", "cannot connect")
    assert bench.tell(OTHER) == [summary, OTHER]
    again = failed()
    assert bench.tell(again) == [again]


def test_what_came_once_leaves_no_summary(bench: Bench) -> None:
    bench.tell(failed())
    bench.passed = PERIOD_SECONDS
    assert bench.tell(OTHER) == [OTHER]


@pytest.mark.parametrize(
    "other",
    [failed(maildrop="bob"), failed(error="no route"), failed(result="timeout"), deferred(1)],
    ids=["another maildrop", "another error", "another result", "another event"],
)
def test_another_trouble_is_told(bench: Bench, other: Event) -> None:
    bench.tell(failed())
    assert bench.tell(other) == [other]


def test_numbers_in_a_cause_do_not_tell_two_apart(bench: Bench) -> None:
    first = deferred(1, "451 4.3.0 try again in 300 s (A1B2C3), 12:30:01")
    assert bench.tell(first) == [first]
    assert bench.tell(deferred(2, "451 4.3.0 try again in 299 s (77D0FF9), 12:30:02")) == []
    other = deferred(3, "452 mailbox full")
    assert bench.tell(other) == [other]


def test_when_it_is_well_again_the_count_is_told_and_the_next_trouble_in_full(bench: Bench) -> None:
    for _ in range(3):
        bench.tell(failed())
    bench.tell(failed(maildrop="bob"))
    bench.tell(failed(maildrop="bob"))
    recovered = events.MaildropRecovered("alice", 3)
    told = bench.tell(recovered)
    assert [type(each) for each in told] == [EventRepeated, events.MaildropRecovered]
    again = failed()
    assert bench.tell(again) == [again]
    assert bench.tell(failed(maildrop="bob")) == []


def test_a_route_that_is_well_again_ends_what_was_counted_of_it(bench: Bench) -> None:
    bench.tell(deferred(1))
    bench.tell(deferred(2))
    resumed = events.RouteResumed("office", 1)
    summary = EventRepeated("message.deferred", 1, WALL, "alice", "office", "450 4.7.1 greylisted")
    assert bench.tell(resumed) == [summary, resumed]


def test_at_the_end_everything_is_told(bench: Bench) -> None:
    for maildrop in ("alice", "bob"):
        bench.tell(failed(maildrop))
        bench.tell(failed(maildrop))
    stopped = events.DaemonStopped(clean=True)
    told = bench.tell(stopped)
    assert [each.name for each in told] == ["event.repeated", "event.repeated", "daemon.stopped"]


def test_a_flood_of_different_troubles_is_bounded(bench: Bench) -> None:
    for number in range(MAX_TROUBLES + 10):
        name = "".join(chr(ord("a") + int(digit)) for digit in str(number))
        for event in (failed(name), failed(name)):
            bench.tell(event)
    assert len(bench.repetition._troubles) == MAX_TROUBLES


def test_each_message_that_needs_a_person_is_told() -> None:
    each = (events.MessageRejected, events.MessageInDoubt, events.MessageQuarantined, events.MessageRelayed)
    assert not any(kind.alike for kind in each)


def test_the_fields_that_make_two_alike_are_there() -> None:
    for kind in event_classes():
        assert set(kind.alike) <= set(kind.__dataclass_fields__), kind.name


def test_numbers() -> None:
    assert without_numbers("pop.example.net:995 said 4.7.1 at 12:30Z to q9XyZ") == (
        "pop.example.net:# said #.#.# at #:# to #"
    )


def logged(text: str, *arguments: object, name: str = "library") -> logging.LogRecord:
    return logging.LogRecord(name, logging.WARNING, __file__, 1, text, arguments, None)


def test_what_libraries_repeat_is_held_back() -> None:
    passed = 0.0
    records = RepeatedRecords(lambda: passed)
    assert records.filter(logged("task %d took long", 1))
    assert not records.filter(logged("task %d took long", 2))
    assert records.filter(logged("another"))
    assert records.filter(logged("task %d took long", 3, name="other"))
    passed = PERIOD_SECONDS
    later = logged("task %d took long", 4)
    assert records.filter(later)
    assert later.held_back == 1  # type: ignore[attr-defined]


def test_the_memory_of_them_is_bounded() -> None:
    records = RepeatedRecords(lambda: 0.0)
    for letter in range(MAX_RECORDS + 5):
        records.filter(logged("text", name=f"logger.{letter}"))
    assert len(records._told) == MAX_RECORDS


@pytest.mark.parametrize(("level", "lines"), [("info", 1), ("debug", 3)])
def test_the_log_holds_back_unless_everything_is_wanted(level: str, lines: int) -> None:
    stream = io.StringIO()
    log = EventLog(configure_logging(format="json", level=level, stream=stream)())
    for number in range(3):
        log(deferred(number))
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in told] == ["message.deferred"] * lines
    log(events.DaemonStopped(clean=True))
    assert ("event.repeated" in stream.getvalue()) == (level == "info")
