"""Everything that mailferry tells the world: what all events have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

Level = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Event:
    """The root of all events."""

    name: ClassVar[str] = ""
    level: ClassVar[Level] = "info"
    alike: ClassVar[tuple[str, ...]] = ()
    """Fields by which two of a class are the same trouble: the log tells the first and counts the others."""
