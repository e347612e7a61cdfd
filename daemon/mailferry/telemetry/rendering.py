"""How a cleaned log line looks: one JSON object, or text for a person or the journal.

Both start with time, level and event and keep the order of the event's fields.
Tracebacks never hold local variables: structlog's stock renderers (and rich's,
which it picks by itself) print them, passwords included.
"""

from __future__ import annotations

import json
import re
import traceback
from datetime import UTC, datetime

from structlog.processors import ExceptionRenderer
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from mailferry.events import WireTraced

MAX_FRAMES = 30

_RESET, _DIM, _BOLD = "\x1b[0m", "\x1b[2m", "\x1b[1m"
_LEVEL_COLOURS = {
    "debug": "\x1b[2m",
    "info": "\x1b[32m",
    "warning": "\x1b[33m",
    "error": "\x1b[31m",
    "critical": "\x1b[31m",
}
_DIALOGUE_COLOURS = {"send": "\x1b[36m", "reply": "\x1b[32m", "note": "\x1b[2m"}
_JOURNAL_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""The numbers of sd-daemon(3), which are syslog's."""


def iso_time(seconds: float) -> str:
    """Format seconds since the epoch as ISO 8601 in UTC with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def stamp(_logger: WrappedLogger, method: str, event_dict: EventDict) -> EventDict:
    """Put time, level and event in front of the fields; a structlog processor."""
    event = event_dict.pop("event")
    now = datetime.now(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
    return {"ts": now, "level": method, "event": event, **event_dict}


def exception_as_data() -> Processor:
    """Return the processor that turns `exc_info` into a structure without locals."""
    return ExceptionRenderer(ExceptionDictTransformer(show_locals=False, max_frames=MAX_FRAMES))


def exception_as_lines() -> Processor:
    """Return the processor that turns `exc_info` into a list of lines without locals."""
    return ExceptionRenderer(_traceback_lines)


def _traceback_lines(exc_info: ExcInfo) -> list[str]:
    report = traceback.TracebackException(*exc_info, limit=-MAX_FRAMES, capture_locals=False)
    return [line for chunk in report.format() for line in chunk.splitlines()]


class JsonRenderer:
    """One line, one object. Expects values that `redaction.redact` has passed."""

    def __init__(self, *, ascii_only: bool) -> None:
        self._encode = json.JSONEncoder(
            ensure_ascii=ascii_only, separators=(",", ":"), allow_nan=False
        ).encode

    def __call__(self, _logger: WrappedLogger, _method: str, event_dict: EventDict) -> str:
        """Render a line."""
        return self._encode(event_dict)


class ConsoleRenderer:
    """Text for people: `time level event key=value...`, empty fields left out.

    Lines of a dialogue (`wire.traced`) come as `time peer#session send: text`, to be read as one.
    A traceback follows indented, so that no line of an error's text can pass
    for a log line.
    """

    def __init__(self, *, colours: bool) -> None:
        self._colours = colours

    def __call__(self, _logger: WrappedLogger, _method: str, event_dict: EventDict) -> str:
        """Render a line, or several when there is a traceback."""
        ts, level, event = (str(event_dict.pop(key)) for key in ("ts", "level", "event"))
        trace = event_dict.pop("exception", None)
        if event == WireTraced.name:
            return self._dialogue_line(ts, event_dict)
        head = [self._paint(_DIM, ts), self._paint(_LEVEL_COLOURS.get(level, ""), f"{level:<7}")]
        fields = [
            f"{self._paint(_DIM, key + '=')}{_quoted(value)}"
            for key, value in event_dict.items()
            if value is not None and value != ""
        ]
        line = " ".join([*head, self._paint(_BOLD, event), *fields])
        return "\n  ".join([line, *trace]) if isinstance(trace, list) else line

    def _dialogue_line(self, ts: str, fields: EventDict) -> str:
        """Render a line of a dialogue as `time peer direction: text`.

        The text needs no quotes: it stands last, and `redaction.redact` has left no line end in it.
        """
        peer, direction, text = (str(fields.get(key, "")) for key in ("peer", "direction", "text"))
        if fields.get("session"):
            peer += f"#{fields['session']}"
        head = f"{self._paint(_DIM, ts)} {self._paint(_BOLD, peer)} "
        return head + self._paint(_DIALOGUE_COLOURS.get(direction, ""), f"{direction}:") + f" {text}"

    def _paint(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_RESET}" if self._colours and colour else text


_BEFORE_QUOTE = re.compile(r'(\\*)("|\Z)')


def _quoted(value: object) -> str:
    """Return a value that ends where a reader thinks it does.

    Backslashes are doubled only where a quote follows, or the end: a peer's `\\"` must not
    close the value and add fields of its own, and `\\x1b` stays readable.
    """
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if not any(character in value for character in ' ="'):
        return value
    return '"' + _BEFORE_QUOTE.sub(lambda run: run[1] * 2 + '\\"' * bool(run[2]), value) + '"'


class JournalRenderer:
    """Lines with the journal's `<N>` priority in front (sd-daemon(3)), which the journal takes off again."""

    def __init__(self, render: Processor | None = None) -> None:
        """Take what renders the lines themselves; None for console text without colours."""
        self._render = render or ConsoleRenderer(colours=False)

    def __call__(self, logger: WrappedLogger, method: str, event_dict: EventDict) -> str:
        """Render a line; the journal makes one entry of each line of a traceback."""
        prefix = f"<{_JOURNAL_PRIORITIES.get(str(event_dict['level']), 6)}>"
        return prefix + str(self._render(logger, method, event_dict)).replace("\n", "\n" + prefix)
