"""The trace of a dialogue, and the switch that says whether its lines are wanted.

A trace can be switched while sessions are open, so a core asks the switch for each line,
before it makes the line's text: with the trace off that is all it costs.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Literal

Direction = Literal["send", "reply", "note"]
Trace = Callable[[Direction, str], None]
"""Takes one line of the dialogue, secrets and content masked. A trace that can be switched has
its `TraceSwitch` as `switch`."""


poll_in_hand: ContextVar[str] = ContextVar("poll_in_hand", default="")
"""The `poll_id` of the poll that the present task works for: names a maildrop's sessions in the trace."""


class TraceSwitch:
    """Whether lines are wanted at present."""

    __slots__ = ("on",)

    def __init__(self, *, on: bool = False) -> None:
        self.on = on


_ALWAYS = TraceSwitch(on=True)
_NEVER = TraceSwitch()


def no_trace(_direction: Direction, _text: str) -> None:
    """Trace nothing."""


def switch_of(trace: Trace | None) -> TraceSwitch:
    """Return the switch to ask before each line; a trace that has none takes them all."""
    if trace is None or trace is no_trace:
        return _NEVER
    switch = getattr(trace, "switch", _ALWAYS)
    assert isinstance(switch, TraceSwitch)
    return switch
