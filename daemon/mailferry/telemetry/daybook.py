"""What each maildrop has done in the hours of the last day, in memory, for the pictures of the status page.

Fed by events, so it costs nothing while nobody looks. What was relayed before the start can be
added from the ledger; failures are known since the start only, and `since` says when that was.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mailferry.events import Event, PollFinished, ReceiverMessageReceived
from mailferry.model import RECEIVER

HOURS = 24
HOUR_SECONDS = 3600.0
ALL = ""
"""The name under which all maildrops are counted together."""

_NO_FAILURES = frozenset({"ok", "stopped"})


@dataclass(frozen=True, slots=True)
class DayRow:
    """One maildrop's last day: numbers for each hour, the one that is under way last."""

    relayed: tuple[int, ...]
    failures: tuple[int, ...]


class DayBook:
    """A sink for events; ask and tell it on the event loop's thread.

    Failures are polls that failed, and messages that were refused for good.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.since = clock()
        self._clock = clock
        self._rings: dict[str, _Ring] = {}

    def __call__(self, event: Event) -> None:
        """Take an event."""
        match event:
            case PollFinished():
                failed = event.result not in _NO_FAILURES
                self._add(event.maildrop, event.relayed, failed + event.rejected)
            case ReceiverMessageReceived():
                self._add(RECEIVER, event.result == "accepted", event.result == "rejected")
            case _:
                pass

    def add_earlier(self, relayed: Iterable[tuple[str, int, int]]) -> None:
        """Add what was relayed before the start: maildrop, hour since the epoch, messages."""
        now = self._hour()
        for maildrop, hour, messages in relayed:
            for name in (maildrop, ALL):
                self._ring(name).add(now, hour, messages, 0)

    def keep_only(self, names: Iterable[str]) -> None:
        """Forget maildrops that are not among these."""
        kept = {ALL, RECEIVER, *names}
        self._rings = {name: ring for name, ring in self._rings.items() if name in kept}

    def day(self, name: str = ALL) -> DayRow:
        """Return the last day of a maildrop, or of all."""
        ring = self._rings.get(name)
        return ring.row(self._hour()) if ring is not None else _NOTHING

    @property
    def hour_began_at(self) -> float:
        """When the hour that is under way began, in seconds since the epoch."""
        return self._hour() * HOUR_SECONDS

    def _hour(self) -> int:
        return int(self._clock() // HOUR_SECONDS)

    def _ring(self, name: str) -> _Ring:
        return self._rings.setdefault(name, _Ring())

    def _add(self, name: str, relayed: int, failures: int) -> None:
        if relayed or failures:
            hour = self._hour()
            for each in (name, ALL):
                self._ring(each).add(hour, hour, relayed, failures)


class _Ring:
    """48 numbers; those of an hour stand at its place modulo 24."""

    __slots__ = ("_counts", "_newest")

    def __init__(self) -> None:
        self._counts = array("I", bytes(array("I").itemsize * 2 * HOURS))
        self._newest = 0

    def add(self, now: int, hour: int, relayed: int, failures: int) -> None:
        self._turn(now)
        if self._newest - HOURS < hour <= self._newest:
            self._counts[hour % HOURS] += relayed
            self._counts[HOURS + hour % HOURS] += failures

    def row(self, now: int) -> DayRow:
        self._turn(now)
        places = [hour % HOURS for hour in range(now - HOURS + 1, now + 1)]
        return DayRow(
            tuple(self._counts[place] for place in places),
            tuple(self._counts[HOURS + place] for place in places),
        )

    def _turn(self, now: int) -> None:
        """Make room for the hours since the last look; a clock that was set back by more than an hour begins anew."""
        steps = now - self._newest
        if not 0 <= steps < HOURS:
            self._counts = array("I", bytes(self._counts.itemsize * 2 * HOURS))
            self._newest = now
            return
        for hour in range(self._newest + 1, now + 1):
            self._counts[hour % HOURS] = self._counts[HOURS + hour % HOURS] = 0
        self._newest = now


_NOTHING = DayRow((0,) * HOURS, (0,) * HOURS)
