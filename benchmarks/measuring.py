"""Running processes and measuring them: time, processor time, memory, each with its children."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contenders.base import Command, RunFailedError, output_file
from benchmarks.tools import tool

_SAMPLE_SECONDS = 0.05
_PAGE_KILOBYTES = os.sysconf("SC_PAGE_SIZE") // 1024
_GRACE_SECONDS = 5.0
_TAIL_OCTETS = 1500


@dataclass(frozen=True, slots=True)
class Used:
    """What processes took, from the first start to the last end.

    Attributes:
        processor_seconds: of all, in user and system mode; servers are not among them.
        peak_kilobytes: the most that all of them had in memory at one time.
    """

    seconds: float
    processor_seconds: float
    peak_kilobytes: int


def run(commands: Sequence[Command], folder: Path, limit_seconds: float) -> Used:
    """Run commands side by side until all have ended.

    Raises:
        RunFailedError: one of them failed, or took too long; all have ended.
    """
    begun = time.monotonic()
    processes = [_start(command, folder, number) for number, command in enumerate(commands)]
    try:
        peak = _watch(processes, begun + limit_seconds)
    finally:
        for process in processes:
            _end(process)
    took = time.monotonic() - begun
    results = [_result(command, folder, number) for number, command in enumerate(commands)]
    # One process alone is timed by itself: that knows no steps between two looks.
    seconds = results[0].seconds if len(results) == 1 else took
    # Each tells the peak of its largest process; what is alive together was looked at now and then.
    peak = max(peak, sum(result.peak_kilobytes for result in results))
    return Used(seconds, sum(result.processor_seconds for result in results), peak)


def _start(command: Command, folder: Path, number: int) -> subprocess.Popen[bytes]:
    with output_file(folder, number).open("wb") as output:
        return subprocess.Popen(
            [tool("run"), folder / f"run{number}", *command.words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | command.environment,
            start_new_session=True,
        )


def _watch(processes: Sequence[subprocess.Popen[bytes]], deadline: float) -> int:
    """Wait for the end of all; return the most memory that was seen."""
    peak = 0
    sessions = {process.pid for process in processes}
    next_look = 0.0
    while any(process.poll() is None for process in processes):
        now = time.monotonic()
        if now > deadline:
            raise RunFailedError("it took too long")
        if now >= next_look:
            peak = max(peak, _memory_of(sessions))
            next_look = now + _SAMPLE_SECONDS * max(1, len(sessions) // 4)
        time.sleep(_SAMPLE_SECONDS / 10)
    return peak


def _memory_of(sessions: set[int]) -> int:
    """Return the kilobytes in memory of all processes in these sessions (proc(5))."""
    pages = 0
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            fields = Path(entry.path, "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        if int(fields[3]) in sessions:
            pages += int(fields[21])
    return pages * _PAGE_KILOBYTES


def _end(process: subprocess.Popen[bytes]) -> None:
    """End what still runs of a session that we began."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(_GRACE_SECONDS)


def _result(command: Command, folder: Path, number: int) -> Used:
    result = folder / f"run{number}"
    output = output_file(folder, number).read_bytes()[-_TAIL_OCTETS:].decode("utf-8", "replace")
    if not result.exists():
        raise RunFailedError(f"{command.words[0]} was not run: {output}")
    seconds, user, system, peak, code = result.read_text("ascii").split()
    if int(code) not in command.fine:
        raise RunFailedError(f"{command.words[0]} ended with {code}: {output}")
    return Used(float(seconds), float(user) + float(system), int(peak))
