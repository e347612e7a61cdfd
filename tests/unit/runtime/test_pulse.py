from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from mailferry.events import Event, ScheduleStuck
from mailferry.runtime.notify import ServiceManager
from mailferry.runtime.pulse import BEAT_SECONDS, GRACE_SECONDS, STUCK_SECONDS, Pulse
from support.virtual_time import timeless


class Listener(ServiceManager):
    """Keeps the words, and when they came."""

    def __init__(self, watchdog_seconds: float | None = None) -> None:
        super().__init__("/nowhere", watchdog_seconds)
        self.words: list[str] = []

    def _send(self, *assignments: str) -> None:
        self.words.append(assignments[0])

    def take(self) -> list[str]:
        words, self.words = self.words, []
        return words


@dataclass
class FakeSchedule:
    running: bool = True
    stood_still_seconds: float = 0.0
    overdue_seconds: float = 0.0


@dataclass
class Daemon:
    manager: Listener
    schedule: FakeSchedule = field(default_factory=FakeSchedule)
    events: list[Event] = field(default_factory=list)
    doing: str = "polling"

    def __post_init__(self) -> None:
        self.pulse = Pulse(self.manager, self.events.append)
        self.pulse.start()

    def ready(self) -> None:
        self.pulse.ready(self.schedule, lambda: self.doing)
        self.manager.take()

    async def words_of(self, seconds: float) -> list[str]:
        self.manager.take()
        await asyncio.sleep(seconds)
        return self.manager.take()


@timeless
async def test_it_asks_for_time_until_the_schedule_runs_and_after_that_says_what_it_does() -> None:
    daemon = Daemon(Listener())
    assert await daemon.words_of(BEAT_SECONDS + 1) == ["EXTEND_TIMEOUT_USEC=30000000"]
    daemon.pulse.ready(daemon.schedule, lambda: daemon.doing)
    assert daemon.manager.take() == ["READY=1"]
    assert await daemon.words_of(20) == [], "nothing is new, and nobody watches"
    daemon.doing = "failing"
    assert await daemon.words_of(20) == ["STATUS=failing"]
    daemon.pulse.stopping()
    assert await daemon.words_of(BEAT_SECONDS) == ["EXTEND_TIMEOUT_USEC=30000000"]
    daemon.pulse.stop()
    assert await daemon.words_of(60) == []


@timeless
async def test_the_watchdog_hears_twice_in_its_time() -> None:
    daemon = Daemon(Listener(4.0))
    daemon.ready()
    assert await daemon.words_of(8.1) == ["WATCHDOG=1"] * 4
    daemon.pulse.stop()
    slow = Daemon(Listener(90.0))
    slow.ready()
    assert await slow.words_of(4 * BEAT_SECONDS + 1) == ["WATCHDOG=1"] * 4
    slow.pulse.stop()


@timeless
async def test_a_schedule_that_does_not_move_stops_the_pulse_and_is_told_once() -> None:
    for trouble in (
        {"stood_still_seconds": STUCK_SECONDS + 1},
        {"overdue_seconds": STUCK_SECONDS + 1},
        {"running": False},
    ):
        daemon = Daemon(Listener(4.0))
        daemon.ready()
        daemon.schedule.__dict__.update(trouble)
        assert daemon.pulse.trouble
        await asyncio.sleep(GRACE_SECONDS + 3)
        assert await daemon.words_of(30) == []
        assert [type(event) for event in daemon.events] == [ScheduleStuck]
        daemon.schedule.__dict__.update(vars(FakeSchedule()))
        assert "WATCHDOG=1" in await daemon.words_of(5), "it moves again"
        daemon.pulse.stop()


@timeless
async def test_a_clock_that_was_set_is_no_reason_to_be_killed() -> None:
    daemon = Daemon(Listener(4.0))
    daemon.ready()
    daemon.schedule.overdue_seconds = 86400.0
    assert await daemon.words_of(12) == ["WATCHDOG=1"] * 6
    daemon.schedule.overdue_seconds = 0.0
    assert len(await daemon.words_of(30)) == 15
    assert daemon.events == []
    daemon.pulse.stop()


@timeless
async def test_nothing_has_to_move_at_the_end() -> None:
    daemon = Daemon(Listener(4.0))
    daemon.ready()
    daemon.schedule.running = False
    daemon.pulse.stopping()
    assert "WATCHDOG=1" in await daemon.words_of(60)
    assert daemon.events == []
    daemon.pulse.stop()
