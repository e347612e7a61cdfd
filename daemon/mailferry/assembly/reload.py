"""Reads the configuration anew and puts in force what differs: all of it, or nothing."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence

from mailferry.assembly.changeover import Changeover, Running
from mailferry.config.changes import Changes, compare
from mailferry.config.models import Settings
from mailferry.config.stamps import FileStamps, file_stamps
from mailferry.errors import ConfigError, StoreError
from mailferry.events import (
    ConfigProblemFound,
    ConfigReloaded,
    ConfigReloadFailed,
    ConfigRestartNeeded,
    ConfigUnchanged,
)
from mailferry.model import MaildropName
from mailferry.ports import Emit
from mailferry.runtime.reload import ReloadReport

_bugs = logging.getLogger("mailferry.bugs")

WAIT_SECONDS = 20.0
"""How long a reload waits for sessions under the old settings; those go on after that."""

STOPPING = "the daemon is stopping"

MOST_TOLD = 20
"""Problems, and names of one kind, that the log tells one by one."""


class Reloader:
    """Reloads when it is called; calls wait for one another."""

    def __init__(self, settings: Settings, load: Callable[[], Settings], running: Running) -> None:
        """Take the settings in force, and what reads those that lie on the disk; it may block."""
        self.settings = settings
        self._load = load
        self._running = running
        self._emit: Emit = running.around.emit
        self._stamps: FileStamps = file_stamps(settings)
        self._lock = asyncio.Lock()

    async def __call__(self) -> ReloadReport:
        """Reload, and tell what came of it."""
        async with self._lock:
            began = time.monotonic()
            report = await self._reload()
            if self._running.supervisor.stopping and not report.accepted:
                return _refused([STOPPING])  # whatever else is told of it, the files are not to blame
            self._running.metrics.config_reloaded(report.accepted, time.time())
            self._tell(report, time.monotonic() - began)
            return report

    async def _reload(self) -> ReloadReport:
        try:
            changes, stamps = await asyncio.to_thread(self._read)
            standings = await self._running.around.ledger.standings()
            changeover = Changeover(self.settings, changes, self._running, standings)
        except ConfigError as error:
            return _refused(str(problem) for problem in error.problems)
        except StoreError as error:
            return _refused([f"the ledger cannot be read: {error}"])
        except Exception as error:  # noqa: BLE001  a fault of ours must leave everything running, too
            _bugs.exception("reload")
            return _refused([f"internal error: {error!r}"])
        if self._running.supervisor.stopping:
            return _refused([STOPPING])
        self.settings, self._stamps = changes.in_force, stamps
        try:
            await changeover.carry_out()
        except Exception as error:  # noqa: BLE001  a fault of ours: say that the old configuration is not whole either
            _bugs.exception("putting a configuration in force")
            return _refused(
                [f"internal error, and only a part of it is in force: restart the daemon: {error!r}"]
            )
        late = await self._running.supervisor.fleet.settled(WAIT_SECONDS)
        return _accepted(changes, late)

    def _read(self) -> tuple[Changes, FileStamps]:
        """Read and compare: with ten thousand maildrops this takes seconds, so not on the event loop."""
        settings = self._load()
        stamps = file_stamps(settings)
        return compare(self.settings, settings, self._stamps, stamps), stamps

    def _tell(self, report: ReloadReport, seconds: float) -> None:
        if not report.accepted:
            for problem in report.problems[:MOST_TOLD]:
                self._emit(ConfigProblemFound(problem))
            self._emit(ConfigReloadFailed(len(report.problems)))
            return
        if any((report.added, report.changed, report.removed, report.renewed)):
            added, changed, removed = map(_listed, (report.added, report.changed, report.removed))
            renewed, finishing = map(_listed, (report.renewed, report.finishing))
            self._emit(ConfigReloaded(added, changed, removed, renewed, finishing, seconds))
        if report.needs_restart:
            self._emit(ConfigRestartNeeded(_listed(report.needs_restart)))
        if not report.is_news:
            self._emit(ConfigUnchanged())


def _refused(problems: Iterable[str]) -> ReloadReport:
    return ReloadReport(accepted=False, problems=tuple(problems))


def _accepted(changes: Changes, late: Sequence[MaildropName]) -> ReloadReport:
    sections = {"maildrop": changes.maildrops, "destination": changes.destinations, "etrn": changes.etrn}

    def named(kind: str) -> tuple[str, ...]:
        return tuple(
            f"{section}.{name}" for section, tables in sections.items() for name in getattr(tables, kind)
        )

    return ReloadReport(
        accepted=True,
        added=named("added"),
        changed=(*changes.keys, *named("changed")),
        removed=named("removed"),
        renewed=named("renewed"),
        needs_restart=changes.needs_restart,
        finishing=tuple(f"maildrop.{name}" for name in late),
    )


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MOST_TOLD
    return ", ".join(names[:MOST_TOLD]) + (f" and {more} more" if more > 0 else "")
