"""Gives each event to several sinks; a broken sink harms neither the mail nor the others.

`emit` is called in the middle of the mail path, where an exception would look
like a failure of the message. So a sink's failure ends here. It is told once
per sink, over the standard logging module, which falls back to stderr when the
log itself is what broke; repeating it for each message would be a flood.
"""

from __future__ import annotations

import logging

from mailferry.events import Event
from mailferry.ports import Emit

_log = logging.getLogger(__name__)


def fan_out(*sinks: Emit) -> Emit:
    """Return an `Emit` that never raises and calls every sink in turn."""
    reported: set[int] = set()

    def emit(event: Event) -> None:
        for index, sink in enumerate(sinks):
            try:
                sink(event)
            except Exception:  # noqa: BLE001 (whatever it is, it must not reach the mail path)
                if index not in reported:
                    reported.add(index)
                    _log.exception(
                        "a telemetry sink failed and may fail again, this is told once: sink %s, event %s",
                        getattr(sink, "__qualname__", type(sink).__qualname__),
                        type(event).__qualname__,
                    )

    return emit
