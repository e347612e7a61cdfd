"""The real program as a child process: started, watched by its log, killed or asked to stop."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

SOURCE_ROOT = Path(__file__).resolve().parents[2] / "daemon"


class DaemonProcess:
    """`mailferry run` (or another command) with its JSON log lines as `events`."""

    def __init__(
        self,
        config: Path,
        *arguments: str,
        command: str = "run",
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Start it; `environ` comes on top of the caller's own environment."""
        self.events: list[dict[str, Any]] = []  # Any: whatever JSON holds
        self.raw: list[str] = []
        # Any MAILFERRY_ variable of ours would be a setting of the program's.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MAILFERRY_")}
        environment |= {"PYTHONPATH": str(SOURCE_ROOT), "PYTHONUNBUFFERED": "1", **(environ or {})}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mailferry", command, "-c", str(config), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            text = line.decode("utf-8", "replace")
            self.raw.append(text)
            with contextlib.suppress(ValueError):
                entry = json.loads(text)
                if isinstance(entry, dict):
                    self.events.append(entry)

    def named(self, name: str) -> list[dict[str, Any]]:
        """Return the events of one name so far."""
        return [event for event in self.events if event.get("event") == name]

    def wait_for(self, condition: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
        """Wait until a condition holds.

        Raises:
            AssertionError: it did not in time, or the program ended; its last output is in the text.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            ended = self.process.poll() is not None
            if ended or time.monotonic() > deadline:
                tail = "".join(self.raw[-30:])
                state = f"ended with {self.process.returncode}" if ended else "is still running"
                raise AssertionError(f"no {what} after {seconds} s; the program {state}; its output:\n{tail}")
            time.sleep(0.01)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self._ended(10)

    def stop(self, seconds: float = 30.0) -> int:
        """SIGTERM; return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self._ended(seconds)

    def wait(self, seconds: float = 60.0) -> int:
        """Wait for the end; return the exit code."""
        return self._ended(seconds)

    def _ended(self, seconds: float) -> int:
        late = False
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            late = True
            self.process.kill()
            self.process.wait(10)
        self._reader.join(10)
        if self.process.stdout is not None:
            self.process.stdout.close()
        assert not late, f"did not end within {seconds} s:\n{''.join(self.raw[-30:])}"
        return self.process.returncode

    def __enter__(self) -> Self:
        """Started already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing running."""
        if self.process.poll() is None:
            self.kill()
