"""What a poll does while the clock has just been set: see `mailferry.runtime.clock`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mailferry.model import MessageState
from mailferry.policy.plan import Retention
from support.fakes import mail
from support.rig import Rig
from support.virtual_time import timeless

DAY = 86_400.0


def rig_of(uidl: str | None, keep: float | None) -> Rig:
    return Rig(mail(uidl, "one")).set(retention=Retention(keep))


@pytest.mark.parametrize("uidl", ["u1", None])
@timeless
async def test_nothing_is_deleted_for_its_age_while_ages_do_not_count(uidl: str | None) -> None:
    rig = rig_of(uidl, 14 * DAY)
    rig.maildrop.has_uidls = uidl is not None
    await rig.run_poll()
    rig.clock.base += 365 * DAY
    rig.around = replace(rig.around, ages_count=lambda: False)
    await rig.run_poll()
    assert (len(rig.maildrop.mails), rig.did("dele")) == (1, [])
    assert [m.state for m in rig.ledger.messages.values()] == [MessageState.ACCEPTED]
    rig.around = replace(rig.around, ages_count=lambda: True)
    await rig.run_poll()
    assert rig.maildrop.mails == []


@timeless
async def test_what_is_deleted_at_once_is_deleted_whatever_the_clock_says() -> None:
    rig = rig_of("u1", 0.0)
    rig.maildrop.quit_deletes = rig.maildrop.quit_confirms = False
    rig.around = replace(rig.around, ages_count=lambda: False)
    await rig.run_poll()
    assert rig.ledger.states() == {"u1": "delete-pending"}
    rig.clock.base -= 365 * DAY
    rig.maildrop.quit_deletes = rig.maildrop.quit_confirms = True
    await rig.run_poll()
    assert rig.maildrop.mails == []
    assert len(rig.did("submit")) == 1


@timeless
async def test_the_question_comes_after_the_time_was_read() -> None:
    """A jump between the two would be believed otherwise."""
    rig = rig_of("u1", 14 * DAY)
    await rig.run_poll()

    def ages_count() -> bool:
        rig.clock.base += 365 * DAY  # set at the worst moment: right after the question
        return True

    rig.around = replace(rig.around, ages_count=ages_count)
    await rig.run_poll()
    assert len(rig.maildrop.mails) == 1
