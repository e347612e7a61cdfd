"""Servers whose unique-ids do not tell: none, repeated, refused for once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mailferry.events import MessageFetchFailed, MessageRecognised
from mailferry.model import Deferred, DeliveryReport, MessageState, Scope
from mailferry.policy.plan import Retention
from support.fakes import FakeMail, mail
from support.rig import Rig
from support.virtual_time import timeless

KEEP = Retention(None)


def rig_without(*mails: FakeMail, top: bool, keep: bool = False) -> Rig:
    rig = Rig(*mails)
    rig.maildrop.has_uidls = False
    rig.maildrop.traits = replace(rig.maildrop.traits, has_top=top)
    return rig.set(retention=KEEP) if keep else rig


@pytest.mark.parametrize("top", [True, False])
@timeless
async def test_without_uidl_messages_are_relayed_and_deleted(*, top: bool) -> None:
    rig = rig_without(mail("u1"), mail("u2"), top=top)
    report = await rig.run_poll()
    assert (report.failure, report.relayed, report.deleted) == (None, 2, 2)
    assert all(m.uidl.startswith(b" ") for m in rig.ledger.messages.values())


@pytest.mark.parametrize(("top", "verbs"), [(True, {"top"}), (False, {"retr"})])
@timeless
async def test_without_uidl_what_is_kept_is_relayed_once(*, top: bool, verbs: set[str]) -> None:
    rig = rig_without(mail("u1"), mail("u2"), top=top, keep=True)
    await rig.run_poll()
    rig.effects.clear()
    rig.maildrop.mails.append(mail("u3"))
    report = await rig.run_poll()
    assert {effect.split()[0] for effect in rig.effects} >= verbs
    assert (report.relayed, report.waiting) == (1, 0)
    assert len(rig.to["office"].submitted) == 3
    assert rig.told(MessageRecognised) == []  # their identities have not changed


@timeless
async def test_without_uidl_and_top_what_was_not_deleted_is_recognised_and_deleted() -> None:
    rig = rig_without(mail("u1"), top=False)
    rig.maildrop.quit_confirms = rig.maildrop.quit_deletes = False
    await rig.run_poll()
    rig.maildrop.quit_confirms = rig.maildrop.quit_deletes = True
    rig.effects.clear()
    report = await rig.run_poll()
    assert rig.did("retr", "submit", "dele", "quit") == ["retr u1", "dele u1", "quit"]
    assert (report.relayed, report.deleted, report.waiting) == (0, 1, 0)
    assert [m.state for m in rig.ledger.messages.values()] == [MessageState.GONE]


@pytest.mark.parametrize("top", [True, False])
@timeless
async def test_without_uidl_a_deferred_message_waits_for_its_time(*, top: bool) -> None:
    rig = rig_without(mail("u1"), top=top)
    rig.to["office"].when = "now"
    await rig.run_poll()
    rig = rig_without(mail("u1"), top=top)
    later = DeliveryReport(Deferred(Scope.MESSAGE, "451"))
    first = rig.poll
    rig.to["office"].script = {}
    rig.to["office"].submit = lambda delivery: delivery.done(later)  # type: ignore[method-assign]
    await first().run()
    del rig.to["office"].submit
    rig.effects.clear()
    await rig.run_poll()
    assert rig.did("submit") == []
    rig.clock.base += 3600
    report = await rig.run_poll()
    assert len(rig.did("submit")) == 1
    assert (report.relayed, rig.to["office"].submitted[-1].attempt) == (1, 2)


@pytest.mark.parametrize("top", [True, False])
@timeless
async def test_copies_with_one_header_are_as_many_messages(*, top: bool) -> None:
    rig = rig_without(*(mail("u1", "same") for _ in range(3)), top=top, keep=True)
    assert (await rig.run_poll()).relayed == 3
    assert (await rig.run_poll()).relayed == 0
    rig.maildrop.mails.append(mail("u1", "same"))
    assert (await rig.run_poll()).relayed == 1


@pytest.mark.parametrize("top", [True, False])
@timeless
async def test_messages_without_a_header_are_told_apart_by_their_content(*, top: bool) -> None:
    rig = rig_without(FakeMail(b"u1", b"\r\nfirst\r\n"), top=top, keep=True)
    assert (await rig.run_poll()).relayed == 1
    rig.maildrop.mails[:] = [FakeMail(b"u2", b"\r\nanother\r\n")]
    assert (await rig.run_poll()).relayed == 1
    assert (await rig.run_poll()).relayed == 0
    assert [d.message.content for d in rig.to["office"].submitted] == [b"\r\nfirst\r\n", b"\r\nanother\r\n"]


@timeless
async def test_a_uidl_of_several_messages_identifies_none_of_them() -> None:
    rig = Rig(mail("u1", "a"), mail("u1", "b"), mail("u2")).set(retention=KEEP)
    assert (await rig.run_poll()).relayed == 3
    rig.effects.clear()
    report = await rig.run_poll()
    assert rig.effects == ["login", "top u1", "top u1", "quit"]
    assert (report.relayed, report.waiting) == (0, 0)


@timeless
async def test_a_known_message_whose_uidl_is_now_listed_twice_is_not_relayed_again() -> None:
    rig = Rig(mail("u1", "a")).set(retention=KEEP)
    await rig.run_poll()
    rig.maildrop.mails.append(mail("u1", "b"))
    report = await rig.run_poll()
    assert report.relayed == 1
    assert [d.message.summary.subject for d in rig.to["office"].submitted] == ["a", "b"]


@pytest.mark.parametrize("top", [True, False])
@timeless
async def test_a_server_that_refuses_uidl_once_has_nothing_relayed_again(*, top: bool) -> None:
    rig = Rig(mail("u1"), mail("u2")).set(retention=KEEP)
    rig.maildrop.traits = replace(rig.maildrop.traits, has_top=top)
    await rig.run_poll()
    rig.maildrop.has_uidls = False
    report = await rig.run_poll()
    assert (report.failure, report.relayed, report.waiting) == (None, 0, 0)
    rig.maildrop.has_uidls = True
    assert (await rig.run_poll()).relayed == 0
    assert rig.ledger.states() == {"u1": "accepted", "u2": "accepted"}
    assert len(rig.to["office"].submitted) == 2


@pytest.mark.parametrize("refused", [{("top", 1)}, {("top", 1), ("retr", 1)}], ids=["TOP", "TOP and RETR"])
@timeless
async def test_a_header_that_top_does_not_show_is_fetched_and_if_not_that_nothing_vanishes(
    refused: set[tuple[str, int]],
) -> None:
    rig = rig_without(mail("u1"), mail("u2"), top=True, keep=True)
    await rig.run_poll()
    rig.maildrop.mails.pop(0)
    rig.maildrop.refuses |= refused
    rig.effects.clear()
    report = await rig.run_poll()
    assert rig.did("retr", "submit")[:2] == ["retr u2", "retr u2"][: len(refused)]
    assert (report.failure, report.relayed) == (None, 0)
    states = sorted(str(m.state) for m in rig.ledger.messages.values())
    assert states == (["accepted", "missing"] if len(refused) == 1 else ["accepted", "accepted"])


@timeless
async def test_the_link_that_breaks_while_headers_are_asked_for_ends_the_poll() -> None:
    rig = rig_without(mail("u1"), mail("u2"), top=True)
    rig.maildrop.dies_at = ("top", 2)
    report = await rig.run_poll()
    assert "reset at top 2" in str(report.failure)
    assert rig.did("retr") == []


@timeless
async def test_without_an_identity_there_is_no_row_to_blame() -> None:
    rig = rig_without(mail("u1"), mail("u2"), top=False)
    rig.maildrop.refuses.add(("retr", 1))
    report = await rig.run_poll()
    assert (report.failure, report.relayed, len(rig.ledger.messages)) == (None, 1, 1)
    (told,) = rig.told(MessageFetchFailed)
    assert (told.uidl, told.attempt, told.reason) == ("message 1, no UIDL", 1, "RETR refused: no")


@timeless
async def test_a_refused_message_is_recognised_and_left_alone() -> None:
    rig = rig_without(mail("u1"), top=False)
    await rig.run_poll()
    (row,) = rig.ledger.messages.values()
    rig.ledger.messages[row.message_id] = replace(row, state=MessageState.REJECTED)
    rig.maildrop.mails.append(mail("u1"))
    rig.effects.clear()
    report = await rig.run_poll()
    assert rig.did("submit", "dele") == []
    assert report.waiting == 1
