"""What every contender is told, and what it answers with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks.site import Ends, Site
from benchmarks.workloads import Load, Trial, Workload


class RunFailedError(Exception):
    """A contender did not do its work; the text says what it said."""


@dataclass(frozen=True, slots=True)
class Task:
    """One run that is about to be.

    Attributes:
        load: what lies in the maildrops of `users` now.
        folder: an empty folder for configuration, state and output.
    """

    site: Site
    workload: Workload
    trial: Trial
    load: Load
    users: Sequence[str]
    folder: Path

    @property
    def ends(self) -> Ends:
        """Where to fetch and deliver."""
        return self.site.far if self.workload.far else self.site.near

    @property
    def pop3_port(self) -> int:
        """Where to fetch: of TLS where the workload is about that."""
        return self.site.pop3s_port if self.workload.tls else self.ends.pop3

    @property
    def maildir(self) -> Path:
        """Where mail goes when it goes to files."""
        return self.folder / "archive"

    def shares(self) -> list[Sequence[str]]:
        """Return the users that each process has to serve."""
        count = min(self.trial.processes, len(self.users))
        return [self.users[number::count] for number in range(count)]

    def write(self, name: str, text: str) -> Path:
        """Write a file that only its owner may read, as mail programs want it."""
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")
        return path


@dataclass(frozen=True, slots=True)
class Command:
    """A process to start."""

    words: Sequence[str | Path]
    environment: Mapping[str, str] = field(default_factory=dict)
    fine: frozenset[int] = frozenset({0})
    """Exit codes that mean success."""


@dataclass(frozen=True, slots=True)
class Polls:
    """What a daemon's own output tells: how many polls have ended, and whether one brought all the new mail."""

    count: Callable[[], int]
    brought_all: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Job:
    """The processes of one run, all started at once.

    Attributes:
        working_seconds: tells afterwards for how long there were polls; None where the whole time counts.
        polls: for a daemon, which does not end by itself; then there is one process.
    """

    commands: Sequence[Command]
    working_seconds: Callable[[], float] | None = None
    polls: Polls | None = None


class Contender(Protocol):
    """One way to do the work."""

    name: str
    program: str
    """What must be installed."""
    resident: bool
    """Whether it is a daemon, whose start belongs to no poll."""

    def prime(self, task: Task, /) -> Job | None:
        """Have a state in which all that is in the maildrops was fetched before; what is returned is run for it."""

    def job(self, task: Task) -> Job:
        """Write what is needed into `task.folder`, and return what to start."""


def mkdirs(maildir: Path) -> Path:
    """Make a Maildir, unless it is there already."""
    for part in ("tmp", "new", "cur"):
        (maildir / part).mkdir(mode=0o700, parents=True, exist_ok=True)
    maildir.chmod(0o700)  # as fdm wants it
    return maildir


def output_of(folder: Path, number: int) -> list[str]:
    """Return the lines that the process of that number has written."""
    return output_file(folder, number).read_text("utf-8", "replace").splitlines()


def output_file(folder: Path, number: int) -> Path:
    """Return where the process of that number writes to."""
    return folder / f"run{number}.out"
