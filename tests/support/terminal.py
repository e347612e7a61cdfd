"""Commands as a person runs them: on a terminal of their own, or to their end without one."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

SOURCE_ROOT = Path(__file__).resolve().parents[2] / "daemon"
PROGRAM = (sys.executable, "-m", "mailferry")
_SECONDS = 40.0
_HEARD_SECONDS = 5.0
# Keys such as Ctrl-C become signals only on the terminal that controls a session; and a shell
# that runs the tests in the background has the signal ignored, which children inherit.
_TAKE_TERMINAL = (
    "import fcntl, os, signal, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
)
_STYLES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def environment(**more: str) -> dict[str, str]:
    """Return an environment in which no variable of the caller's sets a key."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MAILFERRY_")}
    return {**kept, "PYTHONPATH": str(SOURCE_ROOT), "COLUMNS": "160", "NO_COLOR": "1", **more}


@dataclass(frozen=True)
class Ended:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:  # Any: whatever JSON holds
        """What it printed, as JSON."""
        return json.loads(self.out)


def run_command(*arguments: str | Path) -> Ended:
    """Run a command to its end, without a terminal."""
    done = subprocess.run(
        [*PROGRAM, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environment(),
        timeout=_SECONDS,
        check=False,
    )
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())


class OnTerminal:
    """A command on a terminal; use it as a context.

    Attributes:
        shown: all that it has printed, without styles.
    """

    def __init__(self, *arguments: str | Path) -> None:
        self.shown = ""
        self._arguments = [sys.executable, "-c", _TAKE_TERMINAL, *PROGRAM, *map(str, arguments)]
        self._terminal = -1
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start it."""
        self._terminal, end = pty.openpty()
        try:
            self._child = subprocess.Popen(
                self._arguments,
                stdin=end,
                stdout=end,
                stderr=end,
                env=environment(TERM="xterm"),
                start_new_session=True,  # which has no terminal until it takes this one
            )
        finally:
            os.close(end)
        return self

    def __exit__(self, *_exc: object) -> None:
        """End it, if it has not ended."""
        assert self._child is not None
        if self._child.poll() is None:
            self._child.kill()
        self._child.wait(_SECONDS)
        os.close(self._terminal)

    def wait_for(self, text: str) -> str:
        """Read until the text is shown; return what was shown since the last call."""
        before = len(self.shown)
        deadline = time.monotonic() + _SECONDS
        while text not in self.shown[before:]:
            if not self._read(deadline):
                raise AssertionError(f"{text!r} did not come: {self.shown[before:][-2000:]!r}")
        return self.shown[before:]

    def type(self, line: str) -> None:
        """Type a line and Enter."""
        os.write(self._terminal, line.encode() + b"\n")

    def press(self, octets: bytes) -> None:
        """Press keys."""
        os.write(self._terminal, octets)

    def interrupt(self) -> int:
        """Press Ctrl-C until it has an effect; return the exit code.

        One is lost when it comes between readline's prompt and its wait for keys.
        """
        assert self._child is not None
        deadline = time.monotonic() + _SECONDS
        while self._child.poll() is None and time.monotonic() < deadline:
            self.press(b"\x03")
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(_HEARD_SECONDS)
        return self.end()

    def end(self) -> int:
        """Read to its end; return its exit code."""
        deadline = time.monotonic() + _SECONDS
        while self._read(deadline):
            pass
        assert self._child is not None
        return self._child.wait(_SECONDS)

    def _read(self, deadline: float) -> bool:
        """Read what comes next; False at the end."""
        ready, _, _ = select.select([self._terminal], [], [], max(deadline - time.monotonic(), 0.0))
        if not ready:
            raise AssertionError(f"nothing came in time: {self.shown[-2000:]!r}")
        try:
            octets = os.read(self._terminal, 65536)
        except OSError:  # EIO: the other side is closed
            return False
        self.shown += _STYLES.sub("", octets.decode("utf-8", "replace")).replace("\r\n", "\n")
        return bool(octets)
