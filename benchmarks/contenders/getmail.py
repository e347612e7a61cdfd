"""getmail6: a process per part of the maildrops, to LMTP or into a Maildir; it knows no SMTP."""

from __future__ import annotations

import os
import pwd
from collections.abc import Sequence
from pathlib import Path

from benchmarks.contenders.base import Command, Job, Task, mkdirs
from benchmarks.site import PASSWORD
from benchmarks.store import uidls
from benchmarks.workloads import Goal

_SEEN_AT = 1_700_000_000


class Getmail:
    """getmail6."""

    name = program = "getmail"
    resident = False

    def prime(self, task: Task) -> Job | None:
        """Write its files of old mail: the unique-id, a zero octet, when it was seen."""
        for user in task.users:
            lines = [f"{uidl}\0{_SEEN_AT}\n" for uidl in uidls(task.site.near.pop3, user)]
            task.write(f"oldmail-127.0.0.1-{task.pop3_port}-{user}", "".join(lines))
        return None

    def job(self, task: Task) -> Job:
        """Write a configuration per maildrop."""
        return Job([self._command(task, users) for users in task.shares()])

    def _command(self, task: Task, users: Sequence[str]) -> Command:
        configs = [task.write(f"getmailrc-{user}", self._config(task, user)) for user in users]
        words: list[str | Path] = ["getmail", "--quiet", f"--getmaildir={task.folder}"]
        return Command([*_as_ordinary_user(task), *words, *(f"--rcfile={config}" for config in configs)])

    def _config(self, task: Task, user: str) -> str:
        work = task.workload
        kind = "SimplePOP3SSLRetriever" if work.tls else "SimplePOP3Retriever"
        tls = f"ca_certs = {task.site.ca_file}\n" if work.tls else ""
        return (
            f"[retriever]\ntype = {kind}\nserver = {'localhost' if work.tls else '127.0.0.1'}\n"
            f"port = {task.pop3_port}\nusername = {user}\npassword = {PASSWORD}\n{tls}"
            f"[destination]\n{self._destination(task)}\n"
            f"[options]\ndelete = {str(not work.keep).lower()}\nread_all = {str(not work.keep).lower()}\n"
        )

    def _destination(self, task: Task) -> str:
        if task.workload.goal is Goal.MAILDIR:
            return f"type = Maildir\npath = {mkdirs(task.maildir)}/"
        port = task.ends.smtp.data
        return f"type = MDA_lmtp\nhost = 127.0.0.1\nport = {port}\noverride = sink@example.org"


def _as_ordinary_user(task: Task) -> list[str]:
    """Return what makes it another user: as root it delivers to no file."""
    if os.geteuid() != 0 or task.workload.goal is not Goal.MAILDIR:
        return []
    nobody = pwd.getpwnam("nobody")
    for path in (task.folder, *task.folder.rglob("*")):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    return ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
