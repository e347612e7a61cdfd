"""The real program before servers that renumber, have no unique-ids, show nothing for once, or break off."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailferry.sandbox.maildrop import SandboxFeatures, StoredMessage
from support.fault_rig import FaultRig
from support.faults import Close, Fault, Reset
from support.figures import record
from support.mailset import make_messages, tag_of
from support.programs import ProgramLauncher

RENUMBERED = "UIDLs renumbered, 200 kept"
WITHOUT = "no UIDL at all, 140 kept"

FEATURES = {"TOP": SandboxFeatures(), "no TOP": SandboxFeatures(has_top=False)}
NO_UIDL = {
    "TOP": SandboxFeatures(has_uidl=False),
    "no TOP": SandboxFeatures(has_uidl=False, has_top=False),
}
both = pytest.mark.parametrize("top", FEATURES)


def mail(count: int, seed: int) -> list[bytes]:
    """Half of it came by SMTP and has the Received field that a server writes; half did not."""
    messages = make_messages(count, seed=seed, sizes=(200, 900))
    trace = b"Received: from a.example by mx.example; "
    return [
        content if number % 2 else content.replace(b"\r\nFrom:", b"\r\n" + trace + tag_of(content).encode()
        + b"\r\nFrom:", 1)
        for number, content in enumerate(messages)
    ]  # fmt: skip


def rig_for(
    launcher: ProgramLauncher, folder: Path, messages: list[bytes], features: SandboxFeatures, **more: bool
) -> FaultRig:
    return FaultRig(launcher, folder, messages, pop3_features=features, maildrop={"keep": True, **more})


def rename(rig: FaultRig, uidls: list[bytes]) -> None:
    """Give the messages of the maildrop these unique-ids."""
    pairs = zip(uidls, rig.box.messages, strict=True)
    rig.box._stored = [StoredMessage(uidl, content) for uidl, content in pairs]


def stored(rig: FaultRig) -> list[StoredMessage]:
    return list(rig.box.snapshot())


@both
async def test_200_kept_and_renumbered_none_is_relayed_again(
    launcher: ProgramLauncher, tmp_path: Path, top: str
) -> None:
    async with rig_for(launcher, tmp_path, mail(200, 51), FEATURES[top]) as rig:
        await rig.run()
        rig.box.renew_uidls(b"new-")
        assert (await rig.run()).code == 0
        doubled_at_once = rig.verdict().doubled
        await rig.run()
        verdict = rig.verdict()
        record(RENUMBERED, doubled=verdict.doubled, lost=verdict.lost, left=verdict.left - 200)
        assert (doubled_at_once, verdict.harm, verdict.left) == (0, (0, 0, 0), 200)
        (changed,) = rig.told("maildrop.uidls_changed")
        assert (changed["recognised"], changed["unrecognised"]) == (200, 0)
        assert len(rig.told("message.recognised")) == 200


@both
async def test_140_kept_without_unique_ids_none_is_relayed_again(
    launcher: ProgramLauncher, tmp_path: Path, top: str
) -> None:
    async with rig_for(launcher, tmp_path, mail(140, 52), NO_UIDL[top]) as rig:
        for _ in range(3):
            assert (await rig.run()).code == 0
        verdict = rig.verdict()
        record(WITHOUT, doubled=verdict.doubled, lost=verdict.lost)
        assert (verdict.harm, verdict.left) == ((0, 0, 0), 140)


@both
async def test_unique_ids_that_come_and_go_and_come_again_as_others(
    launcher: ProgramLauncher, tmp_path: Path, top: str
) -> None:
    async with rig_for(launcher, tmp_path, mail(60, 53), NO_UIDL[top]) as rig:
        for prefix, features in ((b"a", FEATURES), (b"b", NO_UIDL), (b"c", FEATURES)):
            await rig.run()
            rig.box.renew_uidls(prefix)
            rig.pop3.features = features[top]
        await rig.run()
        assert rig.verdict().harm == (0, 0, 0)


@both
async def test_permuted_and_overlapping_unique_ids_with_new_mail_among_them(
    launcher: ProgramLauncher, tmp_path: Path, top: str
) -> None:
    messages = mail(80, 54)
    async with rig_for(launcher, tmp_path, messages, FEATURES[top]) as rig:
        late = [rig.box._stored.pop() for _ in range(10)]
        await rig.run()
        uidls = [each.uidl for each in stored(rig)]
        rename(rig, uidls[1:] + uidls[:1])
        await rig.run()
        assert rig.verdict().doubled == 0
        # Half of the old names now stand for other old messages, half are new, and mail has come.
        rig.box._stored[5:5] = late
        names = [*uidls[35:], *(b"n%d" % n for n in range(45))]
        rename(rig, names)
        await rig.run()
        await rig.run()
        assert (rig.verdict().harm, rig.verdict().left) == ((0, 0, 0), 80)


@both
@pytest.mark.parametrize("renumbered", [False, True], ids=["same", "renumbered"])
async def test_an_empty_maildrop_for_once(
    launcher: ProgramLauncher, tmp_path: Path, top: str, *, renumbered: bool
) -> None:
    async with rig_for(launcher, tmp_path, mail(60, 55), FEATURES[top]) as rig:
        await rig.run()
        there, rig.box._stored = rig.box._stored, []
        await rig.run()
        rig.box._stored = there
        if renumbered:
            rig.box.renew_uidls(b"n")
        await rig.run()
        assert (rig.verdict().harm, rig.verdict().left) == ((0, 0, 0), 60)


@both
@pytest.mark.parametrize("empty_for_once", [False, True])
async def test_an_unanswered_quit_and_other_unique_ids_double_nothing_and_leave_nothing(
    launcher: ProgramLauncher, tmp_path: Path, top: str, *, empty_for_once: bool
) -> None:
    fault = Fault(b"QUIT", Close(), effect=False, times=1)
    async with rig_for(launcher, tmp_path, mail(60, 56), FEATURES[top], keep=False) as rig:
        rig.pop3.faults.add(fault)
        await rig.run()
        assert rig.verdict().left == 60
        if empty_for_once:
            there, rig.box._stored = rig.box._stored, []
            await rig.run()
            rig.box._stored = there
        rig.box.renew_uidls(b"n")
        await rig.run()
        assert (rig.verdict().harm, rig.verdict().left) == ((0, 0, 0), 0)


@pytest.mark.parametrize("verb", [b"TOP", b"RETR"])
async def test_a_session_that_dies_while_messages_are_compared(
    launcher: ProgramLauncher, tmp_path: Path, verb: bytes
) -> None:
    features = SandboxFeatures(has_top=verb == b"TOP")
    async with rig_for(launcher, tmp_path, mail(60, 57), features) as rig:
        await rig.run()
        rig.box.renew_uidls(b"n")
        rig.pop3.faults.add(Fault(verb, Reset(), nth=30, times=1))
        await rig.run()
        rig.pop3.faults.clear()
        await rig.run()
        assert (rig.verdict().harm, rig.verdict().left) == ((0, 0, 0), 60)


@both
async def test_equal_message_ids_and_equal_headers_with_other_bodies_are_all_delivered(
    launcher: ProgramLauncher, tmp_path: Path, top: str
) -> None:
    header = b"From: a@example.org\r\nMessage-ID: <same@example.org>\r\nSubject: same\r\n\r\n"
    old = [header + b"X-Mailferry-Test: %d\r\n" % n for n in range(10)]
    new = [header + b"X-Mailferry-Test: %d\r\n" % n for n in range(10, 20)]
    async with rig_for(launcher, tmp_path, [*old, *new], FEATURES[top]) as rig:
        late = rig.box._stored[10:]
        del rig.box._stored[10:]
        await rig.run()
        rig.box._stored = [*late[:5], *rig.box._stored, *late[5:]]
        rig.box.renew_uidls(b"n")
        await rig.run()
        await rig.run()
        verdict = rig.verdict()
        assert (verdict.missing, verdict.doubled, len(rig.smtp.accepted)) == (0, 0, 20)


@both
async def test_a_listing_that_is_cut_makes_nothing_vanish(
    launcher: ProgramLauncher, tmp_path: Path, top: str
) -> None:
    async with rig_for(launcher, tmp_path, mail(20, 58), FEATURES[top]) as rig:
        await rig.run()
        some = b"".join(b"%d %s\r\n" % (n, each.uidl) for n, each in enumerate(stored(rig)[:7], 1))
        rig.pop3.faults.add(Fault(b"UIDL", reply=b"+OK\r\n" + some + b".\r\n", times=1))
        await rig.run()
        rig.box.renew_uidls(b"n")
        await rig.run()
        assert (rig.verdict().harm, rig.verdict().left) == ((0, 0, 0), 20)
