"""What commands do with a ledger as a whole: look at it, back it up, put it back.

Looking and backing up work beside a running daemon. Putting back needs the locks.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mailferry.errors import StoreError
from mailferry.ledger.changes import Chain, read_chain
from mailferry.ledger.copies import copy_database, replace_file
from mailferry.ledger.faults import store_error
from mailferry.ledger.files import LedgerFiles
from mailferry.ledger.frames import read_frames, read_note
from mailferry.ledger.location import database_path
from mailferry.ledger.lock import ledger_locks
from mailferry.ledger.rebuild import Rebuilt, replace_ledger
from mailferry.ledger.room import RESERVE_OCTETS
from mailferry.ledger.schema import HEAD
from mailferry.ledger.soundness import Finding, examine


@dataclass(frozen=True, slots=True)
class Part:
    """One of the files that make up the state, and what was found.

    Attributes:
        name: `ledger`, `copy`, `older copy`, `changes`, `journal` or `reserve`.
        problem: what is wrong with it; empty when nothing is.
        made_at: when it was last written, in seconds since the epoch.
        detail: what else is worth telling.
    """

    name: str
    path: Path
    problem: str = ""
    octets: int | None = None
    made_at: float | None = None
    detail: str = ""


def check_ledger(url: str, journal_path: Path) -> list[Part]:
    """Look at every page, row and frame; nothing is written.

    Raises:
        StoreError: there is no ledger, or it cannot be looked at.
    """
    files = _files(url, journal_path)
    parts = list(_look(files))
    if any(part.problem for part in parts):
        # The daemon may have made a copy while this looked at one after the other.
        parts = list(_look(files))
    return parts


def back_up(url: str, target: Path, *, force: bool = False) -> Part:
    """Write a copy of the ledger as it is now into a file, checked and synced.

    Raises:
        StoreError: the file is there already, or cannot be written.
    """
    files = _files(url, None)
    target = target.absolute()
    if target == files.database or target in (*files.copies, *files.logs()):
        raise StoreError(f"{target}: belongs to the ledger itself: choose another name")
    if target.exists() and not force:
        raise StoreError(f"{target}: is there already: choose another name, or say --force")
    if target.is_dir():
        raise StoreError(f"{target}: is a directory: give the name of a file")
    draft = target.with_name(f"{target.name}.part")
    try:
        finding = copy_database(files.database, draft)
        if finding.version is None:
            draft.unlink()
            raise StoreError(f"{files.database}: holds no ledger")
        replace_file(draft, target)
        return _part("backup", target, finding)
    except OSError as error:
        raise store_error(error, str(target)) from error


def restore_ledger(url: str, journal_path: Path, source: Path) -> Rebuilt:
    """Put a file in the ledger's place, with every later change that the logs know.

    What is there is put aside. What the receipt journal holds is replayed at the
    next start.

    Raises:
        StoreError: a daemon runs, or the file is no whole ledger; all is as it was.
    """
    files = LedgerFiles(database_path(url).absolute(), journal_path)
    source = source.absolute()
    if source == files.database:
        raise StoreError(f"{source}: is the ledger itself: give the file that is to take its place")
    locks = ledger_locks(files)
    try:
        for lock in locks:
            lock.acquire()
        finding = _require_ledger(source)
        return replace_ledger(files, source, finding, read_chain(files.logs()), "")
    finally:
        for lock in locks:
            lock.release()


def _files(url: str, journal_path: Path | None) -> LedgerFiles:
    files = LedgerFiles(database_path(url).absolute(), journal_path)
    try:
        there = files.database.exists() or files.traces()
    except OSError as error:
        raise store_error(error, str(files.database)) from error
    if not there:
        raise StoreError(
            f"{files.database}: no ledger yet: start the daemon once, or look at [daemon] state_dir"
        )
    return files


def _require_ledger(source: Path) -> Finding:
    finding = _examined(source)
    if finding.damage:
        raise StoreError(f"{source}: {finding.damage}: choose another file; nothing was changed")
    if finding.version is None:
        raise StoreError(f"{source}: holds no ledger; nothing was changed")
    if finding.version > HEAD:
        raise StoreError(
            f"{source}: is of a newer mailferry (its version is {finding.version}, this program knows {HEAD}): "
            "install that mailferry; nothing was changed"
        )
    return finding


def _examined(path: Path) -> Finding:
    try:
        return examine(path, alone=False)
    except (sqlite3.Error, OSError) as error:
        raise store_error(error, str(path)) from error


def _look(files: LedgerFiles) -> Iterator[Part]:
    found = _examined(files.database)
    detail = f"tables of version {found.version}" if found.version else ""
    yield _part("ledger", files.database, found, detail)
    chain = read_chain(files.logs())
    for name, copy in zip(("copy", "older copy"), files.copies, strict=True):
        if copy.exists() or name == "copy":
            yield _look_at_copy(name, copy, files, chain)
    yield _look_at_changes(files, chain, found)
    yield from _look_at_journal(files)
    yield _look_at_reserve(files)


def _look_at_copy(name: str, copy: Path, files: LedgerFiles, chain: Chain) -> Part:
    found = _examined(copy)
    if found.damage:
        return _part(name, copy, found)
    complete = found.sequence is not None and chain.complete_from(found.sequence)
    if not complete or not files.log(found.log_number).exists():
        found = Finding("is whole, but not all changes since then are known")
    return _part(name, copy, found)


def _look_at_changes(files: LedgerFiles, chain: Chain, ledger: Finding) -> Part:
    logs = files.logs()
    path = logs[-1] if logs else files.log(1)
    octets = sum(log.stat().st_size for log in logs)
    problem = ""
    if not logs:
        problem = "is missing: the ledger could not be put together again"
    elif chain.unreadable or chain.gaps:
        problem = "is damaged: the ledger could not be put together again from all copies"
    elif ledger.sequence is not None and chain.last < ledger.sequence:
        problem = "ends before the ledger: the next start makes a new copy"
    return Part("changes", path, problem, octets, detail=f"{len(chain.frames)} transactions")


def _look_at_journal(files: LedgerFiles) -> Iterator[Part]:
    for segment in files.segments():
        if not segment.exists():
            continue
        try:
            frames = read_frames(segment.read_bytes())
            problem = ""
            for frame in frames:
                read_note(frame)
        except (OSError, StoreError) as error:
            frames, problem = [], f"cannot be read: {error}"
        yield Part("journal", segment, problem, segment.stat().st_size, detail=f"{len(frames)} notes")


def _look_at_reserve(files: LedgerFiles) -> Part:
    octets = files.reserve.stat().st_size if files.reserve.exists() else 0
    problem = "" if octets >= RESERVE_OCTETS else "is given up: the disk was full; free space on it"
    return Part("reserve", files.reserve, problem, octets)


def _part(name: str, path: Path, finding: Finding, detail: str = "") -> Part:
    if not path.exists():
        return Part(name, path, finding.damage or "is missing")
    status = path.stat()
    return Part(name, path, finding.damage, status.st_size, status.st_mtime, detail)
