"""EXPIRE (RFC 2449 s.6.7): a server that deletes sooner than `keep` wants is told of, once."""

from __future__ import annotations

from dataclasses import replace

from mailferry.events import MaildropExpiryShort
from mailferry.policy.plan import Retention
from support.fakes import mail
from support.rig import Rig
from support.virtual_time import timeless

DAY = 86_400.0


def told(rig: Rig) -> list[tuple[int, float]]:
    return [(event.expire_days, event.keep_seconds) for event in rig.told(MaildropExpiryShort)]


@timeless
async def test_it_is_told_once_and_again_when_it_changes() -> None:
    rig = Rig(mail("u1")).set(retention=Retention(14 * DAY))
    for expire_days in (None, 30, 7, 7, 0, 0, None, 7):
        rig.maildrop.traits = replace(rig.maildrop.traits, expire_days=expire_days)
        await rig.run_poll()
    assert told(rig) == [(7, 14 * DAY), (0, 14 * DAY), (7, 14 * DAY)]


@timeless
async def test_for_ever_is_longer_than_any_number_of_days() -> None:
    rig = Rig(mail("u1")).set(retention=Retention(None))
    rig.maildrop.traits = replace(rig.maildrop.traits, expire_days=9999)
    await rig.run_poll()
    assert told(rig) == [(9999, -1.0)]


@timeless
async def test_what_is_deleted_after_delivery_anyway_is_no_matter() -> None:
    rig = Rig(mail("u1"))
    rig.maildrop.traits = replace(rig.maildrop.traits, expire_days=0)
    await rig.run_poll()
    assert told(rig) == []
