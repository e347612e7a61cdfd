"""The daemon's ledger: orders, questions, the receipt journal and the lock together.

What was noted and then could not be written (a full disk, say) is a debt. It is
paid, by the same rule as after a crash, before anyone is told which messages
are known; as long as it cannot be paid, nobody is told. Otherwise the next poll
would relay once more what a next hop already has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from sqlalchemy import Connection

from mailferry.errors import StoreError
from mailferry.events import LedgerCommitted, LedgerFailed, LedgerRecovered, LedgerRestored
from mailferry.ledger import queries
from mailferry.ledger.changes import ChangeLog
from mailferry.ledger.faults import RecordsRefusedError
from mailferry.ledger.files import LedgerFiles
from mailferry.ledger.frames import Note, Stamped
from mailferry.ledger.journal import ReceiptJournal
from mailferry.ledger.keeper import CopyKeeper
from mailferry.ledger.location import database_path
from mailferry.ledger.lock import ledger_locks
from mailferry.ledger.opening import open_database
from mailferry.ledger.overlay import join_log
from mailferry.ledger.queries import Counts, HistoryFilter, Standings
from mailferry.ledger.rebuild import Rebuilt
from mailferry.ledger.room import Reserve
from mailferry.ledger.rows import RecordKey, record_key
from mailferry.ledger.soundness import has_write_ahead_log
from mailferry.ledger.worker import Batch, Done, Order, SqlWorker
from mailferry.ledger.writes import Replayed, adopt_messages, prune_slice, replay_records
from mailferry.model import KnownMessage, LedgerRecord, MaildropName, MessageRecord, Uidl
from mailferry.ports import Emit

PRUNE_SLICE: Final = 1000
"""Rows that one transaction of `prune` deletes; commits get their turn in between."""

T = TypeVar("T")


class SqlLedger:
    """The state store (`mailferry.ports.Ledger`); all methods belong to the event loop's thread."""

    def __init__(self, url: str, *, journal_path: Path, emit: Emit) -> None:
        self._database = database_path(url).absolute()
        self._place = str(self._database)
        self._emit = emit
        self._journal = ReceiptJournal(journal_path)
        self._files = LedgerFiles(self._database, journal_path)
        self._locks = ledger_locks(self._files)
        self._log = ChangeLog(self._files)
        self._reserve = Reserve(self._files.reserve)
        self._keeper = CopyKeeper(self._files, self._log, emit)
        self._worker: SqlWorker | None = None
        self._debts: dict[RecordKey, tuple[LedgerRecord, int]] = {}

    async def open(self) -> None:
        """Lock, check, upgrade, and replay what a crash kept from the ledger.

        Raises:
            StoreError: the ledger cannot be used; says which file and what to do.
        """
        if self._worker is not None:
            raise StoreError(f"{self._place}: is open already")
        try:
            await self._open()
        except BaseException:
            await self._release()  # the journal stays as it is: it may not have been replayed
            raise

    async def close(self) -> None:
        """Finish what was ordered and let go of everything; safe to call twice."""
        worker = self._worker
        if worker is not None:
            await self._keeper.keep(worker)
        self._worker = None
        try:
            if worker is not None:
                await worker.stop()
                self._journal.clear()
        finally:
            await self._release()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def note(self, records: Sequence[LedgerRecord]) -> None:
        """Put records into the receipt journal, at once and without waiting.

        Raises:
            StoreError: the journal had to grow and could not.
        """
        self._journal.note(records)

    def commit(self, records: Sequence[LedgerRecord], done: Done) -> None:
        """Write rows; `done(None)` once they are synced, `done(StoreError)` otherwise."""
        self._order(records, done, urgent=False)

    def _order(self, records: Sequence[LedgerRecord], done: Done, *, urgent: bool) -> None:
        if self._worker is None:
            asyncio.get_running_loop().call_soon(done, self._closed())
        else:
            rows = {record_key(record): record for record in records}
            self._worker.put(Order(rows, self._journal.sequence, done, urgent))

    async def save(self, records: Sequence[LedgerRecord]) -> None:
        """Write rows and wait until they are synced.

        Raises:
            StoreError: they could not be written.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(error: Exception | None) -> None:
            if future.done():  # the caller was cancelled; the rows are written all the same
                return
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        self._order(records, done, urgent=True)
        await future

    async def adopt(self, records: Sequence[MessageRecord]) -> None:
        """Write rows whose UIDL has changed; they may take over each other's UIDLs.

        Raises:
            StoreError: they could not be written; all stand as they were.
        """
        # A frame of such a row under its old UIDL would contradict the new ones in a replay.
        self._journal.clear()
        rows = [Stamped(record, self._journal.sequence) for record in records]
        await self._run(lambda connection: adopt_messages(connection, rows, self._log))

    async def known_messages(self, maildrop: MaildropName) -> dict[Uidl, KnownMessage]:
        """Return every message of the maildrop that is not gone, by UIDL.

        Raises:
            StoreError: the store cannot be read, owes receipts that it could not write, or
                has no room for more.
        """
        return await self._ask_for_known(lambda connection: queries.known_messages(connection, maildrop))

    async def received_messages(self, uidls: Sequence[Uidl], since: float) -> dict[Uidl, KnownMessage]:
        """Return those of some messages that came by SMTP; gone ones if they changed at `since` or later.

        Raises:
            StoreError: as `known_messages`.
        """
        return await self._ask_for_known(
            lambda connection: queries.received_messages(connection, uidls, since)
        )

    async def _ask_for_known(
        self, work: Callable[[Connection], dict[Uidl, KnownMessage]]
    ) -> dict[Uidl, KnownMessage]:
        """Ask what is known: only while what becomes of it can be written down."""
        await self._pay_debts()
        if not self._reserve.whole:
            await self.save([])
        known = await self._run(work)
        # Answers come in the order of the questions: an order that failed while
        # this one waited has told of it by now.
        if self._unpaid():
            raise StoreError(f"{self._place}: receipts wait in the journal that could not be written yet")
        return known

    async def standings(self) -> Standings:
        """Return all standings."""
        return await self._run(queries.standings)

    async def counts(self) -> Counts:
        """Return how many messages of each maildrop stand where."""
        return await self._run(queries.counts)

    async def history(self, wanted: HistoryFilter) -> list[KnownMessage]:
        """Return messages that fit, the one that changed last first."""
        return await self._run(lambda connection: queries.history(connection, wanted))

    async def prune(self, before: float) -> int:
        """Forget gone messages that last changed before a time; return how many.

        Raises:
            StoreError: a slice could not be deleted; those before it are.
        """
        # A frame of a pruned row, met by a replay, would bring the row back.
        self._journal.clear()
        pruned = 0
        while True:
            number = await self._run(lambda connection: prune_slice(connection, before, PRUNE_SLICE))
            pruned += number
            if number < PRUNE_SLICE:
                return pruned

    async def keep_copy(self) -> None:
        """Make a good copy beside the ledger if one is due; what fails is told as an event."""
        if self._worker is not None:
            await self._keeper.keep(self._worker)

    async def _open(self) -> None:
        for lock in self._locks:
            lock.acquire()
        worker = self._worker = SqlWorker(self._place, self._settle, self._log, self._reserve)
        rebuilt: list[Rebuilt] = []
        unclean = has_write_ahead_log(self._database)
        await worker.open(lambda: open_database(self._files, rebuilt.append))
        for one in rebuilt:
            self._emit(LedgerRestored(reason=one.reason, copied_at=one.copied_at, records=one.records))
        notes = await worker.call(self._journal.open)
        unclean = unclean or bool(notes)
        joined = await worker.run(
            lambda connection: join_log(connection, self._log, self._files, unclean=unclean)
        )
        self._journal.go_on_from(joined.noted)
        replayed = await self._replay(notes)
        if recovered := joined.records + replayed.applied:
            self._emit(LedgerRecovered(records=recovered))
        if joined.missing:
            self._emit(LedgerFailed(error=f"{self._place}: {joined.missing}"))
        self._journal.clear()
        with suppress(StoreError):  # `known_messages` asks again, and then it counts
            await worker.call(self._reserve.take)
        if not joined.fits or any(one.source != self._files.copies[0] for one in rebuilt):
            await self._keeper.make(worker)

    async def _release(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.stop()
        self._journal.close()
        for lock in self._locks:
            lock.release()

    async def _run(self, work: Callable[[Connection], T]) -> T:
        if self._worker is None:
            raise self._closed()
        return await self._worker.run(work)

    async def _replay(self, notes: Sequence[Note]) -> Replayed:
        replayed = await self._run(lambda connection: replay_records(connection, notes, self._log))
        for words in replayed.refused:
            self._emit(LedgerFailed(error=f"{self._place}: a noted receipt contradicts the ledger: {words}"))
        return replayed

    async def _pay_debts(self) -> None:
        self._debts = debts = self._unpaid()
        if not debts:
            return
        # Each for itself, messages before the deliveries that refer to them.
        owed = sorted(debts.items(), key=lambda debt: not isinstance(debt[1][0], MessageRecord))
        await self._replay([Note(self._journal.number_of(key), (record,)) for key, (record, _) in owed])
        for key, (_, stamp) in debts.items():
            self._journal.release(key, stamp)

    def _unpaid(self) -> dict[RecordKey, tuple[LedgerRecord, int]]:
        return {key: debt for key, debt in self._debts.items() if self._journal.holds(key, debt[1])}

    def _settle(self, batch: Batch) -> None:
        for order, error in batch.outcomes:
            if error is None or isinstance(error, RecordsRefusedError):
                for key in order.rows:
                    self._journal.release(key, order.stamp)
            else:
                self._owe(order)
        self._report(batch)
        if self._worker is not None:
            self._keeper.start_if_due(self._worker)
        loop = asyncio.get_running_loop()
        for order, error in batch.outcomes:
            loop.call_soon(order.done, error)  # each for itself: one that raises stops no other

    def _owe(self, order: Order) -> None:
        for key, record in order.rows.items():
            if self._journal.holds(key, order.stamp):
                self._debts[key] = (record, order.stamp)

    def _report(self, batch: Batch) -> None:
        if batch.records:
            self._emit(LedgerCommitted(records=batch.records, duration_seconds=batch.duration_seconds))
        for _, error in batch.outcomes:
            if error is not None and not isinstance(error, RecordsRefusedError):
                self._emit(LedgerFailed(error=str(error)))
                return

    def _closed(self) -> StoreError:
        return StoreError(f"{self._place}: the ledger is closed")


async def open_ledger(url: str, *, journal_path: Path, emit: Emit) -> SqlLedger:
    """Return the ledger that a URL names, open; the caller closes it.

    Raises:
        StoreError: it cannot be used; says which file and what to do.
    """
    ledger = SqlLedger(url, journal_path=journal_path, emit=emit)
    await ledger.open()
    return ledger
