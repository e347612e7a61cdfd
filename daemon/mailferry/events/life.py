"""The daemon itself: start and end, configuration, schedule, clock, log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mailferry.events.base import Event, Level


@dataclass(frozen=True, slots=True)
class DaemonStarted(Event):
    """Configuration is in force and the schedule runs."""

    name: ClassVar[str] = "daemon.started"
    version: str
    maildrops: int
    destinations: int


@dataclass(frozen=True, slots=True)
class DaemonStopping(Event):
    """A signal asked for the end; what is in flight is being finished."""

    name: ClassVar[str] = "daemon.stopping"
    signal: str


@dataclass(frozen=True, slots=True)
class DaemonStopped(Event):
    """All sessions are closed and all rows written."""

    name: ClassVar[str] = "daemon.stopped"
    clean: bool


@dataclass(frozen=True, slots=True)
class ConfigReloaded(Event):
    """A changed configuration was read and is in force; tables are named as in the file."""

    name: ClassVar[str] = "config.reloaded"
    added: str
    changed: str
    """Keys outside of named tables, too, such as `daemon.log_level`."""
    removed: str
    renewed: str
    """Tables that are the same, while a file they name (a password, a certificate) was written anew."""
    finishing: str
    """Maildrops whose last session under the old settings goes on."""
    duration_seconds: float


@dataclass(frozen=True, slots=True)
class ConfigUnchanged(Event):
    """A reload found the configuration as it is in force."""

    name: ClassVar[str] = "config.unchanged"


@dataclass(frozen=True, slots=True)
class ConfigProblemFound(Event):
    """One thing that is wrong in a configuration that a reload refused, in the words of `mailferry check`."""

    name: ClassVar[str] = "config.problem_found"
    level: ClassVar[Level] = "error"
    problem: str


@dataclass(frozen=True, slots=True)
class ConfigReloadFailed(Event):
    """A reload was refused; everything goes on under the configuration in force."""

    name: ClassVar[str] = "config.reload_failed"
    level: ClassVar[Level] = "error"
    problems: int
    """The first of them stand in `config.problem_found`, all of them in `mailferry check`."""


@dataclass(frozen=True, slots=True)
class ConfigRestartNeeded(Event):
    """A reload found new values of keys that cannot be changed while the daemon runs; the old ones are in force."""

    name: ClassVar[str] = "config.restart_needed"
    level: ClassVar[Level] = "warning"
    keys: str


@dataclass(frozen=True, slots=True)
class ScheduleStuck(Event):
    """Nothing is started though it is due, so systemd's watchdog is not told that all is well; a fault of ours."""

    name: ClassVar[str] = "schedule.stuck"
    level: ClassVar[Level] = "error"
    reason: str


@dataclass(frozen=True, slots=True)
class ClockJumped(Event):
    """The system's clock was set: nothing is deleted because of its age for a while."""

    name: ClassVar[str] = "clock.jumped"
    level: ClassVar[Level] = "warning"
    jump_seconds: float
    """Negative when it was set back."""


@dataclass(frozen=True, slots=True)
class EventRepeated(Event):
    """A trouble that had been told in full came again, `times` since `since_at`; the numbers in its words may differ."""

    name: ClassVar[str] = "event.repeated"
    level: ClassVar[Level] = "warning"
    of: str
    """The event's name."""
    times: int
    since_at: float
    maildrop: str
    destination: str
    reason: str
    """As the last of them said it."""
