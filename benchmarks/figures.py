"""From single runs to figures: medians, spreads, ratios, and what came of the mail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of the messages of one run."""

    lost: int = 0
    doubled: int = 0
    altered: int = 0
    strange: int = 0
    """Messages that nobody had sent."""

    @property
    def clean(self) -> bool:
        """Whether each message arrived once and unchanged."""
        return self == Fate()


def fate_of(expected: Mapping[int, str], arrived: Iterable[tuple[int, str]]) -> Fate:
    """Compare what arrived with what was there to fetch.

    A copy counts as altered if its digest differs; a message with several copies
    as doubled once for each beyond the first.
    """
    copies: Counter[int] = Counter()
    altered = strange = 0
    for number, digest in arrived:
        if number not in expected:
            strange += 1
            continue
        copies[number] += 1
        altered += digest != expected[number]
    return Fate(len(expected) - len(copies), copies.total() - len(copies), altered, strange)


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle of some figures, and how far they lie apart."""

    middle: float
    least: float
    most: float

    @property
    def relative(self) -> float:
        """The distance of the extremes, as a part of the middle."""
        return (self.most - self.least) / self.middle if self.middle else 0.0


def spread_of(figures: Sequence[float]) -> Spread:
    """Return median, least and most.

    Raises:
        ValueError: there are no figures.
    """
    if not figures:
        raise ValueError("no figures")
    return Spread(median(figures), min(figures), max(figures))


def ratio(ours: float, theirs: float, *, less_is_better: bool = False) -> float:
    """Return how many times better `ours` is; 0.5 is half as good, 0 when nothing can be said."""
    if ours <= 0 or theirs <= 0:
        return 0.0
    return theirs / ours if less_is_better else ours / theirs
