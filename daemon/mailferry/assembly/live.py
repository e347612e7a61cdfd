"""Whether every peer of the configuration can be used now: the harmless part of it, side by side.

A maildrop is logged in to and left, a server greeted, asked for TLS and logged in to: no
mail is fetched, sent or asked for. What takes too long is given up, and no host gets more
sessions at once than the daemon would open.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TypeVar

from mailferry.assembly.notes import etrn_problems, maildrop_notes, smtp_server_notes
from mailferry.assembly.probe import pop3_link, smtp_link
from mailferry.config.models import MaildirDestinationSettings, Settings, SmtpDestinationSettings
from mailferry.config.network_kinds import split_listen
from mailferry.errors import LoginDelayedError, MaildropBusyError, MailferryError
from mailferry.net.etrn_listener import SmtpListener
from mailferry.net.opening import Opening, Stage
from mailferry.net.pop3_probe import Pop3Probe
from mailferry.net.smtp_probe import SmtpProbe
from mailferry.net.trace import no_trace
from mailferry.runtime.caps import SessionCaps

MOST_AT_ONCE = 32
PATIENCE_SECONDS = 30.0
"""For one peer, from the connection to the end of the session."""

Look = Callable[["LiveResult"], Coroutine[None, None, None]]


class LiveState(StrEnum):
    """How a peer was found."""

    OK = "ok"
    BUSY = "busy"
    """The server let nobody in just now, for a reason that is no fault: another session, or a login too soon."""
    FAILED = "failed"


@dataclass(slots=True)
class LiveResult:
    """What was found at one peer.

    Attributes:
        peer: as `maildrop.alice`, `destination.office`, `etrn.head-office`.
        where: host and port, or a path.
        error: what went wrong, or why it is busy; None when nothing did.
        problem: what went wrong in words, where it is no error of the session.
        notes: what is worth a word, though it works.
        pinned: whether the certificate is known by its fingerprint, not by who signed it.
        seconds: how long it took.
    """

    peer: str
    where: str
    opening: Opening
    state: LiveState = LiveState.OK
    error: Exception | None = None
    problem: str = ""
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    pinned: bool = False

    @property
    def stage(self) -> Stage:
        """Where it ended."""
        return self.opening.failed_at(self.error) if self.error is not None else self.opening.stage

    def fail(self, problem: str) -> None:
        """Note that it cannot be used."""
        self.state, self.problem = LiveState.FAILED, problem


@dataclass(frozen=True, slots=True)
class _Peer:
    result: LiveResult
    host: str
    look: Look


class LiveCheck:
    """Looks at every peer that is enabled.

    Args:
        patience_seconds: for each of them, its turn not counted.
    """

    def __init__(self, settings: Settings, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._settings = settings
        self._patience_seconds = patience_seconds
        self._hostname = settings.hostname
        self._caps = SessionCaps(MOST_AT_ONCE, settings.daemon.max_sessions_per_host)

    async def run(self) -> list[LiveResult]:
        """Look at all of them; return a result for each, in the order of the configuration."""
        peers = [*self._maildrops(), *self._destinations(), *self._etrn()]
        async with asyncio.TaskGroup() as group:
            for peer in peers:
                group.create_task(self._visit(peer))
        return [peer.result for peer in peers]

    async def _visit(self, peer: _Peer) -> None:
        result = peer.result
        async with self._caps.place(peer.host):
            began = time.monotonic()
            try:
                async with asyncio.timeout(self._patience_seconds):
                    await peer.look(result)
            except (MaildropBusyError, LoginDelayedError) as error:
                result.state, result.error = LiveState.BUSY, error
            except MailferryError as error:
                result.state, result.error = LiveState.FAILED, error
            except TimeoutError:
                result.fail(f"not done within {self._patience_seconds:g} s")
            result.seconds = time.monotonic() - began

    def _maildrops(self) -> Iterator[_Peer]:
        for name, each in self._settings.maildrop.items():
            if each.enabled:
                where = f"{each.host}:{each.resolved_port}"
                result = _result(f"maildrop.{name}", where, each.tls_fingerprint)
                yield _Peer(result, each.host, partial(self._look_at_maildrop, name))

    def _destinations(self) -> Iterator[_Peer]:
        for name, each in self._settings.destination.items():
            table = f"destination.{name}"
            if each.enabled and isinstance(each, SmtpDestinationSettings):
                result = _result(table, each.where, each.tls_fingerprint)
                yield _Peer(result, each.where, partial(self._look_at_smtp, table))
            elif each.enabled and isinstance(each, MaildirDestinationSettings):
                yield _Peer(_result(table, str(each.path)), table, partial(_look_at_maildir, each))

    def _etrn(self) -> Iterator[_Peer]:
        for name, each in self._settings.etrn.items():
            if each.enabled:
                where = f"{each.host}:{each.resolved_port}"
                result = _result(f"etrn.{name}", where, each.tls_fingerprint)
                yield _Peer(result, each.host, partial(self._look_at_etrn, name))

    async def _look_at_maildrop(self, name: str, result: LiveResult) -> None:
        probe = Pop3Probe(pop3_link(name, self._settings), no_trace)
        probe.opening = result.opening
        async with _opened(probe):
            result.notes = tuple(maildrop_notes(name, self._settings, probe.opening, time.time()))

    async def _look_at_smtp(self, table: str, result: LiveResult) -> None:
        async with _opened(self._smtp(table, result)) as probe:
            notes = smtp_server_notes(table, self._settings, probe.features, probe.opening, time.time())
            result.notes = tuple(notes)

    async def _look_at_etrn(self, name: str, result: LiveResult) -> None:
        table = f"etrn.{name}"
        async with _opened(self._smtp(table, result)) as probe:
            notes = smtp_server_notes(table, self._settings, probe.features, probe.opening, time.time())
            result.notes = tuple(notes)
            problems = etrn_problems(name, self._settings, probe.features)
        trouble = await self._listener_trouble(name)
        if trouble:
            problems.append(f"nothing would be asked, as nobody would take the mail: {trouble}")
        if problems:
            result.fail("; ".join(problems))

    async def _listener_trouble(self, name: str) -> str:
        where = split_listen(self._settings.etrn[name].check_listener or "")
        return await SmtpListener(*where).trouble() if where is not None else ""

    def _smtp(self, table: str, result: LiveResult) -> SmtpProbe:
        probe = SmtpProbe(smtp_link(table, self._settings, self._hostname), no_trace)
        probe.opening = result.opening
        return probe


def _result(peer: str, where: str, fingerprint: str | None = None) -> LiveResult:
    return LiveResult(peer, where, Opening(), pinned=fingerprint is not None)


P = TypeVar("P", Pop3Probe, SmtpProbe)


@asynccontextmanager
async def _opened(probe: P) -> AsyncIterator[P]:
    """Open a session and end it in good order; whatever happens, the link is gone afterwards."""
    try:
        await probe.open()
        yield probe
        await probe.close()
    finally:
        probe.abort()


async def _look_at_maildir(settings: MaildirDestinationSettings, result: LiveResult) -> None:
    problem = await asyncio.to_thread(_maildir_problem, settings.path)
    if problem:
        result.fail(problem)


def _maildir_problem(path: Path) -> str:
    """Return why nothing could be delivered into a Maildir; nothing is made there."""
    user = f"this user (uid {os.geteuid()})"
    try:
        folders = [path / part for part in ("tmp", "new") if (path / part).is_dir()]
        for folder in folders or [_nearest_existing(path)]:
            if not os.access(folder, os.W_OK | os.X_OK):
                return f"{folder} is not writable for {user}"
    except OSError as error:
        return f"{path} cannot be looked at by {user}: {error.strerror or error}"
    return ""


def _nearest_existing(path: Path) -> Path:
    return next(each for each in (path, *path.absolute().parents) if each.exists())
