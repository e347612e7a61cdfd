"""What the daemon says of itself: the words of the ledger's view, and what only it knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from mailferry.assembly.snapshot import Snapshots
from mailferry.config import Settings, load_settings
from mailferry.model import Deferred, DeliveryReport, DestinationName, MaildropName, MessageState, Scope
from mailferry.net.switchboard import TraceSwitchboard
from mailferry.ports import Destination
from mailferry.runtime.caps import SessionCaps
from mailferry.runtime.etrn_turns import EtrnTurns
from mailferry.runtime.holds import Holds
from mailferry.runtime.schedule import Schedule
from mailferry.runtime.turn import Maildrop, Turns
from mailferry.services.route import Route, RouteStandings
from mailferry.telemetry.rendering import iso_time
from support.configs import ConfigFolder
from support.fakes import ALICE, mail
from support.rig import Rig
from support.virtual_time import START, settle, timeless


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """One maildrop that is polled, one that is disabled, one destination."""
    folder = ConfigFolder(tmp_path)
    tables = {
        "maildrop.alice": folder.maildrop(1, "alice", deliver=["office"]),
        "maildrop.bob": folder.maildrop(1, "bob", enabled=False, deliver=["office"]),
        "destination.office": folder.smtp(1),
    }
    return load_settings(folder.write(tables), environ={})


@dataclass
class Parts:
    """A fleet of what a test puts in."""

    maildrops: Mapping[MaildropName, Turns]
    destinations: Mapping[DestinationName, Destination]
    etrn: Mapping[str, EtrnTurns] = field(default_factory=dict)


class FixedSchedule(Schedule):
    """Everything is due in two minutes."""

    def next_at(self, name: str) -> float | None:
        return START + 120


class Daemon:
    """Alice's maildrop and the office, and what is asked for a picture of them."""

    def __init__(self, settings: Settings, *uidls: str) -> None:
        self.settings = settings
        self.rig = rig = Rig(*map(mail, uidls))
        self.holds = Holds(rig.events.append, rig.clock)
        self.traces = TraceSwitchboard(rig.events.append, rig.clock)
        route = Route(rig.to["office"], rig.events.append, rig.clock, lambda: 0.5)
        around = replace(rig.around, held=self.holds.is_held, destinations={route.name: route})
        routes = RouteStandings({route.name: route})
        self.alice = Turns(Maildrop(rig.policy, rig.maildrop), around, SessionCaps(5, 5), routes, None)
        parts = Parts({ALICE: self.alice}, {route.name: route})
        self.snapshots = Snapshots(parts, FixedSchedule(rig.clock), self.holds, self.traces, rig.clock)

    def look(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Return the whole document, alice's row and the office's."""
        document = self.snapshots.take().document(self.settings, {(ALICE, MessageState.DEFERRED): 3}, 0)
        return document, document["maildrops"][0], document["destinations"][0]

    async def poll(self) -> None:
        task = self.alice.start_by_hand()
        assert task is not None
        await task


@timeless
async def test_it_knows_what_no_ledger_can(settings: Settings) -> None:
    daemon = Daemon(settings, "u1")
    document, alice, office = daemon.look()
    assert (document["source"], document["ok"], alice["state"]) == ("daemon", False, "never polled")
    assert (alice["next_poll_at"], alice["waiting"], alice["polling"]) == (iso_time(START + 120), None, False)
    daemon.rig.to["office"].when = "held"
    daemon.alice.start()
    await settle()
    assert daemon.look()[1]["polling"]
    daemon.rig.to["office"].answer()
    await settle()
    document, alice, office = daemon.look()
    assert (document["ok"], alice["state"], office["state"]) == (True, "ok", "open")
    assert (alice["deferred"], alice["waiting"], alice["traced"], office["paused_by_hand"]) == (
        3,
        0,
        False,
        False,
    )
    assert document["maildrops"][1]["state"] == "disabled"


@timeless
async def test_how_a_route_stands_is_read_from_the_route(settings: Settings) -> None:
    daemon = Daemon(settings, "u1")
    daemon.rig.to["office"].script[b"u1"] = [DeliveryReport(Deferred(Scope.NEXT_HOP, "421 busy"))]
    await daemon.poll()
    document, _, office = daemon.look()
    assert (document["ok"], office["state"], office["last_error"]) == (False, "paused", "421 busy")


@timeless
async def test_what_is_paused_by_hand_is_not_well_and_says_until_when(settings: Settings) -> None:
    daemon = Daemon(settings)
    await daemon.poll()
    daemon.holds.hold("maildrop.alice", 60, lambda: None)
    daemon.traces.switch_on("destination.office", 60)
    document, alice, office = daemon.look()
    assert (document["ok"], alice["state"], alice["well"]) == (False, "paused by hand", False)
    assert (alice["pause_ends_at"], alice["next_poll_at"]) == (iso_time(START + 60), None)
    assert (office["traced"], office["well"]) == (True, True)
    daemon.holds.close()
    daemon.traces.close()
