"""The commands as processes of their own, against a sandbox that is one too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.processes import Child

SOURCE_ROOT = Path(__file__).resolve().parents[2] / "daemon"
PROGRAM = (sys.executable, "-m", "mailferry")


def environment() -> dict[str, str]:
    """Return an environment in which no variable of the caller's sets a key."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MAILFERRY_")}
    return {**kept, "PYTHONPATH": str(SOURCE_ROOT), "COLUMNS": "160", "NO_COLOR": "1"}


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


Program = Callable[..., Ended]


@pytest.fixture
def program() -> Program:
    """Run a command to its end."""

    def run(*arguments: str | Path, seconds: float = 40.0) -> Ended:
        done = subprocess.run(
            [*PROGRAM, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment(),
            timeout=seconds,
            check=False,
        )
        return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


@dataclass(frozen=True)
class RunningSandbox:
    """`mailferry sandbox`, up and with its configuration written."""

    process: Child
    folder: Path

    @property
    def config(self) -> Path:
        """The configuration for it."""
        return self.folder / "mailferry.toml"

    @property
    def password_file(self) -> Path:
        """The file with the maildrops' password."""
        return self.folder / "sandbox-password"

    @property
    def http_port(self) -> int:
        """Where the daemon is to serve HTTP."""
        line = next(line for line in self.config.read_text().splitlines() if line.startswith("listen"))
        return int(line.rstrip('"').rpartition(":")[2])


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[RunningSandbox]:
    folder = tmp_path / "sandbox"
    command = (*PROGRAM, "sandbox", "--dir", str(folder))
    process = Child(command, tmp_path / "sandbox.out", env=environment())
    try:
        process.wait_ready(lambda: "What arrives:" in process.tail(), "the sandbox")
        yield RunningSandbox(process, folder)
    finally:
        code = process.stop()
    assert code == 0, process.tail()
