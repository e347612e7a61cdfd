from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from mailferry.errors import ConnectError
from mailferry.events import DaemonStarted, DaemonStopped, DaemonStopping, PollFinished
from mailferry.model import DestinationName, MaildropName
from mailferry.runtime.caps import SessionCaps
from mailferry.runtime.fleet import Fleet
from mailferry.runtime.reload import ReloadReport
from mailferry.runtime.schedule import Schedule, Timetable
from mailferry.runtime.supervisor import Supervisor, SupervisorSettings
from mailferry.runtime.turn import Maildrop, Turns
from mailferry.services.poll import PollReport
from mailferry.services.route import RouteStandings
from support.fakes import FakeDestination, FakeMaildrop, mail
from support.rig import Rig
from support.virtual_time import START, settle, timeless

HOURLY = Timetable(every_seconds=3600)
STOP_SECONDS = 25.0


class FakeSchedule(Schedule):
    """Keeps what is to be called; calls when the test says so."""

    def __init__(self) -> None:
        super().__init__(lambda: START)
        self.jobs: dict[str, tuple[Timetable, Callable[[], object]]] = {}
        self.state = "new"

    def add(self, name: str, timetable: Timetable, call: Callable[[], object]) -> None:
        self.jobs[name] = (timetable, call)

    def start(self) -> None:
        self.state = "running"

    def stop(self) -> None:
        self.state = "stopped"

    @property
    def running(self) -> bool:
        return self.state == "running"

    def fire(self, name: str) -> None:
        self.jobs[name][1]()


class Daemon:
    """A supervisor of some maildrops that share the surroundings of one rig."""

    def __init__(self, rig: Rig, *others: FakeMaildrop) -> None:
        self.rig = rig
        self.schedule = FakeSchedule()
        self.turns: dict[MaildropName, Turns] = {}
        # Any: fakes of destinations stand in for routes.
        fleet = Fleet(self.schedule, cast("Any", rig.around.destinations))
        for number, maildrop in enumerate((rig.maildrop, *others)):
            name = MaildropName("alice" if number == 0 else f"m{number}")
            policy = replace(rig.policy, maildrop=name)
            turns = Turns(Maildrop(policy, maildrop), rig.around, SessionCaps(5, 5), RouteStandings({}), None)
            self.turns[name] = turns
            fleet.hold_maildrop(turns, HOURLY)
        settings = SupervisorSettings("1.2", STOP_SECONDS, 86400.0)
        self.supervisor = Supervisor(settings, rig.around, fleet, self.schedule)

    async def start(self) -> asyncio.Task[None]:
        task = asyncio.create_task(self.supervisor.run())
        await settle()
        return task

    async def once(self, *names: str) -> dict[str, PollReport | None]:
        ended: dict[str, PollReport | None] = {}
        chosen = [MaildropName(name) for name in names or self.turns]
        await self.supervisor.run_once(chosen, lambda name, report: ended.update({name: report}))
        return ended

    @property
    def stops(self) -> list[bool]:
        return [event.clean for event in self.rig.told(DaemonStopped)]


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


# -- by schedule -----------------------------------------------------------------


@timeless
async def test_it_runs_until_a_signal_and_drains_in_order() -> None:
    rig = Rig(mail("u1"))
    rig.to["office"].when = "held"
    daemon = Daemon(rig)
    assert not daemon.supervisor.started
    task = await daemon.start()
    assert rig.events == [DaemonStarted("1.2", 1, 1)]
    assert (daemon.supervisor.started, daemon.supervisor.schedule_running) == (True, True)
    daemon.schedule.fire("alice")
    await settle()
    send(signal.SIGTERM)
    await settle()
    assert daemon.supervisor.stopping
    assert not daemon.supervisor.schedule_running
    assert rig.told(DaemonStopping) == [DaemonStopping("SIGTERM")]
    assert rig.did("drain") == ["drain office"]
    assert (daemon.stops, task.done()) == ([], False)
    rig.to["office"].answer()
    await task
    assert [type(event) for event in rig.events[-2:]] == [PollFinished, DaemonStopped]
    assert daemon.stops == [True]
    assert rig.effects[-3:-1] == ["quit", "synced u1=gone"]


@timeless
async def test_every_maildrop_is_put_on_the_schedule_with_what_the_ledger_needs() -> None:
    rig = Rig()
    daemon = Daemon(rig, FakeMaildrop([], rig.effects))
    assert daemon.supervisor.maildrop_count == 2
    task = await daemon.start()
    assert {name: job[0] for name, job in daemon.schedule.jobs.items()} == {
        "alice": HOURLY,
        "m1": HOURLY,
        "history pruning": Timetable(every_seconds=6 * 3600),
        "ledger copy": Timetable(every_seconds=3600),
    }
    daemon.schedule.fire("ledger copy")
    await settle()
    assert rig.ledger.copies_kept == 1
    daemon.schedule.fire("history pruning")
    await settle()
    assert rig.ledger.pruned == [START - 86400]
    rig.ledger.known_fails = True
    daemon.schedule.fire("history pruning")
    await settle()
    daemon.supervisor.ask_to_stop("test")
    await task
    assert daemon.stops == [True]


@timeless
async def test_history_is_not_pruned_while_ages_cannot_be_believed() -> None:
    rig = Rig()
    believed = False
    rig.around = replace(rig.around, ages_count=lambda: believed)
    daemon = Daemon(rig)
    task = await daemon.start()
    daemon.schedule.fire("history pruning")
    await settle()
    assert rig.ledger.pruned == []
    believed = True
    daemon.schedule.fire("history pruning")
    await settle()
    assert len(rig.ledger.pruned) == 1
    daemon.supervisor.ask_to_stop("test")
    await task


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@timeless
async def test_both_signals_ask_for_the_end(number: signal.Signals) -> None:
    daemon = Daemon(Rig())
    task = await daemon.start()
    send(number)
    await task
    assert daemon.rig.told(DaemonStopping) == [DaemonStopping(number.name)]


@timeless
async def test_to_be_asked_twice_is_to_be_asked_once() -> None:
    daemon = Daemon(Rig())
    task = await daemon.start()
    daemon.supervisor.ask_to_stop("first")
    daemon.supervisor.ask_to_stop("second")
    await task
    daemon.supervisor.ask_to_stop("third")
    assert daemon.rig.told(DaemonStopping) == [DaemonStopping("first")]
    assert daemon.stops == [True]


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
@timeless
async def test_after_the_first_signal_the_second_one_is_the_system_s(first: signal.Signals) -> None:
    """Whichever of the two comes second: a person who presses ^C after a SIGTERM means it."""
    rig = Rig(mail("u1"))
    rig.to["office"].when = "held"
    daemon = Daemon(rig)
    task = await daemon.start()
    daemon.schedule.fire("alice")
    await settle()
    send(first)
    await settle()
    assert not task.done()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    rig.to["office"].answer()
    await task


@timeless
async def test_signals_are_left_as_they_were() -> None:
    before = signal.getsignal(signal.SIGTERM)
    daemon = Daemon(Rig())
    task = await daemon.start()
    assert signal.getsignal(signal.SIGTERM) is not before
    daemon.supervisor.ask_to_stop("test")
    await task
    assert signal.getsignal(signal.SIGTERM) is before


@timeless
async def test_sighup_does_not_end_the_process_after_the_drain_either() -> None:
    """`mailferry run` has it ignored from its first moment; the ledger is closed after the drain."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        daemon = Daemon(Rig())
        task = await daemon.start()
        daemon.supervisor.ask_to_stop("test")
        await task
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@timeless
async def test_sighup_ends_nothing_also_not_while_the_rest_is_being_finished(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rig = Rig(mail("u1"))
    rig.to["office"].when = "held"
    daemon = Daemon(rig)
    task = await daemon.start()
    daemon.schedule.fire("alice")
    await settle()
    with caplog.at_level(logging.WARNING, "mailferry"):
        send(signal.SIGHUP)
        await settle()
        assert not daemon.supervisor.stopping
        send(signal.SIGTERM)
        await settle()
        assert signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL
        send(signal.SIGHUP)
        await settle()
    rig.to["office"].answer()
    await task
    assert daemon.stops == [True]
    assert caplog.text.count("SIGHUP is passed over") == 2


# -- bounds of the end -----------------------------------------------------------


@timeless
async def test_the_end_is_bounded_and_tells_that_it_was_not_clean() -> None:
    rig = Rig(mail("u1"))
    rig.to["office"].when = "held"
    daemon = Daemon(rig)
    task = await daemon.start()
    daemon.schedule.fire("alice")
    await settle()
    daemon.supervisor.ask_to_stop("test")
    await task
    assert rig.clock() == START + STOP_SECONDS
    assert daemon.stops == [False]
    assert [event.result for event in rig.told(PollFinished)] == ["stopped"]


class Stuck(FakeDestination):
    async def drain(self) -> None:
        await asyncio.sleep(10**6)


class Broken(FakeDestination):
    async def drain(self) -> None:
        raise ZeroDivisionError("a bug")


def with_destination(destination: FakeDestination, rig: Rig) -> Daemon:
    rig.around = replace(
        rig.around, destinations={**rig.around.destinations, DestinationName("x"): destination}
    )
    return Daemon(rig)


@timeless
async def test_one_destination_that_does_not_drain_does_not_keep_the_others_from_it() -> None:
    rig = Rig()
    daemon = with_destination(Stuck("x", []), rig)
    task = await daemon.start()
    daemon.supervisor.ask_to_stop("test")
    await task
    assert (rig.to["office"].drained, daemon.stops) == (True, [False])
    assert rig.clock() == START + STOP_SECONDS


@timeless
async def test_a_drain_that_raises_is_told_and_the_end_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    daemon = with_destination(Broken("x", []), rig)
    task = await daemon.start()
    daemon.supervisor.ask_to_stop("test")
    with caplog.at_level(logging.ERROR, "mailferry.bugs"):
        await task
    assert (rig.to["office"].drained, daemon.stops) == (True, [False])
    assert "a bug" in caplog.text


@timeless
async def test_without_destinations_there_is_nothing_to_drain() -> None:
    daemon = Daemon(Rig(to=()))
    task = await daemon.start()
    daemon.supervisor.ask_to_stop("test")
    await task
    assert daemon.stops == [True]


# -- once ------------------------------------------------------------------------


@timeless
async def test_once_polls_everything_tells_each_end_and_drains() -> None:
    rig = Rig(mail("u1"))
    daemon = Daemon(rig, FakeMaildrop([mail("v1")], rig.effects))
    ended = await daemon.once()
    assert {name: report.relayed for name, report in ended.items() if report} == {"alice": 1, "m1": 1}
    assert (daemon.stops, daemon.schedule.state, rig.told(DaemonStarted)) == ([True], "stopped", [])
    assert rig.to["office"].drained


@timeless
async def test_once_polls_only_the_named_and_despite_a_pause() -> None:
    rig = Rig(mail("u1"))
    other = FakeMaildrop([mail("v1")], rig.effects)
    daemon = Daemon(rig, other)
    turns = daemon.turns[MaildropName("m1")]
    turns.standing = replace(turns.standing, not_before=START + 10**6)
    ended = await daemon.once("m1")
    assert list(ended) == ["m1"]
    assert (other.mails, len(rig.maildrop.mails)) == ([], 1)


@timeless
async def test_once_tells_failures_too() -> None:
    rig = Rig()
    rig.maildrop.open_error = ConnectError("refused")
    ended = await Daemon(rig).once()
    report = ended["alice"]
    assert report is not None
    assert report.failure is rig.maildrop.open_error


@timeless
async def test_once_of_nothing_ends() -> None:
    daemon = Daemon(Rig(to=()))
    ended: list[MaildropName] = []
    await daemon.supervisor.run_once([], lambda name, _: ended.append(name))
    assert (ended, daemon.stops) == ([], [True])


@timeless
async def test_once_ends_early_on_a_signal() -> None:
    rig = Rig(*(mail(f"u{n}") for n in range(9))).set(prefetch=1)
    rig.to["office"].when = "held"
    daemon = Daemon(rig)
    task = asyncio.create_task(daemon.once())
    await settle()
    send(signal.SIGINT)
    await settle()
    rig.to["office"].answer()
    ended = await task
    report = ended["alice"]
    assert report is not None
    assert (report.relayed, daemon.stops) == (1, [True])


@timeless
async def test_once_that_is_cancelled_at_the_deadline_says_so() -> None:
    rig = Rig(mail("u1"))
    rig.to["office"].when = "held"
    daemon = Daemon(rig)
    task = asyncio.create_task(daemon.once())
    await settle()
    daemon.supervisor.ask_to_stop("test")
    assert await task == {"alice": None}
    assert daemon.stops == [False]


# -- reload ------------------------------------------------------------------------


class FakePulse:
    """Keeps what it is to tell the service manager."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def ready(self, _schedule: object, describe: Callable[[], str]) -> None:
        self.words.append(f"ready: {describe()}")

    def reloading(self) -> None:
        self.words.append("reloading")

    def stopping(self) -> None:
        self.words.append("stopping")


@timeless
async def test_sighup_reloads_and_the_service_manager_hears_of_it() -> None:
    rig = Rig()
    daemon = Daemon(rig)
    pulse, reloads = FakePulse(), 0
    daemon.supervisor.pulse = cast("Any", pulse)  # Any: a fake

    async def reload() -> ReloadReport:
        nonlocal reloads
        reloads += 1
        await asyncio.sleep(1)
        return ReloadReport(accepted=True)

    daemon.supervisor.reloader = reload
    early = asyncio.create_task(daemon.supervisor.reload())
    await settle()
    assert reloads == 0, "there is nothing on the schedule yet that could be changed"
    task = await daemon.start()
    assert (await early).accepted
    send(signal.SIGHUP)
    await asyncio.sleep(2)
    ready = "ready: polling 0 of 1 maildrop"
    assert pulse.words == [ready, "reloading", ready, "reloading", ready]
    send(signal.SIGTERM)
    await task
    assert pulse.words[-1] == "stopping"
    assert (await daemon.supervisor.reload()).problems == ("the daemon is stopping",)
    assert reloads == 2


@timeless
async def test_a_storm_of_sighups_is_two_reloads() -> None:
    """One that is under way may have read the files before they were written; one more has not."""
    daemon, reloads, turn = Daemon(Rig()), 0, asyncio.Lock()

    async def reload() -> ReloadReport:
        nonlocal reloads
        async with turn:
            reloads += 1
            await asyncio.sleep(1)
        return ReloadReport(accepted=True)

    daemon.supervisor.reloader = reload
    task = await daemon.start()
    for _ in range(20):
        send(signal.SIGHUP)
        await settle()
    await asyncio.sleep(5)
    assert reloads == 2
    send(signal.SIGHUP)
    await asyncio.sleep(2)
    assert reloads == 3
    send(signal.SIGTERM)
    await task


@timeless
async def test_what_is_not_the_daemon_cannot_be_reloaded() -> None:
    assert not (await Daemon(Rig()).supervisor.reload()).accepted
