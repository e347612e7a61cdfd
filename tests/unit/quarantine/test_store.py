"""What is stored, under which name, in which order it is made safe, and what can go wrong."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mailferry.errors import QuarantineError
from mailferry.message.spool import Spool
from mailferry.model import DeliveryState, MessageId, Uidl
from mailferry.quarantine.files import LEFTOVER_SECONDS
from mailferry.quarantine.reader import StoredMessage
from mailferry.quarantine.store import QuarantineStore
from support.dying_system import Killed, System
from support.quarantined import CONTENT, Refused, delivery, refused

NOW = 1_780_000_100.0


def put(store: QuarantineStore, given: Refused | None = None) -> str:
    given = given or refused()
    return store._put(given.message, given.record, given.deliveries)


def only(store: QuarantineStore) -> StoredMessage:
    (stored,) = store.all()
    return stored


def files(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def octets(store: QuarantineStore, name: str) -> bytes:
    with store.opened(store.get(name)) as pieces:
        return b"".join(pieces)


# --- names and content -----------------------------------------------------------


async def test_a_message_is_kept_octet_for_octet_with_all_that_is_known_of_it(store: QuarantineStore) -> None:
    given = refused()
    name = await store.put(given.message, given.record, list(given.deliveries))
    stored = store.get(name)
    assert stored.problem == ""
    assert stored.path is not None
    assert stored.path.read_bytes() == CONTENT
    assert stored.path.parent == store.path / "new"
    assert stored.entry is not None
    assert stored.entry.message == given.record
    assert stored.entry.deliveries == given.deliveries
    assert stored.entry.quarantined_at == stored.since == NOW
    assert stored.entry.envelope_sender == "ann@example.org"
    assert (stored.entry.fetched_at, stored.entry.fetched_from, stored.entry.fetched_with) == (
        1_780_000_000.25,
        "pop.example.org",
        "POP3S",
    )
    assert set(files(store.path)) == {
        f"new/{name}.mailferry,S={len(CONTENT)}",
        f"reasons/{name}.json",
    }


async def test_the_event_loop_never_waits_for_the_disk(
    store: QuarantineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[int] = set()
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        threads.add(threading.get_ident())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    given = refused()
    await store.put(given.message, given.record, given.deliveries)
    assert threads
    assert threading.get_ident() not in threads


def test_a_name_has_safe_characters_only(store: QuarantineStore) -> None:
    given = refused(maildrop="../../etc/\x00\n")
    hostile = replace(given, message=replace(given.message, uidl=Uidl(b"../\x00\xff/")))
    name = put(store, hostile)
    assert len(name) == 16
    assert set(name) <= set("0123456789abcdef")
    assert {path.name for path in store.path.parent.iterdir()} == {"quarantine"}


def test_folders_and_files_are_for_the_owner_only(store: QuarantineStore) -> None:
    put(store)
    with store.exclusive():
        pass
    found = [store.path, *store.path.rglob("*")]
    modes = {path.stat().st_mode & 0o777 for path in found if path.is_dir()}
    assert (modes, {path.stat().st_mode & 0o777 for path in found if path.is_file()}) == ({0o700}, {0o600})


async def test_a_message_from_the_spool_is_kept_as_well(store: QuarantineStore, tmp_path: Path) -> None:
    spooled = Spool(tmp_path, 10, reserve_octets=0).new_file()
    for start in range(0, len(CONTENT), 30):
        spooled.write(CONTENT[start : start + 30])
    content = spooled.content()
    assert content is not None
    given = refused()
    message = replace(given.message, content=content)
    name = await store.put(message, given.record, given.deliveries)
    assert octets(store, name) == CONTENT
    assert await store.put(given.message, given.record, given.deliveries) == name  # the same octets


# --- the same message again ---------------------------------------------------------


@pytest.mark.parametrize("where", ["new", "cur/ with flags", "cur/ renamed by Dovecot"])
@pytest.mark.parametrize("number", [1, 2])
def test_the_same_message_put_twice_is_one_entry(store: QuarantineStore, where: str, number: int) -> None:
    """A ledger that lost its last row with the machine gives the message another number."""
    name = put(store)
    path = only(store).path
    assert path is not None
    if where != "new":
        path.rename(store.path / "cur" / (path.name + (",W=99:2,S" if "Dovecot" in where else ":2,FRS")))
    given = refused()
    again = replace(given, record=replace(given.record, message_id=MessageId(number), reason="later"))
    assert put(QuarantineStore(store.path), again) == name
    stored = only(store)
    assert stored.entry is not None
    assert stored.entry.message == again.record
    assert stored.entry.quarantined_at == NOW
    assert len(files(store.path)) == 2


@pytest.mark.parametrize(
    "other",
    [
        refused(CONTENT + b"x"),
        refused(maildrop="bob"),
        refused(number=2),
        refused(b""),
    ],
)
def test_another_message_is_another_entry(store: QuarantineStore, other: Refused) -> None:
    assert put(store) != put(store, other)
    assert store.count() == 2


def test_other_octets_under_the_same_name_are_kept_beside_the_first(store: QuarantineStore) -> None:
    name = put(store)
    given = refused()
    forged = replace(given, message=replace(given.message, content=b"other octets, same digest"))
    assert put(store, forged) == f"{name}-2"
    assert put(store, forged) == f"{name}-2"
    assert octets(store, name) == CONTENT
    assert octets(store, f"{name}-2") == b"other octets, same digest"
    assert store.count() == 2
    assert [stored.problem for stored in store.all()] == ["", ""]


def test_what_retry_has_delivered_stays_noted(store: QuarantineStore) -> None:
    given = refused(hops=("hop", "vault"))
    name = put(store, given)
    entry = only(store).entry
    assert entry is not None
    accepted = delivery("vault", state=DeliveryState.ACCEPTED, receipt="250 ok", error="")
    store.save_reason(replace(entry, deliveries=(given.deliveries[0], accepted)))
    assert put(store, given) == name
    again = only(store).entry
    assert again is not None
    assert again.deliveries == (given.deliveries[0], accepted)


def test_a_message_that_was_taken_away_is_stored_anew(store: QuarantineStore) -> None:
    name = put(store)
    path = only(store).path
    assert path is not None
    path.unlink()
    assert "gone" in only(store).problem
    assert put(store) == name
    assert only(store).problem == ""


def test_a_new_entry_is_told_once(store: QuarantineStore) -> None:
    told: list[int] = []
    store.on_new = lambda: told.append(1)
    put(store)
    put(store)
    put(store, refused(number=2))
    assert len(told) == 2


# --- crashes ---------------------------------------------------------------------------


def killed_at_each_step(
    work: Callable[[], object], before: Callable[[], object], check: Callable[[], object]
) -> int:
    """Let work die at its first call to the system, then at its second, and so on until it comes to its end."""
    for step in range(1, 200):
        before()
        with pytest.MonkeyPatch.context() as patch:
            system = System(patch)
            system.die_at = step
            try:
                work()
            except Killed:
                ended = False
            else:
                ended = True
        check()
        if ended:
            return step
    raise AssertionError("it never ended")


def test_a_crash_at_any_step_of_put_loses_nothing_and_leaves_one_entry(tmp_path: Path) -> None:
    place = tmp_path / "0"
    number = 0
    seen: set[str] = set()

    def fresh() -> None:
        nonlocal place, number
        number += 1
        place = tmp_path / str(number)

    def check() -> None:
        reader = QuarantineStore(place, lambda: NOW)
        for stored in reader.all():  # no reason without its message; a message alone is told as such
            seen.add(stored.problem)
            assert stored.path is not None
            assert stored.path.read_bytes() == CONTENT
        put(reader)
        stored = only(reader)
        assert stored.problem == ""
        assert octets(reader, stored.name) == CONTENT

    assert killed_at_each_step(lambda: put(QuarantineStore(place)), fresh, check) > 15
    assert seen == {"", "its reason is missing: a crash, or somebody has taken it away"}


def test_a_crash_at_any_step_of_a_note_leaves_the_old_or_the_new_one(store: QuarantineStore) -> None:
    put(store)
    entry = only(store).entry
    assert entry is not None
    accepted = replace(entry, deliveries=(delivery(state=DeliveryState.ACCEPTED),))

    def check() -> None:
        assert only(store).entry in (entry, accepted)
        assert only(store).problem == ""

    assert (
        killed_at_each_step(lambda: store.save_reason(accepted), lambda: store.save_reason(entry), check) > 4
    )
    assert only(store).entry == accepted


def test_a_crash_at_any_step_of_a_removal_leaves_no_message_without_its_reason(
    store: QuarantineStore,
) -> None:
    def check() -> None:
        for stored in store.all():
            if stored.path is not None:
                assert stored.problem == ""
            store.remove(stored)
        assert store.all() == []
        assert files(store.path) == {}

    assert killed_at_each_step(lambda: store.remove(only(store)), lambda: put(store), check) > 4


def test_the_order_of_the_disk(store: QuarantineStore, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, refused(number=2))
    system = System(monkeypatch)
    put(store)
    written = ["open", "write", "fsync"]
    renamed = ["rename", "open", "fsync"]
    assert system.calls == [*written, *written, *renamed, *renamed, "unlink"]


# --- what goes wrong -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "free some room"),
        (errno.EDQUOT, "quota"),
        (errno.EACCES, "must belong to the daemon's user"),
        (errno.EROFS, "read-only"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_an_error_at_any_step_says_where_and_leaves_nothing(
    place: Path, store: QuarantineStore, code: int, advice: str
) -> None:
    put(store, refused(number=2))
    before = files(place)
    for step in range(1, 100):
        with pytest.MonkeyPatch.context() as patch:
            system = System(patch)
            system.fail_at = step
            system.error = OSError(code, os.strerror(code))
            words = failure_of(lambda: put(store))
        if words is None:
            break
        assert str(place) in words
        assert advice in words
        assert files(place) == before
    assert step > 10
    assert system.calls[step - 1] == "unlink"  # only the last tidying may fail unnoticed
    assert store.count() == 2


def failure_of(work: Callable[[], object]) -> str | None:
    try:
        work()
    except QuarantineError as error:
        return str(error)
    return None


def test_something_in_the_way_is_told(place: Path, store: QuarantineStore) -> None:
    place.parent.mkdir()
    place.write_bytes(b"")
    with pytest.raises(QuarantineError, match="move it away"):
        put(store)


def test_what_crashes_left_long_ago_is_swept_away(store: QuarantineStore) -> None:
    put(store)
    old, young = store.path / "tmp" / "old", store.path / "tmp" / "young"
    for path in (old, young):
        path.write_bytes(b"x")
    long_ago = young.stat().st_mtime - LEFTOVER_SECONDS - 10
    os.utime(old, (long_ago, long_ago))
    put(store, refused(number=2))
    assert old.exists()  # once per process is enough
    put(QuarantineStore(store.path), refused(number=3))
    assert (old.exists(), young.exists()) == (False, True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_leaves_files_to_the_daemons_user(store: QuarantineStore) -> None:
    store.path.parent.mkdir()
    os.chown(store.path.parent, 4711, 4712)
    put(store)
    with store.exclusive():
        pass
    owners = {(path.stat().st_uid, path.stat().st_gid) for path in (store.path, *store.path.rglob("*"))}
    assert owners == {(4711, 4712)}


# --- looking ---------------------------------------------------------------------------------


def test_a_quarantine_that_was_never_used_is_empty(store: QuarantineStore) -> None:
    assert (store.all(), store.names(), store.count(), store.foreign_files()) == ([], set(), 0, 0)
    assert not store.path.exists()


def test_other_programs_files_are_passed_over(store: QuarantineStore) -> None:
    name = put(store)
    for path in ("new/1234.host", "cur/x:2,S", "cur/.hidden", "reasons/notes.txt", "reasons/xy.json"):
        (store.path / path).write_bytes(b"x")
    (store.path / ".Sent").mkdir()
    (store.path / "dovecot-uidlist").write_bytes(b"x")
    assert only(store).name == name
    assert (store.count(), store.names(), store.foreign_files()) == (1, {name}, 3)
    store.remove(only(store))
    assert set(files(store.path)) == {
        "new/1234.host", "cur/x:2,S", "cur/.hidden", "reasons/notes.txt", "reasons/xy.json", "dovecot-uidlist",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.unlink(), "its reason is missing"),
        (lambda path: path.write_bytes(b"{"), "damaged"),
        (lambda path: path.write_bytes(b""), "damaged"),
        (lambda path: path.write_bytes(b" " * 17_000_000), "larger than any reason"),
        (lambda path: (path.unlink(), path.mkdir()), "Is a directory"),
        (lambda path: path.write_text(json.dumps({"version": 7})), "its version is 7"),
        (
            lambda path: path.write_bytes(path.read_bytes().replace(b'"name": "', b'"name": "0')),
            "another message",
        ),
    ],
)
def test_a_reason_that_cannot_be_read_is_told_beside_the_others(
    store: QuarantineStore, damage: Callable[[Path], object], words: str
) -> None:
    broken, whole = put(store), put(store, refused(number=2))
    damage(store.path / "reasons" / f"{broken}.json")
    found = {stored.name: stored for stored in store.all()}
    assert found[whole].problem == ""
    assert words in found[broken].problem
    assert found[broken].entry is None
    assert found[broken].path is not None
    assert found[broken].size_octets == len(CONTENT)
    assert octets(store, broken) == CONTENT


def test_the_oldest_comes_first(store: QuarantineStore) -> None:
    times = iter([NOW + 5, NOW, NOW + 3])
    store._clock = lambda: next(times)
    names = [put(store, refused(number=number)) for number in (1, 2, 3)]
    assert [stored.name for stored in store.all()] == [names[1], names[2], names[0]]


def test_a_file_that_a_mail_reader_moves_meanwhile_is_found_again(store: QuarantineStore) -> None:
    name = put(store)
    stored = only(store)
    assert stored.path is not None
    stored.path.rename(store.path / "cur" / f"{stored.path.name}:2,S")
    with store.opened(stored) as pieces:
        assert b"".join(pieces) == CONTENT
    store.remove(stored)
    assert store.all() == []
    with pytest.raises(QuarantineError, match=f"{name}.*not there any more"), store.opened(stored):
        pass


def test_one_command_at_a_time(store: QuarantineStore) -> None:
    other = QuarantineStore(store.path)
    with store.exclusive():
        put(other)  # the daemon may
        with pytest.raises(QuarantineError, match="another command"), other.exclusive():
            pass
    with other.exclusive():
        pass


async def test_many_at_once(store: QuarantineStore) -> None:
    given = [refused(b"Subject: %d\r\n\r\n" % number, number=number) for number in range(40)]
    names = await asyncio.gather(*(store.put(each.message, each.record, each.deliveries) for each in given))
    assert len(set(names)) == store.count() == 40
    assert [stored.problem for stored in store.all()] == [""] * 40
