"""Messages above the size limit, and settings that change between two polls."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mailferry.events import MessageSkipped
from mailferry.model import Deferred, DeliveryReport, DestinationName, MessageState, PermanentFailure, Scope
from mailferry.policy.plan import Oversize, Retention
from support.fakes import FakeDestination, mail
from support.rig import Rig
from support.virtual_time import timeless

LIMIT = 2000
LATER = DeliveryReport(Deferred(Scope.MESSAGE, "451"))


def large(uidl: str = "u1") -> Rig:
    return Rig(mail(uidl, body="x" * 5000), to=("office", "vault")).set(max_size_octets=LIMIT)


def headers(rig: Rig) -> Rig:
    return rig.set(oversize=Oversize.HEADERS)


@timeless
async def test_a_large_message_is_skipped_once_and_stays() -> None:
    rig = large()
    report = await rig.run_poll()
    assert rig.effects == ["login", "synced u1=skipped", "quit"]
    assert (report.skipped, report.waiting, len(rig.told(MessageSkipped))) == (1, 1, 1)
    assert "too large: " in rig.ledger.of("u1").reason
    report = await rig.run_poll()
    assert (report.skipped, report.waiting, len(rig.told(MessageSkipped))) == (0, 1, 1)


@timeless
async def test_a_header_alone_is_relayed_once_and_the_message_kept() -> None:
    rig = headers(large())
    report = await rig.run_poll()
    assert rig.did("top", "retr", "dele") == ["top u1"]
    note = rig.to["office"].submitted[0].message.content
    assert b"Subject: u1\r\n" in note
    assert b"xxx" not in note
    assert rig.ledger.states() == {"u1": "skipped"}
    assert rig.ledger.of("u1").reason.endswith("header relayed")
    assert (report.relayed, report.waiting) == (0, 1)
    rig.effects.clear()
    for _ in range(2):
        await rig.run_poll()
        rig.clock.base += 10**6
    assert rig.effects == ["login", "quit"] * 2


@timeless
async def test_a_header_goes_again_only_where_it_was_not_taken() -> None:
    rig = headers(large())
    rig.to["vault"].script[b"u1"] = [LATER]
    await rig.run_poll()
    assert rig.ledger.of("u1").reason.endswith("451")
    rig.effects.clear()
    await rig.run_poll()
    assert rig.effects == ["login", "quit"]
    rig.clock.base += 3600
    await rig.run_poll()
    assert rig.did("submit") == ["submit vault u1"]
    assert rig.ledger.states() == {"u1": "skipped"}
    assert len(rig.maildrop.mails) == 1


@timeless
async def test_without_top_a_large_message_is_skipped() -> None:
    rig = headers(large())
    rig.maildrop.traits = replace(rig.maildrop.traits, has_top=False)
    report = await rig.run_poll()
    assert rig.effects == ["login", "synced u1=skipped", "quit"]
    assert report.skipped == 1


@timeless
async def test_a_header_that_the_server_refuses_is_asked_for_again_later() -> None:
    rig = headers(large())
    rig.maildrop.refuses.add(("top", 1))
    await rig.run_poll()
    rig.effects.clear()
    await rig.run_poll()
    assert rig.effects == ["login", "quit"]
    rig.maildrop.refuses.clear()
    rig.clock.base += 3600
    await rig.run_poll()
    assert rig.did("submit") == ["submit office u1", "submit vault u1"]


@timeless
async def test_after_the_limit_was_raised_the_message_goes_everywhere_and_is_deleted() -> None:
    rig = headers(large())
    await rig.run_poll()
    rig.set(max_size_octets=0)
    rig.effects.clear()
    report = await rig.run_poll()
    assert rig.did("retr", "submit", "dele") == ["retr u1", "submit office u1", "submit vault u1", "dele u1"]
    assert (report.relayed, report.deleted) == (1, 1)
    assert {d.attempts for d in rig.ledger.deliveries.values()} == {1}


@timeless
async def test_a_note_that_was_accepted_never_stands_for_the_message() -> None:
    """With one destination down at the fetch, its row must not say `accepted` for the next poll."""
    rig = headers(large())
    await rig.run_poll()
    rig.set(max_size_octets=0)
    rig.to["vault"].script[b"u1"] = [DeliveryReport(Deferred(Scope.NEXT_HOP, "421"))]
    await rig.run_poll()
    await rig.run_poll()
    whole = [len(d.message.content) > 5000 for d in rig.to["vault"].submitted]
    assert whole == [False, True, True]
    assert rig.ledger.states() == {"u1": "gone"}


@timeless
async def test_the_same_when_that_destination_is_down_before_the_fetch() -> None:
    rig = headers(large())
    await rig.run_poll()
    rig.set(max_size_octets=0)
    rig.to["vault"].available = False
    await rig.run_poll()
    await rig.run_poll()
    assert len(rig.maildrop.mails) == 1
    rig.to["vault"].available = True
    await rig.run_poll()
    assert [len(d.message.content) > 5000 for d in rig.to["vault"].submitted] == [False, True]
    assert rig.maildrop.mails == []


# -- settings that change --------------------------------------------------------


@pytest.mark.parametrize(
    ("keep", "state"), [(Retention(0.0), MessageState.GONE), (Retention(None), MessageState.ACCEPTED)]
)
@timeless
async def test_a_destination_taken_out_of_the_settings_is_waited_for_no_more(
    keep: Retention, state: MessageState
) -> None:
    rig = Rig(mail("u1"), to=("office", "vault")).set(retention=keep)
    rig.to["vault"].script[b"u1"] = [LATER]
    await rig.run_poll()
    rig.set(destinations=(DestinationName("office"),))
    for _ in range(2):  # the first one writes the row, the second one finds it
        await rig.run_poll()
    assert rig.ledger.states() == {"u1": str(state)}
    assert rig.ledger.of("u1").accepted_at is not None


@timeless
async def test_what_was_refused_by_the_one_that_is_left_is_refused() -> None:
    rig = Rig(mail("u1"), to=("office", "vault"))
    rig.to["office"].script[b"u1"] = [DeliveryReport(PermanentFailure(Scope.MESSAGE, "554"))]
    rig.to["vault"].script[b"u1"] = [LATER]
    await rig.run_poll()
    rig.set(destinations=(DestinationName("office"),))
    await rig.run_poll()
    row = rig.ledger.of("u1")
    assert (row.state, row.accepted_at) == (MessageState.REJECTED, None)


@timeless
async def test_a_new_destination_gets_what_is_not_accepted_yet() -> None:
    rig = Rig(mail("u1"))
    rig.to["office"].script[b"u1"] = [LATER]
    await rig.run_poll()
    rig.around.destinations["vault"] = FakeDestination("vault", rig.effects)  # type: ignore[index]
    rig.set(destinations=(DestinationName("office"), DestinationName("vault")))
    await rig.run_poll()
    assert rig.did("submit") == ["submit office u1", "submit vault u1"]
    assert rig.ledger.states() == {"u1": "deferred"}


@timeless
async def test_keeping_less_deletes_what_was_kept() -> None:
    rig = Rig(mail("u1")).set(retention=Retention(None))
    await rig.run_poll()
    rig.set(retention=Retention(0.0))
    assert (await rig.run_poll()).deleted == 1
    assert rig.did("submit") == ["submit office u1"]


@timeless
async def test_keeping_more_keeps_what_was_to_be_deleted() -> None:
    rig = Rig(mail("u1"))
    rig.maildrop.quit_confirms = rig.maildrop.quit_deletes = False
    await rig.run_poll()
    rig.maildrop.quit_confirms = rig.maildrop.quit_deletes = True
    rig.set(retention=Retention(None))
    report = await rig.run_poll()
    assert (report.deleted, len(rig.maildrop.mails)) == (0, 1)


@timeless
async def test_one_too_large_that_nothing_identifies_is_told_at_every_poll() -> None:
    rig = Rig(mail(None, octets=5000)).set(max_size_octets=1000)
    rig.maildrop.traits = replace(rig.maildrop.traits, has_top=False)
    for polls in (1, 2):
        report = await rig.run_poll()
        assert (report.skipped, report.waiting) == (1, 1)
        told = rig.told(MessageSkipped)
        assert [event.reason for event in told] == ["too large: 5000 octets, max_size is 1000"] * polls
