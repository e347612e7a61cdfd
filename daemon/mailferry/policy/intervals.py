"""When something comes due that comes due every so many seconds.

The times lie on a grid, each later than its point by a part of the jitter. So the jitter does
not add up: over the day there are as many turns as the interval says.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

_SAME_SECONDS = 0.001
"""Two times that are nearer to each other are one: they went through a clock's roundings."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The times of one job, in seconds since the epoch.

    Attributes:
        first: the first time; it is not moved.
        jitter_seconds: by how much each of the others is moved, at most; not more than `every_seconds`.
        seed: decides by how much each one is moved; another number for each job.
    """

    first: float
    every_seconds: float
    jitter_seconds: float
    seed: int

    def after(self, moment: float) -> float:
        """Return the first time after this one."""
        number = max(math.floor((moment - self.first) / self.every_seconds), 0)
        while (due := self._due(number)) <= moment + _SAME_SECONDS:
            number += 1
        return due

    def _due(self, number: int) -> float:
        point = self.first + number * self.every_seconds
        if not number or not self.jitter_seconds:
            return point
        part = zlib.crc32(b"%d/%d" % (self.seed, number)) / 2**32
        return point + part * self.jitter_seconds
