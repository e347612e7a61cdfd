"""A message that was refused for good leaves its server only once the quarantine has it."""

from __future__ import annotations

import logging

import pytest

from mailferry.errors import QuarantineError
from mailferry.events import MessageQuarantined, MessageRejected, QuarantineFailed
from mailferry.model import Deferred, DeliveryReport, DeliveryState, PermanentFailure, Scope
from mailferry.policy.backoff import FETCH_BACKOFF
from mailferry.policy.plan import Rejected, Retention
from support.fakes import mail
from support.rig import Rig
from support.virtual_time import START, timeless

NO = DeliveryReport(PermanentFailure(Scope.MESSAGE, "end of data: 554 5.7.1 no"))


def refusing(*uidls: str, to: tuple[str, ...] = ("office",), **policy: object) -> Rig:
    """Return a rig whose first destination refuses these messages for ever."""
    rig = Rig(mail("u1"), mail("u2"), mail("u3"), to=to)
    rig.to[to[0]].script = {uidl.encode(): [NO] * 9 for uidl in uidls}
    return rig.set(rejected=Rejected.QUARANTINE, **policy)


@timeless
async def test_stored_then_written_down_then_deleted() -> None:
    rig = refusing("u2")
    report = await rig.run_poll()
    steps = [step for step in rig.effects if "u2" in step]
    assert [step for step in steps if not step.startswith(("retr", "submit", "note"))] == [
        "synced u2=rejected office=rejected",
        "confine u2",
        "synced u2=delete-pending",
        "dele u2",
        "synced u1=gone u3=gone u2=gone",
    ]
    message, record, deliveries = rig.quarantine.entries["alice-2"]
    assert message.content == mail("u2").content
    assert record.uidl == b"u2"
    assert [d.state for d in deliveries] == [DeliveryState.REJECTED]
    assert rig.ledger.of("u2").reason == "quarantined as alice-2: end of data: 554 5.7.1 no"
    assert (report.relayed, report.rejected, report.deleted, report.waiting) == (2, 1, 3, 0)
    (told,) = rig.told(MessageQuarantined)
    assert (told.uidl, told.entry, told.reason) == ("u2", "alice-2", "end of data: 554 5.7.1 no")
    assert len(rig.told(MessageRejected)) == 1


@timeless
async def test_by_default_it_is_kept_on_the_server() -> None:
    rig = refusing("u2").set(rejected=Rejected.KEEP)
    await rig.run_poll()
    await rig.run_poll()
    assert not rig.quarantine.entries
    assert rig.ledger.of("u2").state == "rejected"
    assert rig.did("retr") == ["retr u1", "retr u2", "retr u3"]


@timeless
async def test_what_was_kept_before_the_setting_changed_is_moved_and_submitted_to_nobody() -> None:
    rig = refusing("u2").set(rejected=Rejected.KEEP)
    await rig.run_poll()
    rig.effects.clear()
    await rig.set(rejected=Rejected.QUARANTINE).run_poll()
    assert rig.did("retr", "submit", "confine") == ["retr u2", "confine u2"]
    assert rig.ledger.of("u2").state == "gone"


@timeless
async def test_a_quarantine_that_cannot_take_it_leaves_it_and_tries_again_after_a_pause() -> None:
    rig = refusing("u2")
    rig.quarantine.error = QuarantineError("quarantine: no space left on device")
    report = await rig.run_poll()
    assert (report.rejected, report.deleted, report.waiting) == (1, 2, 1)
    row = rig.ledger.of("u2")
    assert (row.state, row.next_fetch_at) == ("rejected", START + FETCH_BACKOFF.pause_seconds(1, 0.5))
    assert [event.error for event in rig.told(QuarantineFailed)] == ["quarantine: no space left on device"]
    rig.quarantine.error = None
    rig.effects.clear()
    await rig.run_poll()
    assert not rig.did("retr")
    rig.clock.base += FETCH_BACKOFF.pause_seconds(1, 0.5)
    await rig.run_poll()
    assert rig.did("confine", "submit") == ["confine u2"]
    assert rig.ledger.of("u2").state == "gone"


@timeless
async def test_a_bug_in_the_quarantine_is_told_and_loses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    rig = refusing("u2")
    rig.quarantine.error = KeyError("bug")
    with caplog.at_level(logging.ERROR, "mailferry.bugs"):
        report = await rig.run_poll()
    assert report.failure is None
    assert rig.ledger.of("u2").state == "rejected"
    assert "quarantine of message 2" in caplog.text


@timeless
async def test_with_an_age_it_is_kept_on_the_server_like_what_was_delivered() -> None:
    rig = refusing("u2", retention=Retention(86400.0))
    await rig.run_poll()
    assert rig.ledger.of("u2").state == "accepted"
    rig.clock.base += 86400
    await rig.run_poll()
    assert list(rig.quarantine.entries) == ["alice-2"], "once"
    assert rig.ledger.of("u2").state == "gone"


@timeless
async def test_it_waits_until_the_other_destination_has_said_its_word() -> None:
    rig = refusing("u2", to=("office", "vault"))
    rig.to["vault"].script = {b"u2": [DeliveryReport(Deferred(Scope.MESSAGE, "451 later"))]}
    await rig.run_poll()
    assert not rig.quarantine.entries
    assert rig.ledger.of("u2").state == "deferred"
    rig.clock.base += 86400
    await rig.run_poll()
    _, _, deliveries = rig.quarantine.entries["alice-2"]
    assert {d.destination: d.state for d in deliveries} == {"office": "rejected", "vault": "accepted"}
    assert [d.message.uidl for d in rig.to["office"].submitted].count(b"u2") == 1


@timeless
async def test_nothing_is_moved_when_the_ledger_cannot_be_written() -> None:
    rig = refusing("u2")
    rig.ledger.fails = lambda rows: any(getattr(row, "state", None) == "rejected" for row in rows)
    report = await rig.run_poll()
    assert report.failure is not None
    assert "dele u2" not in rig.effects
