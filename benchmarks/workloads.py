"""The work that is measured: what lies in the maildrops, where it goes, and how far away that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum


class Goal(StrEnum):
    """Where the mail goes."""

    SMTP = "smtp"
    MAILDIR = "maildir"
    NOWHERE = "nowhere"
    """All of it has been seen before."""


class Unit(StrEnum):
    """What a workload's figure counts."""

    MESSAGES = "msg/s"
    MEGABYTES = "MB/s"
    MAILDROPS = "maildrops/s"
    SECONDS = "s"
    """Less is better."""


@dataclass(frozen=True, slots=True)
class Load:
    """What lies in the maildrops; `seen` messages of each were fetched by an earlier poll and kept."""

    maildrops: int
    messages: int
    size_octets: int
    seen: int = 0

    @property
    def to_relay(self) -> int:
        """How many messages one run relays."""
        return self.maildrops * self.messages

    def scaled(self, scale: float) -> Load:
        """Return a load of the same kind with fewer maildrops and fewer messages in each."""
        each = scale**0.5 if self.maildrops > 1 else scale
        return Load(
            _part(self.maildrops, each), _part(self.messages, each), self.size_octets, _part(self.seen, each)
        )

    def part(self, share: float) -> Load:
        """Return a smaller load of the same kind: fewer maildrops, or fewer messages in the only one."""
        if self.maildrops > 1:
            return replace(self, maildrops=_part(self.maildrops, share))
        return replace(self, messages=_part(self.messages, share))


def _part(count: int, share: float) -> int:
    return max(1, round(count * share)) if count > 1 else count


@dataclass(frozen=True, slots=True)
class Trial:
    """How one contender takes part.

    Attributes:
        share: the part of the load that it gets; what is slow gets little, and its rate is told.
        processes: how many of it run side by side, each with its part of the maildrops.
        repetitions: fewer than the workload's own, for slow ones; 0 means the same.
        seconds: what one run takes, roughly, for the estimate.
    """

    share: float = 1.0
    processes: int = 1
    repetitions: int = 0
    seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class Workload:
    """One line of the table.

    Attributes:
        at_once: POP3 sessions at a time, for those who can choose.
        sessions: SMTP sessions of the floor.
        keep: whether messages stay on the server.
    """

    key: str
    title: str
    load: Load
    unit: Unit
    trials: Mapping[str, Trial]
    goal: Goal = Goal.SMTP
    far: bool = False
    tls: bool = False
    keep: bool = False
    at_once: int = 1
    sessions: int = 1
    repetitions: int = 5

    @property
    def less_is_better(self) -> bool:
        """Whether a smaller figure is the better one."""
        return self.unit is Unit.SECONDS

    def figure(self, load: Load, seconds: float) -> float:
        """Return the figure of a run that took so long."""
        match self.unit:
            case Unit.MESSAGES:
                return load.to_relay / seconds
            case Unit.MEGABYTES:
                return load.to_relay * load.size_octets / seconds / 1e6
            case Unit.MAILDROPS:
                return load.maildrops / seconds
            case Unit.SECONDS:
                return seconds
