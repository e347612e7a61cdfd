"""One run of one contender: maildrops put back, the work done, the mail looked at."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.contenders.base import Contender, Task
from benchmarks.figures import Fate, fate_of
from benchmarks.mail import MailMaker, digests_of
from benchmarks.measuring import Used, run
from benchmarks.resident import run_resident
from benchmarks.sink import await_arrivals, take_arrivals
from benchmarks.site import Site
from benchmarks.store import Maildrops, fill_maildir
from benchmarks.workloads import Goal, Load, Trial, Workload

_LIMIT_SECONDS = 240.0
_QUIET_SECONDS = 2.0
_NEW_NUMBERS = 1_000_000
"""Messages that come later are numbered from here on."""

Digests = Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Run:
    """What came of one run.

    Attributes:
        seconds: for how long work was done, as far as that can be told.
        start_processor_seconds: what is no part of the work: that a daemon started and stopped.
    """

    load: Load
    seconds: float
    start_processor_seconds: float
    used: Used
    fate: Fate


class Rig:
    """Makes runs on a site, and keeps what can be used again.

    `brief`: what a daemon's start costs is not looked at.
    """

    def __init__(self, site: Site, *, brief: bool = False) -> None:
        self._site = site
        self._brief = brief
        self._maker = MailMaker()
        self._fresh: dict[tuple[str, Load], tuple[Maildrops, Digests]] = {}
        self._shared: dict[tuple[str, Load], Maildrops] = {}
        self._standing: dict[tuple[str, str], Task] = {}
        self._starts: dict[str, float] = {}
        self._count = 0

    def run(self, workload: Workload, load: Load, trial: Trial, contender: Contender) -> Run:
        """Let a contender do the work once.

        Raises:
            RunFailedError: it failed.
        """
        if load.seen:
            return self._run_standing(workload, load, trial, contender)
        if (workload.key, load) not in self._fresh:
            self._fresh[workload.key, load] = self._make_fresh(load)
        drops, expected = self._fresh[workload.key, load]
        drops.restore()
        task = self._task(workload, load, trial, drops)
        try:
            return self._measure(task, contender, expected, [])
        finally:
            shutil.rmtree(task.folder)

    def _task(self, workload: Workload, load: Load, trial: Trial, drops: Maildrops) -> Task:
        self._count += 1
        folder = self._site.folder / f"task{self._count}"
        folder.mkdir(mode=0o755)
        return Task(self._site, workload, trial, load, drops.users, folder)

    def _measure(self, task: Task, contender: Contender, expected: Digests, new: Sequence[Path]) -> Run:
        """Run it; `new` messages come into the first maildrop just before."""
        take_arrivals(self._site.near.smtp.data)  # of a run that failed: they count for nobody

        def deliver() -> None:
            if new:
                fill_maildir(self._site.maildir_of(task.users[0]), new, first=task.load.seen, seen=False)

        job = contender.job(task)
        if job.polls is not None:
            start = 0.0
            used = run_resident(job.commands[0], task.folder, deliver, job.polls, _LIMIT_SECONDS)
        else:
            start = self._start_of(contender, task)
            deliver()
            used = run(job.commands, task.folder, _LIMIT_SECONDS)
        seconds = job.working_seconds() if job.working_seconds else used.seconds
        return Run(task.load, seconds, start, used, fate_of(expected, self._arrived(task)))

    def _start_of(self, contender: Contender, task: Task) -> float:
        """Return the processor time of a start and a stop with next to nothing in between, looked at once."""
        if self._brief or not contender.resident:
            return 0.0
        if contender.program not in self._starts:
            near = replace(task.workload, goal=Goal.SMTP, far=False, tls=False)
            empty = self._task(near, Load(1, 0, 0), task.trial, self._make_drops([[]]))
            used = run(contender.job(empty).commands, empty.folder, _LIMIT_SECONDS)
            self._starts[contender.program] = used.processor_seconds
        return self._starts[contender.program]

    def _arrived(self, task: Task) -> Sequence[tuple[int, str]]:
        match task.workload.goal:
            case Goal.SMTP:
                await_arrivals(self._site.near.smtp.data, task.load.to_relay, _QUIET_SECONDS)
                return take_arrivals(self._site.near.smtp.data)
            case Goal.MAILDIR:
                return digests_of(path for part in ("new", "cur") for path in (task.maildir / part).iterdir())
            case Goal.NOWHERE:
                return take_arrivals(self._site.near.smtp.data)

    def _make_fresh(self, load: Load) -> tuple[Maildrops, Digests]:
        contents = self._contents(load.maildrops, load.messages, load.size_octets)
        drops = self._make_drops(contents)
        drops.keep_copy()
        return drops, dict(digests_of(path for content in contents for path in content))

    def _make_drops(self, contents: Sequence[Sequence[Path]]) -> Maildrops:
        self._count += 1
        return Maildrops(self._site, f"u{self._count}x", contents)

    def _contents(self, maildrops: int, each: int, size: int, first: int = 0) -> list[list[Path]]:
        folder = self._site.folder / f"mail-{size}"
        paths = self._maker.write(folder, range(first, first + maildrops * each), size)
        return [paths[start : start + each] for start in range(0, len(paths), each)]

    # Work that begins with what was seen before: the maildrops stay as they are, and grow

    def _run_standing(self, workload: Workload, load: Load, trial: Trial, contender: Contender) -> Run:
        key = (workload.key, contender.name)
        if key not in self._standing:
            self._standing[key] = self._prime(
                self._task(workload, load, trial, self._seen(workload, load)), contender
            )
        task = self._standing[key]
        first = _NEW_NUMBERS + task.load.seen
        new = self._contents(1, load.messages, load.size_octets, first)[0] if load.messages else []
        # Also after a failure: what lies there now will have been seen next time.
        self._standing[key] = replace(task, load=replace(load, seen=task.load.seen + load.messages))
        return self._measure(task, contender, dict(digests_of(new)), new)

    def _seen(self, workload: Workload, load: Load) -> Maildrops:
        """Return maildrops of what was seen before: one set for all contenders if nothing is added."""
        if load.messages:
            return self._make_drops(self._contents(load.maildrops, load.seen, load.size_octets))
        if (workload.key, load) not in self._shared:
            contents = self._contents(load.maildrops, load.seen, load.size_octets)
            self._shared[workload.key, load] = self._make_drops(contents)
        return self._shared[workload.key, load]

    def _prime(self, task: Task, contender: Contender) -> Task:
        job = contender.prime(task)
        if job is not None:
            run(job.commands, task.folder, _LIMIT_SECONDS)
        return task
