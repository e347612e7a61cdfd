"""What is to be reached, as ratios within one run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.figures import ratio
from benchmarks.results import Chapter

PEERS = ("fetchmail", "fdm", "mpop", "getmail")


@dataclass(frozen=True, slots=True)
class Aim:
    """Ours is to be at least `factor` times as good as the best of `rivals`; below 1 that is a part of it."""

    ours: str
    factor: float
    rivals: tuple[str, ...]


AIMS: Mapping[str, tuple[Aim, ...]] = {
    "A": (
        Aim("ours", 8, ("fetchmail",)),
        Aim("ours-bdat", 8, ("fetchmail",)),
        Aim("ours", 0.6, ("floor",)),
        Aim("ours-bdat", 0.6, ("floor",)),
    ),
    "B": (Aim("ours", 1.1, ("fdm",)), Aim("ours", 0.85, ("floor",)), Aim("ours-bdat", 0.85, ("floor",))),
    "C": (Aim("ours", 4, PEERS), Aim("ours", 0.6, ("floor",)), Aim("ours-bdat", 0.6, ("floor",))),
    "D": (Aim("ours", 5, PEERS), Aim("ours", 0.9, ("floor",)), Aim("ours-bdat", 0.9, ("floor-bdat",))),
    "E": (Aim("ours", 80, PEERS), Aim("ours", 0.85, ("floor",)), Aim("ours-bdat", 0.85, ("floor-bdat",))),
    "F": (Aim("ours", 15, PEERS), Aim("ours", 0.9, ("floor",))),
    "G": (Aim("ours", 1 / 1.3, ("floor",)),),
    "H": (Aim("ours", 8, ("fetchmail",)), Aim("ours-bdat", 8, ("fetchmail",))),
    "I": (Aim("ours", 1.3, ("mpop",)),),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of an aim; `reached` is the ratio, against the rival that was the best."""

    aim: Aim
    rival: str
    reached: float

    @property
    def met(self) -> bool:
        """Whether that is enough."""
        return self.reached >= self.aim.factor


def verdicts(chapter: Chapter) -> list[Verdict]:
    """Return what came of the aims of a workload; those whose rivals were not measured are left out."""
    found = (_verdict(chapter, aim) for aim in AIMS.get(chapter.key, ()))
    return [verdict for verdict in found if verdict is not None]


def _verdict(chapter: Chapter, aim: Aim) -> Verdict | None:
    ours = _figure(chapter, aim.ours)
    rivals = {name: figure for name in aim.rivals if (figure := _figure(chapter, name))}
    if not ours or not rivals:
        return None
    less_is_better = chapter.unit == "s"
    reached = {name: ratio(ours, figure, less_is_better=less_is_better) for name, figure in rivals.items()}
    best = min(reached, key=lambda name: reached[name])
    return Verdict(aim, best, reached[best])


def _figure(chapter: Chapter, contender: str) -> float:
    line = chapter.line(contender)
    spread = line.spread if line else None
    return spread.middle if spread else 0.0
