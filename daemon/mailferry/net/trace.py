"""The readable trace of a dialogue: `send:` and `reply:` lines.

Secrets never get here (commands give their masked form), and message data is
told as a count of octets.
"""

from __future__ import annotations

from mailferry.protocol.tracing import Direction, Trace, TraceSwitch, no_trace, switch_of

__all__ = ["Direction", "Trace", "TraceSwitch", "no_trace", "octets_note", "switch_of"]


def octets_note(octets: int) -> str:
    """Return what stands in a trace in place of message data."""
    return f"<{octets} octets>"
