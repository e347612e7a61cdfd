"""Many maildrops far away, nothing new in them: `python -m benchmarks.scale --maildrops 10000 --every 300`.

The real daemon polls a server that is made for it (`crowd`). How late each poll begins is told
by its log and by the timetable: times lie on a grid that follows from the maildrop's name.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from benchmarks.tools import ROOT
from mailferry.policy.intervals import Grid
from support.processes import free_port

PROGRAM = ROOT / ".venv" / "bin" / "mailferry"
_GRACE_SECONDS = 60.0
_HUNDREDTHS = 100.0
"""/proc counts processor time in these."""


@dataclass(slots=True)
class Polls:
    """What the log tells: when the daemon was ready, and when each poll of each maildrop began."""

    ready_at: float = 0.0
    failed: int = 0
    durations: list[float] = field(default_factory=list)
    begun: dict[str, list[float]] = field(default_factory=dict)

    def lags(self, every: float, rate: float, turn: int) -> list[float]:
        """Return how late the polls of one turn began, in seconds; the first one is turn 0."""
        found = []
        for name, begun in self.begun.items():
            if turn < len(begun):
                first = self.ready_at + (int(name[1:]) / rate) % every
                grid = Grid(first, every, every / 10, zlib.crc32(name.encode()))
                due = first
                for _ in range(turn):
                    due = grid.after(due)
                found.append(begun[turn] - due)
        return sorted(found)


def read_log(lines: Iterable[str]) -> Polls:
    """Read a daemon's log."""
    polls = Polls()
    for line in lines:
        if line.endswith("}\n") and '"poll.finished"' in line:
            _note_poll(polls, json.loads(line))
        elif line.endswith("}\n") and '"daemon.started"' in line:
            polls.ready_at = _seconds(json.loads(line)["ts"])
    return polls


def _note_poll(polls: Polls, entry: dict[str, str]) -> None:
    duration = float(entry["duration_seconds"])
    polls.failed += entry["result"] not in ("ok", "stopped")
    polls.durations.append(duration)
    polls.begun.setdefault(entry["maildrop"], []).append(_seconds(entry["ts"]) - duration)


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def configure(folder: Path, count: int, options: argparse.Namespace, port: int) -> Path:
    """Write the configuration; return its path."""
    (folder / "state").mkdir(mode=0o700)
    secret = folder / "password"
    secret.touch(mode=0o600)
    secret.write_text("battery-staple\n")
    head = f"""\
[daemon]
state_dir = "{folder / "state"}"
hostname = "relay.example.org"
log_format = "json"
max_sessions = 256
max_sessions_per_host = 256
start_rate = {options.rate}
[http]
listen = ""
metrics_per_maildrop = {"true" if options.metrics else "false"}
[defaults]
tls = "none"
allow_cleartext = true
deliver = ["vault"]
keep = true
every = "{options.every:g}s"
[destination.vault]
type = "maildir"
path = "{folder / "vault"}"
"""
    drop = '[maildrop.u{0}]\nhost = "127.0.0.1"\nport = {1}\nusername = "u{0}"\npassword = {{ file = "password" }}\n'
    path = folder / "mailferry.toml"
    path.write_text(head + "".join(drop.format(number, port) for number in range(count)))
    return path


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _HUNDREDTHS


def resident_megabytes(pid: int) -> float:
    """Return the most memory that a process has held."""
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def watch(daemon: subprocess.Popen[bytes], log: Path, seconds: float) -> None:
    """Say how long the start took and, twice a minute, what the daemon uses."""
    began = time.monotonic()
    while '"daemon.started"' not in log.read_text():
        if daemon.poll() is not None:
            raise SystemExit(f"the daemon ended: {log.read_text()[-2000:]}")
        time.sleep(0.2)
    used = processor_seconds(daemon.pid)
    print(f"started after {time.monotonic() - began:.1f} s, {used:.1f} s of processor time", flush=True)
    end, since = began + seconds, time.monotonic()
    while (now := time.monotonic()) < end:
        time.sleep(min(30.0, max(end - now, 0.1)))
        share = (processor_seconds(daemon.pid) - used) / (time.monotonic() - since)
        print(f"{share:.0%} of a core, {resident_megabytes(daemon.pid):.0f} MB", flush=True)
        used, since = processor_seconds(daemon.pid), time.monotonic()


def report(polls: Polls, options: argparse.Namespace) -> None:
    """Say how the polls went."""
    print(f"{len(polls.durations)} polls, {polls.failed} failed; seconds: {_spread(sorted(polls.durations))}")
    for turn in (0, 1, 2):
        if lags := polls.lags(options.every, options.rate, turn):
            print(f"turn {turn + 1}: {len(lags)} polls; begun late by seconds: {_spread(lags)}")


def _spread(values: Sequence[float]) -> str:
    middle, late = values[len(values) // 2], values[len(values) * 99 // 100]
    return f"median {middle:.2f}, p99 {late:.2f}, most {values[-1]:.2f}"


def main() -> None:
    """Run the daemon for a while and tell what it took."""
    parser = argparse.ArgumentParser(prog="benchmarks.scale", description=__doc__)
    parser.add_argument("--maildrops", type=int, default=10_000)
    parser.add_argument("--every", type=float, default=300.0, help="seconds")
    parser.add_argument("--rate", type=float, default=34.0, help="first polls per second")
    parser.add_argument("--seconds", type=float, default=480.0, help="how long the daemon runs")
    parser.add_argument("--metrics", action="store_true", help="metrics for each maildrop")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scale-") as name:
        folder, port = Path(name), free_port()
        config, log = configure(folder, options.maildrops, options, port), folder / "log"
        crowd = subprocess.Popen([sys.executable, "-m", "benchmarks.crowd", str(port)], cwd=ROOT)
        with log.open("wb") as stream:
            daemon = subprocess.Popen([PROGRAM, "run", "--config", config], stderr=stream)
        try:
            watch(daemon, log, options.seconds)
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(_GRACE_SECONDS)
            crowd.terminate()
            crowd.wait(_GRACE_SECONDS)
        with log.open(encoding="utf-8") as lines:
            report(read_log(lines), options)


if __name__ == "__main__":
    main()
