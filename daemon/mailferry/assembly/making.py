"""What every part that is made needs, besides its own table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mailferry.message.spool import Spool
from mailferry.net.pop3_group import ServerBook
from mailferry.net.trace import Trace
from mailferry.net.watch import UNWATCHED, LinkWatch
from mailferry.telemetry.results import Peer

Tracer = Callable[[str], Callable[[], Trace]]
"""Takes a peer's name and returns what makes a trace for each of its sessions."""

WatchLink = Callable[[Peer, str], LinkWatch]
"""Takes what a peer is, and its name; returns whom a connector tells of its sessions."""


def watch_nothing(_peer: Peer, _name: str) -> LinkWatch:
    """Return a watch that tells nobody."""
    return UNWATCHED


@dataclass(frozen=True, slots=True)
class Making:
    """What is one for all parts, however often the configuration is read anew."""

    hostname: str
    spool: Spool
    tracer: Tracer
    watch: WatchLink = watch_nothing
    pop3_servers: ServerBook = field(default_factory=ServerBook)
