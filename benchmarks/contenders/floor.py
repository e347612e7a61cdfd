"""The floor: `benchmarks/c/floor.c`."""

from __future__ import annotations

from benchmarks.contenders.base import Command, Job, Task, mkdirs
from benchmarks.site import PASSWORD
from benchmarks.tools import tool
from benchmarks.workloads import Goal


class Floor:
    """A client that pipelines everything and remembers nothing."""

    program = "cc"
    resident = False

    def __init__(self, *, chunking: bool = False, pooled: bool = False) -> None:
        self.name = "floor-bdat" if chunking else "floor-pooled" if pooled else "floor"
        self._chunking = chunking
        self._pooled = pooled

    def prime(self, _task: Task) -> Job | None:
        """Nothing: it is told how many to pass over."""
        return None

    def job(self, task: Task) -> Job:
        """One process, whatever the workload."""
        work, smtp = task.workload, task.ends.smtp
        prefix = task.users[0].rstrip("0123456789")
        words = [tool("floor"), "--pop", str(task.pop3_port), "--user", prefix, "--password", PASSWORD]
        words += [
            "--drops",
            str(len(task.users)),
            "--at-once",
            str(work.at_once),
            "--skip",
            str(task.load.seen),
        ]
        words += ["--keep"] if work.keep else []
        match work.goal:
            case Goal.SMTP:
                port = smtp.chunking if self._chunking else smtp.data
                words += ["--smtp", str(port), "--sessions", str(work.sessions)]
                words += ["--bdat"] if self._chunking else []
            case Goal.MAILDIR:
                words += ["--maildir", str(mkdirs(task.maildir)), *(["--pooled"] if self._pooled else [])]
            case Goal.NOWHERE:
                words += ["--list"]
        return Job([Command(words)])
