"""Which runs there will be, in which order, and how long that takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.workloads import Load, Trial, Workload

_BESIDE_SECONDS = 1.2
"""What a run takes besides its work: putting maildrops back, starting, counting."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for on the command line.

    Attributes:
        scale: a factor for every load; with it the slow ones get no smaller part.
        repetitions: of each run; 0 means what the workload says.
        brief: whether variants of a contender are left out but in the first workload.
    """

    workloads: Sequence[str]
    contenders: Sequence[str]
    scale: float = 1.0
    repetitions: int = 0
    brief: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One contender in one workload."""

    contender: str
    trial: Trial
    load: Load
    repetitions: int


def entries(workload: Workload, wish: Wish) -> list[Entry]:
    """Return who takes part in a workload, with which load and how often."""
    names = [name for name in workload.trials if name in wish.contenders]
    if wish.brief and workload.key != wish.workloads[0]:
        names = [name for name in names if "-" not in name]
    return [_entry(workload, name, workload.trials[name], wish) for name in names]


def _entry(workload: Workload, name: str, trial: Trial, wish: Wish) -> Entry:
    load = workload.load.scaled(wish.scale)
    repetitions = wish.repetitions or trial.repetitions or workload.repetitions
    return Entry(name, trial, load.part(trial.share) if wish.scale >= 1 else load, repetitions)


def interleaved(plan: Sequence[Entry]) -> Iterator[Entry]:
    """Yield every run: all contenders in turn, again and again, so that a busy minute strikes all of them.

    Whoever runs less often stops earlier.
    """
    for turn in range(max((entry.repetitions for entry in plan), default=0)):
        yield from (entry for entry in plan if turn < entry.repetitions)


def estimate(workloads: Mapping[str, Workload], wish: Wish) -> float:
    """Return roughly how many seconds it will take."""
    return sum(
        entry.repetitions * (entry.trial.seconds * min(wish.scale, 1.0) + _BESIDE_SECONDS)
        for key in wish.workloads
        for entry in entries(workloads[key], wish)
    )
