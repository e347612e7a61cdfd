"""What a sender of mail could make grow has a bound; and what a destination is handed."""

from __future__ import annotations

import asyncio

from mailferry.model import FetchedMessage, MessageRecord
from support.fakes import FakeMail, mail
from support.rig import Rig
from support.virtual_time import START, settle, timeless


def mails(count: int) -> list[FakeMail]:
    return [mail(f"u{n}") for n in range(1, count + 1)]


@timeless
async def test_no_more_is_on_its_way_than_prefetch_allows() -> None:
    rig = Rig(*mails(9), to=("office", "vault")).set(prefetch=3)
    for destination in rig.to.values():
        destination.when = "held"
    task = asyncio.create_task(rig.run_poll())
    await settle()
    assert len(rig.did("retr")) == 3
    rig.to["office"].answer()
    await settle()
    assert len(rig.did("retr")) == 3  # the vault does not have it yet
    rig.to["vault"].answer()
    await settle()
    assert len(rig.did("retr")) == 4
    for destination in rig.to.values():
        destination.when = "soon"
        while destination.held:
            destination.answer()
    assert (await task).relayed == 9


@timeless
async def test_no_more_is_in_memory_than_the_budget_allows() -> None:
    rig = Rig(*(mail(f"u{n}", body="x" * 900) for n in range(6)), budget=2000)
    rig.to["office"].when = "held"
    task = asyncio.create_task(rig.run_poll())
    await settle()
    assert len(rig.did("retr")) == 2
    assert rig.budget.in_use_octets <= 2000
    rig.to["office"].when = "soon"
    while rig.to["office"].held:
        rig.to["office"].answer()
    assert (await task).relayed == 6


@timeless
async def test_the_budget_counts_what_there_is_not_what_the_list_said() -> None:
    rig = Rig(mail("u1", body="x" * 5000, octets=1), mail("u2", octets=4000))
    rig.to["office"].when = "held"
    task = asyncio.create_task(rig.run_poll())
    await settle()
    assert rig.budget.in_use_octets == sum(len(m.content) for m in rig.maildrop.mails)
    rig.to["office"].answer()
    rig.to["office"].answer()
    await task


@timeless
async def test_a_message_has_what_the_destination_needs() -> None:
    rig = Rig(mail("u1"))
    content = b"Return-Path: <bounce@example.org>\r\n" + rig.maildrop.mails[0].content
    rig.maildrop.mails[0].content = content
    await rig.run_poll()
    message: FetchedMessage = rig.to["office"].submitted[0].message
    assert (message.content, message.envelope_sender) == (content, "bounce@example.org")
    assert (message.fetched_from, message.fetched_with, message.fetched_at) == (
        "pop.example.net", "POP3S", START,
    )  # fmt: skip
    (row,) = rig.ledger.messages.values()
    assert isinstance(row, MessageRecord)
    assert (row.subject, row.message_id, row.size_octets) == ("u1", message.message_id, len(content))
