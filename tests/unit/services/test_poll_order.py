"""The order of effects, message by message: what promise 1 and 2 stand on."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from mailferry.events import MessageRelayed, QuitUnconfirmed
from mailferry.model import Deferred, DeliveryReport, DeliveryState, MessageState, Scope
from mailferry.policy.plan import Retention
from support.fakes import mail
from support.rig import Rig
from support.virtual_time import settle, timeless

FOR_EVER, AGE = Retention(None), Retention(600.0)


@timeless
async def test_the_life_of_one_message() -> None:
    rig = Rig(mail("u1"))
    report = await rig.run_poll()
    assert rig.effects == [
        "login",
        "retr u1",
        "submit office u1",
        "note u1=delete-pending office=accepted",
        "synced u1=delete-pending office=accepted",
        "dele u1",
        "quit",
        "synced u1=gone",
    ]
    assert (report.failure, report.listed, report.relayed, report.deleted, report.waiting) == (
        None,
        1,
        1,
        1,
        0,
    )
    assert rig.maildrop.mails == []


@timeless
async def test_dele_waits_for_the_row_to_be_synced() -> None:
    rig = Rig(mail("u1"))
    poll = rig.poll()
    rig.ledger.held = True
    task = asyncio.create_task(poll.run())
    await settle()
    rig.ledger.sync()  # the empty order that asks whether the ledger is there
    await settle()
    assert rig.did("note", "dele", "quit") == ["note u1=delete-pending office=accepted"]
    rig.ledger.held = False
    rig.ledger.sync()
    report = await task
    assert rig.did("synced", "dele", "quit") == [
        "synced u1=delete-pending office=accepted",
        "dele u1",
        "quit",
        "synced u1=gone",
    ]
    assert report.deleted == 1


@timeless
async def test_the_note_follows_the_acceptance_before_anything_else_happens() -> None:
    rig = Rig(mail("u1"), mail("u2"))
    rig.to["office"].when = "now"
    await rig.run_poll()
    after = [rig.effects[n + 1] for n, effect in enumerate(rig.effects) if effect.startswith("submit")]
    assert after == [f"note {u}=delete-pending office=accepted" for u in ("u1", "u2")]


@pytest.mark.parametrize("retention", [FOR_EVER, AGE])
@timeless
async def test_what_is_kept_is_not_deleted(retention: Retention) -> None:
    rig = Rig(mail("u1")).set(retention=retention)
    await rig.run_poll()
    assert rig.did("dele") == []
    assert rig.ledger.states() == {"u1": "accepted"}
    effects = len(rig.effects)
    report = await rig.run_poll()
    assert rig.effects[effects:] == ["login", "quit"]
    assert (report.relayed, report.waiting) == (0, 0)


@timeless
async def test_an_age_that_is_over_deletes_after_the_row_says_so() -> None:
    rig = Rig(mail("u1")).set(retention=AGE)
    await rig.run_poll()
    rig.clock.base += 601
    rig.effects.clear()
    report = await rig.run_poll()
    assert rig.effects == ["login", "synced u1=delete-pending", "dele u1", "quit", "synced u1=gone"]
    assert (report.relayed, report.deleted) == (0, 1)


@timeless
async def test_an_unconfirmed_quit_deletes_next_time_after_a_look() -> None:
    rig = Rig(mail("u1"))
    rig.maildrop.quit_confirms = rig.maildrop.quit_deletes = False
    report = await rig.run_poll()
    assert (report.failure, report.deleted) == (None, 0)
    assert [event.pending for event in rig.told(QuitUnconfirmed)] == [1]
    assert rig.ledger.states() == {"u1": "delete-pending"}
    rig.maildrop.quit_confirms = rig.maildrop.quit_deletes = True
    rig.effects.clear()
    report = await rig.run_poll()
    assert rig.effects == ["login", "top u1", "dele u1", "quit", "synced u1=gone"]
    assert (report.relayed, report.deleted) == (0, 1)


@timeless
async def test_an_unconfirmed_quit_that_did_delete_is_learned_from_the_listing() -> None:
    rig = Rig(mail("u1"))
    rig.maildrop.quit_confirms = False
    await rig.run_poll()
    rig.maildrop.mails.append(mail("u2", "another size"))
    rig.effects.clear()
    await rig.run_poll()
    assert rig.did("synced", "retr")[:2] == ["synced u1=gone", "retr u2"]


@timeless
async def test_an_empty_listing_after_an_unconfirmed_quit_proves_nothing_for_a_day() -> None:
    """The server that died at our QUIT may come back without its mail, and later with it."""
    rig = Rig(mail("u1"))
    rig.maildrop.quit_confirms = rig.maildrop.quit_deletes = False
    await rig.run_poll()
    mails, rig.maildrop.mails = rig.maildrop.mails, []
    rig.effects.clear()
    await rig.run_poll()
    assert rig.effects == ["login", "quit"]
    rig.maildrop.quit_confirms = rig.maildrop.quit_deletes = True
    rig.maildrop.mails = mails
    report = await rig.run_poll()
    assert (report.relayed, report.deleted) == (0, 1)


@timeless
async def test_an_unconfirmed_deletion_is_believed_after_a_day() -> None:
    rig = Rig(mail("u1"))
    rig.maildrop.quit_confirms = False
    await rig.run_poll()
    rig.clock.base += 86401
    await rig.run_poll()
    assert rig.ledger.states() == {"u1": "gone"}


@timeless
async def test_a_refused_dele_is_tried_again_and_is_not_gone() -> None:
    rig = Rig(mail("u1"))
    rig.maildrop.refuses.add(("dele", 1))
    report = await rig.run_poll()
    assert (report.failure, report.relayed, report.deleted) == (None, 1, 0)
    assert rig.ledger.states() == {"u1": "delete-pending"}
    rig.maildrop.refuses.clear()
    assert (await rig.run_poll()).deleted == 1


# -- a UIDL that comes again -----------------------------------------------------


@timeless
async def test_a_uidl_that_now_names_another_message_is_delivered_not_deleted() -> None:
    rig = Rig(mail("u1", "old"))
    rig.maildrop.quit_confirms = False
    await rig.run_poll()
    rig.maildrop.quit_confirms = True
    rig.maildrop.mails[:] = [mail("u1", "new")]
    rig.effects.clear()
    report = await rig.run_poll()
    assert rig.effects == [
        "login",
        "top u1",
        "adopted u1=gone",
        "retr u1",
        "submit office u1",
        "note u1=delete-pending office=accepted",
        "synced u1=delete-pending office=accepted",
        "dele u1",
        "quit",
        "synced u1=gone",
    ]
    assert (report.failure, report.relayed) == (None, 1)
    assert [m.state for m in rig.ledger.messages.values()] == [MessageState.GONE] * 2
    assert [event.subject for event in rig.told(MessageRelayed)] == ["old", "new"]


@timeless
async def test_the_new_message_of_an_old_uidl_may_be_too_large() -> None:
    rig = Rig(mail("u1", "old")).set(max_size_octets=1000)
    rig.maildrop.quit_confirms = False
    await rig.run_poll()
    rig.maildrop.quit_confirms = True
    rig.maildrop.mails[:] = [mail("u1", "new", octets=1001)]
    rig.effects.clear()
    report = await rig.run_poll()
    assert rig.effects == ["login", "top u1", "adopted u1=gone", "synced u1=skipped", "quit"]
    assert (report.failure, report.skipped, report.waiting) == (None, 1, 1)


@timeless
async def test_a_header_that_is_not_shown_proves_nothing_so_nothing_is_done() -> None:
    rig = Rig(mail("u1"))
    rig.maildrop.quit_confirms = rig.maildrop.quit_deletes = False
    await rig.run_poll()
    rig.maildrop.quit_confirms = rig.maildrop.quit_deletes = True
    rig.maildrop.refuses |= {("top", 1), ("retr", 1)}
    rig.effects.clear()
    report = await rig.run_poll()
    assert rig.effects == ["login", "top u1", "retr u1", "quit"]
    assert (report.failure, report.relayed, report.deleted) == (None, 0, 0)


@timeless
async def test_the_link_that_breaks_during_the_look_leaves_everything_as_it_was() -> None:
    rig = Rig(mail("u1"))
    rig.maildrop.quit_confirms = rig.maildrop.quit_deletes = False
    await rig.run_poll()
    rig.maildrop.dies_at = ("top", 1)
    report = await rig.run_poll()
    assert "reset at top 1" in str(report.failure)
    assert rig.ledger.states() == {"u1": "delete-pending"}
    assert len(rig.told(MessageRelayed)) == 1


@pytest.mark.parametrize("octets", [0, 4000])
@timeless
async def test_without_top_the_content_tells_whatever_the_size(octets: int) -> None:
    rig = Rig(mail("u1"))
    rig.maildrop.quit_confirms = rig.maildrop.quit_deletes = False
    await rig.run_poll()
    rig.maildrop.traits = replace(rig.maildrop.traits, has_top=False)
    rig.maildrop.mails[0].octets = octets
    rig.effects.clear()
    await rig.run_poll()
    assert rig.did("retr", "dele", "submit") == ["retr u1", "dele u1"]


@timeless
async def test_a_header_that_all_share_is_no_proof_that_it_is_the_same_message() -> None:
    rig = Rig()
    rig.maildrop.mails.append(mail("u1"))
    rig.maildrop.mails[0].content = b"\r\nno header, first\r\n"
    rig.maildrop.quit_confirms = False
    await rig.run_poll()
    rig.maildrop.mails.append(mail("u1"))
    rig.maildrop.mails[0].content = b"\r\nno header, another one\r\n"
    rig.effects.clear()
    await rig.run_poll()
    assert rig.did("top", "retr", "submit") == ["top u1", "retr u1", "retr u1", "submit office u1"]


# -- several destinations --------------------------------------------------------


@timeless
async def test_dele_waits_for_the_rows_of_both_destinations() -> None:
    rig = Rig(mail("u1"), to=("office", "vault"))
    rig.to["vault"].when = "held"
    task = asyncio.create_task(rig.run_poll())
    await settle()
    assert rig.did("note", "synced", "dele") == [
        "note u1=deferred office=accepted",
        "synced u1=deferred office=accepted",
    ]
    rig.effects.clear()
    rig.to["vault"].answer()
    report = await task
    assert rig.effects == [
        "note u1=delete-pending vault=accepted",
        "synced u1=delete-pending vault=accepted",
        "dele u1",
        "quit",
        "synced u1=gone",
    ]
    assert report.relayed == 1


@timeless
async def test_a_retry_goes_only_to_the_one_that_has_not_accepted() -> None:
    rig = Rig(mail("u1"), to=("office", "vault"))
    rig.to["vault"].script[b"u1"] = [deferred("451 later")]
    report = await rig.run_poll()
    assert rig.did("dele") == []
    assert (report.relayed, report.deferred, report.waiting) == (0, 1, 1)
    rig.effects.clear()
    await rig.run_poll()  # too early
    assert rig.effects == ["login", "quit"]
    rig.clock.base += 3600
    rig.effects.clear()
    report = await rig.run_poll()
    assert rig.did("submit", "dele") == ["submit vault u1", "dele u1"]
    assert rig.to["vault"].submitted[-1].attempt == 2
    row = rig.ledger.delivery("u1", "vault")
    assert row is not None
    assert (row.state, row.attempts, row.receipt) == (DeliveryState.ACCEPTED, 2, "250 vault")
    assert (report.relayed, report.deferred) == (1, 0)


def deferred(reason: str) -> DeliveryReport:
    return DeliveryReport(Deferred(Scope.MESSAGE, reason))
