"""One daemon per ledger: a lock of the operating system, which dies with its process."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from mailferry.errors import StoreError
from mailferry.ledger.faults import store_error
from mailferry.ledger.files import LedgerFiles, give_to_owner_of_folder


class FileLock:
    """An exclusive `flock` on a file of its own; the file stays, only the lock goes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def acquire(self) -> None:
        """Take the lock without waiting.

        Raises:
            StoreError: another process has it, or the file cannot be written.
        """
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise store_error(error, str(self._path)) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # For the reader of the error message only; the lock is the truth.
            give_to_owner_of_folder(self._path)
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            holder = _holder(fd)
            os.close(fd)
            if isinstance(error, BlockingIOError):
                raise StoreError(
                    f"{self._path}: another mailferry{holder} uses this ledger: "
                    "stop it, or set another [daemon] state_dir for this one"
                ) from error
            raise store_error(error, str(self._path)) from error
        self._fd = fd

    def release(self) -> None:
        """Give the lock back; safe to call twice."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def ledger_locks(files: LedgerFiles) -> list[FileLock]:
    """Return the locks of a ledger and its journal: neither may have two masters."""
    masters = [path for path in (files.database, files.journal) if path is not None]
    return [FileLock(path) for path in sorted({path.resolve().with_suffix(".lock") for path in masters})]


def _holder(fd: int) -> str:
    with contextlib.suppress(OSError, ValueError):
        return f" (process {int(os.pread(fd, 20, 0))})"
    return ""
