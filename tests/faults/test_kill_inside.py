"""kill -9 between the steps that a server can see: around the note, the commit, the row, the replay.

The product has no fail points: `support.killpoints` wraps its functions in the
process that is to die, and in no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL

import pytest

from mailferry.sandbox.maildrop import SandboxFeatures
from support.fault_rig import FaultRig, doubled_tags
from support.figures import record, thorough
from support.killpoints import POINTS
from support.mailset import make_messages, tag_of
from support.programs import Prepare, ProgramLauncher
from support.scripted_smtp import SmtpFeatures

ROW = "killed at every step"
MESSAGES = 12
UNKNOWABLE = "250 read, not noted"
"""The next hop has accepted, and nothing that outlives the process says so."""
IN_THE_START = {"notes read", "notes written, not committed", "notes replayed, not wiped"}
ONCE_PER_RUN = {"QUIT not sent", "QUIT confirmed, no row", "ledger closed"}
WITHOUT_KEEP = {"told, no DELE", "DELE ordered"}


@dataclass(frozen=True, slots=True)
class Case:
    point: str
    nth: int
    keep: bool
    fast: bool
    """With pipelining and chunking on both sides."""

    def __str__(self) -> str:
        keep, fast = "keep" if self.keep else "delete", "fast" if self.fast else "slow"
        return f"{self.point} {self.nth} {keep} {fast}"


def cases() -> list[Case]:
    found = [
        Case(point, nth, keep, fast)
        for point in POINTS
        for nth in ((1,) if point in ONCE_PER_RUN | IN_THE_START else (1, 4, MESSAGES))
        for keep in (False, True)
        for fast in (True, False)
        if not (keep and point in WITHOUT_KEEP)
    ]
    # Without the time for all, each point is met once each way, with one of its turns.
    return found if thorough() else [case for number, case in enumerate(found) if number % 3 == 0]


def dying(point: str, nth: int) -> Prepare:
    return {"support.killpoints:die_at": {"point": point, "nth": nth}}


async def killed(rig: FaultRig, prepare: Prepare) -> bool:
    """Run the program into its death; tell whether it met it."""
    program = await rig.run(prepare=prepare)
    assert program.code in (0, -SIGKILL), program.tail()
    return program.code == -SIGKILL


@pytest.mark.parametrize("case", cases(), ids=str)
async def test_kill(launcher: ProgramLauncher, tmp_path: Path, case: Case) -> None:
    mail = make_messages(MESSAGES, seed=8, sizes=(300, 2000))
    async with FaultRig(
        launcher,
        tmp_path,
        mail,
        pop3_features=SandboxFeatures(pipelining=case.fast),
        smtp_features=SmtpFeatures(pipelining=case.fast, chunking=case.fast),
        maildrop={"keep": case.keep},
    ) as rig:
        kills = 0
        if case.point in IN_THE_START:  # something must have been noted that no row knows of
            kills += await killed(rig, dying("noted, not ordered", 3))
            assert kills == 1
        kills += await killed(rig, dying(case.point, case.nth))
        last = tag_of(rig.smtp.accepted[-1].content) if rig.smtp.accepted else ""
        program = await rig.run()
        verdict, doubled = rig.verdict(), doubled_tags(rig.smtp.accepted)
        record(ROW, kills=kills, lost=verdict.lost, altered=verdict.altered, doubled=verdict.doubled, left=0)
        assert program.code == 0, program.tail()
        assert (verdict.missing, verdict.altered) == (0, 0)
        assert verdict.left == (MESSAGES if case.keep else 0)
        if case.point == UNKNOWABLE:
            assert dict(doubled) == {last: 1}
        else:
            assert dict(doubled) == {}
        # Orders that wait share a transaction, so the last turns of these may never come.
        assert kills or case.nth > 1
