"""fetchmail: one process per part of the maildrops, since it polls one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.contenders.base import Command, Job, Task
from benchmarks.site import PASSWORD
from benchmarks.store import uidls

_NO_MAIL = 1
"""Its exit code when there was nothing new."""


class Fetchmail:
    """fetchmail to SMTP; `lazy` to a sink that acknowledges late, as Postfix does."""

    program = "fetchmail"
    resident = False

    def __init__(self, *, lazy: bool = False) -> None:
        self.name = "fetchmail-lazy" if lazy else "fetchmail"
        self._lazy = lazy

    def prime(self, task: Task) -> Job | None:
        """Write its lists of what it has seen."""
        for number, users in enumerate(task.shares()):
            lines = [
                f"{user}@127.0.0.1 {uidl}\n" for user in users for uidl in uidls(task.site.near.pop3, user)
            ]
            task.write(f"ids{number}", "".join(lines))
        return None

    def job(self, task: Task) -> Job:
        """Write a run control file per process."""
        return Job([self._command(task, number, users) for number, users in enumerate(task.shares())])

    def _command(self, task: Task, number: int, users: Sequence[str]) -> Command:
        # LogName, fetch ids and pid file apart, so that processes do not meet.
        home = task.folder / f"home{number}"
        home.mkdir(exist_ok=True)
        polls = "\n".join(self._poll(task, user) for user in users)
        control = task.write(f"fetchmailrc{number}", f"set no bouncemail\nset no syslog\n{polls}\n")
        words: list[str | Path] = [
            "fetchmail",
            "--silent",
            "--fetchmailrc",
            control,
            "--idfile",
            task.folder / f"ids{number}",
        ]
        words += ["--pidfile", home / "pid", "--logfile", "/dev/null"]
        return Command(words, {"HOME": str(home), "FETCHMAILHOME": str(home)}, frozenset({0, _NO_MAIL}))

    def _poll(self, task: Task, user: str) -> str:
        work, smtp = task.workload, task.ends.smtp
        host = "localhost" if work.tls else "127.0.0.1"
        tls = f'ssl sslcertck sslcertfile "{task.site.ca_file}"' if work.tls else "sslproto ''"
        server = f"poll {user} via {host} service {task.pop3_port} protocol pop3 timeout 60 auth password"
        account = f'user "{user}" password "{PASSWORD}" is bench here {tls}'
        goal = f"smtphost 127.0.0.1/{smtp.lazy if self._lazy else smtp.data} smtpname sink@example.org"
        rest = "norewrite nomimedecode pass8bits batchlimit 0 fetchlimit 0 expunge 0"
        seen = ("uidl", "keep") if work.keep else ("", "nokeep fetchall")
        return f"{server} {seen[0]} {account} {seen[1]} {goal} {rest}"
