"""Sets up logging: structlog for our events, and one way out for what libraries say.

Libraries (apscheduler, aiohttp, sqlalchemy, alembic, asyncio) log through the
standard module. Their records at warning and above take the same processors
and come out as the event `python.logged`, so that a reader of the log meets one
format and a closed set of event names, and redaction has no way round it.
"""

from __future__ import annotations

import logging
import os
from typing import Literal, TextIO

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from mailferry.telemetry.lines import LineWriter
from mailferry.telemetry.redaction import redact
from mailferry.telemetry.rendering import (
    ConsoleRenderer,
    JournalRenderer,
    JsonRenderer,
    exception_as_data,
    exception_as_lines,
    stamp,
)
from mailferry.telemetry.repetition import RepeatedRecords

LogFormat = Literal["auto", "console", "json"]

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure_logging(*, format: LogFormat, level: str, stream: TextIO) -> Loggers:  # noqa: A002 (the setting's name)
    """Send all log lines to `stream`; may be called again, the last call holds.

    Args:
        format: `auto` means console on a terminal and JSON otherwise.
        level: the least level of our events: debug, info, warning or error.
            Libraries never say less than a warning.
        stream: where lines go. A text file of Python's own is switched to
            escape what its encoding lacks, so that a subject cannot fail a line.

    Returns:
        What makes loggers. Loggers made before the next call keep the old settings.

    Raises:
        ValueError: the level or the format is not one of the words above.
    """
    threshold = _threshold(level)
    _tolerate(stream)
    processors = _processors(format, stream)
    lines = LineWriter(stream)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda *_: lines,
        context_class=dict,
        cache_logger_on_first_use=True,
    )
    _adopt_libraries(processors, max(threshold, logging.WARNING), stream, lines)

    return Loggers(lines)


class Loggers:
    """Makes loggers of the latest settings; keyword arguments are fields of every line."""

    def __init__(self, lines: LineWriter) -> None:
        self._lines = lines

    def __call__(self, **fields: object) -> FilteringBoundLogger:
        """Return one that leaves out what is below the level."""
        logger: FilteringBoundLogger = structlog.get_logger().bind(**fields)
        return logger

    def unfiltered(self, **fields: object) -> FilteringBoundLogger:
        """Return one that leaves out nothing, for lines that somebody has asked for by themselves."""
        everything = structlog.make_filtering_bound_logger(logging.DEBUG)
        logger: FilteringBoundLogger = structlog.wrap_logger(self._lines, wrapper_class=everything).bind(
            **fields
        )
        return logger


def _threshold(level: str) -> int:
    if level not in LEVELS:
        raise ValueError(f"log level {level!r}: allowed are {', '.join(LEVELS)}")
    return LEVELS[level]


def _tolerate(stream: TextIO) -> None:
    reconfigure = getattr(stream, "reconfigure", None)  # io.TextIOWrapper has it, StringIO does not
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def _processors(format: str, stream: TextIO) -> list[Processor]:  # noqa: A002
    if format not in ("auto", "console", "json"):
        raise ValueError(f"log format {format!r}: allowed are auto, console, json")
    if format == "json" or (format == "auto" and not stream.isatty()):
        encoding = (getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "")
        lines = JsonRenderer(ascii_only=encoding != "utf8")
        return [stamp, exception_as_data(), redact, JournalRenderer(lines) if _is_journal(stream) else lines]
    return [stamp, exception_as_lines(), redact, _console(stream)]


def _console(stream: TextIO) -> Processor:
    if _is_journal(stream):
        return JournalRenderer()
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    return ConsoleRenderer(colours=stream.isatty() and not plain)


def _is_journal(stream: TextIO) -> bool:
    """Tell whether the stream goes to the journal; `$JOURNAL_STREAM` is its device:inode (systemd.exec(5))."""
    claimed = os.environ.get("JOURNAL_STREAM", "")
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # not a file of the operating system's
        return False
    return claimed == f"{status.st_dev}:{status.st_ino}"


class _LibraryHandler(logging.StreamHandler[TextIO]):
    """Our handler on the root logger; its class tells it from those of others."""

    def __init__(self, stream: TextIO, lines: LineWriter) -> None:
        super().__init__(stream)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record behind what was said before."""
        try:
            self._lines.flush()
        except Exception:  # noqa: BLE001  as the class above does with its own
            self.handleError(record)
        super().emit(record)


def _adopt_libraries(processors: list[Processor], threshold: int, stream: TextIO, lines: LineWriter) -> None:
    handler = _LibraryHandler(stream, lines)
    handler.setLevel(threshold)
    handler.addFilter(RepeatedRecords())
    handler.setFormatter(ProcessorFormatter(processors=processors, foreign_pre_chain=[_as_event]))
    root = logging.getLogger()
    for old in [each for each in root.handlers if isinstance(each, _LibraryHandler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(threshold)


def _as_event(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Give a library's record our shape: a fixed event name, its words in a field."""
    record: logging.LogRecord = event_dict["_record"]
    line: EventDict = {"event": "python.logged", "logger": record.name, "message": event_dict["event"]}
    held_back = getattr(record, "held_back", 0)
    if held_back:
        line["held_back"] = held_back
    if "exc_info" in event_dict:
        line["exc_info"] = event_dict["exc_info"]
    return line
