"""Receipts, debts and events: what the daemon's ledger does beyond storing rows."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import threading
from pathlib import Path

import pytest

from mailferry.errors import StoreError
from mailferry.events import Event, LedgerCommitted, LedgerFailed, LedgerRecovered
from mailferry.ledger import HistoryFilter, SqlLedger, open_ledger
from mailferry.ledger import worker as worker_module
from mailferry.model import KnownMessage, LedgerRecord, MessageState
from support.ledger_contract import ALICE, delivery, message, outcomes, standing


def killed(state_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the files as `kill -9` would leave them now."""
    copy = tmp_path_factory.mktemp("killed")
    for file in state_dir.glob("ledger.*"):
        if not file.name.endswith("-shm"):  # SQLite makes it again from the log
            shutil.copy(file, copy)
    return copy


async def reopened(directory: Path, events: list[Event]) -> SqlLedger:
    return await open_ledger(
        f"sqlite:///{directory}/ledger.sqlite3", journal_path=directory / "ledger.journal", emit=events.append
    )


async def test_a_noted_receipt_survives_kill(
    ledger: SqlLedger, state_dir: Path, events: list[Event], tmp_path_factory: pytest.TempPathFactory
) -> None:
    ledger.note([message(1), delivery(1)])
    directory = killed(state_dir, tmp_path_factory)
    again = await reopened(directory, events)
    assert await again.known_messages(ALICE) == {b"uidl-1": KnownMessage(message(1), (delivery(1),))}
    assert events == [LedgerRecovered(records=2)]
    # Once more from the files after the replay: nothing is left to be recovered.
    events.clear()
    third = await reopened(killed(directory, tmp_path_factory), events)
    assert len(await third.known_messages(ALICE)) == 1
    assert events == []
    await again.close()
    await third.close()


async def test_a_replay_never_overwrites_what_is_newer(
    ledger: SqlLedger, state_dir: Path, events: list[Event], tmp_path_factory: pytest.TempPathFactory
) -> None:
    noted: list[LedgerRecord] = [message(1), delivery(1), standing(), message(2)]
    ledger.note(noted)
    gone = message(1, state=MessageState.GONE, updated_at=1000.5)
    redone, better = delivery(1, updated_at=1001.0), standing(last_success_at=11.0)
    await ledger.save([*noted[:3], gone, redone, better])
    events.clear()
    again = await reopened(killed(state_dir, tmp_path_factory), events)
    found = await again.history(HistoryFilter())
    assert found == [KnownMessage(gone, (redone,)), KnownMessage(message(2))]
    assert list((await again.standings()).values()) == [better]
    assert events == [LedgerRecovered(records=1)]
    await again.close()


async def test_a_clock_that_was_set_back_decides_nothing(
    ledger: SqlLedger, state_dir: Path, events: list[Event], tmp_path_factory: pytest.TempPathFactory
) -> None:
    late, early = 9e9, 10.0
    await ledger.save([message(1, updated_at=late)])
    ledger.note([message(1, state=MessageState.DELETE_PENDING, updated_at=early)])
    ledger.note([message(2, updated_at=late)])
    await ledger.save([message(2, state=MessageState.GONE, updated_at=early)])
    again = await reopened(killed(state_dir, tmp_path_factory), events)
    states = {known.message.message_id: known.message.state for known in await again.history(HistoryFilter())}
    assert states == {1: MessageState.DELETE_PENDING, 2: MessageState.GONE}
    await again.close()


async def test_rows_that_were_synced_are_no_recovery(
    ledger: SqlLedger, state_dir: Path, events: list[Event], tmp_path_factory: pytest.TempPathFactory
) -> None:
    ledger.note([message(1), delivery(1)])
    await ledger.save([message(1), delivery(1)])
    events.clear()
    again = await reopened(killed(state_dir, tmp_path_factory), events)
    assert events == []
    await again.close()


async def test_a_receipt_that_contradicts_the_ledger_stops_no_other(
    ledger: SqlLedger, state_dir: Path, events: list[Event], tmp_path_factory: pytest.TempPathFactory
) -> None:
    await ledger.save([message(1)])
    events.clear()
    ledger.note([delivery(404)])  # no such message
    ledger.note([message(2, b"uidl-1")])  # a UIDL that is taken
    ledger.note([message(3), delivery(3)])
    again = await reopened(killed(state_dir, tmp_path_factory), events)
    assert set(await again.known_messages(ALICE)) == {b"uidl-1", b"uidl-3"}
    assert [type(event) for event in events] == [LedgerFailed, LedgerFailed, LedgerRecovered]
    assert "404" in str(events[0])
    assert "UNIQUE" in str(events[1])
    await again.close()


async def test_pruned_messages_do_not_come_back(
    ledger: SqlLedger, state_dir: Path, events: list[Event], tmp_path_factory: pytest.TempPathFactory
) -> None:
    gone = message(1, state=MessageState.GONE)
    ledger.note([gone])
    await ledger.save([gone])
    assert await ledger.prune(2000.0) == 1
    again = await reopened(killed(state_dir, tmp_path_factory), events)
    assert await again.history(HistoryFilter()) == []
    await again.close()


async def test_a_clean_end_leaves_nothing_to_recover(
    ledger: SqlLedger, state_dir: Path, events: list[Event]
) -> None:
    ledger.note([message(1)])
    await ledger.save([message(1)])
    await ledger.close()
    for number in (0, 1):
        assert (state_dir / f"ledger.journal.{number}").read_bytes()[:8] == bytes(8)


async def test_a_receipt_noted_but_never_ordered_survives_a_clean_end(
    ledger: SqlLedger, state_dir: Path, events: list[Event]
) -> None:
    ledger.note([message(1)])
    await ledger.close()
    again = await reopened(state_dir, events)
    assert set(await again.known_messages(ALICE)) == {b"uidl-1"}
    await again.close()


async def test_an_opening_that_fails_leaves_the_journal_alone(
    ledger: SqlLedger, state_dir: Path, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.note([message(1)])
    await ledger.close()

    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr("mailferry.ledger.store.replay_records", fail)
        with pytest.raises(StoreError, match="disk I/O error"):
            await reopened(state_dir, events)
    again = await reopened(state_dir, events)
    assert set(await again.known_messages(ALICE)) == {b"uidl-1"}
    await again.close()


async def test_orders_that_wait_share_a_transaction(ledger: SqlLedger, events: list[Event]) -> None:
    gate = threading.Event()
    assert ledger._worker is not None
    held = asyncio.ensure_future(ledger._worker.call(gate.wait))
    await asyncio.sleep(0)
    orders: list[list[LedgerRecord]] = [[message(number), delivery(number)] for number in range(1, 601)]
    loop = asyncio.get_running_loop()
    loop.call_soon(gate.set)
    assert await outcomes(ledger, orders) == [None] * 600
    await held
    committed = [event.records for event in events if isinstance(event, LedgerCommitted)]
    assert committed == [512 * 2, 88 * 2]
    assert all(event.duration_seconds > 0 for event in events if isinstance(event, LedgerCommitted))


class BrokenStore:
    """Lets no rows be written, as a full disk would, until it is mended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        for module in ("worker", "store"):
            name = "write_records" if module == "worker" else "replay_records"
            monkeypatch.setattr(f"mailferry.ledger.{module}.{name}", self._refuse)

    def mend(self) -> None:
        self._patch.undo()

    @staticmethod
    def _refuse(*_: object) -> int:
        raise sqlite3.OperationalError("database or disk is full")


async def test_a_failing_store_fails_every_order_of_the_batch(
    ledger: SqlLedger, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = BrokenStore(monkeypatch)
    results = await outcomes(ledger, [[message(number)] for number in range(1, 6)])
    assert [type(result) for result in results] == [StoreError] * 5
    assert len({id(result) for result in results}) == 5  # each caller may raise its own
    assert all(isinstance(event, LedgerFailed) for event in events)
    assert "disk is full" in str(events[0])
    store.mend()
    assert await outcomes(ledger, [[message(1)]]) == [None]
    assert set(await ledger.known_messages(ALICE)) == {b"uidl-1"}  # only noted records are owed


async def test_what_is_owed_is_paid_before_anyone_is_told_what_is_known(
    ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = BrokenStore(monkeypatch)
    ledger.note([message(1), delivery(1)])
    assert isinstance((await outcomes(ledger, [[message(1), delivery(1)]]))[0], StoreError)
    with pytest.raises(StoreError, match="disk is full"):
        await ledger.known_messages(ALICE)
    store.mend()
    assert await ledger.known_messages(ALICE) == {b"uidl-1": KnownMessage(message(1), (delivery(1),))}
    ledger.note([message(2)])
    assert ledger._journal.holds(2, 10**9)
    assert not ledger._journal.holds(1, 10**9)


async def test_a_question_behind_a_failing_order_is_not_answered(
    ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    BrokenStore(monkeypatch)
    ledger.note([message(1)])
    ledger.commit([message(1)], lambda error: None)
    with pytest.raises(StoreError, match="could not be written yet"):
        await ledger.known_messages(ALICE)


async def test_a_debt_is_not_paid_over_a_newer_row(
    ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = BrokenStore(monkeypatch)
    ledger.note([message(1)])
    await outcomes(ledger, [[message(1)]])
    store.mend()
    newer = message(1, state=MessageState.DELETE_PENDING, updated_at=1001.0)
    ledger.commit([newer], lambda error: None)  # on its way when the debt is paid
    assert (await ledger.known_messages(ALICE)) == {b"uidl-1": KnownMessage(newer)}


async def test_a_bug_in_an_order_does_not_end_the_thread(
    ledger: SqlLedger, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    results = await outcomes(ledger, [[message(1)], [message(2**80)], [message(2, "text")], [message(3)]])  # type: ignore[arg-type]  # on purpose
    assert [result is None for result in results] == [True, False, False, True]
    with pytest.raises(AttributeError):
        ledger.commit(["no record"], lambda error: None)  # type: ignore[list-item]  # on purpose
    assert set(await ledger.known_messages(ALICE)) == {b"uidl-1", b"uidl-3"}
    assert not any(isinstance(event, LedgerFailed) for event in events)


async def test_an_error_names_no_values(ledger: SqlLedger) -> None:
    (error,) = await outcomes(ledger, [[delivery(1, "secret-name")]])
    assert "ledger.sqlite3" in str(error)
    assert "FOREIGN KEY" in str(error)
    assert "secret-name" not in str(error)


def test_a_loop_that_ends_without_closing_does_not_hang(url: str, state_dir: Path) -> None:
    async def forget() -> SqlLedger:
        ledger = await open_ledger(url, journal_path=state_dir / "ledger.journal", emit=lambda event: None)
        ledger.commit([message(1)], lambda error: None)
        return ledger

    ledger = asyncio.run(forget())
    worker = ledger._worker
    assert worker is not None
    worker._queue.put(None)
    worker._thread.join(5)
    assert not worker._thread.is_alive()
    ledger._journal.close()
    for lock in ledger._locks:
        lock.release()


def test_the_batch_is_bounded() -> None:
    assert worker_module.BATCH_ORDERS == 512
