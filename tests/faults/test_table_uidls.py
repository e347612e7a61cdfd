"""Servers that renumber their unique-ids, have none, lose them or mix them up: nothing comes twice for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mailferry.sandbox.maildrop import SandboxFeatures
from support.fault_rig import FaultRig
from support.faults import Close, Fault
from support.figures import record, thorough
from support.mailset import make_messages
from support.programs import ProgramLauncher

RENUMBERED = "UIDLs renumbered, 200 kept"
NONE_AT_ALL = "no UIDL at all, 140 kept"
TOP = [True, False] if thorough() else [False]
TOP_IDS = ["TOP", "no TOP"][-len(TOP) :]


async def run_well(rig: FaultRig) -> None:
    program = await rig.run()
    assert program.code == 0, program.tail()


@pytest.mark.parametrize("has_top", TOP, ids=TOP_IDS)
async def test_renumbered(launcher: ProgramLauncher, tmp_path: Path, has_top: bool) -> None:
    mail = make_messages(200, seed=61, sizes=(300, 1000))
    features = SandboxFeatures(has_top=has_top)
    async with FaultRig(launcher, tmp_path, mail, pop3_features=features, maildrop={"keep": True}) as rig:
        await run_well(rig)
        for prefix in (b"moved-", b"again-"):
            rig.box.renew_uidls(prefix)
            await run_well(rig)
        new = make_messages(3, seed=62)
        for content in new:
            rig.box.append(content)
        await run_well(rig)
        verdict = rig.verdict()
        record(RENUMBERED, doubled=verdict.doubled, lost=verdict.lost)
        assert (verdict.missing, verdict.doubled) == (0, 0)
        assert len(rig.smtp.accepted) == len(mail) + len(new), "what is new comes through, once"
        assert [event["recognised"] for event in rig.told("maildrop.uidls_changed")] == [200, 200]
        assert len(rig.box.messages) == len(mail) + len(new)


@pytest.mark.parametrize("has_top", TOP, ids=TOP_IDS)
async def test_no_uidl_at_all(launcher: ProgramLauncher, tmp_path: Path, has_top: bool) -> None:
    mail = make_messages(140, seed=63, sizes=(300, 1000))
    features = SandboxFeatures(has_uidl=False, has_top=has_top)
    async with FaultRig(launcher, tmp_path, mail, pop3_features=features, maildrop={"keep": True}) as rig:
        for _ in range(3):
            await run_well(rig)
        verdict = rig.verdict()
        record(NONE_AT_ALL, doubled=verdict.doubled, lost=verdict.lost)
        assert verdict.harm == (0, 0, 0)
        assert verdict.left == len(mail)


@pytest.mark.parametrize("has_top", TOP, ids=TOP_IDS)
async def test_the_same_uidl_for_all(launcher: ProgramLauncher, tmp_path: Path, has_top: bool) -> None:
    mail = make_messages(60, seed=64, sizes=(300, 1000))
    features = SandboxFeatures(duplicate_uidls=True, has_top=has_top)
    async with FaultRig(launcher, tmp_path, mail, pop3_features=features, maildrop={"keep": True}) as rig:
        for _ in range(3):
            await run_well(rig)
        assert rig.verdict().harm == (0, 0, 0)


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "deleted"])
async def test_uidl_comes_and_goes(launcher: ProgramLauncher, tmp_path: Path, keep: bool) -> None:
    mail = make_messages(60, seed=65, sizes=(300, 1000))
    async with FaultRig(launcher, tmp_path, mail, maildrop={"keep": keep}) as rig:
        # The deletions of the first run are not made: all is there once more.
        rig.pop3.faults.add(Fault(b"QUIT", Close(), times=1, effect=False))
        for has_uidl in (True, False, True, False):
            rig.pop3.features = replace(rig.pop3.features, has_uidl=has_uidl)
            await rig.run()
        await run_well(rig)
        verdict = rig.verdict()
        assert verdict.harm == (0, 0, 0)
        assert verdict.left == (len(mail) if keep else 0)


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "deleted"])
async def test_killed_and_renumbered_at_once(launcher: ProgramLauncher, tmp_path: Path, keep: bool) -> None:
    mail = make_messages(60, seed=66, sizes=(300, 1000))
    async with FaultRig(launcher, tmp_path, mail, maildrop={"keep": keep}) as rig:
        point = {"point": "noted, not ordered", "nth": 40}
        await rig.run(prepare={"support.killpoints:die_at": point})
        rig.box.renew_uidls(b"moved-")
        await run_well(rig)
        verdict = rig.verdict()
        assert verdict.harm == (0, 0, 0)
        assert verdict.left == (len(mail) if keep else 0)
