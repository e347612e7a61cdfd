"""What a reload changes is changed; what it does not name is not touched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from mailferry.model import DestinationName, MaildropName
from mailferry.runtime.berth import Berth
from mailferry.runtime.caps import SessionCaps
from mailferry.runtime.fleet import Fleet
from mailferry.runtime.schedule import Schedule, Timetable
from mailferry.runtime.turn import Maildrop, Turns
from mailferry.services.route import Route, RouteStandings
from support.fakes import FakeDestination, mail
from support.rig import Rig
from support.virtual_time import START, settle, timeless

HOURLY = Timetable(every_seconds=3600)
DAILY = Timetable(every_seconds=86400)
ALICE = MaildropName("alice")
OFFICE = DestinationName("office")


class FakeSchedule(Schedule):
    """Keeps what is to be called."""

    def __init__(self) -> None:
        super().__init__(lambda: START)
        self.jobs: dict[str, Timetable] = {}

    def add(self, name: str, timetable: Timetable, call: Callable[[], object]) -> None:
        assert name not in self.jobs
        self.jobs[name] = timetable

    def remove(self, name: str) -> None:
        self.jobs.pop(name, None)


class FakeJob:
    """Ends when the test says so."""

    def __init__(self, *, busy: bool = False) -> None:
        self.stopped = False
        self._idle = asyncio.Event()
        if not busy:
            self._idle.set()

    def start(self) -> None: ...

    def stop(self) -> None:
        self.stopped = True

    def finish(self) -> None:
        self._idle.set()

    async def ended(self) -> None:
        await self._idle.wait()

    async def wait_ended(self, deadline_seconds: float) -> bool:
        return self._idle.is_set()


class Place:
    """One berth with its schedule."""

    def __init__(self, job: FakeJob) -> None:
        self.schedule = FakeSchedule()
        self.emptied = 0
        self.berth: Berth[FakeJob] = Berth("alice", self.schedule, self._empty)
        self.berth.hold(job, HOURLY)
        self.berth.enter()

    def _empty(self) -> None:
        self.emptied += 1

    def give_to(self, job: FakeJob) -> list[FakeJob | None]:
        """Let a job follow; returns where the former one will stand."""
        formers: list[FakeJob | None] = []

        def successor(former: FakeJob | None) -> tuple[FakeJob, Timetable]:
            formers.append(former)
            return job, DAILY

        self.berth.give_to(successor)
        return formers


@timeless
async def test_a_successor_comes_when_the_session_in_flight_has_ended() -> None:
    old, new = FakeJob(busy=True), FakeJob()
    place = Place(old)
    formers = place.give_to(new)
    await settle()
    assert (old.stopped, formers, place.schedule.jobs) == (True, [], {})
    assert place.berth.change is not None
    old.finish()
    await settle()
    assert (formers, place.berth.job, place.schedule.jobs) == ([old], new, {"alice": DAILY})
    assert (place.berth.change, place.emptied) == (None, 0)


@timeless
async def test_the_last_word_counts() -> None:
    old, second, third = FakeJob(busy=True), FakeJob(), FakeJob()
    place = Place(old)
    skipped, taken = place.give_to(second), place.give_to(third)
    await settle()
    place.berth.give_to(None)
    formers = place.give_to(third)
    old.finish()
    await settle()
    assert (skipped, taken, formers, place.berth.job) == ([], [], [old], third)
    assert place.emptied == 0, "it was removed and came back"
    place.berth.give_to(None)
    await settle()
    assert (place.emptied, place.schedule.jobs) == (1, {})


@timeless
async def test_nobody_follows_after_the_end_has_begun() -> None:
    old, new = FakeJob(busy=True), FakeJob()
    place = Place(old)
    formers = place.give_to(new)
    await settle()
    place.berth.close()
    old.finish()
    await settle()
    assert (formers, place.schedule.jobs) == ([], {})
    place.give_to(new)
    assert place.berth.change is None


@timeless
async def test_a_successor_that_cannot_be_made_is_told(caplog: pytest.LogCaptureFixture) -> None:
    place = Place(FakeJob())

    def broken(_former: FakeJob | None) -> tuple[FakeJob, Timetable]:
        raise ZeroDivisionError

    place.berth.give_to(broken)
    await settle()
    assert "change of alice" in caplog.text


# -- maildrops and destinations together -------------------------------------------


class Harbour:
    """A fleet of one maildrop that delivers to one route."""

    def __init__(self) -> None:
        self.rig = Rig(mail("u1"), mail("u2"))
        self.inner = self.rig.to["office"]
        self.inner.when = "held"
        self.routes = {OFFICE: self.route(self.inner)}
        self.around = replace(self.rig.around, destinations=self.routes)
        self.schedule = FakeSchedule()
        self.fleet = Fleet(self.schedule, self.routes)
        self.turns = self.make_turns(None)
        self.fleet.hold_maildrop(self.turns, HOURLY)
        self.fleet.enter()
        self.gone: list[str] = []

    def route(self, inner: FakeDestination) -> Route:
        return Route(inner, self.rig.around.emit, self.rig.around.clock, lambda: 0.5)

    def make_turns(self, former: Turns | None) -> Turns:
        maildrop = Maildrop(self.rig.policy, self.rig.maildrop)
        standing = former.standing if former else None
        return Turns(maildrop, self.around, SessionCaps(5, 5), RouteStandings(self.routes), standing)

    def change(self) -> None:
        self.fleet.put_maildrop(ALICE, lambda former: (self.make_turns(former), DAILY))


@timeless
async def test_a_removed_maildrop_and_its_destination_go_in_order() -> None:
    harbour = Harbour()
    task = harbour.turns.start()
    await settle()
    harbour.fleet.remove_maildrop(ALICE, lambda: harbour.gone.append("alice"))
    harbour.fleet.remove_destination(OFFICE, lambda: harbour.gone.append("office"))
    await settle()
    assert harbour.gone == []
    assert OFFICE in harbour.routes, "the session in flight may still hand over to it"
    assert await harbour.fleet.settled(5.0) == [ALICE]
    while harbour.inner.held:
        harbour.inner.answer()
        await settle()
    await settle()
    assert task is not None
    assert task.done()
    assert harbour.gone == ["alice", "office"]
    assert (harbour.routes, dict(harbour.fleet.maildrops), harbour.schedule.jobs) == ({}, {}, {})
    assert harbour.rig.did("drain") == ["drain office"]
    assert await harbour.fleet.settled(5.0) == []


@timeless
async def test_a_changed_destination_takes_what_comes_and_the_former_one_finishes() -> None:
    harbour = Harbour()
    harbour.turns.start()
    await settle()
    new = FakeDestination("office", harbour.rig.effects, when="held")
    harbour.fleet.put_destination(harbour.route(new))
    await settle()
    assert harbour.rig.did("drain") == [], "it has something under way"
    assert [each.name for each in harbour.fleet.to_drain] == ["office", "office"]
    while harbour.inner.held or new.held:
        (harbour.inner if harbour.inner.held else new).answer()
        await settle()
    assert harbour.rig.did("drain") == ["drain office"]
    assert len(harbour.fleet.to_drain) == 1


@timeless
async def test_a_removed_destination_that_comes_back_stays() -> None:
    harbour = Harbour()
    harbour.turns.start()
    await settle()
    harbour.change()
    harbour.fleet.remove_destination(OFFICE, lambda: harbour.gone.append("office"))
    new = harbour.route(FakeDestination("office", harbour.rig.effects))
    harbour.fleet.put_destination(new)
    while harbour.inner.held:
        harbour.inner.answer()
        await settle()
    await settle()
    assert (harbour.routes, harbour.gone) == ({OFFICE: new}, [])
    assert harbour.schedule.jobs == {"alice": DAILY}


@timeless
async def test_what_is_going_on_in_a_few_words() -> None:
    harbour = Harbour()
    assert harbour.fleet.describe() == "polling 0 of 1 maildrop"
    harbour.turns.start()
    await settle()
    assert harbour.fleet.describe() == "polling 1 of 1 maildrop"
    harbour.turns.standing = replace(harbour.turns.standing, consecutive_failures=2)
    cast("Any", harbour.routes[OFFICE])._probing = True
    assert harbour.fleet.describe() == "polling 1 of 1 maildrop, 1 failing, no mail to office"
    harbour.fleet.stop()
    while harbour.inner.held:
        harbour.inner.answer()
        await settle()
    assert await harbour.fleet.wait_ended(asyncio.get_running_loop().time() + 5)
