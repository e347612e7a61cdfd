"""One message that is refused, or that breaks every session it comes to, among 40 and among 500."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from support.fault_rig import FaultRig
from support.faults import Close, Fault, Reset, Stall
from support.figures import record, thorough
from support.mailset import fingerprint, make_messages
from support.programs import ProgramLauncher
from support.scripted_smtp import CONTENT, FINAL

ROW = "one refused or session-breaking message: others held up"
POLLS = 10
MINUTES = 5
LARGE = 400_000
MARK = b"the one that breaks"
SENDER = b"breaker@example.org"


@dataclass(frozen=True, slots=True)
class Breaker:
    """How the one message behaves; it is the first of the maildrop, so nothing is ahead of it."""

    side: str
    fault: Fault


BREAKERS = {
    "refused for good": Breaker("smtp", Fault(FINAL, reply=b"550 5.7.1 spam\r\n", argument=MARK)),
    "refused for now": Breaker("smtp", Fault(FINAL, reply=b"451 4.3.0 later\r\n", argument=MARK)),
    "421 to its content": Breaker(
        "smtp", Fault(FINAL, Close(None), reply=b"421 4.3.2 crashed\r\n", argument=MARK)
    ),
    "next hop closes in its content": Breaker("smtp", Fault(CONTENT, Close(), argument=MARK)),
    "next hop resets in its content": Breaker("smtp", Fault(CONTENT, Reset(), argument=MARK)),
    "next hop closes after its content": Breaker("smtp", Fault(FINAL, Close(), argument=MARK, effect=False)),
    "next hop silent after its content": Breaker("smtp", Fault(FINAL, Stall(), argument=MARK, effect=False)),
    "421 to its sender": Breaker("smtp", Fault(b"MAIL", reply=b"421 4.7.1 not this\r\n", argument=SENDER)),
    "454 to its sender": Breaker("smtp", Fault(b"MAIL", reply=b"454 4.7.1 not this\r\n", argument=SENDER)),
    "next hop closes at its sender": Breaker("smtp", Fault(b"MAIL", Close(), argument=SENDER)),
    "RETR refused": Breaker("pop3", Fault(b"RETR", reply=b"-ERR cannot\r\n", argument=b"1")),
    "server closes in RETR": Breaker("pop3", Fault(b"RETR", Close(200), argument=b"1")),
    "server resets in RETR": Breaker("pop3", Fault(b"RETR", Reset(200), argument=b"1")),
    "server silent in RETR": Breaker("pop3", Fault(b"RETR", Stall(200), argument=b"1")),
    "not a status line": Breaker("pop3", Fault(b"RETR", reply=b"what?\r\n", argument=b"1")),
}


async def get_through(rig: FaultRig, breaker: Breaker) -> None:
    """Poll until all but the breaker are with the next hop and off the server."""
    (rig.smtp if breaker.side == "smtp" else rig.pop3).faults.add(breaker.fault)
    polls, held_up = 0, []
    while len(rig.box.messages) > 1 and polls < POLLS:
        await rig.run()
        arrived = {fingerprint(message.content) for message in rig.smtp.accepted}
        held_up.append(sum(fingerprint(content) not in arrived for content in rig.mail[1:]))
        polls += 1
    verdict = rig.verdict()
    record(
        ROW,
        held_up=held_up[-1],
        held_up_in_second_poll=held_up[1] if polls > 1 else 0,
        peak_polls=polls,
        lost=verdict.lost,
        left=verdict.left - 1,
    )
    assert held_up[-1] == 0, held_up
    assert verdict.doubled == 0
    assert verdict.lost == 0
    assert verdict.left == 1, "the bad one is kept, the others are off the server"


def mail_with(messages: int) -> list[bytes]:
    bad = make_messages(1, seed=41, sizes=(LARGE,))[0].replace(b"Subject: plain", b"Subject: " + MARK)
    assert MARK in bad[:200]
    bad = b"Return-Path: <%s>\r\n%s" % (SENDER, bad)
    return [bad, *make_messages(messages - 1, seed=42, sizes=(300, 1000))]


SHORT = {"maildrop": {"timeout": "1s"}, "destination": {"timeout": "1s", "final_timeout": "1s"}}
AMONG = [40, 500] if thorough() else [40]


@pytest.mark.parametrize("messages", AMONG)
@pytest.mark.parametrize(
    "name",
    BREAKERS,
)
async def test_the_others_get_through(
    launcher: ProgramLauncher, tmp_path: Path, name: str, messages: int
) -> None:
    mail = mail_with(messages)
    async with FaultRig(launcher, tmp_path, mail, minutes_between_runs=MINUTES, **SHORT) as rig:
        await get_through(rig, BREAKERS[name])


@pytest.mark.parametrize("name", ["server closes in RETR"])
async def test_with_one_poll_a_day(launcher: ProgramLauncher, tmp_path: Path, name: str) -> None:
    async with FaultRig(launcher, tmp_path, mail_with(40), minutes_between_runs=1440, **SHORT) as rig:
        await get_through(rig, BREAKERS[name])
