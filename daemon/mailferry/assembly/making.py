"""What every part that is made needs, besides its own table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mailferry.message.spool import Spool
from mailferry.net.trace import Trace

Tracer = Callable[[str], Callable[[], Trace]]
"""Takes a peer's name and returns what makes a trace for each of its sessions."""


@dataclass(frozen=True, slots=True)
class Making:
    """What is one for all parts, however often the configuration is read anew."""

    hostname: str
    spool: Spool
    tracer: Tracer
