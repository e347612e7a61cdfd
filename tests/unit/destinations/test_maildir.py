"""The archive: what is written, under which name, in which order it is made safe, and what can go wrong."""

from __future__ import annotations

import errno
import gc
import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mailferry.destinations.maildir import MaildirDestination, MaildirWriter, file_name
from mailferry.message.spool import Spool
from mailferry.model import Deferred, Delivered, DeliveryReport, DestinationName, Outcome, Scope
from support.deliveries import Reports, fetched

CONTENT = b"Subject: x\n\nbare\nlines \r and\r\n.\r\n\xff\x00 octets without an end"


def store(writer: MaildirWriter, content: bytes = CONTENT) -> Outcome:
    (outcome,) = writer.write([fetched(content)])
    return outcome


def files(box: Path) -> dict[str, bytes]:
    """Return every file below the Maildir with what is in it."""
    return {str(path.relative_to(box)): path.read_bytes() for path in box.rglob("*") if path.is_file()}


@pytest.fixture
def box(tmp_path: Path) -> Path:
    return tmp_path / "some" / "archive"


# --- names and content -----------------------------------------------------------


def test_the_octets_are_stored_as_they_were_fetched(box: Path) -> None:
    outcome = store(MaildirWriter(box))
    name = f"{hashlib.sha256(CONTENT).hexdigest()}.mailferry,S={len(CONTENT)}"
    assert outcome == Delivered(name)
    assert files(box) == {f"new/{name}": CONTENT}
    assert file_name(fetched(CONTENT, number=7)) == name  # it follows from the octets alone


def test_a_message_from_a_file_is_the_same_file_in_the_archive(box: Path, tmp_path: Path) -> None:
    file = Spool(tmp_path, 1, reserve_octets=0).new_file()
    for start in range(0, len(CONTENT), 7):
        file.write(CONTENT[start : start + 7])
    content = file.content()
    assert content is not None
    (outcome,) = MaildirWriter(box).write([replace(fetched(CONTENT), content=content)])
    assert outcome == store(MaildirWriter(box.parent / "other"))
    assert list(files(box).values()) == [CONTENT]


def test_folders_and_files_are_for_the_owner_only(box: Path) -> None:
    store(MaildirWriter(box))
    assert [(box / name).stat().st_mode & 0o777 for name in ("tmp", "new", "cur")] == [0o700] * 3
    assert [path.stat().st_mode & 0o777 for path in (box / "new").iterdir()] == [0o600]


@pytest.mark.parametrize("again", ["the same writer", "after a restart"])
@pytest.mark.parametrize("where", ["new", "cur", "cur with flags"])
def test_a_repeat_is_the_same_file(box: Path, again: str, where: str) -> None:
    writer = MaildirWriter(box)
    store(writer)
    (path,) = (box / "new").iterdir()
    if where != "new":
        path.rename(box / "cur" / (path.name + (":2,FRS" if "flags" in where else "")))
    before = files(box)
    outcome = store(writer if again == "the same writer" else MaildirWriter(box))
    assert outcome == Delivered(f"{file_name(fetched(CONTENT))} (was there)")
    assert files(box) == before
    gc.collect()  # an iterator over the folder that was left open would warn


@pytest.mark.parametrize("again", ["the same writer", "after a restart"])
def test_what_was_deleted_meanwhile_is_written_again(box: Path, again: str) -> None:
    writer = MaildirWriter(box)
    store(writer)
    (path,) = (box / "new").iterdir()
    path.unlink()
    assert store(writer if again == "the same writer" else MaildirWriter(box)) == Delivered(path.name)
    assert path.read_bytes() == CONTENT


def test_a_batch_keeps_its_order_and_stores_a_repeat_once(box: Path) -> None:
    one, two = fetched(b"one\r\n"), fetched(b"two\r\n", number=2)
    outcomes = MaildirWriter(box).write([one, two, one])
    assert outcomes == [
        Delivered(file_name(one)),
        Delivered(file_name(two)),
        Delivered(f"{file_name(one)} (was there)"),
    ]
    assert sorted(files(box).values()) == [b"one\r\n", b"two\r\n"]


def test_what_a_crash_left_in_tmp_is_in_nobodys_way(box: Path) -> None:
    writer = MaildirWriter(box)
    store(writer, b"first")
    (box / "tmp" / f"{file_name(fetched(CONTENT))}.{os.getpid()}").write_bytes(b"half a mess" * 1000)
    store(writer)
    assert (box / "new" / file_name(fetched(CONTENT))).read_bytes() == CONTENT


def test_an_archive_that_was_moved_away_is_made_anew(box: Path) -> None:
    writer = MaildirWriter(box)
    store(writer)
    box.rename(box.with_name("archive-2025"))
    assert isinstance(store(writer), Deferred)
    assert isinstance(store(writer), Delivered)
    assert len(files(box)) == 1


# --- the order of things ------------------------------------------------------------


class Recorder:
    """Notes what the operating system is asked for, in order."""

    def __init__(self, patch: pytest.MonkeyPatch, box: Path) -> None:
        self.calls: list[str] = []
        fsync, rename, write = os.fsync, os.rename, os.write

        def name(descriptor: int) -> str:
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            return path.name if path.is_dir() else path.parent.name

        def recorded_fsync(descriptor: int) -> None:
            self.calls.append(f"sync {name(descriptor)}")
            fsync(descriptor)

        def recorded_rename(source: Path, target: Path) -> None:
            self.calls.append(f"rename {Path(source).parent.name} {Path(target).parent.name}")
            rename(source, target)

        def recorded_write(descriptor: int, octets: bytes) -> int:
            self.calls.append(f"write {name(descriptor)}")
            return write(descriptor, octets[:10])  # as on a disk that takes little at once

        patch.setattr(os, "fsync", recorded_fsync)
        patch.setattr(os, "rename", recorded_rename)
        patch.setattr(os, "write", recorded_write)


def test_a_file_is_safe_before_it_is_seen_and_seen_before_it_is_told(
    box: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.parent.mkdir()
    recorder = Recorder(monkeypatch, box)
    writer = MaildirWriter(box)
    writer.write([fetched(b"x" * 25), fetched(b"y")])
    assert recorder.calls == [
        "sync archive",
        "sync some",
        *["sync archive"] * 2,
        *["write tmp"] * 3,
        "sync tmp",
        "rename tmp new",
        "write tmp",
        "sync tmp",
        "rename tmp new",
        "sync new",
    ]
    recorder.calls.clear()
    MaildirWriter(box).write([fetched(b"y")])
    assert recorder.calls == ["sync new"]  # what was there may not have been safe yet
    assert sorted(files(box).values()) == [b"x" * 25, b"y"]


# --- what goes wrong ------------------------------------------------------------------


def failing(
    call: Callable[..., object], code: int, *, when: Callable[[object], bool]
) -> Callable[..., object]:
    def broken(first: object, *more: object, **named: object) -> object:
        if when(first):
            name = (os.fspath(first),) if isinstance(first, str | os.PathLike) else ()
            raise OSError(code, os.strerror(code), *name)
        return call(first, *more, **named)

    return broken


FAULTS: list[tuple[str, int, Callable[[object], bool]]] = [
    ("open", errno.EACCES, lambda path: "/tmp/" in str(path) and "mailferry" in str(path)),
    ("open", errno.EROFS, lambda path: "mailferry,S=" in str(path)),
    ("open", errno.EMFILE, lambda path: "mailferry,S=" in str(path)),
    ("write", errno.ENOSPC, lambda _descriptor: True),
    ("write", errno.EDQUOT, lambda _descriptor: True),
    ("fsync", errno.EIO, lambda _descriptor: True),
    ("rename", errno.ENOSPC, lambda _path: True),
]


@pytest.mark.parametrize(("call", "code", "when"), FAULTS)
def test_a_disk_that_fails_defers_and_leaves_nothing_behind(
    box: Path, call: str, code: int, when: Callable[[object], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = MaildirWriter(box)
    store(writer, b"before")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing(getattr(os, call), code, when=when))
        outcome = store(writer)
    assert isinstance(outcome, Deferred)
    assert outcome.scope is Scope.NEXT_HOP
    assert outcome.attempted
    assert str(box) in outcome.reason
    assert os.strerror(code) in outcome.reason
    assert list(files(box).values()) == [b"before"]
    assert isinstance(store(writer), Delivered)  # and once the disk is well, all is well
    assert sorted(files(box).values()) == sorted([b"before", CONTENT])


def test_one_bad_file_does_not_fail_its_batch(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = MaildirWriter(box)
    bad = fetched(b"bad")
    monkeypatch.setattr(
        os, "open", failing(os.open, errno.EIO, when=lambda path: file_name(bad) in str(path))
    )
    outcomes = writer.write([fetched(b"one"), bad, fetched(b"two")])
    assert [type(outcome) for outcome in outcomes] == [Delivered, Deferred, Delivered]
    # Should it be what is tried first after a pause, it must not be so for ever.
    assert isinstance(outcomes[1], Deferred)
    assert outcomes[1].in_transaction


def test_a_folder_that_cannot_be_synced_makes_no_promise(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = MaildirWriter(box)
    store(writer, b"before")
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", failing(os.open, errno.EIO, when=lambda path: str(path).endswith("/new")))
        outcome = store(writer)
    assert isinstance(outcome, Deferred)
    assert store(writer) == Delivered(f"{file_name(fetched(CONTENT))} (was there)")


@pytest.mark.parametrize("what", ["a file in its place", "a file in the place of tmp"])
def test_a_path_that_is_no_folder(box: Path, what: str) -> None:
    target = box if what == "a file in its place" else box / "tmp"
    target.parent.mkdir(parents=True)
    target.write_bytes(b"")
    outcome = store(MaildirWriter(box))
    assert isinstance(outcome, Deferred)
    assert outcome.scope is Scope.NEXT_HOP
    assert str(box) in outcome.reason


# --- the destination ------------------------------------------------------------------


def destination(box: Path) -> MaildirDestination:
    return MaildirDestination(DestinationName("vault"), box)


async def test_every_order_is_answered_once_in_order(box: Path) -> None:
    vault, reports = destination(box), Reports()
    for number in range(80):
        vault.submit(reports.order(str(number)))
    await reports.all_done()
    await vault.drain()
    assert all(isinstance(reports.outcome(str(number)), Delivered) for number in range(80))
    assert len(files(box)) == 80
    assert vault.available


async def test_orders_that_wait_share_a_sync(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(monkeypatch, box)
    vault, reports = destination(box), Reports()
    for number in range(70):
        vault.submit(reports.order(str(number)))
    await reports.all_done()
    assert recorder.calls.count("sync new") == 2


async def test_an_order_within_a_report_is_taken(box: Path) -> None:
    vault, reports = destination(box), Reports()
    first = reports.order("first")

    def again(report: DeliveryReport) -> None:
        first.done(report)
        vault.submit(reports.order("second"))

    vault.submit(type(first)(first.message, again))
    await reports.all_done()
    await vault.drain()
    assert isinstance(reports.outcome("second"), Delivered)
    assert len(files(box)) == 2


async def test_draining_finishes_what_was_taken_and_refuses_the_rest(box: Path) -> None:
    vault, reports = destination(box), Reports()
    for number in range(70):
        vault.submit(reports.order(str(number)))
    await vault.drain()
    assert not reports.open
    assert len(files(box)) == 70
    vault.submit(reports.order("late"))
    assert reports.outcome("late") == Deferred(Scope.NEXT_HOP, "the daemon is stopping", attempted=False)
    await vault.drain()


async def test_a_bug_answers_its_batch_and_lets_the_next_through(
    box: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_writer: MaildirWriter, _messages: object) -> list[Outcome]:
        raise ValueError("a bug")

    vault, reports = destination(box), Reports()
    with monkeypatch.context() as patch:
        patch.setattr(MaildirWriter, "write", broken)
        vault.submit(reports.order("one"))
        await reports.all_done()
    assert reports.outcome("one") == Deferred(Scope.MESSAGE, "internal error: ValueError('a bug')")
    assert "archive vault" in caplog.text
    vault.submit(reports.order("two"))
    await reports.all_done()
    assert isinstance(reports.outcome("two"), Delivered)
