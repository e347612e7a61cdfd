"""What lies beside a ledger, and under which names.

ledger.sqlite3                the ledger; -wal and -shm belong to it while it is open
ledger.sqlite3.copy, .old     the last good copy and the one before
ledger.sqlite3.changes.N      what was committed since: the logs of changes, rising N
ledger.sqlite3.reserve        room for the last rows on a full disk
ledger.sqlite3.new            being made; without meaning after a crash
ledger.sqlite3.damaged-TIME   put aside, never deleted; so is .replaced-TIME
ledger.sqlite3.before-N       as it was before the upgrade to tables of version N
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

COMPANIONS: Final = ("-wal", "-shm", "-journal")
_LOG_NAME: Final = re.compile(r"\.changes\.([0-9]{1,9})")


@dataclass(frozen=True, slots=True)
class LedgerFiles:
    """The names of all files of one ledger."""

    database: Path
    journal: Path | None = None
    """Where the daemon has its receipt journal; commands beside it need not know."""

    def beside(self, suffix: str) -> Path:
        """Return the ledger's name with something behind it."""
        return self.database.with_name(self.database.name + suffix)

    @property
    def copies(self) -> tuple[Path, Path]:
        """The last copy and the one before."""
        return self.beside(".copy"), self.beside(".copy.old")

    @property
    def draft(self) -> Path:
        """What becomes the ledger once it is whole."""
        return self.beside(".new")

    @property
    def reserve(self) -> Path:
        """Room that is given up for the last rows."""
        return self.beside(".reserve")

    def logs(self) -> list[Path]:
        """Return the logs of changes, oldest first."""
        return [path for _, path in self._numbered_logs()]

    def newest_log_number(self) -> int:
        """Return the number of the newest log of changes, 0 if there is none."""
        return max((number for number, _ in self._numbered_logs()), default=0)

    def log(self, number: int) -> Path:
        """Return the name of a log of changes."""
        return self.beside(f".changes.{number}")

    def next_log(self) -> Path:
        """Return the name of the log that comes after all present ones."""
        return self.log(self.newest_log_number() + 1)

    def _numbered_logs(self) -> list[tuple[int, Path]]:
        beside = self.database.parent.iterdir() if self.database.parent.is_dir() else ()
        return sorted(
            (int(match[1]), path)
            for path in beside
            if (match := _LOG_NAME.fullmatch(path.name.removeprefix(self.database.name)))
        )

    def traces(self) -> list[Path]:
        """Return the files that show that there was a ledger here, the ledger itself aside."""
        wal = self.beside("-wal")
        return [path for path in (*self.copies, wal, *self.logs(), *self.segments()) if path.exists()]

    def segments(self) -> list[Path]:
        """Return the names of the receipt journal's files."""
        if self.journal is None:
            return []
        return [self.journal.with_name(f"{self.journal.name}.{number}") for number in (0, 1)]


def remove_database(path: Path) -> None:
    """Remove a database that is being made, and what SQLite keeps beside it."""
    for suffix in ("", *COMPANIONS):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def put_aside(database: Path, word: str) -> Path:
    """Rename a ledger, so that nothing of it is lost; return its new name."""
    time = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    aside = database.with_name(f"{database.name}.{word}-{time}")
    number = 1
    while aside.exists():
        number += 1
        aside = database.with_name(f"{database.name}.{word}-{time}-{number}")
    # What belongs to the log first: it must not be found beside another ledger.
    for suffix in (*COMPANIONS, ""):
        part = database.with_name(database.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return aside


def give_to_owner_of_folder(path: Path) -> None:
    """Let a command that root runs leave nothing behind that the daemon's user cannot open."""
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def sync(path: Path) -> None:
    """Make sure that a file's or directory's octets survive the machine.

    Raises:
        OSError: they could not be written.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
