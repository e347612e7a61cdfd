"""Where log lines leave the program: what one round of the event loop says goes in one write.

A drain logs a line per message, and dozens come in one round: written one by one they cost
as much as all else that is done for the log. A warning or an error leaves at once, with all
that came before it, and so does every line outside an event loop. The order never changes.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import TextIO


class LineWriter:
    """The logger below structlog's: takes finished lines, in the methods that name their level."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: list[str] = []
        self._due_in: asyncio.AbstractEventLoop | None = None
        self._failure: Exception | None = None
        # What is left when its loop runs no more, at the end of the program at the latest.
        self._last = weakref.finalize(self, _write, stream, self._lines)

    def debug(self, line: str) -> None:
        """Write a line at the end of this round; at once where no loop runs in this thread."""
        failure, self._failure = self._failure, None
        if failure is not None:  # of the round before: whoever logs learns that the log is broken
            raise failure
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.warning(line)
            return
        self._lines.append(line)
        if loop is not self._due_in:
            self._due_in = loop
            loop.call_soon(self._flush)

    info = debug

    def warning(self, line: str) -> None:
        """Write a line at once."""
        self._lines.append(line)
        self.flush()

    error = critical = warning

    def flush(self) -> None:
        """Write what waits; raises what the stream does."""
        _write(self._stream, self._lines)

    def _flush(self) -> None:
        self._due_in = None
        try:
            self.flush()
        except Exception as error:  # noqa: BLE001  told by the next line, as if that had been written
            self._failure = error


def _write(stream: TextIO, lines: list[str]) -> None:
    if lines:
        text = "\n".join([*lines, ""])
        lines.clear()
        stream.write(text)
        stream.flush()
