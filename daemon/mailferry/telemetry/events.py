"""Writes one log line per event: its name, its level, its fields.

What a class of events needs (names, which fields are times) is worked out once
per class, and an event below the level costs two look-ups: those of each commit
come by the thousand. Lines of a dialogue are there because somebody switched them on, so
no level holds them back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from operator import attrgetter
from typing import Any

from structlog.typing import FilteringBoundLogger

from mailferry.events import Event, WireTraced
from mailferry.telemetry.logging import LEVELS
from mailferry.telemetry.rendering import iso_time
from mailferry.telemetry.repetition import Repetition

SECONDS_DIGITS = 6


def is_time_field(name: str) -> bool:
    """Tell whether a field holds seconds since the epoch; such fields are printed as ISO 8601."""
    return name == "not_before" or name.endswith("_at")


class EventLog:
    """A sink for events that logs them; see `docs/events.md` for the lines."""

    def __init__(self, logger: FilteringBoundLogger, dialogue: FilteringBoundLogger | None = None) -> None:
        """Take a logger, and one for lines of dialogues, which are logged whatever the level is."""
        self._write: dict[str, Callable[..., Any]] = {}
        self._always: dict[type[Event], Callable[..., Any]] = {}
        self._shapes: dict[type[Event], _Shape] = {}
        self._repetition = Repetition()
        self.log_with(logger, dialogue)

    def log_with(self, logger: FilteringBoundLogger, dialogue: FilteringBoundLogger | None = None) -> None:
        """Take other loggers from now on, after logging was configured anew."""
        self._write = {
            name: getattr(logger, name) for name, level in LEVELS.items() if logger.is_enabled_for(level)
        }
        self._always = {} if dialogue is None else {WireTraced: getattr(dialogue, WireTraced.level)}

    def __call__(self, event: Event) -> None:
        """Log the event, if its level is wanted and it is not one of many alike."""
        if "debug" in self._write:
            self._log(event)
            return
        for each in self._repetition.sift(event):
            self._log(each)

    def _log(self, event: Event) -> None:
        kind = type(event)
        write = self._write.get(event.level) or self._always.get(kind)
        if write is None:
            return
        shape = self._shapes.get(kind)
        if shape is None:
            shape = self._shapes[kind] = _Shape(kind)
        write(event.name, **shape.fields_of(event))


class _Shape:
    """How to take the fields out of one class of events."""

    def __init__(self, kind: type[Event]) -> None:
        self._names = tuple(field.name for field in fields(kind))
        self._read = attrgetter(*self._names) if len(self._names) > 1 else None
        self._times = tuple(name for name in self._names if is_time_field(name))
        self._durations = tuple(name for name in self._names if name.endswith("_seconds"))

    def fields_of(self, event: Event) -> dict[str, object]:
        """Return the fields in their order, ready for a renderer."""
        if self._read is None:
            values: dict[str, Any] = {name: getattr(event, name) for name in self._names}
        else:
            values = dict(zip(self._names, self._read(event), strict=True))
        for name in self._times:
            values[name] = iso_time(values[name]) if values[name] else None
        for name in self._durations:
            values[name] = round(values[name], SECONDS_DIGITS)
        return values
