"""The whole program in this process, between servers of ours: what it said, wrote down and told."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from mailferry.app import Application
from mailferry.config.loading import load_settings
from mailferry.events import Event
from mailferry.ledger.queries import HistoryFilter
from mailferry.ledger.reader import open_reader
from mailferry.ledger.store import SqlLedger
from mailferry.model import KnownMessage, MaildropName, StandingKind, StandingRecord
from mailferry.services.poll import PollReport
from support.configs import ConfigFolder, Value

E = TypeVar("E", bound=Event)
_PATIENCE_SECONDS = 15.0


class Relay:
    """One configuration and the runs of the program with it.

    Attributes:
        tables: the configuration but for `[daemon]`, by table name.
        daemon: keys of `[daemon]`.
        log: all that the program logged, over all runs.
        events: all events, over all runs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = ConfigFolder(folder)
        self.tables: dict[str, Mapping[str, Value]] = {}
        self.daemon: dict[str, Value] = {"log_format": "json", "stop_timeout": "5s"}
        self.log = io.StringIO()
        self.events: list[Event] = []

    def maildrop(self, port: int, name: str = "ann", **more: Value) -> None:
        """Add a maildrop; the user has its name."""
        self.tables[f"maildrop.{name}"] = self.folder.maildrop(port, name, **more)

    def destination(self, port: int, name: str = "hop", **more: Value) -> None:
        """Add an SMTP destination."""
        self.tables[f"destination.{name}"] = self.folder.smtp(port, **more)

    def config(self) -> Path:
        """Write the configuration as it is now; return its path."""
        return self.folder.write(self.tables, **self.daemon)  # type: ignore[arg-type]  # no http_port is in it

    def application(self) -> Application:
        """Load the configuration as it is now."""
        settings = load_settings(self.config(), environ={})
        application = Application(settings, log_stream=self.log)
        application.listen_to_events(self.events.append)
        return application

    async def once(self) -> dict[str, PollReport | None]:
        """Start the program, poll every maildrop once, stop it."""
        ended: dict[str, PollReport | None] = {}

        def on_end(name: MaildropName, report: PollReport | None) -> None:
            ended[name] = report

        await self.application().run_once([], on_end)
        return ended

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run as the daemon does, by schedule, for as long as the block lasts."""
        application = self.application()
        async with application.opened() as supervisor:
            task = asyncio.create_task(supervisor.run())
            try:
                yield
            finally:
                supervisor.ask_to_stop("the test has seen enough")
                await task

    def told(self, kind: type[E]) -> list[E]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def rows(self) -> list[KnownMessage]:
        """Every message that the ledger knows."""
        with open_reader(self._ledger_url) as reader:
            return reader.history(
                HistoryFilter(maildrop=None, text=None, state=None, since=None, limit=10_000)
            )

    def standing(self, kind: StandingKind, name: str) -> StandingRecord:
        """How a maildrop or destination fares, by the ledger."""
        with open_reader(self._ledger_url) as reader:
            return reader.standings()[kind, name]

    async def end_pause(self, kind: StandingKind, name: str) -> None:
        """Let the time pass that a maildrop or destination still has to rest; between two runs."""
        over = replace(self.standing(kind, name), not_before=0.0)
        journal = self.folder.state / "receipts.journal"
        async with SqlLedger(self._ledger_url, journal_path=journal, emit=self.events.append) as ledger:
            await ledger.save([over])

    @property
    def _ledger_url(self) -> str:
        return f"sqlite:///{(self.folder.state / 'ledger.sqlite3').absolute()}"


async def until(condition: Callable[[], Any], what: str, seconds: float = _PATIENCE_SECONDS) -> None:
    """Wait for a condition; AssertionError when it does not come true in time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not condition():
        assert loop.time() < deadline, f"{what}: not within {seconds:g} s"
        await asyncio.sleep(0.01)
