"""The real program in processes of its own, many in a row, killed where a test says so.

Where one start is enough, `support.daemon.DaemonProcess` is simpler. A start takes
a second, though, nearly all of it imports; these are forked from a process that
has them behind it (`support.launcher`). What runs, runs alike.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Self

from support.daemon import SOURCE_ROOT

_TESTS = Path(__file__).resolve().parents[1]
_START_SECONDS = 30.0
_TAIL_LINES = 30

Prepare = Mapping[str, object]
"""What the process does before it becomes the program: `module:function` and its argument, as JSON."""


class Program:
    """One process of the program, and what it wrote."""

    def __init__(self, launcher: ProgramLauncher, number: int, output: Path) -> None:
        self.output = output
        self.code: int | None = None
        """Its exit code once it has ended, negative for a signal."""
        self._launcher = launcher
        self._number = number
        self._pid = 0
        self._reaped = False
        self._started = threading.Event()
        self._ended = threading.Event()

    def kill(self) -> None:
        """kill -9, now; nothing when it has ended."""
        self._signal(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM: ask it to end."""
        self._signal(signal.SIGTERM)

    def kill_later(self, seconds: float) -> None:
        """kill -9 after a while, by another process: independent of what this one is at then."""
        self._launcher.order(do="kill", number=self._number, after_seconds=seconds)

    def _signal(self, number: signal.Signals) -> None:
        assert self._started.wait(_START_SECONDS), "the launcher has not started it"
        if self._pid and not self._reaped:
            # It is reaped only when we say so: until then its number means no other process.
            os.kill(self._pid, number)

    async def wait(self, seconds: float = 60.0) -> int:
        """Wait for the end; return the exit code.

        Raises:
            AssertionError: it did not end in time; it is killed then.
        """
        if not await asyncio.to_thread(self._ended.wait, seconds):
            self.kill()
            raise AssertionError(f"did not end within {seconds:g} s:\n{self.tail()}")
        assert self.code is not None, "the launcher has ended; its own output says why"
        if not self._reaped:
            self._reaped = True
            self._launcher.order(do="reap", number=self._number)
        return self.code

    async def wait_for_event(self, name: str, count: int = 1, seconds: float = 30.0) -> None:
        """Wait until an event was logged so often.

        Raises:
            AssertionError: it was not, or the program ended before it.
        """
        try:
            async with asyncio.timeout(seconds):
                while len(self.named(name)) < count:
                    assert self.code is None, f"ended with {self.code} before {name}:\n{self.tail()}"
                    await asyncio.sleep(0.01)
        except TimeoutError:
            self.kill()
            raise AssertionError(f"no {name} within {seconds:g} s:\n{self.tail()}") from None

    @property
    def events(self) -> list[dict[str, Any]]:
        """The log entries so far."""
        lines = self.output.read_bytes().split(b"\n")[:-1] if self.output.exists() else []
        return [json.loads(line) for line in lines if line.startswith(b"{")]

    def named(self, name: str) -> list[dict[str, Any]]:
        """Return the events of one name so far."""
        return [event for event in self.events if event.get("event") == name]

    def tail(self) -> str:
        """Return the end of what it wrote."""
        text = self.output.read_text("utf-8", "replace") if self.output.exists() else ""
        return "\n".join(text.splitlines()[-_TAIL_LINES:])

    def told(self, words: Mapping[str, int]) -> None:
        """Take what the launcher says of it."""
        if "pid" in words:
            self._pid = words["pid"]
            self._started.set()
        else:
            self.code = words["code"]
            self._ended.set()

    def abandoned(self) -> None:
        """Take notice that the launcher is gone."""
        self._started.set()
        self._ended.set()


class ProgramLauncher:
    """The process that forks programs; a context manager, and good for many event loops."""

    def __init__(self) -> None:
        # Any MAILFERRY_ variable of ours would be a setting of the program's.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MAILFERRY_")}
        environment |= {
            "PYTHONPATH": os.pathsep.join((str(SOURCE_ROOT), str(_TESTS))),
            "PYTHONUNBUFFERED": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.launcher"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        self._programs: dict[int, Program] = {}
        self._reader = threading.Thread(target=self._read, name="launcher", daemon=True)
        self._reader.start()

    def start(self, output: Path, *arguments: str, prepare: Prepare | None = None) -> Program:
        """Start the program; what it says goes to the file's end."""
        number = len(self._programs) + 1
        program = self._programs[number] = Program(self, number, output)
        self.order(
            do="start",
            number=number,
            output=str(output),
            arguments=list(arguments),
            prepare=dict(prepare or {}),
        )
        return program

    def order(self, **words: object) -> None:
        """Tell the launcher something."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(words).encode("utf-8") + b"\n")
        self._process.stdin.flush()

    def close(self) -> None:
        """End every program that still runs, and the launcher."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(_START_SECONDS)
        self._reader.join(_START_SECONDS)
        self._process.stdout.close()

    def _read(self) -> None:
        stdout: IO[bytes] | None = self._process.stdout
        assert stdout is not None
        for line in stdout:
            words = json.loads(line)
            self._programs[words["number"]].told(words)
        for program in self._programs.values():
            program.abandoned()

    def __enter__(self) -> Self:
        """Started already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing running."""
        self.close()
