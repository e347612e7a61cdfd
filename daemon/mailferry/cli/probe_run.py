"""One session of `mailferry probe`, from its opening to its end.

The event loop runs for one step at a time: between two steps a person thinks, and no
reply is due.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from mailferry.assembly.notes import maildrop_notes, smtp_server_notes
from mailferry.assembly.probe import ProbeChanges, pop3_link, smtp_link
from mailferry.cli.exit_codes import ExitCode
from mailferry.cli.loop import loop_runner
from mailferry.cli.probe_prompt import Pop3Prompt, SmtpPrompt
from mailferry.cli.probe_report import Peer, ProbeReport
from mailferry.cli.screen import print_json, screen
from mailferry.config import Settings
from mailferry.errors import LocalProtocolError, MailferryError
from mailferry.net.by_hand import HandAnswer
from mailferry.net.credentials import Credentials
from mailferry.net.endpoint import Endpoint
from mailferry.net.opening import Opening
from mailferry.net.pop3_probe import Pop3Probe
from mailferry.net.smtp_probe import SmtpProbe
from mailferry.protocol.pop3_commands import Command as Pop3Command
from mailferry.protocol.smtp_commands import Command as SmtpCommand

T = TypeVar("T")
C = TypeVar("C", bound="Shown")
C_contra = TypeVar("C_contra", contravariant=True)


class Shown(Protocol):
    """A command."""

    @property
    def trace(self) -> str:
        """The line for human eyes."""


class Probe(Protocol[C_contra]):
    """What POP3 and SMTP sessions by hand have in common."""

    opening: Opening

    @property
    def alive(self) -> bool:
        """Whether the session is open and well."""

    async def open(self) -> None:
        """Connect, protect, log in."""

    async def see_certificate(self, error: MailferryError) -> None:
        """After a failed `open`, find out which certificate was not accepted."""

    async def perform(self, command: C_contra) -> HandAnswer:
        """Send one command."""

    async def close(self) -> bool:
        """End the session in good order."""

    def abort(self) -> None:
        """Drop the link."""


class HandDialogue(Generic[C]):
    """A session with its report: each step is run to its end, and what fails is told.

    Attributes:
        probe: the session.
        report: told everything.
    """

    def __init__(self, runner: asyncio.Runner, probe: Probe[C], report: ProbeReport) -> None:
        self.probe = probe
        self.report = report
        self._runner = runner

    def open(self, notes: Callable[[], Sequence[str]]) -> bool:
        """Open the session; `notes` are asked for when that went well."""
        try:
            self._runner.run(self.probe.open())
        except MailferryError as error:
            self._runner.run(self.probe.see_certificate(error))
            self.report.failed(error, self.probe.opening)
            return False
        self.report.opened(self.probe.opening, notes())
        return True

    def run(self, step: Coroutine[Any, Any, T]) -> T | None:
        """Run a step; None when it failed, which was told."""
        try:
            return self._runner.run(step)
        except MailferryError as error:
            self.report.failed(error, self.probe.opening)
            return None

    def send(self, command: C) -> bool:
        """Send a command; False when the session is over."""
        try:
            self.report.answered(self._runner.run(self.probe.perform(command)))
        except LocalProtocolError as error:
            self.report.not_sent(command.trace, str(error))
        except MailferryError as error:
            self.report.not_sent(command.trace, "no answer")
            self.report.failed(error, self.probe.opening)
        return self.probe.alive

    def send_all(self, commands: Sequence[C]) -> None:
        """Send commands in order; what comes after the session's end is told as not sent."""
        over = False
        for command in commands:
            if over:
                self.report.not_sent(command.trace, "not sent: the session had ended")
            else:
                over = not self.send(command)

    def close(self) -> None:
        """End the session in good order, if it is still open."""
        if self.probe.alive:
            self.report.ended(well=self._runner.run(self.probe.close()))

    def drop(self) -> None:
        """Drop what is left of it."""
        self._runner.run(_dropped(self.probe))


async def _dropped(probe: Probe[Any]) -> None:
    probe.abort()
    await asyncio.sleep(0)  # lets the transport close


@dataclass(frozen=True, slots=True)
class Pop3Plan:
    """What to do in a POP3 session.

    Attributes:
        listed: how many messages to list, 0 for none.
        asks: whether to ask for commands at the end.
        shows_all: whether to show the dialogue behind the listing.
    """

    commands: Sequence[Pop3Command]
    listed: int
    asks: bool
    shows_all: bool


@dataclass(frozen=True, slots=True)
class SmtpPlan:
    """What to do in an SMTP session; as `Pop3Plan`."""

    commands: Sequence[SmtpCommand]
    asks: bool


def probe_pop3(
    name: str, settings: Settings, changes: ProbeChanges, plan: Pop3Plan, *, as_json: bool
) -> ExitCode:
    """Run a POP3 session; return the exit code."""
    link = pop3_link(name, settings, changes)
    report = _report("pop3", name, link.endpoint, link.credentials, as_json=as_json)
    report.refusals_count = not plan.asks
    probe = Pop3Probe(link, report.trace)

    def notes() -> list[str]:
        return maildrop_notes(name, settings, probe.opening, time.time())

    with loop_runner() as runner:
        dialogue = HandDialogue[Pop3Command](runner, probe, report)
        try:
            if dialogue.open(notes):
                _go_through(dialogue, probe, plan)
                dialogue.close()
        finally:
            dialogue.drop()
    return _finish(report, as_json)


def _go_through(dialogue: HandDialogue[Pop3Command], probe: Pop3Probe, plan: Pop3Plan) -> None:
    def list_messages(limit: int) -> None:
        dialogue.report.quiet = not plan.shows_all
        try:
            glance = dialogue.run(probe.glance(limit))
        finally:
            dialogue.report.quiet = False
        if glance is not None:
            dialogue.report.glanced(glance)

    if plan.listed:
        list_messages(plan.listed)
    if not probe.alive:
        return
    dialogue.send_all(plan.commands)
    if plan.asks:
        Pop3Prompt(dialogue.report.say, dialogue.send, list_messages, lambda: probe.alive).run()


def probe_smtp(
    table: str, settings: Settings, changes: ProbeChanges, plan: SmtpPlan, *, as_json: bool
) -> ExitCode:
    """Run an SMTP session; return the exit code."""
    link = smtp_link(table, settings, settings.hostname, changes)
    report = _report("smtp", table, link.endpoint, link.credentials, as_json=as_json)
    report.refusals_count = not plan.asks
    probe = SmtpProbe(link, report.trace)

    def notes() -> list[str]:
        return smtp_server_notes(table, settings, probe.features, probe.opening, time.time())

    with loop_runner() as runner:
        dialogue = HandDialogue[SmtpCommand](runner, probe, report)
        try:
            if dialogue.open(notes):
                dialogue.send_all(plan.commands)
                if plan.asks:
                    SmtpPrompt(report.say, dialogue.send, lambda: probe.alive).run()
                dialogue.close()
        finally:
            dialogue.drop()
    return _finish(report, as_json)


def _report(
    kind: str, name: str, endpoint: Endpoint, credentials: Credentials | None, *, as_json: bool
) -> ProbeReport:
    username = credentials.username if credentials is not None else None
    return ProbeReport(Peer(kind, name, endpoint, username), None if as_json else screen())


def _finish(report: ProbeReport, as_json: bool) -> ExitCode:
    if as_json:
        print_json(report.document())
    return report.exit_code()
