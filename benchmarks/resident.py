"""One poll of a daemon that runs already."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.contenders.base import Command, Polls, RunFailedError, output_file
from benchmarks.measuring import Used

_STEP_SECONDS = 0.01
_STOP_SECONDS = 30.0
_TICKS = os.sysconf("SC_CLK_TCK")
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)
_TAIL_CHARACTERS = 1500


def run_resident(
    command: Command, folder: Path, deliver: Callable[[], None], polls: Polls, limit_seconds: float
) -> Used:
    """Start a daemon, wait for a poll, let mail come, wait until a poll has brought it, stop it.

    Raises:
        RunFailedError: it ended by itself, or took too long.
    """
    with output_file(folder, 0).open("wb") as output:
        process = subprocess.Popen(
            command.words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | command.environment,
        )
    deadline = time.monotonic() + limit_seconds
    try:
        _await(process, folder, lambda: polls.count() > 0, deadline)
        before = _processor_seconds(process.pid)
        begun = time.monotonic()
        deliver()
        _await(process, folder, polls.brought_all, deadline)
        took = time.monotonic() - begun
        return Used(took, _processor_seconds(process.pid) - before, _peak_kilobytes(process.pid))
    finally:
        _stop(process)


def _await(
    process: subprocess.Popen[bytes], folder: Path, condition: Callable[[], bool], deadline: float
) -> None:
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            tail = output_file(folder, 0).read_text("utf-8", "replace")[-_TAIL_CHARACTERS:]
            raise RunFailedError(f"the daemon ended, or no poll came: {tail}")
        time.sleep(_STEP_SECONDS)


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _peak_kilobytes(pid: int) -> int:
    found = _PEAK.search(Path(f"/proc/{pid}/status").read_text("utf-8"))
    return int(found[1]) if found else 0


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(_STOP_SECONDS)
