"""How everything fares, by the daemon that runs: the ledger's words, and what only it knows.

The document is that of `mailferry status --json` without a daemon, with more in it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mailferry.assembly.standing import Counts, Standings, overview
from mailferry.config.models import Settings
from mailferry.model import StandingKind, StandingRecord
from mailferry.net.switchboard import TraceSwitchboard
from mailferry.ports import Clock
from mailferry.runtime.control import Fleet
from mailferry.runtime.holds import Holds
from mailferry.runtime.schedule import Schedule
from mailferry.runtime.turn import Turns
from mailferry.services.route import Route
from mailferry.telemetry.rendering import iso_time

BY_HAND = "paused by hand"

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class MaildropLife:
    """What only the daemon knows of a maildrop."""

    polling: bool
    next_poll_at: float | None
    waiting: int | None


@dataclass(frozen=True, slots=True)
class Life:
    """What the daemon knows at one moment; needs no daemon any more.

    Attributes:
        asking: the ETRN servers that a session is open with.
        held: what is paused by hand, as `maildrop.alice`, and until when.
        traced: whose sessions are traced.
    """

    at: float
    standings: Standings
    maildrops: Mapping[str, MaildropLife]
    asking: frozenset[str]
    held: Mapping[str, float]
    traced: frozenset[str]

    def document(self, settings: Settings, counts: Counts, quarantined: int | None) -> Row:
        """Return it as JSON can hold it, with the ledger's counts. May run in a thread: thousands take a while."""
        document = overview(settings, self.standings, counts, self.at, quarantined=quarantined).document()
        self._add("maildrop", document["maildrops"], self._maildrop)
        self._add("destination", document["destinations"], lambda _name: {})
        self._add("etrn", document["etrn"], lambda name: {"asking": name in self.asking}, key="etrn")
        rows = (*document["maildrops"], *document["destinations"], *document["etrn"])
        return {**document, "source": "daemon", "ok": all(row["well"] for row in rows)}

    def _add(self, kind: str, rows: list[Row], more: Callable[[str], Row], key: str = "name") -> None:
        for row in rows:
            target = f"{kind}.{row[key]}"
            ends_at = self.held.get(target)
            row.update(more(row[key]))
            row["paused_by_hand"] = ends_at is not None
            row["pause_ends_at"] = iso_or_none(ends_at)
            row["traced"] = target in self.traced
            if ends_at is not None:  # nothing moves until then: nobody may forget it
                row.update(state=BY_HAND, well=False)

    def _maildrop(self, name: str) -> Row:
        life = self.maildrops.get(name, _NO_LIFE)
        next_at = iso_or_none(life.next_poll_at)
        return {"polling": life.polling, "next_poll_at": next_at, "waiting": life.waiting}


_NO_LIFE = MaildropLife(polling=False, next_poll_at=None, waiting=None)


class Snapshots:
    """Looks at everything at once, on the event loop's thread; nothing here waits."""

    def __init__(
        self, fleet: Fleet, schedule: Schedule, holds: Holds, traces: TraceSwitchboard, clock: Clock
    ) -> None:
        self._fleet = fleet
        self._schedule = schedule
        self._holds = holds
        self._traces = traces
        self._clock = clock

    def take(self) -> Life:
        """Return what is known now."""
        return Life(
            at=self._clock(),
            standings=self._standings(),
            maildrops={name: self._maildrop(turns) for name, turns in self._fleet.maildrops.items()},
            asking=frozenset(name for name, server in self._fleet.etrn.items() if server.running),
            held=self._holds.ends,
            traced=frozenset(state.peer for state in self._traces.states()),
        )

    def _maildrop(self, turns: Turns) -> MaildropLife:
        return MaildropLife(turns.running, turns.next_at(self._schedule.next_at(turns.name)), turns.waiting)

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


def iso_or_none(seconds: float | None) -> str | None:
    """Return a time as JSON documents have it; None for none."""
    return iso_time(seconds) if seconds else None


def resident_octets() -> int | None:
    """Return how much memory this process has now; None where the system does not tell."""
    with suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return None
