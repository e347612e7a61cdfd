"""When a good copy is made, and what becomes of a failure.

A copy is due when the log of changes has grown as long as it is pleasant to read,
or when the last one is a day old and something has changed. A copy that fails is a
warning: the ledger is whole, and the log goes on. Should that go on until the log is
a burden on the disk, it is given up together with what it belongs to; a ledger that is
damaged then is told of and not put together again.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from sqlalchemy import Connection

from mailferry.errors import StoreError
from mailferry.events import LedgerCopied, LedgerCopyFailed
from mailferry.ledger.changes import ChangeLog, position
from mailferry.ledger.copies import make_good_copy
from mailferry.ledger.files import LedgerFiles
from mailferry.ledger.worker import SqlWorker
from mailferry.ports import Emit

LEAST_LOG_OCTETS: Final = 8 << 20
MOST_LOG_OCTETS: Final = 32 << 20
"""A log as long as a quarter of its ledger, within these: to make a copy costs as much as the
ledger is long, to read a log one second for 15 MB."""
BURDEN: Final = 8
"""How many times as long as that the logs may become when no copy can be made."""
MAXIMUM_AGE_SECONDS: Final = 24 * 3600.0
RETRY_SECONDS: Final = 600.0


class CopyKeeper:
    """Makes copies, one at a time; all methods belong to the event loop's thread."""

    def __init__(self, files: LedgerFiles, log: ChangeLog, emit: Emit) -> None:
        self._files = files
        self._log = log
        self._emit = emit
        self._limit = LEAST_LOG_OCTETS
        self._not_before = 0.0
        self._begun_anew = False
        """Whether the present log was begun for a copy that could not be made yet."""
        self._task: asyncio.Task[None] | None = None

    def due(self) -> bool:
        """Whether a copy should be made now."""
        if self._task is not None or time.monotonic() < self._not_before:
            return False
        long = self._log.size_octets >= self._limit
        return self._begun_anew or self._log.path is None or long or self._is_old()

    def start_if_due(self, worker: SqlWorker) -> None:
        """Begin a copy that nobody waits for, if one is due."""
        if self.due():
            self._task = asyncio.get_running_loop().create_task(self._run(worker))

    async def keep(self, worker: SqlWorker) -> None:
        """Make a copy if one is due, and wait for it, also for one that is under way."""
        self.start_if_due(worker)
        if self._task is not None:
            await self._task

    async def make(self, worker: SqlWorker) -> None:
        """Make a copy now, due or not; a failure is told and not raised."""
        started = time.perf_counter()
        try:
            if not self._begun_anew:
                await worker.run(self._begin_log)
            octets = await asyncio.to_thread(make_good_copy, self._files)
        except StoreError as error:
            self._not_before = time.monotonic() + RETRY_SECONDS
            self._emit(LedgerCopyFailed(error=str(error)))
            await self._relieve_disk(worker)
            return
        self._begun_anew = False
        self._limit = min(max(octets // 4, LEAST_LOG_OCTETS), MOST_LOG_OCTETS)
        self._emit(LedgerCopied(duration_seconds=time.perf_counter() - started, size_octets=octets))

    async def _relieve_disk(self, worker: SqlWorker) -> None:
        try:
            await worker.call(self._relieve)
        except StoreError as error:
            self._emit(LedgerCopyFailed(error=str(error)))

    def _relieve(self) -> None:
        """Give the logs up if they are a burden; on the worker's thread."""
        if sum(log.stat().st_size for log in self._files.logs()) >= BURDEN * self._limit:
            self._log.give_up()
            self._begun_anew = False

    async def _run(self, worker: SqlWorker) -> None:
        try:
            await self.make(worker)
        finally:
            self._task = None

    def _begin_log(self, connection: Connection) -> None:
        self._log.begin(position(connection)[0])
        self._begun_anew = True

    def _is_old(self) -> bool:
        copy = self._files.copies[0]
        try:
            made_at = copy.stat().st_mtime
        except FileNotFoundError:
            return True
        return self._log.has_changes and time.time() - made_at >= MAXIMUM_AGE_SECONDS
