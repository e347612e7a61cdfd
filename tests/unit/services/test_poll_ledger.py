"""A ledger that cannot be read or written: nothing is deleted, nothing more is relayed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from mailferry.errors import StoreError
from mailferry.events import MessageRelayed
from mailferry.model import DeliveryRecord, LedgerRecord
from support.fakes import FakeMail, mail
from support.rig import Rig
from support.virtual_time import settle, timeless


def mails(count: int) -> list[FakeMail]:
    return [mail(f"u{n}") for n in range(1, count + 1)]


def deliveries_of(records: Sequence[LedgerRecord]) -> bool:
    return any(isinstance(record, DeliveryRecord) for record in records)


@timeless
async def test_a_commit_that_fails_ends_the_poll_and_deletes_nothing() -> None:
    rig = Rig(*mails(5)).set(prefetch=2)
    rig.ledger.fails = deliveries_of
    report = await rig.run_poll()
    assert isinstance(report.failure, StoreError)
    assert rig.did("dele") == []
    assert rig.did("quit") == ["quit"]
    assert len(rig.maildrop.mails) == 5
    assert rig.told(MessageRelayed) == []


@timeless
async def test_after_a_failed_commit_nothing_more_is_submitted() -> None:
    """Also not what had been asked of the server before."""
    rig = Rig(*mails(6)).set(prefetch=4)
    rig.maildrop.held = True
    rig.ledger.fails = deliveries_of
    task = asyncio.create_task(rig.run_poll())
    await settle()
    session = rig.maildrop.session
    session.answer()
    await settle()
    assert rig.did("submit", "failed") == ["submit office u1", "failed u1=delete-pending office=accepted"]
    rig.maildrop.held = False
    while session.unread:
        session.answer()
    report = await task
    assert isinstance(report.failure, StoreError)
    assert rig.did("submit") == ["submit office u1"]
    assert "retr u6" not in rig.effects


@timeless
async def test_a_message_is_not_submitted_to_the_second_once_the_first_one_s_row_failed() -> None:
    rig = Rig(mail("u1"), to=("office", "vault"))
    rig.to["office"].when = "now"
    rig.ledger.note_fails = True
    report = await rig.run_poll()
    assert isinstance(report.failure, StoreError)
    assert rig.did("submit") == ["submit office u1"]


@timeless
async def test_a_note_that_fails_still_tries_the_commit_and_deletes_nothing() -> None:
    rig = Rig(mail("u1"))
    rig.ledger.note_fails = True
    report = await rig.run_poll()
    assert isinstance(report.failure, StoreError)
    assert rig.ledger.states() == {"u1": "delete-pending"}
    assert rig.did("dele") == []


@timeless
async def test_a_ledger_that_raises_at_once_is_no_hang() -> None:
    rig = Rig(mail("u1"))
    rig.to["office"].when = "held"
    task = asyncio.create_task(rig.run_poll())
    await settle()
    rig.ledger.raises = True
    rig.to["office"].answer()
    assert isinstance((await task).failure, StoreError)


@timeless
async def test_a_missing_row_of_one_destination_keeps_the_message() -> None:
    """The second row alone would say `delete-pending`."""
    rig = Rig(mail("u1"), to=("office", "vault"))
    rig.ledger.fails = lambda records: any(
        isinstance(record, DeliveryRecord) and record.destination == "office" for record in records
    )
    report = await rig.run_poll()
    assert isinstance(report.failure, StoreError)
    assert rig.did("dele") == []


@timeless
async def test_a_ledger_that_cannot_be_read_touches_no_mail() -> None:
    rig = Rig(mail("u1"))
    rig.ledger.known_fails = True
    report = await rig.run_poll()
    assert isinstance(report.failure, StoreError)
    assert rig.effects == ["login"]
    assert rig.maildrop.session.failure is not None


@timeless
async def test_first_rows_that_cannot_be_written_touch_no_mail() -> None:
    rig = Rig(mail("u1"))
    rig.ledger.fails = lambda _: True
    report = await rig.run_poll()
    assert isinstance(report.failure, StoreError)
    assert rig.did("retr", "submit") == []


@timeless
async def test_a_confirmation_that_cannot_be_written_fails_the_poll() -> None:
    rig = Rig(mail("u1"))
    rig.ledger.fails = lambda records: not deliveries_of(records) and bool(records)
    report = await rig.run_poll()
    assert isinstance(report.failure, StoreError)
    assert (report.relayed, report.deleted) == (1, 1)
    rig.ledger.fails = lambda _: False
    rig.maildrop.mails.append(mail("u2"))
    assert (await rig.run_poll()).failure is None
    assert rig.ledger.states() == {"u1": "gone", "u2": "gone"}
