"""One run of one contender: maildrops put back, the work done, the mail looked at."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contenders.base import Contender, Task
from benchmarks.figures import Fate, fate_of
from benchmarks.mail import MailMaker, digests_of
from benchmarks.measuring import Used, run
from benchmarks.sink import await_arrivals, take_arrivals
from benchmarks.site import Site
from benchmarks.store import Maildrops
from benchmarks.workloads import Goal, Load, Trial, Workload

_LIMIT_SECONDS = 240.0
_QUIET_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Run:
    """What came of one run.

    Attributes:
        seconds: for how long work was done; `whole_seconds` from the start to the end of the processes.
    """

    load: Load
    seconds: float
    whole_seconds: float
    used: Used
    fate: Fate


class Rig:
    """Makes runs on a site; keeps the maildrops that were made."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._maker = MailMaker()
        self._stores: dict[tuple[str, Load], tuple[Maildrops, Mapping[int, str]]] = {}
        self._runs = 0

    def run(self, workload: Workload, load: Load, trial: Trial, contender: Contender) -> Run:
        """Let a contender do the work once.

        Raises:
            RunFailedError: it failed.
        """
        drops, expected = self._store(workload, load)
        drops.restore(self._site.maildir_of)
        self._runs += 1
        folder = self._site.folder / f"run{self._runs}"
        folder.mkdir()
        task = Task(self._site, workload, trial, load, drops.users, folder)
        try:
            return self._measure(task, contender, expected)
        finally:
            take_arrivals(
                self._site.near.smtp.data
            )  # of a run that failed, so that they do not count for the next
            shutil.rmtree(folder)

    def _measure(self, task: Task, contender: Contender, expected: Mapping[int, str]) -> Run:
        job = contender.job(task)
        used = run(job.commands, task.folder, _LIMIT_SECONDS)
        seconds = job.working_seconds() if job.working_seconds else used.seconds
        return Run(task.load, seconds, used.seconds, used, fate_of(expected, self._arrived(task)))

    def _arrived(self, task: Task) -> Sequence[tuple[int, str]]:
        match task.workload.goal:
            case Goal.SMTP:
                await_arrivals(self._site.near.smtp.data, task.load.to_relay, _QUIET_SECONDS)
                return take_arrivals(self._site.near.smtp.data)
            case Goal.MAILDIR:
                return digests_of(path for path in task.maildir.glob("*/*") if path.is_file())
            case Goal.NOWHERE:
                return []

    def _store(self, workload: Workload, load: Load) -> tuple[Maildrops, Mapping[int, str]]:
        if (workload.key, load) not in self._stores:
            self._stores[workload.key, load] = self._make_store(workload, load)
        return self._stores[workload.key, load]

    def _make_store(self, workload: Workload, load: Load) -> tuple[Maildrops, Mapping[int, str]]:
        number = len(self._stores)
        each = load.messages + load.seen
        paths = self._maker.write(
            self._site.folder / f"mail-{load.size_octets}", range(load.maildrops * each), load.size_octets
        )
        contents = [paths[start : start + each] for start in range(0, len(paths), each)]
        drops = Maildrops(f"{workload.key.lower()}{'x' * number}", contents, self._copies(number))
        drops.make(self._site.maildir_of, self._site.near.pop3)
        fresh = [path for content in contents for path in content[load.seen :]]
        return drops, dict(digests_of(fresh))

    def _copies(self, number: int) -> Path:
        folder = self._site.folder / f"store{number}"
        folder.mkdir()
        return folder
