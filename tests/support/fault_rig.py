"""One maildrop, one next hop, both scripted, and the real program between them until all is relayed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from mailferry.sandbox.line_link import LineLink
from mailferry.sandbox.maildrop import SandboxFeatures, SandboxMaildrop
from support.chaos_proxy import Break, ChaosProxy
from support.configs import PASSWORD, ConfigFolder, Value
from support.mailset import fingerprint, tag_of
from support.programs import Prepare, Program, ProgramLauncher
from support.scripted_pop3 import ScriptedPop3Server
from support.scripted_smtp import AcceptedMessage, ScriptedSmtpServer, SmtpFeatures

MINUTES_BETWEEN_RUNS = 360
"""By the program's clock: longer than any pause that it makes."""
_QUIET_SECONDS = 0.08
_PATIENCE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of the mail, in messages.

    Attributes:
        lost: never accepted by the next hop and not on the server any more.
        missing: never accepted, wherever they are.
        altered: accepted with other octets than were fetched.
        doubled: accepted again after they had been accepted.
        left: on the server.
    """

    lost: int
    missing: int
    altered: int
    doubled: int
    left: int

    @property
    def harm(self) -> tuple[int, int, int]:
        """What must be nothing in every case: missing, altered, doubled."""
        return self.missing, self.altered, self.doubled


def judge(mail: Sequence[bytes], accepted: Sequence[AcceptedMessage], left: Sequence[bytes]) -> Verdict:
    """Compare what was there with what arrived and what is still there."""
    wanted = {fingerprint(content): tag_of(content) for content in mail}
    arrived = Counter(fingerprint(message.content) for message in accepted)
    there = {fingerprint(content) for content in left}
    missing = [digest for digest in wanted if digest not in arrived]
    known = Counter({digest: count for digest, count in arrived.items() if digest in wanted})
    return Verdict(
        lost=sum(digest not in there for digest in missing),
        missing=len(missing),
        altered=arrived.total() - known.total(),
        doubled=known.total() - len(known),
        left=len(left),
    )


def doubled_tags(accepted: Sequence[AcceptedMessage]) -> Counter[str]:
    """Name the messages that came more than once, each with how often too often."""
    return Counter(tag_of(message.content) for message in accepted) - Counter(
        {tag_of(message.content): 1 for message in accepted}
    )


class FaultRig:
    """Servers and a configuration; an asynchronous context manager.

    Attributes:
        box: the maildrop.
        pop3, smtp: the servers, whose `faults` a test may change at any time.
        programs: every program that was started, oldest first.
        held: links that a test holds; dropped when the program has ended.
        wires: what lies between the program and the servers, with `breaks`: asked for each connection.
    """

    def __init__(
        self,
        launcher: ProgramLauncher,
        folder: Path,
        mail: Sequence[bytes],
        *,
        pop3_features: SandboxFeatures | None = None,
        smtp_features: SmtpFeatures | None = None,
        maildrop: dict[str, Value] | None = None,
        destination: dict[str, Value] | None = None,
        breaks: Callable[[], Break | None] | None = None,
        minutes_between_runs: int = MINUTES_BETWEEN_RUNS,
    ) -> None:
        self.mail: list[bytes] = []
        self.box = SandboxMaildrop(PASSWORD)
        self._tags: dict[str, str] = {}
        self.arrive(mail)
        self.pop3 = ScriptedPop3Server({"ann": self.box}, features=pop3_features)
        self.smtp = ScriptedSmtpServer(features=smtp_features)
        self.programs: list[Program] = []
        self.held: list[LineLink] = []
        self.wires: tuple[ChaosProxy, ...] = ()
        self._launcher = launcher
        self._folder = folder
        self._maildrop = maildrop or {}
        self._destination = destination or {}
        self._breaks = breaks
        self._config = Path()
        self._stack = contextlib.AsyncExitStack()
        self._numbers = itertools.count()
        self._minutes_between_runs = minutes_between_runs
        self._more_minutes = 0

    async def __aenter__(self) -> Self:
        """Start the servers and write the configuration."""
        await self.pop3.start()
        await self.smtp.start()
        pop3_port, smtp_port = self.pop3.port, self.smtp.port
        if self._breaks is not None:
            self.wires = (ChaosProxy(pop3_port, self._breaks), ChaosProxy(smtp_port, self._breaks))
            for wire in self.wires:
                await self._stack.enter_async_context(wire.running())
            pop3_port, smtp_port = (wire.port for wire in self.wires)
        config = ConfigFolder(self._folder)
        self._config = config.write(
            {
                "maildrop.ann": config.maildrop(pop3_port, "ann", **self._maildrop),
                "destination.hop": config.smtp(smtp_port, **self._destination),
            },
            log_format="json",
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """End what still runs."""
        for program in self.programs:
            if program.code is None:
                program.kill()
                await program.wait()
        await self._stack.aclose()
        await self.pop3.stop()
        await self.smtp.stop()

    def arrive(self, mail: Sequence[bytes]) -> None:
        """Let messages arrive in the maildrop."""
        self.mail += mail
        for content in mail:
            self._tags[self.box.append(content).decode("ascii")] = tag_of(content)

    def pass_hours(self, hours: int) -> None:
        """Let more time pass before the next start."""
        self._more_minutes += hours * 60

    def start(self, *, command: str = "once", prepare: Prepare | None = None) -> Program:
        """Start the program; each `once` finds the clock later than the start before did."""
        number = next(self._numbers)
        clock: dict[str, object] = {}
        verbose: list[str] = []
        minutes = number * self._minutes_between_runs + self._more_minutes
        if command == "once":  # the daemon's schedule goes by the system's clock, which is nobody's to set
            clock = {"support.killpoints:move_clock": minutes * 60}
            verbose = ["--verbose"]
        program = self._launcher.start(
            self._folder / f"output-{number}.txt",
            *(*command.split(), "-c", str(self._config), *verbose),
            prepare={**clock, **(prepare or {})},
        )
        self.programs.append(program)
        return program

    async def run(self, **order: Any) -> Program:
        """Start the program and wait for its end, and until the servers know of it."""
        program = self.start(**order)
        await self.ended(program)
        return program

    async def ended(self, program: Program) -> int:
        """Wait for a program's end, and until the servers have seen its links end."""
        code = await program.wait()
        while self.held:
            self.held.pop().abort()
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while self.pop3.active_sessions or self.smtp.active_sessions:  # noqa: ASYNC110  -- no event tells
                await asyncio.sleep(0.005)
        return code

    async def quiet(self) -> None:
        """Wait until neither server has been asked anything for a moment."""
        asked, since = self._asked(), 0.0
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while since < _QUIET_SECONDS:
                await asyncio.sleep(_QUIET_SECONDS / 8)
                since += _QUIET_SECONDS / 8
                if self._asked() != asked:
                    asked, since = self._asked(), 0.0

    def _asked(self) -> tuple[int, int]:
        return len(self.pop3.commands), len(self.smtp.commands)

    def behave(self) -> None:
        """Let both servers behave from now on."""
        self.pop3.faults.clear()
        self.smtp.faults.clear()

    def verdict(self) -> Verdict:
        """Say what became of the mail so far."""
        return judge(self.mail, self.smtp.accepted, self.box.messages)

    def tags_of(self, uidls: Iterable[str]) -> Counter[str]:
        """Return the tags of messages that the log names by their unique-ids."""
        return Counter(self._tags[uidl] for uidl in uidls)

    def told(self, name: str) -> list[dict[str, Any]]:
        """Return the events of a name, over all programs."""
        return [event for program in self.programs for event in program.named(name)]
