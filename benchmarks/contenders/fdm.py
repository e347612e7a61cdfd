"""fdm: a process per part of the maildrops, each with one account at a time.

All accounts of one process at once is its default; the memory of its parent grows
with the square of their number, so hundreds of maildrops must not be given to one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.contenders.base import Command, Job, Task, mkdirs
from benchmarks.site import PASSWORD
from benchmarks.store import uidls
from benchmarks.workloads import Goal


class Fdm:
    """fdm to SMTP or into a Maildir."""

    name = program = "fdm"
    resident = False

    def prime(self, task: Task) -> Job | None:
        """Write its caches: the length of a unique-id and the unique-id."""
        for user in task.users:
            lines = [f"{len(uidl)} {uidl}\n" for uidl in uidls(task.site.near.pop3, user)]
            cache = self._cache(task, user)
            cache.write_text("".join(lines), encoding="ascii")
            cache.chmod(0o666)
        return None

    def job(self, task: Task) -> Job:
        """Write a configuration per process."""
        return Job([self._command(task, number, users) for number, users in enumerate(task.shares())])

    def _command(self, task: Task, number: int, users: Sequence[str]) -> Command:
        lock = task.folder / f"lock{number}"
        lines = [
            f'set lock-file "{lock}"',
            "set parallel-accounts 1",
            "set queue-high 10",
            "set maximum-size 100M",
        ]
        lines += ["set verify-certificates"] if task.workload.tls else []
        lines += [self._action(task)]
        lines += [self._account(task, user) for user in users]
        lines += ['match all action "out"', ""]
        config = task.write(f"fdm{number}.conf", "\n".join(lines))
        # As root it fetches as its own user, and would deliver as that one too.
        words: list[str | Path] = ["fdm", "-q", "-u", _user_name(), "-f", config, "fetch"]
        return Command(
            words, {"SSL_CERT_FILE": str(task.site.ca_file), "TMPDIR": str(_open_folder(task, "tmp"))}
        )

    def _action(self, task: Task) -> str:
        if task.workload.goal is Goal.MAILDIR:
            return f'action "out" maildir "{mkdirs(task.maildir)}"'
        port = task.ends.smtp.data
        return (
            f'action "out" smtp server "127.0.0.1" port {port} from "bench@example.org" to "sink@example.org"'
        )

    def _account(self, task: Task, user: str) -> str:
        kind = "pop3s" if task.workload.tls else "pop3"
        host = "localhost" if task.workload.tls else "127.0.0.1"
        kept = f' new-only cache "{self._cache(task, user)}" keep' if task.workload.keep else ""
        return (
            f'account "{user}" {kind} server "{host}" port {task.pop3_port} '
            f'user "{user}" pass "{PASSWORD}"{kept}'
        )

    def _cache(self, task: Task, user: str) -> Path:
        return _open_folder(task, "caches") / user


def _open_folder(task: Task, name: str) -> Path:
    """Return a folder that its own user can write to."""
    folder = task.folder / name
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)
    return folder


def _user_name() -> str:
    return Path.home().owner()
