"""A person's wish that the daemon carries out, and its way back through JSON."""

from __future__ import annotations

import asyncio
import json

import pytest

from mailferry.assembly.asking import Asking, report_of
from mailferry.errors import ConnectError, ControlError, UnknownTargetError
from mailferry.events import EtrnAnswered, EtrnUnanswered
from mailferry.model import StandingKind
from mailferry.policy.etrn import standing_name
from mailferry.services.etrn_by_hand import HandReport
from support.fake_etrn import NODES, EtrnRig, lost
from support.virtual_time import START, settle, timeless

A, B, C = NODES


async def ask(rig: EtrnRig, *nodes: str, force: bool = False) -> HandReport:
    turns = rig.turns()
    document = await Asking(rig.around).ask(turns, nodes, force=force, insist=False)
    assert {row.name: row for row in turns.standings}.items() >= {
        row.name: row for row in rig.ledger.standing_rows.values() if "/" in row.name
    }.items(), "the turns have not taken it over"
    return report_of(json.loads(json.dumps(document)))


@timeless
async def test_what_was_said_comes_back_whole_and_into_the_ledger() -> None:
    rig = EtrnRig()
    rig.server.says = {A: ["253 14 pending"], B: ["459 no"], C: [lost()]}
    report = await ask(rig)
    a, b, c = (report.outcomes[node] for node in NODES)
    assert (a.answer.pending, a.answer.promised, a.reply) == (14, True, "253 14 pending")
    assert (b.answer.result, bool(b.answer.advice), b.accepted) == ("refused", True, False)
    assert (c.answer.result, c.answered) == ("connection_lost", False)
    assert rig.standing(A).last_attempt_at == START
    assert rig.standing(B).consecutive_failures == 1
    assert [event.node for event in rig.told(EtrnAnswered)] == [A, B]
    assert [event.node for event in rig.told(EtrnUnanswered)] == [C]


@timeless
async def test_the_gap_holds_unless_forced_and_some_nodes_are_enough() -> None:
    rig = EtrnRig()
    await ask(rig, A)
    assert rig.server.nodes_asked == [A]
    assert (await ask(rig, A)).too_soon == {A: 300.0}
    assert (await ask(rig, A, force=True)).outcomes[A].accepted


@timeless
async def test_a_server_that_is_away_is_said() -> None:
    rig = EtrnRig()
    rig.server.opens = [ConnectError("refused")]
    report = await ask(rig)
    assert report.failure is not None
    assert (report.failure.result, report.failure.text) == ("connect_failed", "refused")
    assert (StandingKind.ETRN, standing_name("head-office")) in rig.ledger.standing_rows


@timeless
async def test_one_wish_at_a_time_and_none_beside_a_round() -> None:
    rig = EtrnRig(A)
    rig.server.stalls = {A}
    asking, turns = Asking(rig.around), rig.turns()
    first = asyncio.ensure_future(asking.ask(turns, (), force=False, insist=False))
    await settle()
    with pytest.raises(ControlError, match="just now"):
        await asking.ask(turns, (), force=False, insist=False)
    first.cancel()
    await settle()
    turns.start()
    await settle()
    with pytest.raises(ControlError, match="just now"):
        await asking.ask(turns, (), force=False, insist=False)
    turns.stop()
    assert await turns.wait_ended(1.0)


@timeless
async def test_a_node_that_nobody_configured_is_refused() -> None:
    rig = EtrnRig()
    with pytest.raises(UnknownTargetError, match=r"x\.example"):
        await Asking(rig.around).ask(rig.turns(), ["x.example"], force=False, insist=False)
    assert rig.server.asked == []
