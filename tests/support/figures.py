"""What the fault tests measured, for the table that `make faults` prints.

With MAILFERRY_FAULT_FIGURES set to a path, each test adds its figures there as a
JSON line; the report sums them up by row. MAILFERRY_FAULT_SEEDS says how many
seeds each seeded test runs; without it, few.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

SEEDS_VARIABLE: Final = "MAILFERRY_FAULT_SEEDS"
FIGURES_VARIABLE: Final = "MAILFERRY_FAULT_FIGURES"


def seeds(few: int) -> range:
    """Return the seeds to run: as many as were asked for, `few` when nobody asked."""
    return range(int(os.environ.get(SEEDS_VARIABLE, "0")) or few)


def thorough() -> bool:
    """Tell whether somebody asked for more than CI has time for."""
    return bool(os.environ.get(SEEDS_VARIABLE))


def record(row: str, **figures: int) -> None:
    """Add to the figures of a row; a name that begins with `peak_` keeps its maximum, all others are summed."""
    path = os.environ.get(FIGURES_VARIABLE)
    if path:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"row": row, **figures}) + "\n")
