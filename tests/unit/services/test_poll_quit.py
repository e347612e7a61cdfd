"""QUIT in the same group as what it confirms, and the place at the server that it gives back."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from mailferry.events import QuitUnconfirmed
from mailferry.model import MessageState
from mailferry.services.poll import QUIT_SECONDS
from support.fakes import mail
from support.rig import Rig
from support.virtual_time import settle, timeless


def rig_with(count: int, *, pipelining: bool = True, expire_days: int | None = None) -> Rig:
    rig = Rig(*(mail(f"u{n}") for n in range(1, count + 1)))
    rig.maildrop.traits = replace(rig.maildrop.traits, pipelining=pipelining, expire_days=expire_days)
    return rig


async def asked_when_dele_is_unanswered(rig: Rig) -> list[str]:
    """Hold the server's answers until nothing moves but DELE; return what it was asked by then."""
    rig.maildrop.held = True
    task = asyncio.create_task(rig.run_poll())
    await settle()
    while rig.maildrop.session.unread and rig.maildrop.session.unread[0][0] != "dele":
        rig.maildrop.session.answer()
        await settle()
    asked = [verb for verb, *_ in rig.maildrop.session.unread]
    while not task.done():
        rig.maildrop.session.answer()
        await settle()
    assert (await task).deleted == 2
    return asked


@timeless
@pytest.mark.parametrize(
    ("pipelining", "expire_days", "asked"),
    [
        (True, None, ["dele", "dele", "quit"]),
        (False, None, ["dele", "dele"]),
        (True, 0, ["dele", "dele"]),  # RFC 2449 s.6.7: what was fetched and is not marked must be known
    ],
)
async def test_quit_follows_the_deletions_at_once_where_the_server_pipelines(
    pipelining: bool, expire_days: int | None, asked: list[str]
) -> None:
    assert (
        await asked_when_dele_is_unanswered(rig_with(2, pipelining=pipelining, expire_days=expire_days))
        == asked
    )


@timeless
async def test_only_what_was_marked_is_gone() -> None:
    rig = rig_with(3)
    rig.maildrop.refuses.add(("dele", 2))
    report = await rig.run_poll()
    assert (report.relayed, report.deleted, report.failure) == (3, 2, None)
    states = {row.uidl: row.state for row in rig.ledger.messages.values()}
    assert states == {
        b"u1": MessageState.GONE,
        b"u2": MessageState.DELETE_PENDING,
        b"u3": MessageState.GONE,
    }


@timeless
async def test_a_session_that_dies_at_a_deletion_is_a_failure_and_one_that_dies_at_quit_is_not() -> None:
    for dies_at, fails in ((("dele", 2), True), (("quit", 0), False)):
        rig = rig_with(2)
        rig.maildrop.dies_at = dies_at
        report = await rig.run_poll()
        assert (report.failure is not None) is fails
        assert report.deleted == 0
        assert fails or len(rig.told(QuitUnconfirmed)) == 1
        assert {row.state for row in rig.ledger.messages.values()} == {MessageState.DELETE_PENDING}


@timeless
async def test_the_place_is_given_back_with_a_quit_that_confirms_nothing() -> None:
    for mails, early in ((0, True), (1, False)):
        rig = rig_with(mails)
        rig.maildrop.held = True
        ended: list[int] = []
        poll = rig.poll()
        poll.on_session_end = lambda ended=ended: ended.append(1)  # type: ignore[misc]
        task = asyncio.create_task(poll.run())
        await settle()
        while rig.maildrop.session.unread[0][0] != "quit":
            rig.maildrop.session.answer()
            await settle()
        assert bool(ended) is early
        rig.maildrop.session.answer()
        await task
        assert ended


@timeless
async def test_a_quit_that_confirms_nothing_is_not_waited_for_for_long() -> None:
    rig = rig_with(0)
    rig.maildrop.held = True
    task = asyncio.create_task(rig.poll().run())
    await settle()
    while rig.maildrop.session.unread[0][0] != "quit":
        rig.maildrop.session.answer()
        await settle()
    await asyncio.sleep(QUIT_SECONDS + 0.1)
    assert (await task).failure is None
    assert rig.maildrop.session.failure is not None  # the link was dropped
    assert len(rig.told(QuitUnconfirmed)) == 1
