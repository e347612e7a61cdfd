"""Known messages under other unique-ids, gone for once, or beside others that look alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from mailferry.errors import StoreError
from mailferry.events import MessageRecognised, MessageSkipped, UidlsChanged
from mailferry.model import (
    Deferred,
    DeliveryReport,
    LedgerRecord,
    MessageRecord,
    MessageState,
    PermanentFailure,
    Scope,
    Uidl,
)
from mailferry.policy.plan import Oversize, Retention
from mailferry.policy.vanishing import MISSING_SECONDS
from support.fakes import FakeMail, mail
from support.rig import Rig
from support.virtual_time import timeless

KEEP = Retention(None)
LATER = DeliveryReport(Deferred(Scope.MESSAGE, "451"))
with_and_without_top = pytest.mark.parametrize("top", [True, False], ids=["TOP", "no TOP"])


def keeping(*mails: FakeMail, top: bool = True, **more: object) -> Rig:
    rig = Rig(*mails, **more).set(retention=KEEP)  # type: ignore[arg-type]
    rig.maildrop.traits = replace(rig.maildrop.traits, has_top=top)
    return rig


def mails(count: int, *, traced: bool = True) -> list[FakeMail]:
    return [mail(f"u{n}", body="x" * (n % 7) + "\r\n", traced=traced) for n in range(1, count + 1)]


def renumber(rig: Rig, prefix: str = "n") -> None:
    """Give every message another unique-id; its content stays."""
    for number, each in enumerate(rig.maildrop.mails, 1):
        each.uidl = f"{prefix}{number}".encode()


def contents(rig: Rig, name: str = "office") -> list[bytes]:
    return [bytes(delivery.message.content) for delivery in rig.to[name].submitted]  # type: ignore[arg-type]


# -- renumbered ------------------------------------------------------------------


@with_and_without_top
@pytest.mark.parametrize("traced", [True, False], ids=["Received", "no Received"])
@timeless
async def test_200_kept_and_renumbered_none_is_relayed_again(*, top: bool, traced: bool) -> None:
    rig = keeping(*mails(200, traced=traced), top=top)
    await rig.run_poll()
    before = {row.message_id: row.content_digest for row in rig.ledger.messages.values()}
    renumber(rig)
    report = await rig.run_poll()
    assert (report.failure, report.relayed, report.waiting) == (None, 0, 0)
    assert len(rig.to["office"].submitted) == 200
    assert rig.ledger.states() == {f"n{n}": "accepted" for n in range(1, 201)}
    assert {row.message_id: row.content_digest for row in rig.ledger.messages.values()} == before
    told = rig.told(MessageRecognised)
    assert {(event.known_as, event.uidl) for event in told} == {(f"u{n}", f"n{n}") for n in range(1, 201)}
    (changed,) = rig.told(UidlsChanged)
    assert (changed.recognised, changed.unrecognised) == (200, 0)


@timeless
async def test_the_new_unique_ids_are_written_before_anything_else_and_are_then_known() -> None:
    rig = keeping(mail("u1"), mail("u2"))
    await rig.run_poll()
    renumber(rig)
    rig.maildrop.mails.append(mail("n3"))
    rig.effects.clear()
    await rig.run_poll()
    assert rig.did("adopted", "retr") == ["adopted n1=accepted n2=accepted", "retr n3"]
    rig.effects.clear()
    await rig.run_poll()
    assert rig.effects == ["login", "quit"]


@with_and_without_top
@timeless
async def test_new_mail_among_renumbered_mail_is_relayed(*, top: bool) -> None:
    rig = keeping(*mails(20), top=top)
    await rig.run_poll()
    renumber(rig)
    rig.maildrop.mails[5:5] = [mail("fresh1", "one"), mail("fresh2", "two")]
    report = await rig.run_poll()
    assert (report.relayed, report.waiting) == (2, 0)
    assert [d.message.summary.subject for d in rig.to["office"].submitted[20:]] == ["one", "two"]


@with_and_without_top
@timeless
async def test_permuted_unique_ids_are_sorted_out(*, top: bool) -> None:
    rig = keeping(*mails(6), top=top, to=("office", "vault"))
    rig.to["vault"].script = {b"u2": [LATER]}
    await rig.run_poll()
    subjects = [d.message.summary.subject for d in rig.to["vault"].submitted]
    for each, uidl in zip(rig.maildrop.mails, [b"u6", b"u1", b"u2", b"u3", b"u4", b"u5"], strict=True):
        each.uidl = uidl
    rig.clock.base += 3600
    report = await rig.run_poll()
    assert (report.failure, report.relayed) == (None, 1)
    assert len(rig.to["office"].submitted) == 6
    assert [d.message.summary.subject for d in rig.to["vault"].submitted] == [*subjects, "u2"]
    names = {row.subject: row.uidl.decode() for row in rig.ledger.messages.values()}
    assert names == {"u1": "u6", "u2": "u1", "u3": "u2", "u4": "u3", "u5": "u4", "u6": "u5"}


@with_and_without_top
@timeless
async def test_message_numbers_as_unique_ids_lose_and_double_nothing(*, top: bool) -> None:
    """Every deletion by another client moves all that follow; sizes are alike at times."""
    rig = keeping(*(mail(None, f"s{n}", body="x" * (n % 2)) for n in range(8)), top=top)
    for step in range(4):
        for number, each in enumerate(rig.maildrop.mails, 1):
            each.uidl = b"%d" % number
        assert (await rig.run_poll()).failure is None
        del rig.maildrop.mails[step]
        rig.maildrop.mails.append(mail(None, f"late{step}", body="x" * (step % 2)))
    subjects = [d.message.summary.subject for d in rig.to["office"].submitted]
    assert sorted(subjects) == sorted([*(f"s{n}" for n in range(8)), "late0", "late1", "late2"])


@with_and_without_top
@timeless
async def test_once_a_unique_id_is_found_wrong_an_equal_size_proves_nothing_either(*, top: bool) -> None:
    """With message numbers: the accepted first one goes, and the deferred second one gets its number."""
    rig = keeping(mail("1", "a"), mail("2", "b"), mail("3", "c", body="longer\r\n"), top=top)
    rig.to["office"].script = {b"2": [LATER]}
    await rig.run_poll()
    del rig.maildrop.mails[0]
    rig.maildrop.mails[0].uidl, rig.maildrop.mails[1].uidl = b"1", b"2"
    rig.clock.base += 3600
    report = await rig.run_poll()
    assert (report.failure, report.relayed) == (None, 1)
    assert [d.message.summary.subject for d in rig.to["office"].submitted] == ["a", "b", "c", "b"]


@timeless
async def test_with_delete_an_unanswered_quit_and_a_renumbering_nothing_is_relayed_again() -> None:
    rig = Rig(*mails(30))
    rig.maildrop.quit_confirms = rig.maildrop.quit_deletes = False
    await rig.run_poll()
    renumber(rig)
    rig.maildrop.quit_confirms = rig.maildrop.quit_deletes = True
    report = await rig.run_poll()
    assert (report.failure, report.relayed, report.deleted, report.waiting) == (None, 0, 30, 0)
    assert rig.maildrop.mails == []
    assert set(rig.ledger.states().values()) == {"gone"}


@timeless
async def test_what_was_deferred_goes_on_under_its_new_unique_id_to_those_who_lack_it() -> None:
    rig = keeping(mail("u1"), to=("office", "vault"))
    rig.to["vault"].script = {b"u1": [LATER]}
    await rig.run_poll()
    renumber(rig)
    rig.effects.clear()
    await rig.run_poll()
    assert rig.did("adopted", "submit") == ["adopted n1=deferred"]
    rig.clock.base += 3600
    report = await rig.run_poll()
    assert rig.did("submit") == ["submit vault n1"]
    assert (report.relayed, rig.to["vault"].submitted[-1].attempt) == (1, 2)
    assert rig.ledger.states() == {"n1": "accepted"}


@timeless
async def test_sizes_that_changed_with_the_unique_ids_hide_nothing() -> None:
    rig = keeping(*mails(5))
    await rig.run_poll()
    renumber(rig)
    for each in rig.maildrop.mails:
        each.octets = len(each.content) + 100
    assert (await rig.run_poll()).relayed == 0


@timeless
async def test_sizes_that_changed_alone_are_asked_about_once() -> None:
    rig = keeping(*mails(3))
    await rig.run_poll()
    for each in rig.maildrop.mails:
        each.octets = len(each.content) + 100
    rig.effects.clear()
    assert (await rig.run_poll()).relayed == 0
    assert rig.did("top") == ["top u1", "top u2", "top u3"]
    assert rig.told(MessageRecognised) == []
    rig.effects.clear()
    await rig.run_poll()
    assert rig.effects == ["login", "quit"]


@timeless
async def test_a_single_renumbered_message_of_another_size_is_recognised_on_arrival() -> None:
    """Many are shared and no row has its size, so nobody looks before it is fetched."""
    rig = keeping(*mails(9))
    await rig.run_poll()
    rig.maildrop.mails[0].uidl = b"n1"
    rig.maildrop.mails[0].octets = 9999
    rig.effects.clear()
    report = await rig.run_poll()
    assert rig.did("top", "retr", "submit") == ["retr n1"]
    assert (report.failure, report.relayed, report.waiting) == (None, 0, 0)
    assert rig.ledger.states() == {f"{'n' if n == 1 else 'u'}{n}": "accepted" for n in range(1, 10)}
    assert [(e.known_as, e.uidl) for e in rig.told(MessageRecognised)] == [("u1", "n1")]
    assert [e.recognised for e in rig.told(UidlsChanged)] == [1]


@timeless
async def test_recognised_on_arrival_it_is_deleted_when_its_time_is_over() -> None:
    rig = keeping(*mails(9))
    await rig.run_poll()
    rig.maildrop.mails[0].uidl = b"n1"
    rig.maildrop.mails[0].octets = 9999
    rig.set(retention=Retention(600.0))
    rig.clock.base += 601
    rig.maildrop.refuses |= {("dele", n) for n in range(2, 10)}
    rig.effects.clear()
    report = await rig.run_poll()
    assert "dele n1" in rig.effects
    assert (report.relayed, report.deleted) == (0, 1)
    assert rig.ledger.states()["n1"] == "gone"


# -- out of sight ----------------------------------------------------------------


@with_and_without_top
@pytest.mark.parametrize("renumbered", [False, True], ids=["same", "renumbered"])
@pytest.mark.parametrize("retention", [KEEP, Retention(1e9)])
@timeless
async def test_an_empty_listing_for_once_relays_nothing_again(
    retention: Retention, *, top: bool, renumbered: bool
) -> None:
    rig = keeping(*mails(20), top=top).set(retention=retention)
    await rig.run_poll()
    there, rig.maildrop.mails = rig.maildrop.mails, []
    await rig.run_poll()
    assert set(rig.ledger.states().values()) == {"missing"}
    rig.maildrop.mails = there
    if renumbered:
        renumber(rig)
    rig.effects.clear()
    report = await rig.run_poll()
    assert (report.failure, report.relayed, report.waiting) == (None, 0, 0)
    assert rig.did("submit") == []
    prefix = "n" if renumbered else "u"
    assert rig.ledger.states() == {f"{prefix}{n}": "accepted" for n in range(1, 21)}
    assert len(rig.told(MessageRecognised)) == 20
    assert len(rig.told(UidlsChanged)) == int(renumbered)
    rig.effects.clear()
    await rig.run_poll()
    assert rig.effects == ["login", "quit"]


@timeless
async def test_a_part_that_vanishes_and_comes_back_is_recognised() -> None:
    rig = keeping(*mails(9))
    await rig.run_poll()
    part = [rig.maildrop.mails.pop(3) for _ in range(3)]
    await rig.run_poll()
    assert sorted(rig.ledger.states().values()) == ["accepted"] * 6 + ["missing"] * 3
    rig.maildrop.mails += part
    rig.maildrop.mails.append(mail("u10"))
    assert (await rig.run_poll()).relayed == 1
    assert set(rig.ledger.states().values()) == {"accepted"}


@timeless
async def test_a_missing_message_is_forgotten_after_its_time() -> None:
    rig = keeping(mail("u1"))
    await rig.run_poll()
    there, rig.maildrop.mails = rig.maildrop.mails, []
    await rig.run_poll()
    rig.clock.base += MISSING_SECONDS - 1
    rig.effects.clear()
    await rig.run_poll()
    assert rig.effects == ["login", "quit"]  # nothing is written while nothing changes
    rig.clock.base += 2
    await rig.run_poll()
    assert rig.ledger.states() == {"u1": "gone"}
    rig.maildrop.mails = there
    assert (await rig.run_poll()).relayed == 1


@timeless
async def test_a_clock_that_jumped_makes_nothing_forgotten() -> None:
    rig = keeping(mail("u1"))
    await rig.run_poll()
    rig.maildrop.mails.clear()
    await rig.run_poll()
    rig.clock.base += 100 * MISSING_SECONDS
    rig.around = replace(rig.around, ages_count=lambda: False)
    await rig.run_poll()
    assert rig.ledger.states() == {"u1": "missing"}


@pytest.mark.parametrize("report", [LATER, DeliveryReport(PermanentFailure(Scope.MESSAGE, "554"))])
@timeless
async def test_what_nobody_has_accepted_is_gone_and_a_matter_of_delivery_if_it_comes_back(
    report: DeliveryReport,
) -> None:
    rig = keeping(mail("u1"))
    rig.to["office"].script = {b"u1": [report]}
    await rig.run_poll()
    there, rig.maildrop.mails = rig.maildrop.mails, []
    await rig.run_poll()
    assert rig.ledger.states() == {"u1": "gone"}
    rig.maildrop.mails = there
    assert (await rig.run_poll()).relayed == 1


@timeless
async def test_what_one_of_two_has_accepted_goes_on_with_the_other_when_it_is_back() -> None:
    rig = keeping(mail("u1"), to=("office", "vault"))
    rig.to["vault"].script = {b"u1": [LATER]}
    await rig.run_poll()
    there, rig.maildrop.mails = rig.maildrop.mails, []
    await rig.run_poll()
    assert rig.ledger.states() == {"u1": "missing"}
    rig.maildrop.mails = there
    renumber(rig)
    rig.clock.base += 3600
    rig.effects.clear()
    await rig.run_poll()
    assert rig.did("adopted", "submit") == ["adopted n1=deferred", "submit vault n1"]
    assert rig.ledger.states() == {"n1": "accepted"}


@timeless
async def test_a_destination_that_is_new_gets_no_old_mail_that_comes_back() -> None:
    rig = keeping(mail("u1"), to=("office", "vault"))
    both = rig.policy.destinations
    rig.set(destinations=both[:1])
    await rig.run_poll()
    there, rig.maildrop.mails = rig.maildrop.mails, []
    await rig.run_poll()
    rig.maildrop.mails = there
    rig.set(destinations=both)
    await rig.run_poll()
    assert rig.ledger.states() == {"u1": "accepted"}
    assert rig.to["vault"].submitted == []


@timeless
async def test_a_note_about_a_large_message_never_stands_for_it_after_it_was_missing() -> None:
    rig = keeping(mail("u1", body="x" * 5000)).set(max_size_octets=2000, oversize=Oversize.HEADERS)
    await rig.run_poll()
    there, rig.maildrop.mails = rig.maildrop.mails, []
    await rig.run_poll()
    assert rig.ledger.states() == {"u1": "missing"}
    rig.maildrop.mails = there
    renumber(rig)
    rig.effects.clear()
    await rig.run_poll()
    assert rig.ledger.states() == {"n1": "skipped"}
    assert (rig.did("submit"), rig.told(MessageSkipped)) == ([], [])
    rig.set(max_size_octets=0)
    report = await rig.run_poll()
    assert (report.relayed, len(contents(rig)[-1]) > 5000) == (1, True)


@pytest.mark.parametrize("complete", [True, False])
@timeless
async def test_a_cut_listing_makes_nothing_missing(*, complete: bool) -> None:
    rig = keeping(*mails(4))
    await rig.run_poll()
    del rig.maildrop.mails[2:]
    rig.maildrop.complete = complete
    await rig.run_poll()
    states = sorted(rig.ledger.states().values())
    assert states == ["accepted"] * (2 if complete else 4) + ["missing"] * (2 if complete else 0)


# -- unique-ids that are given again ---------------------------------------------


@with_and_without_top
@pytest.mark.parametrize("seen_missing", [True, False])
@timeless
async def test_a_unique_id_that_comes_again_is_new_mail(*, top: bool, seen_missing: bool) -> None:
    rig = keeping(mail("u1", "old"), top=top)
    await rig.run_poll()
    old = rig.maildrop.mails[0]
    if seen_missing:
        rig.maildrop.mails = []
        await rig.run_poll()
    rig.maildrop.mails = [mail("u1", "a new one")]
    report = await rig.run_poll()
    assert (report.failure, report.relayed) == (None, 1)
    assert rig.ledger.of("u1").subject == "a new one"
    old.uidl = b"u2"  # the old one was only out of sight
    rig.maildrop.mails.append(old)
    assert (await rig.run_poll()).relayed == 0
    assert rig.ledger.of("u2").subject == "old"


@timeless
async def test_after_gone_the_same_unique_id_is_new_mail_even_with_the_same_octets() -> None:
    rig = Rig(mail("u1"))
    await rig.run_poll()
    rig.maildrop.mails.append(mail("u1"))
    report = await rig.run_poll()
    assert (report.relayed, report.deleted) == (1, 1)


# -- messages that look alike ----------------------------------------------------


def alike(uidl: str, body: str, *, traced: bool = False) -> FakeMail:
    trace = "Received: from mx.example.net; same\r\n" if traced else ""
    header = f"{trace}From: a@example.org\r\nMessage-ID: <same@example.org>\r\nSubject: same\r\n\r\n"
    return FakeMail(uidl.encode(), f"{header}{body}\r\n".encode())


@with_and_without_top
@timeless
async def test_different_messages_with_equal_message_ids_are_both_delivered(*, top: bool) -> None:
    """Even with entirely equal headers, while the server renumbers, and with equal sizes."""
    rig = keeping(alike("u1", "first"), alike("u2", "other"), top=top)
    assert (await rig.run_poll()).relayed == 2
    rig.maildrop.mails = [alike("n1", "third"), alike("n2", "other"), alike("n3", "first")]
    assert (await rig.run_poll()).relayed == 1
    bodies = [content.rpartition(b"\r\n\r\n")[2] for content in contents(rig)]
    assert bodies == [b"first\r\n", b"other\r\n", b"third\r\n"]


@with_and_without_top
@timeless
async def test_copies_are_counted(*, top: bool) -> None:
    rig = keeping(alike("u1", "x"), alike("u2", "x"), top=top)
    assert (await rig.run_poll()).relayed == 2
    rig.maildrop.mails = [alike(f"n{n}", "x") for n in range(3)]
    assert (await rig.run_poll()).relayed == 1
    assert (await rig.run_poll()).relayed == 0


@timeless
async def test_equal_message_ids_with_different_headers_need_no_second_look() -> None:
    rig = keeping(mail("u1", "same"))
    await rig.run_poll()
    other = rig.maildrop.mails[0].content.replace(b"a@example.org", b"z@example.org")
    rig.maildrop.mails = [FakeMail(b"n1", other)]
    rig.effects.clear()
    assert (await rig.run_poll()).relayed == 1
    assert rig.did("top", "retr") == ["top n1", "retr n1"]


# -- servers without unique-ids, for once or for ever ------------------------------


@with_and_without_top
@pytest.mark.parametrize("traced", [True, False], ids=["Received", "no Received"])
@timeless
async def test_140_kept_without_unique_ids_none_is_relayed_again(*, top: bool, traced: bool) -> None:
    rig = keeping(*mails(140, traced=traced), top=top)
    rig.maildrop.has_uidls = False
    assert (await rig.run_poll()).relayed == 140
    for _ in range(2):
        report = await rig.run_poll()
        assert (report.failure, report.relayed, report.waiting) == (None, 0, 0)
    assert rig.told(MessageRecognised) == []
    rig.maildrop.mails.append(mail("u999"))
    assert (await rig.run_poll()).relayed == 1


@with_and_without_top
@timeless
async def test_unique_ids_that_come_later_are_adopted(*, top: bool) -> None:
    rig = keeping(*mails(10), top=top)
    rig.maildrop.has_uidls = False
    await rig.run_poll()
    rig.maildrop.has_uidls = True
    report = await rig.run_poll()
    assert (report.failure, report.relayed) == (None, 0)
    assert rig.ledger.states() == {f"u{n}": "accepted" for n in range(1, 11)}
    rig.effects.clear()
    await rig.run_poll()
    assert rig.effects == ["login", "quit"]


@with_and_without_top
@timeless
async def test_a_server_that_refuses_uidl_while_it_is_renumbered(*, top: bool) -> None:
    rig = keeping(*mails(10), top=top)
    await rig.run_poll()
    rig.maildrop.has_uidls = False
    rig.maildrop.mails.append(mail("late"))
    assert (await rig.run_poll()).relayed == 1
    rig.maildrop.has_uidls = True
    renumber(rig)
    assert (await rig.run_poll()).relayed == 0
    assert rig.ledger.states() == {f"n{n}": "accepted" for n in range(1, 12)}


@with_and_without_top
@timeless
async def test_what_is_deleted_elsewhere_from_a_server_without_unique_ids_is_missing(*, top: bool) -> None:
    rig = keeping(*mails(4), top=top)
    rig.maildrop.has_uidls = False
    await rig.run_poll()
    del rig.maildrop.mails[1]
    await rig.run_poll()
    assert sorted(rig.ledger.states().values()) == ["accepted"] * 3 + ["missing"]


@timeless
async def test_a_shared_unique_id_that_becomes_unambiguous_again_is_compared() -> None:
    """The row of that unique-id may be that of the other message, which was deleted elsewhere."""
    rig = keeping(mail("u1", "a"), mail("u9", "b"))
    await rig.run_poll()
    rig.maildrop.mails[1].uidl = b"u1"
    rig.maildrop.mails.append(mail("u1", "c"))
    await rig.run_poll()
    rig.maildrop.mails = rig.maildrop.mails[2:]
    report = await rig.run_poll()
    assert (report.failure, report.relayed) == (None, 0)
    states = {row.subject: (row.uidl, row.state) for row in rig.ledger.messages.values()}
    assert states["c"] == (b"u1", MessageState.ACCEPTED)
    assert states["a"][1] is states["b"][1] is MessageState.MISSING


# -- what breaks in the middle ---------------------------------------------------


@pytest.mark.parametrize("verb", ["top", "retr"])
@timeless
async def test_a_session_that_dies_during_recognition_changes_nothing(verb: str) -> None:
    rig = keeping(*mails(10), top=verb == "top")
    await rig.run_poll()
    before = dict(rig.ledger.messages)
    renumber(rig)
    rig.maildrop.dies_at = (verb, 6)
    report = await rig.run_poll()
    assert f"reset at {verb} 6" in str(report.failure)
    assert rig.ledger.messages == before
    assert len(rig.to["office"].submitted) == 10


@pytest.mark.parametrize("verb", ["top", "retr"])
@timeless
async def test_what_was_seen_before_the_link_broke_is_not_asked_for_again(verb: str) -> None:
    rig = keeping(*mails(10), top=verb == "top")
    await rig.run_poll()
    renumber(rig)
    rig.maildrop.dies_at = (verb, 6)
    await rig.run_poll()
    rig.maildrop.dies_at = None
    rig.effects.clear()
    report = await rig.run_poll()
    asked = [effect for effect in rig.did(verb) if effect != "retr n6"]
    assert asked == [f"{verb} n{n}" for n in (7, 8, 9, 10)]
    assert (report.failure, report.relayed) == (None, 0)  # n6 was recognised on arrival
    assert rig.ledger.states() == {f"n{n}": "accepted" for n in range(1, 11)}


@timeless
async def test_a_ledger_that_cannot_adopt_relays_nothing() -> None:
    rig = keeping(*mails(3))
    await rig.run_poll()
    renumber(rig)
    rig.maildrop.mails.append(mail("n4"))

    def changes_names(records: Sequence[LedgerRecord]) -> bool:
        return any(isinstance(r, MessageRecord) and r.uidl.startswith(b"n") for r in records)

    rig.ledger.fails = changes_names
    rig.effects.clear()
    report = await rig.run_poll()
    assert isinstance(report.failure, StoreError)
    assert rig.did("retr", "submit", "dele") == []
    assert rig.told(MessageRecognised) == rig.told(UidlsChanged) == []
    rig.ledger.fails = lambda _: False
    assert (await rig.run_poll()).relayed == 1


@timeless
async def test_a_message_whose_header_top_refuses_is_recognised_by_its_content() -> None:
    rig = keeping(*mails(3))
    await rig.run_poll()
    renumber(rig)
    rig.maildrop.refuses.add(("top", 2))
    report = await rig.run_poll()
    assert (report.failure, report.relayed) == (None, 0)
    assert rig.ledger.states() == {f"n{n}": "accepted" for n in (1, 2, 3)}


@timeless
async def test_a_message_that_could_not_be_fetched_while_it_was_renumbered_is_recognised_later() -> None:
    rig = keeping(*mails(3), top=False)
    await rig.run_poll()
    renumber(rig)
    rig.maildrop.refuses.add(("retr", 2))
    await rig.run_poll()
    assert rig.ledger.states() == {"n1": "accepted", "n3": "accepted", "u2": "missing", "n2": "deferred"}
    rig.maildrop.refuses.clear()
    rig.clock.base += 3600
    report = await rig.run_poll()
    assert (report.failure, report.relayed) == (None, 0)
    assert len(rig.to["office"].submitted) == 3
    live = {row.uidl: row for row in rig.ledger.messages.values() if row.state is not MessageState.GONE}
    assert sorted(live) == [b"n1", b"n2", b"n3"]
    assert live[Uidl(b"n2")].subject == "u2"


@timeless
async def test_what_cannot_be_compared_is_neither_deleted_nor_relayed() -> None:
    rig = keeping(mail("u1"))
    await rig.run_poll()
    there, rig.maildrop.mails = rig.maildrop.mails, []
    await rig.run_poll()
    rig.maildrop.mails = there
    rig.maildrop.refuses |= {("top", 1), ("retr", 1)}
    report = await rig.run_poll()
    assert (report.failure, report.relayed, rig.ledger.states()) == (None, 0, {"u1": "missing"})
    rig.maildrop.refuses.clear()
    await rig.run_poll()
    assert rig.ledger.states() == {"u1": "accepted"}


# -- what it costs ---------------------------------------------------------------


@timeless
async def test_nothing_is_asked_while_all_is_in_order() -> None:
    rig = keeping(*mails(20))
    await rig.run_poll()
    rig.maildrop.mails.append(mail("u21"))
    rig.effects.clear()
    await rig.run_poll()
    assert rig.did("top", "retr", "adopted") == ["retr u21"]


@timeless
async def test_contents_that_are_looked_at_count_in_the_memory_budget() -> None:
    rig = keeping(*(mail(f"u{n}", body="x" * 900) for n in range(8)), top=False, budget=2500)
    await rig.run_poll()
    renumber(rig)
    most = 0
    give_back = rig.budget.give_back

    def watched(octets: int) -> None:
        nonlocal most
        most = max(most, rig.budget.in_use_octets)
        give_back(octets)

    rig.budget.give_back = watched  # type: ignore[method-assign]
    assert (await rig.run_poll()).relayed == 0
    assert 900 < most <= 2500


@timeless
async def test_a_message_above_the_limit_is_never_fetched_to_be_compared() -> None:
    rig = keeping(mail("u1", body="x" * 3000), top=False)
    await rig.run_poll()
    rig.set(max_size_octets=1000)
    renumber(rig)
    rig.effects.clear()
    report = await rig.run_poll()
    assert (rig.did("retr"), report.failure, report.skipped) == ([], None, 1)


@timeless
async def test_nothing_is_fetched_to_be_compared_while_there_is_no_way_to_deliver_it() -> None:
    rig = keeping(*mails(3), top=False)
    await rig.run_poll()
    renumber(rig)
    rig.to["office"].available = False
    rig.effects.clear()
    assert (await rig.run_poll()).failure is None
    assert rig.did("retr", "submit") == []
    rig.to["office"].available = True
    assert (await rig.run_poll()).relayed == 0
    assert rig.ledger.states() == {f"n{n}": "accepted" for n in (1, 2, 3)}


@timeless
async def test_a_server_that_deletes_what_was_fetched_is_asked_for_no_content_twice() -> None:
    """RFC 2449 s.6.7, EXPIRE 0: what is fetched only to be looked at might be lost at QUIT."""
    rig = keeping(*mails(3), top=False)
    await rig.run_poll()
    rig.maildrop.traits = replace(rig.maildrop.traits, expire_days=0)
    renumber(rig)
    rig.effects.clear()
    report = await rig.run_poll()
    assert (report.failure, report.relayed) == (None, 0)  # recognised on arrival
    assert rig.did("retr", "submit") == ["retr n1", "retr n2", "retr n3"]
    assert rig.ledger.states() == {f"n{n}": "accepted" for n in (1, 2, 3)}


@pytest.mark.parametrize("hindrance", ["route down", "RETR refused"])
@timeless
async def test_a_deletion_is_not_believed_while_a_message_was_not_looked_at(hindrance: str) -> None:
    rig = Rig(*mails(3))
    rig.maildrop.traits = replace(rig.maildrop.traits, has_top=False)
    rig.maildrop.quit_confirms = rig.maildrop.quit_deletes = False
    await rig.run_poll()
    rig.maildrop.quit_confirms = rig.maildrop.quit_deletes = True
    renumber(rig)
    rig.to["office"].available = hindrance != "route down"
    if hindrance == "RETR refused":
        rig.maildrop.refuses |= {("retr", n) for n in (1, 2, 3)}
    assert (await rig.run_poll()).failure is None
    assert {str(row.state) for row in rig.ledger.messages.values()} <= {"delete-pending", "deferred"}
    rig.to["office"].available = True
    rig.maildrop.refuses.clear()
    rig.clock.base += 3600
    report = await rig.run_poll()
    assert (report.failure, report.relayed, len(rig.to["office"].submitted)) == (None, 0, 3)
    await rig.run_poll()
    assert rig.maildrop.mails == []
