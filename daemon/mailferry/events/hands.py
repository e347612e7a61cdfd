"""What people do to the running daemon: control, pauses, traces, the status page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from mailferry.events.base import Event, Level


@dataclass(frozen=True, slots=True)
class WireTraced(Event):
    """One line of a dialogue, secrets and message data masked."""

    name: ClassVar[str] = "wire.traced"
    peer: str
    direction: Literal["send", "reply", "note"]
    text: str
    session: str = ""
    """Tells sessions with the peer apart that are open side by side; of a maildrop it is the `poll_id`."""


@dataclass(frozen=True, slots=True)
class TraceStarted(Event):
    """Sessions with this peer are logged line by line from now on: somebody asked for it."""

    name: ClassVar[str] = "trace.started"
    peer: str
    ends_at: float


@dataclass(frozen=True, slots=True)
class TraceEnded(Event):
    """Sessions with this peer are not logged any more."""

    name: ClassVar[str] = "trace.ended"
    peer: str
    reason: str
    """`asked`, `time` (its time was over), `size` (it had written as much as one may) or `stopping` (the daemon)."""
    lines: int
    left_out: int
    """Lines that were too many for their second."""


@dataclass(frozen=True, slots=True)
class PauseBegan(Event):
    """Somebody has paused a maildrop, a destination or an ETRN server: it rests until `ends_at`, or a resume."""

    name: ClassVar[str] = "pause.began"
    level: ClassVar[Level] = "warning"
    target: str
    ends_at: float


@dataclass(frozen=True, slots=True)
class PauseEnded(Event):
    """A pause by hand is over."""

    name: ClassVar[str] = "pause.ended"
    target: str
    reason: str
    """`asked`, or `time`: its time was over."""


@dataclass(frozen=True, slots=True)
class ControlUsed(Event):
    """Somebody has told the daemon to do something, over the control socket or on the status page."""

    name: ClassVar[str] = "control.used"
    operation: str
    """`poll`, `pause`, `resume`, `retry`, `retry-all`, `release`, `ask`, `reload` or `trace`."""
    targets: str
    """What it was about, as it was asked for; empty for the daemon as a whole."""
    asked_by: str
    """Who: the user's number, as the system tells it, or `status page` and where from."""


@dataclass(frozen=True, slots=True)
class PageLoggedIn(Event):
    """Somebody has logged in to the status page."""

    name: ClassVar[str] = "page.logged_in"
    client: str
    """An address, or for a Unix socket the number of the user at the other end, which may be a proxy's."""


@dataclass(frozen=True, slots=True)
class PageLoginRefused(Event):
    """Somebody tried to log in to the status page with a wrong token; at most 30 are heard in a minute."""

    name: ClassVar[str] = "page.login_refused"
    level: ClassVar[Level] = "warning"
    client: str
    reason: str


@dataclass(frozen=True, slots=True)
class ControlUnavailable(Event):
    """There is no control socket: commands cannot talk to this daemon; mail is not affected."""

    name: ClassVar[str] = "control.unavailable"
    level: ClassVar[Level] = "warning"
    path: str
    reason: str
