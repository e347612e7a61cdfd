"""SIGTERM at random moments of a transfer: what was begun is finished, the rest is for the next start."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from support.fault_rig import FaultRig
from support.faults import Delay, Drip, Fault
from support.figures import record, seeds
from support.mailset import make_messages
from support.programs import ProgramLauncher
from support.scripted_smtp import FINAL

ROW = "SIGTERM in mid-transfer"
MESSAGES = 120
STOPS = 3


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", seeds(2))
async def test_sigterm(launcher: ProgramLauncher, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    mail = make_messages(MESSAGES, seed=300 + seed, sizes=(300, 2000, 30_000))
    async with FaultRig(launcher, tmp_path, mail, maildrop={"every": "1s"}) as rig:
        rig.smtp.faults.add(Fault(FINAL, Delay(0.005)))
        rig.pop3.faults.add(Fault(b"RETR", Drip(0.001, 4096)))
        stops = 0
        while rig.box.messages and stops < STOPS:
            fetched = rig.pop3.counts["retr"]
            program = rig.start(command="run")
            async with asyncio.timeout(30):
                while rig.pop3.counts["retr"] == fetched:  # noqa: ASYNC110  -- no event tells
                    await asyncio.sleep(0.002)
            await asyncio.sleep(chance.uniform(0, 0.25))
            program.terminate()
            code = await rig.ended(program)
            stops += 1
            assert code == 0, program.tail()
            assert [event["clean"] for event in program.named("daemon.stopped")] == [True]
            # What was accepted is off the server: the session ended with a confirmed QUIT.
            assert len(rig.box.messages) == MESSAGES - len(rig.smtp.accepted)
        rig.behave()
        program = await rig.run()
        verdict = rig.verdict()
        record(ROW, stops=stops, doubled=verdict.doubled, left=verdict.left, lost=verdict.lost)
        assert program.code == 0, program.tail()
        assert verdict.harm == (0, 0, 0)
        assert verdict.left == 0
