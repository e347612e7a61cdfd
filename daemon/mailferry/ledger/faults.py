"""What went wrong below, said once and with what to do about it."""

from __future__ import annotations

import errno
import sqlite3
from typing import Final

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from mailferry.errors import StoreError

RESTORE: Final = (
    "a start of mailferry puts it together again from its copy; else see `mailferry ledger check`"
)
_FREE_SPACE: Final = "free space on that file system, or raise the quota"
_SQLITE_ADVICE: Final = {
    "SQLITE_FULL": _FREE_SPACE,
    "SQLITE_IOERR": "look at the kernel's log and at the free space of that file system",
    "SQLITE_BUSY": "another program holds the file locked: end it",
    "SQLITE_LOCKED": "another program holds the file locked: end it",
    "SQLITE_READONLY": "make the file and its directory writable for this user",
    "SQLITE_CANTOPEN": "make the file and its directory readable and writable for this user",
    "SQLITE_AUTH": "make the file and its directory readable and writable for this user",
    "SQLITE_PERM": "make the file and its directory readable and writable for this user",
    "SQLITE_CORRUPT": RESTORE,
    "SQLITE_NOTADB": RESTORE,
}
_OS_ADVICE: Final = {
    errno.ENOSPC: _FREE_SPACE,
    errno.EDQUOT: _FREE_SPACE,
    errno.EFBIG: _FREE_SPACE,
    errno.ENOENT: "create its directory and give it to the user that runs mailferry",
    errno.ENOTDIR: "create its directory and give it to the user that runs mailferry",
    errno.EACCES: "make it readable and writable for the user that runs mailferry",
    errno.EPERM: "make it readable and writable for the user that runs mailferry",
    errno.EROFS: "the file system is read-only: set [daemon] state_dir to a place that can be written",
}


class RecordsRefusedError(StoreError):
    """The rows contradict rows that the ledger has; other orders are not concerned."""


def is_want_of_room(error: Exception) -> bool:
    """Tell whether it would not have failed on an emptier disk."""
    cause = _root(error)
    if isinstance(cause, OSError):
        return cause.errno in (errno.ENOSPC, errno.EDQUOT)
    # A full disk also fails the write of a log's index, as an I/O error.
    return str(getattr(cause, "sqlite_errorname", "")).startswith(("SQLITE_FULL", "SQLITE_IOERR"))


def _root(error: Exception) -> BaseException | None:
    if isinstance(error, DBAPIError):
        return error.orig
    return error.__cause__ if isinstance(error, StoreError) and error.__cause__ else error


def store_error(error: Exception, place: str) -> StoreError:
    """Return the `StoreError` that says where it happened, what and what to do.

    Only the driver's own words are taken over: SQLAlchemy's text would show the
    statement with addresses and subjects in it.
    """
    if isinstance(error, StoreError):
        return error
    cause = error.orig if isinstance(error, DBAPIError) and isinstance(error.orig, Exception) else error
    text = f"{place}: {_words(cause)}"
    advice = _advice(cause)
    return StoreError(f"{text}: {advice}" if advice else text)


def _words(cause: Exception) -> str:
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    if isinstance(cause, SQLAlchemyError | sqlite3.Error | StoreError):
        return str(cause)
    return f"{type(cause).__name__}: {cause}"


def _advice(cause: Exception) -> str:
    if isinstance(cause, OSError):
        return _OS_ADVICE.get(cause.errno or 0, "")
    name: str = getattr(cause, "sqlite_errorname", "") or ""
    # Extended codes begin with the primary one: SQLITE_IOERR_WRITE.
    return _SQLITE_ADVICE.get("_".join(name.split("_")[:2]), "")
