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
from support.faults import Fault, Stall
from support.figures import record, thorough
from support.killpoints import POINTS
from support.mailset import make_messages, tag_of
from support.programs import ProgramLauncher
from support.scripted_smtp import FINAL, SmtpFeatures

ROW = "killed at every step"
MESSAGES = 12
UNKNOWABLE = "250 read, not noted"
"""The next hop has accepted, and nothing that outlives the process says so."""
IN_THE_START = {"notes read", "notes written, not committed", "notes replayed, not wiped"}
AT_THE_END = {"QUIT not sent", "QUIT confirmed, no row", "ledger closed"}
WITHOUT_KEEP = {"told, no DELE", "DELE ordered"}
OF_A_TRANSACTION = {
    "transaction begun",
    "change logged, not committed",
    "rows written, not committed",
    "committed, nobody told",
}
"""Several messages may share one, and those before any mail are none of these."""
OF_A_COPY = {
    "change log begun",
    "copy not begun",
    "copy made, not named",
    "copy before moved away",
    "copy named",
}


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


def turns(point: str) -> tuple[int, ...]:
    """Which passages of a point are deadly, in cases of their own."""
    once = IN_THE_START | AT_THE_END | OF_A_TRANSACTION | OF_A_COPY
    return (1,) if point in once else (1, 4, MESSAGES)


def cases() -> list[Case]:
    found = [
        Case(point, nth, keep, fast)
        for point in POINTS
        for nth in turns(point)
        for keep in (False, True)
        for fast in (True, False)
        if not (keep and point in WITHOUT_KEEP)
    ]
    # Without the time for all, each point is met once each way, with one of its turns.
    return found if thorough() else [case for number, case in enumerate(found) if number % 3 == 0]


async def die(rig: FaultRig, point: str, nth: int) -> None:
    """Run the program into its death, with no other message on its way to the next hop."""
    taken = MESSAGES if point in AT_THE_END else len(rig.smtp.accepted) + nth
    since = {"since": "noted, not ordered"} if point in OF_A_TRANSACTION else {}
    # The next one is sent and not accepted, those behind it are fetched: none of them can double.
    rig.smtp.faults.add(Fault(FINAL, Stall(), nth=taken + 1, effect=False))
    program = await rig.run(prepare={"support.killpoints:die_at": {"point": point, "nth": nth, **since}})
    assert program.code == -SIGKILL, program.tail()
    rig.behave()


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
        if case.point in OF_A_COPY:  # one that replaces an older one, in the midst of a drain
            first = await rig.run()
            assert first.code == 0, first.tail()
            rig.arrive(make_messages(MESSAGES, seed=9, sizes=(300, 2000)))
            rig.pass_hours(30)
        if case.point in IN_THE_START:  # something must have been noted that no row knows of
            await die(rig, "noted, not ordered", 3)
        await die(rig, case.point, case.nth)
        last = tag_of(rig.smtp.accepted[-1].content) if rig.smtp.accepted else ""
        program = await rig.run()
        verdict, doubled = rig.verdict(), doubled_tags(rig.smtp.accepted)
        record(ROW, kills=1, lost=verdict.lost, altered=verdict.altered, doubled=verdict.doubled)
        assert program.code == 0, program.tail()
        assert (verdict.missing, verdict.altered) == (0, 0)
        assert verdict.left == (len(rig.mail) if case.keep else 0)
        if case.point in OF_A_COPY:  # made on a thread of its own: what is on its way then, is
            assert dict(doubled) in ({}, {last: 1})
        else:
            assert dict(doubled) == ({last: 1} if case.point == UNKNOWABLE else {})
        if thorough() or case.point in OF_A_COPY:
            check = await rig.run(command="ledger check")
            assert check.code == 0, check.tail()
