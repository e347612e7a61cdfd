from __future__ import annotations

import io
import json
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import pytest

from mailferry import events
from mailferry.events import Event, Level
from mailferry.telemetry.events import EventLog
from mailferry.telemetry.logging import configure_logging
from mailferry.telemetry.reference import event_classes

VALUES = {"str": "text", "int": 7, "float": 1_800_000_000.5, "bool": True}


def sample(kind: type[Event]) -> Event:
    return kind(**{field.name: VALUES.get(str(field.type), "note") for field in fields(kind)})


def logged(event: Event, level: str = "debug") -> dict[str, Any]:
    stream = io.StringIO()
    EventLog(configure_logging(format="json", level=level, stream=stream)())(event)
    line: dict[str, Any] = json.loads(stream.getvalue() or "{}")
    return line


def relayed(**changes: Any) -> events.MessageRelayed:
    values: dict[str, Any] = {
        "maildrop": "alice", "poll_id": "p1", "uidl": "u1", "size_octets": 512, "sender": "Иван <i@example.ru>",
        "recipient": "alice@example.org", "subject": "Отчёт", "destination": "office", "attempt": 1,
        "receipt": "250 2.0.0 queued", "age_seconds": 0.12345678,
    }  # fmt: skip
    return events.MessageRelayed(**{**values, **changes})


def test_an_event_is_one_line_with_its_name_level_and_fields_in_order() -> None:
    line = logged(relayed())
    assert list(line) == ["ts", "level", "event", *(field.name for field in fields(events.MessageRelayed))]
    assert (line["level"], line["event"]) == ("info", "message.relayed")
    assert line["subject"] == "Отчёт"
    assert line["age_seconds"] == 0.123457


@pytest.mark.parametrize("kind", event_classes(), ids=lambda kind: kind.name)
def test_every_event_can_be_logged(kind: type[Event]) -> None:
    line = logged(sample(kind))
    assert (line["event"], line["level"]) == (kind.name, kind.level)
    assert set(line) == {"ts", "level", "event", *(field.name for field in fields(kind))}


def test_names_are_unique_and_noun_verb_past() -> None:
    names = [kind.name for kind in event_classes()]
    assert len(set(names)) == len(names)
    assert all(name.count(".") == 1 and name == name.lower() for name in names)


@pytest.mark.parametrize("kind", event_classes(), ids=lambda kind: kind.name)
def test_no_field_hides_behind_a_key_of_the_line(kind: type[Event]) -> None:
    assert not {field.name for field in fields(kind)} & {
        "ts",
        "level",
        "event",
        "logger",
        "exception",
        "exc_info",
    }
    assert not [key for key, value in logged(sample(kind)).items() if value == "***"]


def test_times_are_iso_and_none_when_unknown() -> None:
    paused = events.RoutePaused(destination="office", reason="421", failures=1, not_before=1_800_000_000.25)
    assert logged(paused)["not_before"] == "2027-01-15T08:00:00.250Z"
    never = events.RoutePaused(destination="office", reason="421", failures=1, not_before=0.0)
    assert logged(never)["not_before"] is None


@pytest.mark.parametrize(
    ("level", "silent"),
    [
        ("debug", set()),
        ("info", {"debug"}),
        ("warning", {"debug", "info"}),
        ("error", {"debug", "info", "warning"}),
    ],
)
def test_events_below_the_level_are_silent(level: Literal["debug", "info"], silent: set[str]) -> None:
    for kind in event_classes():
        assert bool(logged(sample(kind), level)) == (kind.level not in silent)


def test_an_event_below_the_level_is_not_even_read() -> None:
    @dataclass(frozen=True, slots=True)
    class Costly(Event):
        name: ClassVar[str] = "costly.happened"
        level: ClassVar[Level] = "debug"

        @property
        def field(self) -> str:
            raise AssertionError("read")

    stream = io.StringIO()
    log = EventLog(configure_logging(format="json", level="info", stream=stream)())
    log(Costly())
    assert stream.getvalue() == ""
    assert not log._shapes


def test_an_event_without_fields_and_one_with_a_single_field() -> None:
    @dataclass(frozen=True, slots=True)
    class Bare(Event):
        name: ClassVar[str] = "bare.happened"

    assert set(logged(Bare())) == {"ts", "level", "event"}
    assert logged(events.DaemonStopped(clean=True))["clean"] is True


def test_text_of_a_peer_is_cleaned() -> None:
    assert logged(relayed(subject="a\x1b[2J\r\nb", receipt="250 \u202eok"))["subject"] == r"a\x1b[2J\x0d\x0ab"
    assert logged(relayed(receipt="250 \u202eok"))["receipt"] == r"250 \u202eok"


def test_the_logger_may_carry_fields_of_its_own() -> None:
    stream = io.StringIO()
    make = configure_logging(format="json", level="info", stream=stream)
    EventLog(make(node="n1"))(events.DaemonStopped(clean=True))
    assert json.loads(stream.getvalue())["node"] == "n1"
