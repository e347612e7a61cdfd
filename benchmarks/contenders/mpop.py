"""mpop: a process per part of the maildrops. It knows no SMTP, so it gets a quick program to deliver with."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.contenders.base import Command, Job, Task, mkdirs
from benchmarks.site import PASSWORD
from benchmarks.tools import tool
from benchmarks.workloads import Goal


class Mpop:
    """mpop into a Maildir, or to SMTP by way of `benchmarks/c/mda.c`."""

    name = program = "mpop"
    resident = False

    def prime(self, task: Task) -> Job | None:
        """Let it take note of all that is there without fetching it, as its manual says (killsize)."""
        near = task.site.near.pop3
        return Job([self._command(task, number, users, near, "killsize 0") for number, users in _parts(task)])

    def job(self, task: Task) -> Job:
        """Write a configuration per process."""
        return Job([self._command(task, number, users, task.pop3_port) for number, users in _parts(task)])

    def _command(self, task: Task, number: int, users: Sequence[str], port: int, more: str = "") -> Command:
        work = task.workload
        tls = f"tls on\ntls_starttls off\ntls_trust_file {task.site.ca_file}" if work.tls else "tls off"
        head = (
            f"defaults\nhost {'localhost' if work.tls else '127.0.0.1'}\nport {port}\n{tls}\nauth user\n"
            f"password {PASSWORD}\nkeep {'on' if work.keep else 'off'}\n{self._delivery(task)}\n{more}\n"
        )
        accounts = [f"account {user}\nuser {user}\nuidls_file {task.folder}/uidls-{user}\n" for user in users]
        config = task.write(f"mpoprc{number}", head + "".join(accounts))
        return Command(["mpop", "--quiet", f"--file={config}", "--all-accounts"])

    def _delivery(self, task: Task) -> str:
        if task.workload.goal is Goal.MAILDIR:
            return f"delivery maildir {mkdirs(task.maildir)}"
        return f"delivery mda {tool('mda')} {task.ends.smtp.data}"


def _parts(task: Task) -> list[tuple[int, Sequence[str]]]:
    return list(enumerate(task.shares()))
