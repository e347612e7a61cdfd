"""Answers that never come: to the end of a message, and to QUIT."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.fault_rig import FaultRig, doubled_tags
from support.faults import Close, Delivery, Drip, Fault, Reset, Stall
from support.figures import record, thorough
from support.mailset import make_messages, tag_of
from support.programs import ProgramLauncher
from support.scripted_smtp import FINAL, SmtpFeatures

IN_DOUBT = "accepted, 250 never seen"
QUIT = "QUIT unanswered"
MESSAGES = 30
WAYS: dict[str, Delivery] = {
    "closed": Close(),
    "reset": Reset(),
    "silent": Stall(),
    "half a reply": Stall(6),
    "dripping": Drip(0.3),
}


@pytest.mark.parametrize("accepted", [True, False], ids=["accepted", "not accepted"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "chunking", [True, False] if thorough() else [False], ids=lambda on: "bdat" if on else "data"
)
async def test_a_250_that_never_comes(
    launcher: ProgramLauncher, tmp_path: Path, chunking: bool, way: str, accepted: bool
) -> None:
    mail = make_messages(MESSAGES, seed=31, sizes=(300, 2000))
    faults = [Fault(FINAL, WAYS[way], nth=nth, times=1, effect=accepted) for nth in (1, 9, 30)]
    async with FaultRig(
        launcher,
        tmp_path,
        mail,
        smtp_features=SmtpFeatures(chunking=chunking),
        destination={"final_timeout": "1s"},
    ) as rig:
        for fault in faults:
            rig.smtp.faults.add(fault)
        while rig.box.messages and len(rig.programs) < 12:
            await rig.run()
        events = sum(rig.smtp.faults.struck(fault) for fault in faults)
        verdict, doubled = rig.verdict(), doubled_tags(rig.smtp.accepted)
        told = rig.tags_of(event["uidl"] for event in rig.told("message.in_doubt"))
        record(
            IN_DOUBT,
            accepted=events if accepted else 0,
            refused=0 if accepted else events,
            doubled=verdict.doubled,
            unnamed=(doubled - told).total(),
        )
        assert events == len(faults)
        assert (verdict.missing, verdict.altered, verdict.left) == (0, 0, 0)
        assert told.total() == events, "each is named in the log"
        assert doubled == (told if accepted else {}), "those that were named came twice, and no others"


@pytest.mark.parametrize("done", [True, False], ids=["deleted", "not deleted"])
@pytest.mark.parametrize("way", WAYS)
async def test_quit_unanswered(launcher: ProgramLauncher, tmp_path: Path, way: str, done: bool) -> None:
    mail = make_messages(MESSAGES, seed=32, sizes=(300, 2000))
    fault = Fault(b"QUIT", WAYS[way], times=1, effect=done)
    async with FaultRig(launcher, tmp_path, mail, maildrop={"timeout": "1s"}) as rig:
        rig.pop3.faults.add(fault)
        await rig.run()
        assert rig.pop3.faults.struck(fault) == 1
        assert rig.told("maildrop.quit_unconfirmed")
        assert len(rig.box.messages) == (0 if done else MESSAGES)
        # A server that uses its unique-ids again, as RFC 1939 allows, must not lose the new message by it.
        fresh = make_messages(1, seed=33)[0]
        rig.box.append(fresh, uidl=b"fresh")
        program = await rig.run()
        verdict = rig.verdict()
        record(QUIT, doubled=verdict.doubled, left=verdict.left, lost=verdict.lost)
        assert program.code == 0, program.tail()
        assert [tag_of(message.content) for message in rig.smtp.accepted][-1] == tag_of(fresh)
        assert verdict.harm == (0, 1, 0), "nothing but the fresh one is new to the next hop"
        assert verdict.left == 0


async def test_a_unique_id_that_was_used_again_after_an_unanswered_quit(
    launcher: ProgramLauncher, tmp_path: Path
) -> None:
    mail = make_messages(4, seed=34, sizes=(300,))
    async with FaultRig(launcher, tmp_path, mail) as rig:
        uidls = rig.box.uidls
        rig.pop3.faults.add(Fault(b"QUIT", Close(), times=1))
        await rig.run()
        assert rig.box.messages == []
        fresh = make_messages(4, seed=35, sizes=(300,))
        for uidl, content in zip(uidls, fresh, strict=True):
            rig.box.append(content, uidl=uidl)
        program = await rig.run()
        assert program.code == 0, program.tail()
        arrived = [tag_of(message.content) for message in rig.smtp.accepted]
        assert arrived == [tag_of(content) for content in (*mail, *fresh)]
        assert rig.box.messages == []


async def test_a_next_hop_that_never_answers_puts_few_messages_in_doubt(
    launcher: ProgramLauncher, tmp_path: Path
) -> None:
    mail = make_messages(60, seed=36, sizes=(300,))
    async with FaultRig(launcher, tmp_path, mail) as rig:
        rig.smtp.faults.add(Fault(FINAL, Close()))
        await rig.run()
        # One may be to blame itself; after a second one in a row the next hop is.
        assert len(rig.smtp.accepted) <= 2
        assert len(rig.told("message.in_doubt")) == len(rig.smtp.accepted)
