"""kill -9 at every step of a message's life, as its servers see it.

Each case runs the real program in a process of its own until a server is at the
step, kills it there, starts it again and looks at the books: nothing lost,
nothing altered, nothing left that should not be, nothing doubled but in the one
step where one side alone cannot know (RFC 1047): the next hop has accepted, and
its 250 was not read.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL

import pytest

from mailferry.sandbox.line_link import LineLink
from mailferry.sandbox.maildrop import SandboxFeatures
from support.fault_rig import FaultRig, doubled_tags
from support.faults import GREETING, Fault, Halt
from support.figures import record, thorough
from support.mailset import make_messages, tag_of
from support.programs import ProgramLauncher
from support.scripted_smtp import CONTENT, FINAL, SmtpFeatures

ROW = "killed at every step"
MESSAGES = 12
LARGE = 600_000
"""Octets of one message, so that its content comes in many pieces."""


@dataclass(frozen=True, slots=True)
class Step:
    """Where the program dies.

    Attributes:
        side: which server notices.
        verb: the command at which.
        nth: which of these commands.
        after_octets: how much of the reply is sent before; None is all of it.
        effect: whether the server has done what the command asks for.
        settled: whether all else comes to rest first; otherwise it dies in full flight.
    """

    side: str
    verb: bytes
    nth: int = 1
    after_octets: int | None = 0
    effect: bool = False
    settled: bool = False

    @property
    def in_flight(self) -> bool:
        """Whether one message may have been accepted, and its 250 not read: nobody can know, so it may double."""
        return not self.settled or (self.verb == FINAL and self.effect)

    def __str__(self) -> str:
        moment = {0: "done" if self.effect else "asked", None: "answered"}.get(
            self.after_octets, "half answered"
        )
        nth = f" {self.nth}" if self.nth > 1 else ""
        return f"{self.side} {self.verb.decode().lower()}{nth} {moment}{' and all quiet' if self.settled else ''}"


def steps() -> list[Step]:
    """List every step once for each way in which it can be met."""
    found = []
    turns = (1, 5, MESSAGES) if thorough() else (5,)
    for verb in (GREETING, b"CAPA", b"USER", b"PASS", b"STAT", b"LIST", b"UIDL"):
        found += [Step("pop3", verb), Step("pop3", verb, after_octets=None, effect=True)]
    found.append(Step("pop3", b"UIDL", after_octets=40, effect=True))
    for nth in turns:
        for settled in (False, True):
            found += [
                Step("pop3", b"RETR", nth, settled=settled),
                Step("pop3", b"RETR", nth, 150, effect=True, settled=settled),
                Step("pop3", b"RETR", nth, None, effect=True, settled=settled),
            ]
    for nth in turns:
        found += [
            Step("pop3", b"DELE", nth),
            Step("pop3", b"DELE", nth, effect=True, settled=True),
            Step("pop3", b"DELE", nth, None, effect=True),
        ]
    found += [
        Step("pop3", b"QUIT"),
        Step("pop3", b"QUIT", effect=True),
        Step("pop3", b"QUIT", after_octets=None, effect=True),
    ]
    for verb in (GREETING, b"EHLO"):
        found += [Step("smtp", verb), Step("smtp", verb, after_octets=None, effect=True, settled=True)]
    for nth in turns:
        for verb in (b"MAIL", b"RCPT", b"DATA"):
            found.append(Step("smtp", verb, nth, settled=nth == 5))
            found.append(Step("smtp", verb, nth, None, effect=True))
        found += [
            Step("smtp", FINAL, nth),
            Step("smtp", FINAL, nth, settled=True),
            Step("smtp", FINAL, nth, effect=True),
            Step("smtp", FINAL, nth, effect=True, settled=True),
            Step("smtp", FINAL, nth, 10, effect=True),
            Step("smtp", FINAL, nth, None, effect=True),
        ]
    found += [Step("smtp", CONTENT), Step("smtp", CONTENT, settled=True)]
    found += [Step("smtp", b"QUIT"), Step("smtp", b"QUIT", after_octets=None, effect=True)]
    return found


STEPS = steps()


@dataclass(frozen=True, slots=True)
class Mode:
    """How the program and its peers work together."""

    keep: bool
    pipelining: bool
    chunking: bool


MODES = [
    Mode(keep, pipe, chunk) for keep in (False, True) for pipe in (True, False) for chunk in (True, False)
]


def modes_of(step: Step) -> list[Mode]:
    """All modes in which the step happens where time allows; otherwise the steps share them out."""
    modes = [mode for mode in MODES if reachable(step, mode)]
    return modes if thorough() else [modes[STEPS.index(step) % len(modes)]]


def reachable(step: Step, mode: Mode) -> bool:
    """Whether this step happens at all in this mode."""
    return not (step.verb == b"DATA" and mode.chunking) and not (step.verb == b"DELE" and mode.keep)


async def kill_at(rig: FaultRig, step: Step) -> bool:
    """Run the program until the step, kill it there; tell whether it came so far."""
    reached = asyncio.Event()
    server = rig.pop3 if step.side == "pop3" else rig.smtp

    def strike(link: LineLink) -> None:
        rig.held.append(link)
        reached.set()
        if not step.settled:
            rig.programs[-1].kill()

    server.faults.add(
        Fault(step.verb, Halt(strike, step.after_octets), nth=step.nth, times=1, effect=step.effect)
    )
    program = rig.start()
    ended = asyncio.create_task(rig.ended(program))
    arrived = asyncio.create_task(reached.wait())
    await asyncio.wait({ended, arrived}, return_when=asyncio.FIRST_COMPLETED)
    arrived.cancel()
    if reached.is_set() and step.settled:
        await rig.quiet()
        program.kill()
    code = await ended
    assert not reached.is_set() or code == -SIGKILL, program.tail()
    return reached.is_set()


async def kill_and_go_on(launcher: ProgramLauncher, folder: Path, step: Step, mode: Mode) -> None:
    mail = make_messages(MESSAGES, seed=5, sizes=(300, 2000))
    if thorough() or step.verb == CONTENT:
        mail[4] = make_messages(1, seed=6, sizes=(LARGE,))[0]
    async with FaultRig(
        launcher,
        folder,
        mail,
        pop3_features=SandboxFeatures(pipelining=mode.pipelining),
        smtp_features=SmtpFeatures(pipelining=mode.pipelining, chunking=mode.chunking),
        maildrop={"keep": mode.keep, "auth": "user"},
    ) as rig:
        assert await kill_at(rig, step), f"{step} was never reached with {mode}:\n{rig.programs[-1].tail()}"
        last = tag_of(rig.smtp.accepted[-1].content) if rig.smtp.accepted else ""
        rig.behave()
        program = await rig.run()
        verdict, doubled = rig.verdict(), doubled_tags(rig.smtp.accepted)
        record(
            ROW,
            kills=1,
            lost=verdict.lost,
            altered=verdict.altered,
            doubled=verdict.doubled,
            left=verdict.left,
        )
        assert program.code == 0, program.tail()
        assert (verdict.missing, verdict.altered) == (0, 0)
        assert verdict.left == (MESSAGES if mode.keep else 0)
        # One SMTP session, so at most one message is between its acceptance and our knowing of it.
        assert dict(doubled) in ([{}, {last: 1}] if step.in_flight else [{}])
        assert rig.smtp.violations == []


@pytest.mark.timeout(120)
@pytest.mark.parametrize("step", STEPS, ids=str)
async def test_kill(launcher: ProgramLauncher, tmp_path: Path, step: Step) -> None:
    for each, mode in enumerate(modes_of(step)):
        await kill_and_go_on(launcher, tmp_path / str(each), step, mode)
