"""The control channel of a running daemon: where it lies, and what stands behind it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

from mailferry import __version__
from mailferry.assembly.asking import Asking
from mailferry.assembly.control_place import control_place
from mailferry.assembly.retry import retry_messages
from mailferry.assembly.snapshot import Life, Row, Snapshots, iso_or_none, resident_octets
from mailferry.config.models import MaildirDestinationSettings, Settings
from mailferry.errors import ControlError, QuarantineError
from mailferry.events import ControlUnavailable
from mailferry.ledger.reader import open_reader
from mailferry.model import StandingKind
from mailferry.net.switchboard import DEFAULT_SECONDS, TraceState, TraceSwitchboard
from mailferry.policy.poll_result import poll_result
from mailferry.quarantine.store import quarantine_in
from mailferry.runtime.caps import SessionCaps
from mailferry.runtime.control import Controls, PollAnswer, Target
from mailferry.runtime.holds import Holds
from mailferry.runtime.schedule import Schedule
from mailferry.runtime.supervisor import Supervisor
from mailferry.services.context import Surroundings
from mailferry.telemetry.redaction import clean_text
from mailferry.web.control import ControlServer
from mailferry.web.unix_socket import is_too_long


@dataclass(frozen=True, slots=True)
class ControlParts:
    """What the control channel reaches.

    Attributes:
        settings: returns those in force.
    """

    supervisor: Supervisor
    schedule: Schedule
    around: Surroundings
    caps: SessionCaps
    holds: Holds
    traces: TraceSwitchboard
    settings: Callable[[], Settings]


@asynccontextmanager
async def control_channel(
    parts: ControlParts, environ: Mapping[str, str] = os.environ
) -> AsyncIterator[None]:
    """Listen for commands.

    A state directory with a long name makes a name that no socket can have; mail is carried all
    the same, and the log says what is missing.

    Raises:
        ControlSocketError: another daemon answers there, or the socket cannot be had.
    """
    settings, emit = parts.settings(), parts.around.emit
    place = control_place(settings.daemon, environ)
    if settings.daemon.control_socket is None and is_too_long(place.path):
        emit(ControlUnavailable(str(place.path), "too long for a Unix socket: set [daemon] control_socket"))
        yield
        return
    server = ControlServer(place, DaemonControl(parts), emit)
    await server.start()
    try:
        yield
    finally:
        await server.stop()
        parts.holds.close()
        parts.traces.close()


class DaemonControl:
    """Implements `web.control.ControlOperations` for the daemon around it."""

    def __init__(self, parts: ControlParts) -> None:
        fleet = parts.supervisor.fleet
        self._parts = parts
        self._controls = Controls(fleet, parts.holds, lambda: parts.supervisor.stopping)
        self._asking = Asking(parts.around)
        self._snapshots = Snapshots(fleet, parts.schedule, parts.holds, parts.traces, parts.around.clock)
        self._looking = asyncio.Lock()
        """One look at a time: many watchers must not take all threads, which log in, too."""
        self._started_at = parts.around.clock()
        self._began = asyncio.get_running_loop().time()

    async def status(self) -> Row:
        """See `ControlOperations`."""
        async with self._looking:
            life, about = self._snapshots.take(), self._about()
            document = await asyncio.to_thread(_document, life, self._parts.settings())
        return {**document, "daemon": about}

    def _about(self) -> Row:
        parts, budget = self._parts, self._parts.around.budget
        return {
            "version": __version__,
            "pid": os.getpid(),
            "started_at": iso_or_none(self._started_at),
            "uptime_seconds": round(asyncio.get_running_loop().time() - self._began, 3),
            "stopping": parts.supervisor.stopping,
            "pop3_sessions": parts.caps.in_use,
            "polls_waiting": parts.caps.waiting,
            "mail_octets": budget.in_use_octets,
            "mail_limit_octets": budget.limit_octets,
            "resident_octets": resident_octets(),
            "schedule_lag_seconds": round(parts.schedule.lag_seconds, 3),
        }

    async def poll(self, names: Sequence[str] | None, *, wait_seconds: float) -> Row:
        """See `ControlOperations`."""
        answers = await self._controls.poll(names, wait_seconds=wait_seconds)
        return {"polls": [_poll_row(answer) for answer in answers]}

    async def pause(self, names: Sequence[str] | None, *, seconds: float | None) -> Row:
        """See `ControlOperations`."""
        paused = self._controls.pause(names, seconds)
        ends_at = self._controls.held[str(paused[0])] if paused else None
        return {"paused": _texts(paused), "ends_at": iso_or_none(ends_at)}

    async def resume(self, names: Sequence[str] | None) -> Row:
        """See `ControlOperations`."""
        return {"resumed": _texts(self._controls.resume(names))}

    async def retry(self, maildrop: str | None, *, uidl: str | None) -> Row:
        """See `ControlOperations`."""
        target = self._controls.find(maildrop, StandingKind.MAILDROP) if maildrop is not None else None
        name = target.name if target is not None else None
        url = self._parts.settings().ledger_url
        retried = await asyncio.to_thread(retry_messages, url, name, uidl)
        postponed = retried.postponed + self._controls.hurry(name)
        polls: list[PollAnswer] = []
        if (retried.refused or postponed) and (target is not None or uidl is None):
            polls = await self._controls.poll(None if target is None else [str(target)])
        started = [each.target.name for each in polls if each.state == "under way"]
        return {"messages": retried.refused, "postponed": postponed, "polling": started}

    async def ask(self, name: str, nodes: Sequence[str], *, force: bool, insist: bool) -> Row:
        """See `ControlOperations`."""
        target = self._controls.find(name, StandingKind.ETRN)
        turns = self._parts.supervisor.fleet.etrn[target.name]
        return await self._asking.ask(turns, nodes, force=force, insist=insist)

    async def reload(self) -> Row:
        """See `ControlOperations`."""
        report = await self._parts.supervisor.reload()
        if self._parts.supervisor.stopping and not report.accepted:
            raise ControlError("the daemon is stopping: nothing is reloaded")
        return asdict(report)

    async def traces(self) -> Row:
        """See `ControlOperations`."""
        board = self._parts.traces
        return {"always": board.always, "traces": [_trace_row(state) for state in board.states()]}

    async def trace(self, name: str, *, on: bool, seconds: float | None) -> Row:
        """See `ControlOperations`."""
        board = self._parts.traces
        if board.always:
            raise ControlError("[daemon] trace = true: everything is traced, and stays so")
        if not on:
            # What a reload has removed may still have sessions.
            peer = name if board.is_on(name) else str(self._controls.find(name))
            return {"name": peer, "was_on": board.switch_off(peer)}
        target = self._controls.find(name)
        self._require_dialogue(target)
        return _trace_row(board.switch_on(str(target), DEFAULT_SECONDS if seconds is None else seconds))

    def _require_dialogue(self, target: Target) -> None:
        destination = self._parts.settings().destination.get(target.name)
        if target.kind is StandingKind.DESTINATION and isinstance(destination, MaildirDestinationSettings):
            raise ControlError(f"{target} is a Maildir: there is no dialogue to trace")


def _document(life: Life, settings: Settings) -> Row:
    with open_reader(settings.ledger_url) as reader:
        counts = reader.counts()
    try:
        quarantined = quarantine_in(settings.daemon.state_dir).count()
    except QuarantineError:  # told by who puts something there; here it is a number that is not known
        quarantined = None
    return life.document(settings, counts, quarantined)


def _poll_row(answer: PollAnswer) -> dict[str, Any]:
    row: dict[str, Any] = {"maildrop": answer.target.name, "state": answer.state}
    report = answer.report
    if report is not None:
        failure = report.failure
        row |= {
            "result": poll_result(failure),
            "error": clean_text(str(failure) or type(failure).__name__) if failure is not None else "",
            "poll_id": report.poll_id,
            "listed": report.listed,
            "relayed": report.relayed,
            "deferred": report.deferred,
            "rejected": report.rejected,
            "skipped": report.skipped,
            "deleted": report.deleted,
            "waiting": report.waiting,
        }
    return row


def _trace_row(state: TraceState) -> Row:
    return {
        "name": state.peer,
        "ends_at": iso_or_none(state.ends_at),
        "lines": state.lines,
        "left_out": state.left_out,
    }


def _texts(targets: Sequence[Target]) -> list[str]:
    return [str(target) for target in targets]
