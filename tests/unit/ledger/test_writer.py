"""A few rows changed by a command, beside the daemon or without it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mailferry.errors import StoreError
from mailferry.ledger import HistoryFilter, LedgerWriter, SqlLedger, open_writer
from mailferry.model import DeliveryRecord, DeliveryState, KnownMessage, MessageRecord, MessageState, Uidl
from support.ledger_contract import ALICE, BOB, delivery, message

FAR = 4e9  # later than any clock of a test


def refused(number: int, **changes: object) -> tuple[MessageRecord, DeliveryRecord, DeliveryRecord]:
    """A message that one destination has and the other refused."""
    record = replace(message(number, state=MessageState.REJECTED), reason="552 no", **changes)  # type: ignore[arg-type]
    no = replace(delivery(number, "vault"), state=DeliveryState.REJECTED, error="552 no")
    return record, delivery(number), no


@pytest.fixture
def writer(ledger: SqlLedger, url: str) -> Iterator[LedgerWriter]:
    with open_writer(url) as opened:
        yield opened


async def state_of(ledger: SqlLedger, uidl: bytes) -> KnownMessage:
    return (await ledger.known_messages(ALICE))[Uidl(uidl)]


async def test_a_refused_message_is_due_again(ledger: SqlLedger, writer: LedgerWriter) -> None:
    await ledger.save(refused(1))
    assert writer.retry_rejected() == 1
    known = await state_of(ledger, b"uidl-1")
    assert (known.message.state, known.message.reason) == (MessageState.DEFERRED, "")
    assert known.message.next_fetch_at == known.message.fetch_attempts == 0
    kept, again = known.deliveries
    assert kept == delivery(1)  # what has been accepted is not sent again
    assert (again.state, again.attempts, again.next_attempt_at) == (DeliveryState.DEFERRED, 0, 0.0)
    assert again.refused_recipients == ()
    assert again.accepted_recipients == delivery(1).accepted_recipients
    assert writer.retry_rejected() == 0


async def test_the_choice_can_be_narrowed(ledger: SqlLedger, writer: LedgerWriter) -> None:
    await ledger.save([*refused(1), *refused(2), *refused(3, maildrop=BOB), message(4)])
    assert writer.retry_rejected("alice", b"uidl-2") == 1
    assert writer.retry_rejected("bob", b"uidl-1") == 0
    assert writer.retry_rejected("bob") == 1
    assert writer.retry_rejected() == 1
    assert (await state_of(ledger, b"uidl-4")).message == message(4)


async def test_many_are_changed_in_short_transactions(ledger: SqlLedger, writer: LedgerWriter) -> None:
    await ledger.save([row for number in range(1, 451) for row in refused(number)])
    assert writer.retry_rejected() == 450


async def test_no_row_grows_younger_when_the_clock_was_set_back(
    ledger: SqlLedger, writer: LedgerWriter
) -> None:
    await ledger.save(refused(1, updated_at=FAR))
    writer.retry_rejected()
    assert (await state_of(ledger, b"uidl-1")).message.updated_at == FAR


async def test_what_a_command_delivered_is_recorded(ledger: SqlLedger, writer: LedgerWriter) -> None:
    await ledger.save(refused(1))
    told = replace(delivery(1, "vault"), receipt="2.0.0 by hand")
    other = replace(delivery(1), receipt="another word for what was accepted long ago")
    writer.record([told, other, delivery(99), replace(told, attempts=9)])
    (known,) = await ledger.history(HistoryFilter())
    assert known.deliveries == (delivery(1), replace(told, attempts=9))


async def test_the_daemon_goes_on_writing(ledger: SqlLedger, writer: LedgerWriter) -> None:
    await ledger.save([row for number in range(1, 301) for row in refused(number)])
    results: list[Exception | None] = []
    for number in range(1001, 1201):
        ledger.commit([message(number)], results.append)
    retried = await asyncio.to_thread(writer.retry_rejected)
    await ledger.save([])
    assert retried == 300
    assert results == [None] * 200


async def test_whoever_reads_before_writing_has_the_database_alone(ledger: SqlLedger, url: str) -> None:
    assert ledger._worker is not None

    def try_to_write() -> None:
        raw = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=0)
        try:
            raw.execute("BEGIN IMMEDIATE")
        finally:
            raw.close()

    with pytest.raises(StoreError, match="locked: another program"):
        await ledger._worker.run(lambda connection: try_to_write())


def test_without_a_ledger_none_is_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no ledger yet"):
        open_writer(f"sqlite:///{tmp_path}/ledger.sqlite3")
    assert list(tmp_path.iterdir()) == []


async def test_what_waits_for_its_next_attempt_is_due_at_once(
    ledger: SqlLedger, writer: LedgerWriter
) -> None:
    later = replace(delivery(1, "vault"), state=DeliveryState.DEFERRED, attempts=3, next_attempt_at=FAR)
    unfetched = replace(message(2, state=MessageState.DEFERRED), fetch_attempts=2, next_fetch_at=FAR)
    others = [*refused(3), replace(message(4, state=MessageState.DEFERRED), maildrop=BOB, next_fetch_at=FAR)]
    rows = [message(1, state=MessageState.DEFERRED), delivery(1), later, unfetched, *others]
    await ledger.save(rows)
    assert writer.hurry_postponed("alice") == 2
    kept, due = (await state_of(ledger, b"uidl-1")).deliveries
    assert (kept, due.next_attempt_at, due.attempts, due.state) == (
        delivery(1),
        0.0,
        3,
        DeliveryState.DEFERRED,
    )
    fetch = (await state_of(ledger, b"uidl-2")).message
    assert (fetch.next_fetch_at, fetch.fetch_attempts) == (0.0, 2)
    assert (await state_of(ledger, b"uidl-3")).message.state is MessageState.REJECTED
    assert (writer.hurry_postponed("alice"), writer.hurry_postponed(uidl=b"uidl-4")) == (0, 1)
