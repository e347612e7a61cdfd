"""The readable trace of a dialogue: `send:` and `reply:` lines.

Secrets never get here (commands give their masked form), and message data is
told as a count of octets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

Direction = Literal["send", "reply", "note"]
Trace = Callable[[Direction, str], None]
"""Takes one line of the dialogue."""


def no_trace(_direction: Direction, _text: str) -> None:
    """Trace nothing."""


def octets_note(octets: int) -> str:
    """Return what stands in a trace in place of message data."""
    return f"<{octets} octets>"
