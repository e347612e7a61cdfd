"""A ledger put together again: from a copy, the log of changes, and nothing else.

The new one is made under another name and renamed when it is whole; what is in its
place is put aside before, never deleted. Whatever a crash leaves of this, the next
start does it again. What the receipt journal holds is replayed after that, as at
every start.

A copy will do only together with every change since: to go on without some of them
would relay again what they say was relayed. Then a person decides.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from mailferry.errors import StoreError
from mailferry.ledger.changes import Chain, read_chain
from mailferry.ledger.copies import draw_up, replace_file
from mailferry.ledger.faults import store_error
from mailferry.ledger.files import LedgerFiles, give_to_owner_of_folder, put_aside, remove_database, sync
from mailferry.ledger.migrate import migrate
from mailferry.ledger.overlay import overlay
from mailferry.ledger.schema import HEAD
from mailferry.ledger.soundness import Finding, examine
from mailferry.ledger.sqlite import connect

_LISTED: Final = 6
_LACKS: Final = "is whole, but not all changes since then are known"


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """How a ledger came to be what it is now.

    Attributes:
        reason: what was wrong with the one before.
        source: the copy that it comes from.
        copied_at: when that was made, in seconds since the epoch.
        records: rows that had changed since that copy.
        aside: where the one before lies; None if there was none.
        missing: whether changes are unknown that came after the copy.
    """

    reason: str
    source: Path
    copied_at: float
    records: int
    aside: Path | None
    missing: bool = False


def rebuild(files: LedgerFiles, reason: str) -> Rebuilt:
    """Put the ledger together from the copy beside it, or from the one before.

    Raises:
        StoreError: there is none that is whole with all its changes, and what to do then.
    """
    chain = read_chain(files.logs())
    # A copy knows of the log that was begun for it, even if that is no more.
    newest = max(_look_at(copy, deep=False).log_number for copy in files.copies)
    ends = files.log(newest).exists()
    faults: list[str] = []
    for copy in files.copies:
        finding = _look_at(copy)
        if not finding.damage and ends and chain.complete_from(finding.sequence or -1):
            return replace_ledger(files, copy, finding, chain, reason)
        faults.append(f"{copy.name} {finding.damage or _LACKS}")
    raise StoreError(_refusal(files, reason, "; ".join(faults)))


def replace_ledger(files: LedgerFiles, source: Path, finding: Finding, chain: Chain, reason: str) -> Rebuilt:
    """Make a file, with all changes since, the ledger; what is there is put aside.

    Args:
        files: the ledger's names.
        source: a file that was found whole.
        finding: what was found.
        chain: the changes that are known.
        reason: what is wrong with the ledger that is there; empty if nothing is.

    Raises:
        StoreError: it could not be made, and all is as it was.
    """
    try:
        copied_at = source.stat().st_mtime
        draw_up(source, files.draft)
        try:
            records = _bring_up(files.draft, chain, finding)
            give_to_owner_of_folder(files.draft)
        except BaseException:
            remove_database(files.draft)
            raise
        aside = put_aside(files.database, "damaged" if reason else "replaced") if _remains(files) else None
        replace_file(files.draft, files.database)
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise store_error(error, str(files.draft)) from error
    missing = finding.sequence is None or not chain.complete_from(finding.sequence)
    return Rebuilt(reason, source, copied_at, records, aside, missing)


def _bring_up(draft: Path, chain: Chain, finding: Finding) -> int:
    """Bring a copy to the present tables and rows; it is synced and whole afterwards."""
    engine = connect(draft)
    try:
        with engine.begin() as connection:
            migrate(connection, str(draft))
            records = overlay(connection, chain, -1 if finding.sequence is None else finding.sequence)
    finally:
        engine.dispose()  # the last connection takes the write-ahead log along
    made = examine(draft, alone=True)
    if made.damage:
        raise StoreError(f"{draft}: {made.damage}, though it was made anew: look at the disk")
    sync(draft)
    return records


def _remains(files: LedgerFiles) -> bool:
    return files.database.exists() or files.beside("-wal").exists()


def _look_at(copy: Path, *, deep: bool = True) -> Finding:
    try:
        finding = examine(copy, alone=False, deep=deep)
    except (sqlite3.Error, OSError) as error:
        return Finding(f"cannot be read ({error})")
    if not finding.damage and (finding.sequence is None or (finding.version or "") > HEAD):
        return replace(finding, damage=f"has tables of version {finding.version}")
    return finding


def _refusal(files: LedgerFiles, reason: str, faults: str) -> str:
    names = [path.name for path in (files.database, *files.traces()) if path.exists()]
    listed = ", ".join(names[:_LISTED]) + (" and more" if len(names) > _LISTED else "")
    return (
        f"{files.database}: {reason}, and cannot be put together again ({faults}): "
        "put back a copy with `mailferry ledger restore FILE`; or, to begin anew, which relays again "
        f"all mail that is still on the servers, move these files away: {listed}"
    )
