"""Connections that break at random octets, on both sides, until the mail is through all the same."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from support.chaos_proxy import Break
from support.fault_rig import FaultRig, doubled_tags
from support.figures import record, seeds
from support.mailset import make_messages
from support.programs import ProgramLauncher
from support.scripted_smtp import SmtpFeatures

ROW = "network resets at random octets"
MESSAGES = 60
SIZES = (200, 1000, 4000)
LEAST_BREAKS, MOST_BREAKS = 3, 8
MOST_RUNS = 20


@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", seeds(3))
async def test_resets(launcher: ProgramLauncher, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    mail = make_messages(MESSAGES, seed=200 + seed, sizes=SIZES)
    octets = sum(map(len, mail))

    def next_break() -> Break | None:
        if sum(wire.breaks for wire in rig.wires) >= MOST_BREAKS or chance.random() < 0.2:
            return None
        # Commands are short, mail is long: the way on which most goes breaks late or early alike.
        return Break(chance.random() < 0.5, int(octets ** chance.random()))

    features = SmtpFeatures(chunking=bool(seed % 2))
    async with FaultRig(launcher, tmp_path, mail, smtp_features=features, breaks=next_break) as rig:

        def broken() -> int:
            return sum(wire.breaks for wire in rig.wires)

        while (rig.box.messages or broken() < LEAST_BREAKS) and len(rig.programs) < MOST_RUNS:
            if not rig.box.messages:
                rig.arrive(make_messages(MESSAGES, seed=1000 * (seed + 1) + len(rig.programs), sizes=SIZES))
            await rig.run()
        verdict, doubled = rig.verdict(), doubled_tags(rig.smtp.accepted)
        in_doubt = rig.tags_of(event["uidl"] for event in rig.told("message.in_doubt"))
        unnamed = doubled - in_doubt
        record(
            ROW,
            resets=broken(),
            doubled=unnamed.total(),
            in_doubt=in_doubt.total(),
            in_doubt_doubled=doubled.total(),
            lost=verdict.lost,
            left=verdict.left,
        )
        assert broken() >= LEAST_BREAKS
        assert (verdict.missing, verdict.altered, verdict.left) == (0, 0, 0), rig.programs[-1].tail()
        assert not unnamed, "doubled, and the log does not say so"
