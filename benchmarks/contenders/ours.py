"""Ours: the real program with everything on that makes it trustworthy.

A row per message is committed, the journal and the fingerprints are written, metrics
count, and the log at info goes to a file. `mailferry once` polls every maildrop once;
its start, which a daemon has once, is not counted, but is told as well. It logs in as
the peers do, with USER and PASS: SCRAM would cost two round trips more.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.contenders.base import Command, Job, Polls, RunFailedError, Task, output_of
from benchmarks.site import PASSWORD
from benchmarks.tools import ROOT
from benchmarks.workloads import Goal, Unit

PROGRAM = ROOT / ".venv" / "bin" / "mailferry"
_FINISHED = '"poll.finished"'


class Ours:
    """mailferry; against a sink that offers CHUNKING or one that does not."""

    program = str(PROGRAM)
    resident = True

    def __init__(self, *, chunking: bool = False) -> None:
        self.name = "ours-bdat" if chunking else "ours"
        self._chunking = chunking

    def prime(self, task: Task) -> Job | None:
        """Fetch everything once, from near."""
        near = replace(task, workload=replace(task.workload, far=False, goal=Goal.SMTP))
        return Job([self._command(near)])

    def job(self, task: Task) -> Job:
        """One process, whatever the workload; a daemon where a single poll is timed."""
        if task.workload.unit is Unit.SECONDS:
            return self._daemon(task)
        return Job([self._command(task)], lambda: working_seconds(output_of(task.folder, 0)))

    def _daemon(self, task: Task) -> Job:
        def polls() -> list[dict[str, Any]]:
            return finished_polls(output_of(task.folder, 0))

        def brought() -> list[dict[str, Any]]:
            return [poll for poll in polls() if poll["relayed"] == task.load.messages]

        command = Command([PROGRAM, "run", "--config", self.configure(task, every="2s")])
        watched = Polls(lambda: len(polls()), lambda: bool(brought()))
        return Job([command], lambda: float(brought()[0]["duration_seconds"]), watched)

    def _command(self, task: Task) -> Command:
        return Command([PROGRAM, "once", "--verbose", "--quiet", "--config", self.configure(task)])

    def configure(self, task: Task, every: str = "1h") -> Path:
        """Write the configuration; return its path."""
        task.write("password", PASSWORD + "\n")
        (task.folder / "state").mkdir(mode=0o700, exist_ok=True)
        return task.write("mailferry.toml", self._settings(task, every))

    def _settings(self, task: Task, every: str) -> str:
        sections = [self._head(task, every), self._destination(task)]
        sections += [self._maildrop(task, user) for user in task.users]
        return "\n".join(sections)

    def _maildrop(self, task: Task, user: str) -> str:
        return f"""\
[maildrop.{user}]
host = "127.0.0.1"
port = {task.pop3_port}
username = "{user}"
password = {{ file = "password" }}
auth = "user"
"""

    def _head(self, task: Task, every: str) -> str:
        work = task.workload
        tls = f'tls_ca_file = "{task.site.ca_file}"' if work.tls else 'tls = "none"\nallow_cleartext = true'
        return f"""\
[daemon]
state_dir = "{task.folder / "state"}"
hostname = "relay.example.org"
log_format = "json"
max_sessions = {max(64, work.at_once)}
max_sessions_per_host = {work.at_once}
start_rate = 1000

[http]
listen = ""

[defaults]
{tls}
deliver = ["goal"]
keep = {str(work.keep).lower()}
every = "{every}"
jitter = "0s"
"""

    def _destination(self, task: Task) -> str:
        if task.workload.goal is Goal.MAILDIR:
            return f'[destination.goal]\ntype = "maildir"\npath = "{task.maildir}"\n'
        smtp = task.ends.smtp
        return f"""\
[destination.goal]
host = "127.0.0.1"
port = {smtp.chunking if self._chunking else smtp.data}
tls = "none"
recipients = ["sink@example.org"]
max_sessions = {max(8, task.workload.sessions)}
"""


def working_seconds(lines: Iterable[str]) -> float:
    """Return the time from the beginning of the first poll to the end of the last, by the log.

    Raises:
        RunFailedError: no poll was finished.
    """
    polls = finished_polls(lines)
    if not polls:
        raise RunFailedError("the log tells of no poll")
    ends = [datetime.fromisoformat(poll["ts"]).timestamp() for poll in polls]
    starts = [end - float(poll["duration_seconds"]) for end, poll in zip(ends, polls, strict=True)]
    return max(ends) - min(starts)


def finished_polls(lines: Iterable[str]) -> list[dict[str, Any]]:
    """Return the log entries of polls that have ended; the last line may be half written."""
    return [json.loads(line) for line in lines if _FINISHED in line and line.endswith("}")]
