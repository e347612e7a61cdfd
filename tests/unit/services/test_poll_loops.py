"""A message that runs in a circle is refused before it is sent on once more."""

from __future__ import annotations

from mailferry.events import MessageRejected
from mailferry.policy.plan import Rejected
from support.fakes import FakeMail, mail
from support.rig import Rig
from support.virtual_time import timeless


def hopped(uidl: str, hops: int) -> FakeMail:
    return FakeMail(uidl.encode(), b"Received: from a by b\r\n" * hops + b"Subject: s\r\n\r\nbody\r\n")


@timeless
async def test_it_goes_to_no_destination_and_the_others_do() -> None:
    rig = Rig(hopped("u1", 30), mail("u2"), hopped("u3", 29), to=("office", "vault")).set(max_hops=30)
    report = await rig.run_poll()
    assert rig.did("submit") == ["submit office u2", "submit vault u2", "submit office u3", "submit vault u3"]
    assert (report.relayed, report.rejected, report.deleted) == (2, 1, 2)
    assert rig.ledger.of("u1").state == "rejected"
    reason = "mail loop: 30 Received fields, max_hops is 30"
    assert {(e.uidl, e.destination, e.reason) for e in rig.told(MessageRejected)} == {
        ("u1", "office", reason),
        ("u1", "vault", reason),
    }
    await rig.run_poll()
    assert len(rig.did("retr")) == 3, "a loop is not fetched again"


@timeless
async def test_it_is_a_refusal_like_any_other_for_the_quarantine() -> None:
    rig = Rig(hopped("u1", 30)).set(max_hops=30, rejected=Rejected.QUARANTINE)
    await rig.run_poll()
    assert rig.did("confine", "submit") == ["confine u1"]


@timeless
async def test_our_own_name_is_known_again() -> None:
    ours = b"Received: from pop.example.net by relay.example.org with POP3S id 2n9c;\r\n\tMon, 1 Jun 2026 00:00:00 +0000\r\n"
    rig = Rig(FakeMail(b"u1", ours * 3 + b"\r\nbody\r\n"), FakeMail(b"u2", ours * 2 + b"\r\nbody\r\n"))
    report = await rig.set(by_host="relay.example.org").run_poll()
    assert (report.rejected, report.relayed) == (1, 1)
    assert rig.ledger.of("u1").reason == "mail loop: came by here 3 times before"
