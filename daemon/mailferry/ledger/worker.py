"""The one thread that speaks SQL.

Everything is done in the order in which it was asked for. Orders that wait when
the thread looks share one transaction and so one fsync. An order that nobody
waits for is kept a few milliseconds for company: its rows are in the receipt
journal, so nothing is at risk, and a commit per message would cost more than all
else that is done for it. Answers come back to the event loop in one call per
transaction.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Final, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError

from mailferry.errors import StoreError
from mailferry.ledger.changes import ChangeLog, touch
from mailferry.ledger.faults import RecordsRefusedError, is_want_of_room, store_error
from mailferry.ledger.frames import Stamped
from mailferry.ledger.room import Reserve
from mailferry.ledger.rows import RecordKey
from mailferry.ledger.writes import write_records
from mailferry.model import LedgerRecord

BATCH_ORDERS: Final = 512

GATHER_SECONDS: Final = 0.005
"""How long a patient order waits for others. On the reference machine it took a drain of
small messages from 700 to 1,200 a second."""

GATHER_ROUNDS: Final = 4
"""So many times, as long as each brings more: a commit costs as much as ten rows do."""

# A row that the engine cannot take says nothing about the store.
_ROW_FAULTS: Final = (IntegrityError, DataError, ProgrammingError)
_STORE_FAULTS: Final = (DBAPIError, sqlite3.Error, OSError, StoreError)

T = TypeVar("T")
Done = Callable[[Exception | None], None]


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """Rows to be written; for none, the proof that rows could be.

    Attributes:
        stamp: the number of the last note before it was queued.
        urgent: somebody waits for it.
    """

    rows: Mapping[RecordKey, LedgerRecord]
    stamp: int
    done: Done
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of orders that shared a transaction."""

    outcomes: list[tuple[Order, StoreError | None]]
    records: int
    duration_seconds: float


@dataclass(frozen=True, slots=True)
class _Job:
    run: Callable[[], None]


class SqlWorker:
    """A queue and a thread; `settle` gets each batch, on the event loop's thread."""

    def __init__(self, place: str, settle: Callable[[Batch], None], log: ChangeLog, reserve: Reserve) -> None:
        self._place = place
        self._settle = settle
        self._log = log
        self._reserve = reserve
        self._queue: SimpleQueue[Order | _Job | None] = SimpleQueue()
        self._ahead: list[_Job | None] = []
        """What was met in the queue while gathering orders: at most one."""
        self._engine: Engine | None = None
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        # A daemon thread: a program that forgot to close must still be able to end.
        self._thread = threading.Thread(target=self._main, name="mailferry-ledger", daemon=True)
        self._thread.start()

    def put(self, order: Order) -> None:
        """Queue an order."""
        self._queue.put(order)

    async def open(self, opener: Callable[[], Engine]) -> None:
        """Open the engine on the worker's thread.

        Raises:
            StoreError: it could not be opened.
        """

        def job() -> None:
            self._engine = opener()

        await self.call(job)

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Do `work` in a transaction of its own, after everything that was queued before.

        Raises:
            StoreError: the store could not do it.
        """

        def job() -> T:
            with self._begin() as connection:
                return work(connection)

        return await self.call(job)

    async def call(self, work: Callable[[], T]) -> T:
        """Do `work` on the worker's thread, after everything that was queued before.

        Raises:
            StoreError: it failed.
        """
        future: asyncio.Future[T] = self._loop.create_future()

        def job() -> None:
            try:
                result = work()
            except Exception as error:  # noqa: BLE001 -- handed to the caller, as StoreError
                self._tell(_reject, future, store_error(error, self._place), error)
            else:
                self._tell(_resolve, future, result)

        self._queue.put(_Job(job))
        return await future

    async def stop(self) -> None:
        """Finish everything that is queued, close the engine, end the thread."""
        self._queue.put(None)
        await self._ended.wait()
        self._thread.join()

    def _main(self) -> None:
        while (item := self._next()) is not None:
            if isinstance(item, _Job):
                item.run()
            else:
                self._tell(self._settle, self._write(self._gather(item)))
        if self._engine is not None:
            self._engine.dispose()
        self._log.close()
        self._tell(self._ended.set)

    def _next(self) -> Order | _Job | None:
        return self._ahead.pop() if self._ahead else self._queue.get()

    def _gather(self, first: Order) -> list[Order]:
        """Return the order and those that stand right behind it; a job ends the row."""
        orders = [first]
        if first.urgent:
            self._take_waiting(orders)
            return orders
        for _ in range(GATHER_ROUNDS):
            time.sleep(GATHER_SECONDS)
            if not self._take_waiting(orders):
                break
        return orders

    def _take_waiting(self, orders: list[Order]) -> bool:
        """Add what waits; True when there was something, and nobody waits for what was met."""
        before = len(orders)
        with suppress(Empty):
            while len(orders) < BATCH_ORDERS:
                item = self._queue.get_nowait()
                if not isinstance(item, Order):
                    self._ahead.append(item)
                    return False
                orders.append(item)
        taken = orders[before:]
        return bool(taken) and len(orders) < BATCH_ORDERS and not any(order.urgent for order in taken)

    def _write(self, orders: list[Order]) -> Batch:
        started = time.perf_counter()
        try:
            written = self._transact_somehow(orders)
            outcomes: list[tuple[Order, StoreError | None]] = [(order, None) for order in orders]
        except Exception as error:  # noqa: BLE001 -- every order is told; the thread must live on
            if not _concerns_the_store(error) and len(orders) > 1:
                return self._write_singly(orders, started)
            written = 0
            outcomes = [(order, self._failure(error)) for order in orders]
        return Batch(outcomes, written, time.perf_counter() - started)

    def _write_singly(self, orders: list[Order], started: float) -> Batch:
        """Give each order its own transaction, so that a bad one fails alone."""
        batches = [self._write([order]) for order in orders]
        outcomes = [outcome for batch in batches for outcome in batch.outcomes]
        return Batch(outcomes, sum(batch.records for batch in batches), time.perf_counter() - started)

    def _transact_somehow(self, orders: list[Order]) -> int:
        """Write rows, into the reserved room if there is no other."""
        try:
            return self._transact(orders)
        except (*_STORE_FAULTS,) as error:
            if not is_want_of_room(error) or not self._reserve.give_up():
                raise
        return self._transact(orders)

    def _transact(self, orders: list[Order]) -> int:
        rows: dict[RecordKey, Stamped] = {}
        for order in orders:
            # A later version wins.
            rows.update((key, Stamped(record, order.stamp)) for key, record in order.rows.items())
        if not rows:
            self._prove()
            return 0
        with self._begin() as connection:
            write_records(connection, rows.values(), self._log)
        self._log.sync_in_time()
        return len(rows)

    def _prove(self) -> None:
        """Show that rows can be written and that there is room for many."""
        self._reserve.take()
        with self._begin() as connection:
            touch(connection)

    @contextmanager
    def _begin(self) -> Iterator[Connection]:
        if self._engine is None:
            raise StoreError(f"{self._place}: is not open")
        with self._engine.connect() as connection, self._log.transaction():
            connection.begin()
            yield connection
            connection.commit()  # here: while it can fail nobody else may append

    def _failure(self, error: Exception) -> StoreError:
        """Return an error of the order's own, since each caller may raise it."""
        if isinstance(error, StoreError):
            return StoreError(str(error))
        if _concerns_the_store(error):
            failure = store_error(error, self._place)
        else:
            failure = RecordsRefusedError(str(store_error(error, f"{self._place}: rows refused")))
        failure.__cause__ = error
        return failure

    def _tell(self, callback: Callable[..., object], *args: object) -> None:
        # RuntimeError: the loop was closed without closing the ledger; nobody is left to tell.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *args)


def _concerns_the_store(error: Exception) -> bool:
    return isinstance(error, _STORE_FAULTS) and not isinstance(error, _ROW_FAULTS)


def _resolve(future: asyncio.Future[T], result: T) -> None:
    if not future.done():  # its caller may have been cancelled
        future.set_result(result)


def _reject(future: asyncio.Future[T], failure: StoreError, cause: Exception) -> None:
    if not future.done():
        if failure is not cause:
            failure.__cause__ = cause
        future.set_exception(failure)
