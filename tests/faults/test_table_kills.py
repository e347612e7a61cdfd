"""Drains of 500 messages with kill -9 at random moments, against a next hop that answers at once."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path
from signal import SIGKILL

import pytest

from support.fault_rig import FaultRig, doubled_tags
from support.figures import record, seeds
from support.mailset import make_messages
from support.programs import ProgramLauncher

ROW = "kill -9 at random moments of a drain of 500 messages"
MESSAGES = 500
SIZES = (300, 1000, 3000, 8000)
MOST_KILLS = 12
"""In one drain; it comes to its end sooner when the moments are late ones."""


async def first_retr(rig: FaultRig, asked_before: int) -> None:
    """Wait until the running program has fetched something, or has ended."""
    async with asyncio.timeout(20):
        while rig.programs[-1].code is None and rig.pop3.counts["retr"] == asked_before:  # noqa: ASYNC110  -- no event tells
            await asyncio.sleep(0.001)


async def measure(launcher: ProgramLauncher, folder: Path, seed: int) -> float:
    """Return how many seconds an undisturbed drain takes from its first RETR on."""
    async with FaultRig(launcher, folder, make_messages(MESSAGES, seed=seed, sizes=SIZES)) as rig:
        program = rig.start()
        await first_retr(rig, 0)
        began = time.monotonic()
        await rig.ended(program)
        assert program.code == 0, program.tail()
        return time.monotonic() - began


@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", seeds(2))
async def test_kills_at_random_moments(launcher: ProgramLauncher, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    seconds = await measure(launcher, tmp_path / "measure", seed)
    mail = make_messages(MESSAGES, seed=100 + seed, sizes=SIZES)
    async with FaultRig(launcher, tmp_path / "drain", mail) as rig:
        kills = 0
        while rig.box.messages and kills < MOST_KILLS:
            fetched = rig.pop3.counts["retr"]
            program = rig.start()
            await first_retr(rig, fetched)
            # Another process kills, so that the moment has nothing to do with what a server does then.
            program.kill_later(chance.uniform(0, seconds * 0.25))
            kills += await rig.ended(program) == -SIGKILL
            sessions = rig.smtp.counts["sessions"]
        program = await rig.run()
        verdict, doubled = rig.verdict(), doubled_tags(rig.smtp.accepted)
        record(ROW, kills=kills, doubled=verdict.doubled, lost=verdict.lost, left=verdict.left)
        assert program.code == 0, program.tail()
        assert kills >= 2, "the moments were no moments of the drain"
        assert (verdict.missing, verdict.altered, verdict.left) == (0, 0, 0)
        # Each kill finds at most one message in each open SMTP session between its 250 and our note.
        assert verdict.doubled <= sessions
        assert max(doubled.values(), default=0) <= kills
