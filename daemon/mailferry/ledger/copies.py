"""Copies of a ledger: made while it is in use, checked, synced, and only then called copies.

SQLite's backup reads one state of the database, whatever is committed meanwhile.
It is made in one step on a thread of its own, which holds no lock that a commit
waits for and not the interpreter's either.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Final

from mailferry.errors import StoreError
from mailferry.ledger.faults import store_error
from mailferry.ledger.files import LedgerFiles, remove_database, sync
from mailferry.ledger.frames import read_log
from mailferry.ledger.soundness import Finding, examine, open_raw

ROOM_LEFT_OCTETS: Final = 4 << 20
"""What a copy of ours leaves free, at the least, besides as much again as it takes."""


def copy_database(source: Path, target: Path, log_number: int = 0) -> Finding:
    """Write a checked and synced copy of a database under another name.

    The copy is a single file, whatever SQLite keeps beside the source; only its
    owner can read it. It bears the number of the log that goes on where it ends. A
    failure leaves nothing under the new name.

    Raises:
        StoreError: it could not be read or written, or the copy is not whole.
    """
    try:
        draw_up(source, target, log_number)
        try:
            finding = _require_whole(target, source)
            sync(target)
        except BaseException:
            remove_database(target)
            raise
    except (sqlite3.Error, OSError) as error:
        raise store_error(error, str(target)) from error
    return finding


def _require_whole(copy: Path, source: Path) -> Finding:
    finding = examine(copy, alone=False)
    if finding.damage:
        raise StoreError(f"{source}: a copy of it {finding.damage}")
    return finding


def draw_up(source: Path, target: Path, log_number: int = 0) -> None:
    """Write a copy that is neither checked nor synced yet; a failure leaves nothing.

    Raises:
        sqlite3.Error, OSError: it could not be read or written.
    """
    remove_database(target)
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    try:
        _copy(source, target, log_number)
    except BaseException:
        remove_database(target)
        raise


def _copy(source: Path, target: Path, log_number: int) -> None:
    with closing(open_raw(source, "ro")) as reader, closing(open_raw(target, "rw")) as writer:
        writer.execute("PRAGMA synchronous = OFF")
        reader.backup(writer)
        # Else its reader would need to write a log beside it.
        writer.execute("PRAGMA journal_mode = DELETE").fetchall()
        writer.execute(f"PRAGMA user_version = {log_number}")


def replace_file(draft: Path, target: Path) -> None:
    """Give a synced file its name, for good.

    Raises:
        OSError: it could not be renamed.
    """
    draft.rename(target)
    sync(target.parent)


def make_good_copy(files: LedgerFiles) -> int:
    """Make the copy beside a ledger anew; the present one becomes the one before, if it is good.

    Logs of changes that neither of them needs are removed. Returns the copy's octets.

    Raises:
        StoreError: it could not be made; what was there is there.
    """
    copy, old = files.copies
    draft = files.beside(".copy.new")
    try:
        _require_room(files, old)
        made = copy_database(files.database, draft, files.newest_log_number())
        if copy.exists() and not examine(copy, alone=False, deep=False).damage:
            copy.rename(old)
        replace_file(draft, copy)
        _remove_needless_logs(files, made)
        return copy.stat().st_size
    except (sqlite3.Error, OSError) as error:
        raise store_error(error, str(copy)) from error


def _require_room(files: LedgerFiles, old: Path) -> None:
    """Make sure that a copy does not take the room that rows need; the old one makes way for it."""
    if _has_room(files):
        return
    old.unlink(missing_ok=True)
    if not _has_room(files):
        raise StoreError(f"{files.copies[0]}: not made, since it would leave too little free space")


def _has_room(files: LedgerFiles) -> bool:
    wal = files.beside("-wal")
    octets = files.database.stat().st_size + (wal.stat().st_size if wal.exists() else 0)
    return shutil.disk_usage(files.database.parent).free >= 2 * octets + ROOM_LEFT_OCTETS


def _remove_needless_logs(files: LedgerFiles, newest: Finding) -> None:
    """Keep what leads from the older copy to the present."""
    old = files.copies[1]
    oldest = examine(old, alone=False, deep=False) if old.exists() else newest
    if oldest.damage or oldest.sequence is None:
        oldest = newest
    logs = files.logs()
    for log, following in pairwise(logs):
        begins = log_begins_at(following)
        if begins is None or oldest.sequence is None or begins > oldest.sequence:
            return
        log.unlink()


def log_begins_at(log: Path) -> int | None:
    """Return the number of the last change before a log; None where it cannot be read."""
    with log.open("rb") as file:
        frames, _ = read_log(file.read(256))
    return frames[0].sequence if frames else None
