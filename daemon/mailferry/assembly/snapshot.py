"""How everything fares, by the daemon that runs: the ledger's words, and what only it knows.

The document is that of `mailferry status --json` without a daemon, with more in it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mailferry.assembly.standing import Counts, Standings, overview
from mailferry.config.models import Settings
from mailferry.model import MaildropName, StandingKind, StandingRecord
from mailferry.net.switchboard import TraceSwitchboard
from mailferry.ports import Clock
from mailferry.runtime.control import Fleet
from mailferry.runtime.holds import Holds
from mailferry.runtime.schedule import Schedule
from mailferry.services.route import Route
from mailferry.telemetry.rendering import iso_time

BY_HAND = "paused by hand"

Row = dict[str, Any]


class Snapshots:
    """Takes a picture of everything; nothing here waits."""

    def __init__(
        self, fleet: Fleet, schedule: Schedule, holds: Holds, traces: TraceSwitchboard, clock: Clock
    ) -> None:
        self._fleet = fleet
        self._schedule = schedule
        self._holds = holds
        self._traces = traces
        self._clock = clock

    def take(self, settings: Settings, counts: Counts, quarantined: int | None) -> Row:
        """Return the picture as JSON can hold it; `counts` are the ledger's."""
        seen = overview(settings, self._standings(), counts, self._clock(), quarantined=quarantined)
        document = seen.document()
        self._add("maildrop", document["maildrops"], self._maildrop)
        self._add("destination", document["destinations"], lambda _name: {})
        self._add("etrn", document["etrn"], self._server, key="etrn")
        rows = (*document["maildrops"], *document["destinations"], *document["etrn"])
        return {**document, "source": "daemon", "ok": all(row["well"] for row in rows)}

    def _standings(self) -> Standings:
        found: dict[tuple[StandingKind, str], StandingRecord] = {}
        for turns in self._fleet.maildrops.values():
            found[StandingKind.MAILDROP, turns.name] = turns.standing
        for name, destination in self._fleet.destinations.items():
            if isinstance(destination, Route):
                found[StandingKind.DESTINATION, name] = destination.standing
        for server in self._fleet.etrn.values():
            found |= {(StandingKind.ETRN, standing.name): standing for standing in server.standings}
        return found

    def _add(
        self, kind: str, rows: list[Row], more: Callable[[str], Mapping[str, object]], key: str = "name"
    ) -> None:
        ends = self._holds.ends
        for row in rows:
            target = f"{kind}.{row[key]}"
            ends_at = ends.get(target)
            row.update(more(row[key]))
            row["paused_by_hand"] = ends_at is not None
            row["pause_ends_at"] = iso_or_none(ends_at)
            row["traced"] = self._traces.is_on(target)
            if ends_at is not None:  # nothing moves until then: nobody may forget it
                row.update(state=BY_HAND, well=False)

    def _maildrop(self, name: str) -> Row:
        turns = self._fleet.maildrops.get(MaildropName(name))
        if turns is None:
            return {"polling": False, "next_poll_at": None, "waiting": None}
        next_at = turns.next_at(self._schedule.next_at(name))
        return {"polling": turns.running, "next_poll_at": iso_or_none(next_at), "waiting": turns.waiting}

    def _server(self, name: str) -> Row:
        server = self._fleet.etrn.get(name)
        return {"asking": server is not None and server.running}


def iso_or_none(seconds: float | None) -> str | None:
    """Return a time as JSON documents have it; None for none."""
    return iso_time(seconds) if seconds else None


def resident_octets() -> int | None:
    """Return how much memory this process has now; None where the system does not tell."""
    with suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return None
