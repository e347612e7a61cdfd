from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest

from mailferry.errors import ConnectError, ControlError, UnknownTargetError
from mailferry.events import PauseEnded, PollFinished
from mailferry.model import (
    Deferred,
    Delivery,
    DeliveryReport,
    DestinationName,
    FetchedMessage,
    MaildropName,
    MessageId,
    Scope,
    StandingKind,
    Summary,
    Uidl,
)
from mailferry.ports import Destination
from mailferry.runtime.caps import SessionCaps
from mailferry.runtime.control import Controls, Target
from mailferry.runtime.etrn_turns import EtrnTurns
from mailferry.runtime.holds import Holds
from mailferry.runtime.turn import Maildrop, Turns
from mailferry.services.route import Route, RouteStandings
from support.fakes import ALICE, FakeMaildrop, mail
from support.rig import Rig
from support.virtual_time import START, settle, timeless

ALICE_TARGET = Target(StandingKind.MAILDROP, "alice")
OFFICE_TARGET = Target(StandingKind.DESTINATION, "office")


@dataclass
class Parts:
    """A fleet of what a test puts in."""

    maildrops: Mapping[MaildropName, Turns]
    destinations: Mapping[DestinationName, Destination]
    etrn: Mapping[str, EtrnTurns] = field(default_factory=dict)


class Daemon:
    """Two maildrops, alice and office, and the destination office behind a route."""

    def __init__(self, *mails: str) -> None:
        self.rig = Rig(*(mail(uidl) for uidl in mails))
        self.holds = Holds(self.rig.events.append, self.rig.clock)
        self.inner = self.rig.to["office"]
        self.route = Route(self.inner, self.rig.events.append, self.rig.clock, lambda: 0.5)
        self.route.held = lambda: self.holds.is_held("destination.office")
        self.around = replace(
            self.rig.around,
            held=self.holds.is_held,
            destinations={DestinationName("office"): self.route},
        )
        other = FakeMaildrop([], self.rig.effects)
        drops = {
            ALICE: self.turns(ALICE, self.rig.maildrop),
            MaildropName("office"): self.turns("office", other),
        }
        self.alice = drops[ALICE]
        self.stopping = False
        parts = Parts(drops, self.around.destinations)
        self.controls = Controls(parts, self.holds, lambda: self.stopping)

    def turns(self, name: str, maildrop: FakeMaildrop) -> Turns:
        policy = replace(self.rig.policy, maildrop=MaildropName(name))
        routes = RouteStandings({self.route.name: self.route})
        return Turns(Maildrop(policy, maildrop), self.around, SessionCaps(5, 5), routes, None)

    @property
    def logins(self) -> int:
        return self.rig.effects.count("login")


def test_names_are_found_short_and_in_full_and_two_of_them_are_told_apart() -> None:
    controls = Daemon().controls
    assert controls.find("alice") == controls.find("maildrop.alice") == ALICE_TARGET
    assert str(controls.find("office", StandingKind.DESTINATION)) == "destination.office"
    with pytest.raises(UnknownTargetError, match=r"office may mean maildrop\.office or destination\.office"):
        controls.find("office")
    with pytest.raises(UnknownTargetError, match="no such maildrop in force: eve; known are: alice, office"):
        controls.find("eve", StandingKind.MAILDROP)
    assert controls.choose(["alice", "maildrop.alice"]) == [ALICE_TARGET]


@timeless
async def test_a_poll_now_is_waited_for() -> None:
    daemon = Daemon("u1", "u2")
    (answer,) = await daemon.controls.poll(["alice"], wait_seconds=60)
    assert answer.report is not None
    assert (answer.target, answer.state, answer.report.relayed) == (ALICE_TARGET, "ended", 2)


@timeless
async def test_who_does_not_wait_is_told_that_it_is_under_way() -> None:
    daemon = Daemon("u1")
    daemon.inner.when = "held"
    (first,) = await daemon.controls.poll(["alice"])
    await settle()
    (second,) = await daemon.controls.poll(["alice"], wait_seconds=5)
    assert (first.state, second.state, daemon.logins) == ("under way", "under way", 1)
    daemon.inner.answer()
    (third,) = await daemon.controls.poll(["alice"], wait_seconds=60)
    assert third.state == "ended"


@timeless
async def test_a_poll_now_that_fails_is_tried_again_after_its_pause() -> None:
    daemon = Daemon("u1")
    daemon.rig.maildrop.open_error = ConnectError("nobody listens")
    await daemon.controls.poll(["alice"], wait_seconds=60)
    assert daemon.alice.standing.consecutive_failures == 1
    again = daemon.alice.next_at(START + 86_400)
    assert again == daemon.alice.standing.not_before < START + 3600
    daemon.rig.maildrop.open_error = None
    await asyncio.sleep(3600)
    assert daemon.logins == 1


@timeless
async def test_nothing_is_polled_while_a_pause_lasts_and_at_once_when_it_ends() -> None:
    daemon = Daemon("u1")
    assert daemon.controls.pause(["alice"], 600) == [ALICE_TARGET]
    (answer,) = await daemon.controls.poll(["alice"], wait_seconds=60)
    assert (answer.state, daemon.alice.start(), daemon.logins) == ("paused", None, 0)
    assert daemon.controls.held == {"maildrop.alice": START + 600}
    assert daemon.alice.next_at(START + 60) is None
    await asyncio.sleep(601)
    assert (daemon.logins, daemon.rig.told(PauseEnded)) == (1, [PauseEnded("maildrop.alice", "time")])


@timeless
async def test_a_poll_under_way_finishes_what_it_has_in_hand_and_no_more() -> None:
    daemon = Daemon("u1", "u2", "u3")
    daemon.inner.when = "held"
    daemon.alice._maildrop = replace(
        daemon.alice._maildrop, policy=replace(daemon.alice._maildrop.policy, prefetch=1)
    )
    daemon.alice.start()
    await settle()
    daemon.controls.pause(["alice"], None)
    daemon.inner.answer()
    await settle()
    (finished,) = daemon.rig.told(PollFinished)
    assert (finished.result, finished.relayed, finished.waiting) == ("ok", 1, 2)
    daemon.inner.when = "now"
    assert daemon.controls.resume(["alice"]) == [ALICE_TARGET]
    await settle()
    assert daemon.rig.told(PollFinished)[-1].relayed == 2


@timeless
async def test_a_destination_that_is_paused_gets_nothing_and_no_message_is_blamed() -> None:
    daemon = Daemon("u1")
    daemon.controls.pause(["destination.office"], None)
    assert not daemon.route.available
    reports: list[DeliveryReport] = []
    message = FetchedMessage(ALICE, MessageId(1), Uidl(b"u1"), b"", b"", b"", "", Summary(), 0.0, "", "")
    daemon.route.submit(Delivery(message, reports.append))
    assert [report.outcome for report in reports] == [
        Deferred(Scope.NEXT_HOP, "paused by hand", attempted=False)
    ]
    (answer,) = await daemon.controls.poll(["alice"], wait_seconds=60)
    assert answer.report is not None
    assert (answer.report.relayed, daemon.inner.submitted) == (0, [])
    daemon.controls.resume(None)
    (answer,) = await daemon.controls.poll(["alice"], wait_seconds=60)
    assert answer.report is not None
    assert answer.report.relayed == 1


@timeless
async def test_to_resume_a_destination_ends_the_pause_that_followed_from_failures() -> None:
    daemon = Daemon("u1")
    daemon.inner.script[b"u1"] = [DeliveryReport(Deferred(Scope.NEXT_HOP, "421 no"))]
    await daemon.controls.poll(["alice"], wait_seconds=60)
    assert not daemon.route.available
    assert daemon.controls.resume(["destination.office"]) == []
    assert (daemon.route.available, daemon.route.half_open) == (True, True)


@timeless
async def test_what_a_reload_removed_can_still_be_resumed() -> None:
    daemon = Daemon()
    daemon.controls.pause(["alice"], None)
    parts = Parts({}, {})
    controls = Controls(parts, daemon.holds, lambda: False)
    assert controls.resume(["maildrop.alice"]) == [ALICE_TARGET]
    assert controls.held == {}


@timeless
async def test_without_names_all_maildrops_are_meant_and_no_destination() -> None:
    daemon = Daemon("u1")
    daemon.controls.pause(None, None)
    assert set(daemon.controls.held) == {"maildrop.alice", "maildrop.office"}
    assert len(daemon.controls.resume(None)) == 2
    await settle()
    assert daemon.logins == 2


@timeless
async def test_one_unknown_name_and_nothing_is_done() -> None:
    daemon = Daemon("u1")
    with pytest.raises(UnknownTargetError):
        daemon.controls.pause(["alice", "eve"], None)
    with pytest.raises(UnknownTargetError):
        await daemon.controls.poll(["alice", "eve"])
    assert (daemon.controls.held, daemon.alice.running) == ({}, False)


@timeless
async def test_at_the_end_nothing_is_begun() -> None:
    daemon = Daemon("u1")
    daemon.controls.pause(["alice"], None)
    daemon.stopping = True
    daemon.alice.stop()
    daemon.controls.resume(["alice"])
    (answer,) = await daemon.controls.poll(["alice"], wait_seconds=5)
    assert (answer.state, daemon.logins) == ("stopping", 0)
    with pytest.raises(ControlError, match="is stopping"):
        daemon.controls.pause(["alice"], None)
