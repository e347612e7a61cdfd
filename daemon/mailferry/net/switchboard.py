"""Session traces that are switched on and off while the daemon runs.

Each maildrop, destination and ETRN server has a switch. It reaches sessions that are open
already, since these ask it before each line. What is switched on by hand ends by itself:
after a time, or when it has written enough; a busy session loses lines rather than flood the log.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Literal

from mailferry.events import TraceEnded, TraceStarted, WireTraced
from mailferry.model import StandingKind
from mailferry.net.trace import Direction, Trace, TraceSwitch
from mailferry.ports import Clock, Emit
from mailferry.protocol.tracing import poll_in_hand

DEFAULT_SECONDS = 15 * 60.0
LONGEST_SECONDS = 24 * 3600.0
MAX_CHARACTERS = 4 * 1024 * 1024
"""What one switching on may write."""
MAX_LINES_PER_SECOND = 200
MAX_LINE_CHARACTERS = 1_000

EndReason = Literal["asked", "time", "size", "stopping"]


@dataclass(frozen=True, slots=True)
class TraceState:
    """A trace that is on.

    Attributes:
        peer: as in the configuration: `maildrop.alice`, `destination.office`, `etrn.head-office`.
        ends_at: when it ends by itself; None for one that the configuration switches on.
        lines: how many have been written since it is on; `left_out` how many were too many for one second.
    """

    peer: str
    ends_at: float | None
    lines: int = 0
    left_out: int = 0


class TraceSwitchboard:
    """The switches of all that can be traced; one object for the life of the daemon."""

    def __init__(self, emit: Emit, clock: Clock = time.time, *, always: bool = False) -> None:
        """Take where lines go; `always` has everything traced without bounds, as `[daemon] trace` wants it."""
        self._emit = emit
        self._clock = clock
        self._always = always
        self._peers: dict[str, _Peer] = {}

    def tracer(self, peer: str) -> Callable[[], Trace]:
        """Return what makes the trace of each of a peer's sessions; the same peer has one switch for ever."""
        own = self._peers.get(peer)
        if own is None:
            own = self._peers[peer] = _Peer(peer, self._emit, on=self._always)
        return own.new_session

    @property
    def always(self) -> bool:
        """Whether the configuration has everything traced."""
        return self._always

    def set_always(self, *, on: bool) -> None:
        """Have everything traced, or no more, as the configuration says now; what was switched on by hand stays."""
        if on == self._always:
            return
        self._always = on
        for peer in self._peers.values():
            peer.set_always(on=on)

    def states(self) -> tuple[TraceState, ...]:
        """Return what is on, by name."""
        return tuple(peer.state() for _, peer in sorted(self._peers.items()) if peer.switch.on)

    def is_on(self, peer: str) -> bool:
        """Tell whether a peer's sessions are traced."""
        return peer in self._peers and self._peers[peer].switch.on

    def switch_on(self, peer: str, seconds: float = DEFAULT_SECONDS) -> TraceState:
        """Trace a peer's sessions for a while, open ones too; one that is on begins anew.

        Nothing is changed where the configuration has everything traced.
        """
        self.tracer(peer)
        own = self._peers[peer]
        if not self._always:
            seconds = min(seconds, LONGEST_SECONDS)
            own.begin(seconds, self._clock() + seconds)
        return own.state()

    def switch_off(self, peer: str) -> bool:
        """Trace a peer no more; return whether it was on. Not what the configuration has switched on."""
        if self._always or not self.is_on(peer):
            return False
        self._peers[peer].end("asked")
        return True

    def close(self) -> None:
        """Switch everything off, at the daemon's end."""
        for peer in self._peers.values():
            if peer.is_by_hand:
                peer.end("stopping")


class _Peer:
    """One peer's switch, and the bounds of what it lets through."""

    def __init__(self, name: str, emit: Emit, *, on: bool) -> None:
        self.switch = TraceSwitch(on=on)
        self._always = on
        self._name = name
        self._emit = emit
        self._is_maildrop = name.startswith(f"{StandingKind.MAILDROP}.")
        self._sessions = count(1)
        self._run: _Run | None = None

    def new_session(self) -> Trace:
        # The poll's name stands in the other events of a maildrop. What a poll opens elsewhere serves others, too.
        of_poll = poll_in_hand.get() if self._is_maildrop else ""
        return _SessionTrace(self, of_poll or str(next(self._sessions)))

    def state(self) -> TraceState:
        run = self._run
        return (
            TraceState(self._name, run.ends_at, run.lines, run.left_out)
            if run
            else TraceState(self._name, None)
        )

    @property
    def is_by_hand(self) -> bool:
        return self._run is not None

    def begin(self, seconds: float, ends_at: float) -> None:
        if self._run is not None:
            self._run.timer.cancel()
        timer = asyncio.get_running_loop().call_later(seconds, self.end, "time")
        self._run = _Run(timer, ends_at)
        self.switch.on = True
        self._emit(TraceStarted(self._name, ends_at))

    def set_always(self, *, on: bool) -> None:
        self._always = on
        if self._run is None:
            self.switch.on = on

    def end(self, reason: EndReason) -> None:
        run, self._run = self._run, None
        self.switch.on = self._always
        if run is not None:
            run.timer.cancel()
            self._emit(TraceEnded(self._name, reason, run.lines, run.left_out))

    def take(self, session: str, direction: Direction, text: str) -> None:
        run = self._run
        if run is None:  # the configuration's: as long as the session is
            self._emit(WireTraced(self._name, direction, text, session))
            return
        left_out = run.admit(asyncio.get_running_loop().time())
        if left_out is None:
            return
        if left_out:
            self._emit(WireTraced(self._name, "note", f"<{left_out} lines left out>", session))
        text = _shortened(text)
        run.lines += 1
        run.characters += len(text)
        self._emit(WireTraced(self._name, direction, text, session))
        if run.characters >= MAX_CHARACTERS:
            self.end("size")


class _SessionTrace:
    """One session's trace; its name tells its lines from those of sessions beside it."""

    __slots__ = ("_name", "_peer", "switch")

    def __init__(self, peer: _Peer, name: str) -> None:
        self._peer = peer
        self._name = name
        self.switch = peer.switch

    def __call__(self, direction: Direction, text: str) -> None:
        if self.switch.on:
            self._peer.take(self._name, direction, text)


@dataclass(slots=True)
class _Run:
    """What one switching on has written so far."""

    timer: asyncio.TimerHandle
    ends_at: float
    lines: int = 0
    characters: int = 0
    left_out: int = 0
    _second: int = -1
    _lines_now: int = 0
    _left_out_now: int = 0

    def admit(self, now: float) -> int | None:
        """Count a line; return how many were left out before it, None when it is one too many itself."""
        left_out = 0
        if int(now) != self._second:
            self._second, self._lines_now = int(now), 0
            left_out, self._left_out_now = self._left_out_now, 0
        if self._lines_now >= MAX_LINES_PER_SECOND:
            self.left_out += 1
            self._left_out_now += 1
            return None
        self._lines_now += 1
        return left_out


def _shortened(text: str) -> str:
    if len(text) <= MAX_LINE_CHARACTERS:
        return text
    return f"{text[:MAX_LINE_CHARACTERS]} <{len(text) - MAX_LINE_CHARACTERS} more characters>"
