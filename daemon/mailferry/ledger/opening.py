"""The ledger's file at the start: made once, checked always, never replaced by an empty one.

To forget what was delivered would deliver everything again. Therefore a new file
gets its tables under another name and is renamed when it is whole, so that under
the right name an empty file is always a damaged one; and where there was a ledger,
as what lies beside it shows, a missing one is damage, too.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress

from sqlalchemy import Engine

from mailferry.errors import StoreError
from mailferry.ledger.changes import read_chain
from mailferry.ledger.copies import copy_database, replace_file
from mailferry.ledger.files import LedgerFiles, remove_database
from mailferry.ledger.migrate import migrate, stored_version
from mailferry.ledger.rebuild import Rebuilt, rebuild
from mailferry.ledger.schema import HEAD
from mailferry.ledger.soundness import Finding, examine
from mailferry.ledger.sqlite import connect


def open_database(files: LedgerFiles, told: Callable[[Rebuilt], None]) -> Engine:
    """Return an engine for a ledger that was checked and has the present tables.

    One that is damaged or missing is put together again, and `told` of it. The
    caller holds the lock. Everything happens on the calling thread, which must be
    the one that uses the engine.

    Raises:
        StoreError, SQLAlchemyError, sqlite3.Error, OSError: it cannot be used.
    """
    database = files.database
    finding = examine(database, alone=True)
    if finding.damage and (database.exists() or files.traces()):
        told(rebuild(files, finding.damage))
    elif finding.damage:
        _create(files)
    elif _is_outdated(files, finding):
        # Whole, and of yesterday: whoever put it there knew less than the copy does.
        with suppress(StoreError):  # then it is the best there is, and the log says what it lacks
            told(rebuild(files, "is older than the log of changes beside it"))
    if database.stat().st_mode & 0o077:
        database.chmod(0o600)  # subjects and addresses are nobody else's business
    engine = connect(database)
    try:
        _upgrade(engine, files)
    except BaseException:
        engine.dispose()
        raise
    return engine


def _is_outdated(files: LedgerFiles, finding: Finding) -> bool:
    """Whether changes are known that the ledger lacks, and others missing that lead to them."""
    if finding.sequence is None:
        return False
    chain = read_chain(files.logs())
    return chain.last > finding.sequence and not chain.complete_from(finding.sequence)


def _upgrade(engine: Engine, files: LedgerFiles) -> None:
    """Bring the tables up; what they were before stays in a copy."""
    with engine.begin() as connection:
        version = stored_version(connection)
    if version is not None and version < HEAD:
        before = files.beside(f".before-{HEAD}")
        copy_database(files.database, files.draft)
        replace_file(files.draft, before)
    with engine.begin() as connection:
        migrate(connection, str(files.database))


def _create(files: LedgerFiles) -> None:
    draft = files.draft
    remove_database(draft)
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    engine = connect(draft)
    try:
        with engine.begin() as connection:
            migrate(connection, str(files.database))
    finally:
        engine.dispose()  # the last connection takes the write-ahead log along
    replace_file(draft, files.database)
