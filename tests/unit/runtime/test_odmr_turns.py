"""The turns of a provider that is asked with ATRN: what differs from ETRN's, in virtual time."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from mailferry.errors import ConnectionLostError
from mailferry.events import EtrnAnswered, EtrnMailTaken, EtrnPostponed, EtrnResumed, EtrnUnanswered
from mailferry.ports import Listener, TurnReport
from mailferry.runtime.etrn_turns import EtrnTurns
from support.fake_etrn import NODES, EtrnRig, FakeListener
from support.fake_odmr import OdmrBench
from support.virtual_time import START, settle, timeless

A, B, C = NODES


class Rig:
    """Turns like the daemon's around a provider of `OdmrBench`."""

    def __init__(self, *nodes: str, listener: Listener | None = None) -> None:
        self.etrn = EtrnRig(*nodes)
        self.bench = OdmrBench(*(nodes or NODES))
        self.bench.events = self.etrn.events
        self.provider = self.bench.provider
        self._listener = listener

    def turns(self) -> EtrnTurns:
        server = replace(self.bench.server, policy=self.etrn.policy, listener=self._listener)
        rows = self.etrn.ledger.standing_rows
        return EtrnTurns(server, self.etrn.around, self.etrn.caps, self.etrn.watch, rows)


async def after(seconds: float) -> None:
    await asyncio.sleep(seconds)
    await settle()


@timeless
async def test_each_domain_has_its_row_though_one_command_asked_for_all() -> None:
    rig = Rig()
    rig.provider.turns = [TurnReport(accepted=2, complete=True)]
    turns = rig.turns()
    await rig.etrn.round(turns)
    assert len(rig.provider.asked) == 1
    assert len(rig.etrn.told(EtrnMailTaken)) == 1
    assert [event.node for event in rig.etrn.told(EtrnAnswered)] == list(NODES)
    for node in NODES:
        assert rig.etrn.standing(node).last_success_at == START
    await after(3600)
    assert len(rig.provider.asked) == 1  # the next time comes with the schedule


@timeless
async def test_mail_that_broke_off_is_asked_for_again_after_the_gap_and_not_before() -> None:
    rig = Rig(A)
    rig.provider.turns = [TurnReport(accepted=1, failure=ConnectionLostError("lost"))]
    turns = rig.turns()
    await rig.etrn.round(turns)
    await after(299)
    assert len(rig.provider.asked) == 1
    await after(2)
    assert len(rig.provider.asked) == 2
    assert rig.etrn.standing(A).consecutive_failures == 0
    await after(3600)
    assert len(rig.provider.asked) == 2


@timeless
async def test_a_connection_that_brings_nothing_and_breaks_is_backed_off_from() -> None:
    rig = Rig(A)
    rig.provider.turns = [TurnReport(failure=ConnectionLostError("lost"))] * 2
    turns = rig.turns()
    await rig.etrn.round(turns)
    assert rig.etrn.told(EtrnUnanswered)[0].result == "connection_lost"
    standing = rig.etrn.standing(A)
    assert (standing.consecutive_failures, standing.last_error) == (1, "connection_lost: lost")
    await after(300)
    assert rig.etrn.standing(A).consecutive_failures == 2
    turns.stop()
    assert await turns.wait_ended(1.0)


@timeless
async def test_nothing_is_asked_while_a_destination_is_away() -> None:
    ways = FakeListener()
    ways.says = "destination hop: takes no mail at the moment"
    rig = Rig(A, listener=ways)
    turns = rig.turns()
    await rig.etrn.round(turns)
    await after(130)
    assert rig.provider.sessions == 0
    assert len(rig.etrn.told(EtrnPostponed)) == 1
    ways.says = ""
    await after(90)
    assert len(rig.etrn.told(EtrnResumed)) == 1
    assert rig.provider.asked == [(1, A)]


@timeless
async def test_a_stop_lets_the_mail_in_hand_come_to_its_end() -> None:
    rig = Rig(A)
    rig.provider.holding = True
    turns = rig.turns()
    await rig.etrn.round(turns)
    assert turns.running
    turns.stop()
    assert await turns.wait_ended(1.0)
    assert rig.etrn.standing(A).last_success_at == START
    assert rig.provider.open_now == 0


@timeless
async def test_a_connection_that_does_not_end_is_cut_off_in_time() -> None:
    rig = Rig(A)
    rig.provider.holding = True
    rig.provider.heedless = True
    turns = rig.turns()
    await rig.etrn.round(turns)
    turns.stop()
    assert not await turns.wait_ended(1.0)
    assert (turns.running, rig.provider.open_now) == (False, 0)
