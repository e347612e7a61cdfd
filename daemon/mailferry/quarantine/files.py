"""Files that survive a crash: written under another name, synced, renamed, the folder synced.

The errors of the operating system become words here, once, with what to do.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from mailferry.errors import QuarantineError

LEFTOVER_SECONDS = 36 * 3600.0
"""Older files in `tmp` are what a crash left; Maildir's readers use the same span."""

_REMEDIES = {
    errno.ENOSPC: "free some room on this disk",
    errno.EDQUOT: "the quota of the daemon's user is used up",
    errno.EACCES: "it must belong to the daemon's user; run commands as that user or as root",
    errno.EPERM: "it must belong to the daemon's user; run commands as that user or as root",
    errno.EROFS: "the file system is mounted read-only",
    errno.ENOTDIR: "something that is no folder stands in the way: move it away",
    errno.EEXIST: "something that is no folder stands in the way: move it away",
}


@contextlib.contextmanager
def told_in_words(place: Path) -> Iterator[None]:
    """Turn an OSError into a QuarantineError that says where, what, and what to do."""
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0)
        words = f"{error.filename or place}: {error.strerror or error}"
        raise QuarantineError(f"{words}: {remedy}" if remedy else words) from error


def write_synced(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a file, for its owner only, and sync its octets to disk; nothing is left of it after an error."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        for piece in pieces:
            view = memoryview(piece)
            while view:
                view = view[os.write(descriptor, view) :]
        give_to_owner_of(path.parent, descriptor)
        os.fsync(descriptor)
    except OSError:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def give_to_owner_of(folder: Path, descriptor: int) -> None:
    """Let root leave no file behind that the daemon's user cannot read."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, and let each parent remember it: a file is as safe as its folder."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for made in reversed(missing):
        made.mkdir(mode=0o700, exist_ok=True)
        sync_folder(made.parent)
        with opened_folder(made) as descriptor:
            give_to_owner_of(made.parent, descriptor)
    if not missing and not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))


def sync_folder(folder: Path) -> None:
    """Sync the names in a folder to disk."""
    with opened_folder(folder) as descriptor:
        os.fsync(descriptor)


@contextlib.contextmanager
def opened_folder(folder: Path) -> Iterator[int]:
    """Open a folder itself, for what can be done to it as a whole."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def sweep(folder: Path) -> None:
    """Remove what crashes left in a folder of temporary files, long ago."""
    before = time.time() - LEFTOVER_SECONDS
    with os.scandir(folder) as entries:
        old = [Path(each) for each in entries if each.is_file() and each.stat().st_mtime < before]
    for path in old:
        path.unlink(missing_ok=True)
