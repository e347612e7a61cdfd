"""Messages that are too large for memory, in files without a name.

A file of the spool has no name from the start (O_TMPFILE), or loses it at once
where the file system knows no such files: no crash leaves one behind, and nobody
else opens it. It ends with its descriptor, and the descriptor with the last object
that refers to it, so that no path through the daemon can keep or close it wrongly.

Reads and writes are blocking, of at most some hundred KB at a time, and go through
the page cache: tenths of a millisecond, less than a thread's round trip would cost.
The spool shares its disk with the ledger, so it leaves some of it free: a full disk
must cost a large message its turn, not the ledger its row.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from mailferry.errors import StoreError

PIECE_OCTETS = 256 * 1024
"""What is read at a time; asyncio reads as much from a socket."""

RESERVE_OCTETS = 64 * 2**20
"""What the spool leaves free on its disk."""

_CHECK_EVERY_OCTETS = 4 * 2**20
_SUFFIX = ".spool"
# What a file system without nameless files answers; EISDIR comes from kernels that know none.
_NO_TMPFILE = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOSYS})


class Spool:
    """The folder that spool files lie in, and the size from which on they are used."""

    def __init__(self, folder: Path, threshold_octets: int, *, reserve_octets: int = RESERVE_OCTETS) -> None:
        self.threshold_octets = threshold_octets
        self._folder = folder
        self._reserve_octets = reserve_octets

    def prepare(self) -> None:
        """Make the folder, and remove what a crash between making and unnaming a file has left.

        Raises:
            StoreError: the folder cannot be made, or it cannot be written.
        """
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for left in self._folder.glob(f"*{_SUFFIX}"):
                left.unlink(missing_ok=True)
            os.close(self._open())
        except OSError as error:
            raise StoreError(f"{self._folder}: {error.strerror or error}") from error

    def new_file(self) -> SpoolFile:
        """Open a file to write to. Never raises: what went wrong is the file's `failure`."""
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)  # it may have been cleared away
            return SpoolFile(self._open(), self._folder, self._reserve_octets)
        except OSError as error:
            return SpoolFile(None, self._folder, self._reserve_octets, error)

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CLOEXEC
        try:
            return os.open(self._folder, flags | os.O_TMPFILE, 0o600)
        except OSError as error:
            if error.errno not in _NO_TMPFILE:
                raise
        path = self._folder / f"{secrets.token_hex(16)}{_SUFFIX}"
        descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            path.unlink()
        except OSError:
            os.close(descriptor)
            raise
        return descriptor


class SpoolFile:
    """A file that octets are written to; implements `framing.BodySink`.

    Attributes:
        octets: how many were taken, those after a failure included.
        failure: why the file is not whole; empty while all is well.
    """

    def __init__(
        self, descriptor: int | None, folder: Path, reserve_octets: int, error: OSError | None = None
    ) -> None:
        self.octets = 0
        self.failure = ""
        self._file = _File(descriptor) if descriptor is not None else None
        self._folder = folder
        self._reserve_octets = reserve_octets
        self._checked_at = -_CHECK_EVERY_OCTETS
        self._facts = _Facts()
        if error is not None:
            self._fail(error)

    def write(self, octets: bytes) -> None:
        """Take the next octets; after a failure they are let go. Never raises."""
        if self._file is not None:
            try:
                self._leave_room()
                self._file.write(octets)
            except OSError as error:
                self._fail(error)
            else:
                self._facts.take(octets)
        self.octets += len(octets)

    def content(self) -> SpooledContent | None:
        """Return what was written, or None if it is not whole; nothing more may be written then."""
        file, self._file = self._file, None
        return SpooledContent(file, self.octets, self._facts) if file is not None else None

    def discard(self) -> None:
        """Give the file up. Safe to call twice."""
        self._file = None

    def _leave_room(self) -> None:
        if self.octets - self._checked_at < _CHECK_EVERY_OCTETS:
            return
        self._checked_at = self.octets
        disk = os.statvfs(self._folder)
        if disk.f_bavail * disk.f_frsize < self._reserve_octets:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _fail(self, error: OSError) -> None:
        self.failure = f"cannot be spooled: {self._folder}: {error.strerror or error}"
        self.discard()


class SpooledContent:
    """Octets in a spool file; implements `model.StoredContent`."""

    __slots__ = ("_file", "_octets", "is_ascii", "is_crlf", "sha256")

    def __init__(self, file: _File, octets: int, facts: _Facts) -> None:
        self._file = file
        self._octets = octets
        self.sha256 = facts.sha256.digest()
        self.is_ascii = facts.is_ascii
        self.is_crlf = facts.is_crlf

    def __len__(self) -> int:
        return self._octets

    def head(self, octets: int) -> bytes:
        """Return the first octets, at most so many; OSError when they cannot be read."""
        return self._file.read(0, min(octets, self._octets))

    def pieces(self, start: int = 0) -> Iterator[bytes]:
        """Yield the octets from `start` on; OSError when they cannot be read."""
        while start < self._octets:
            piece = self._file.read(start, min(PIECE_OCTETS, self._octets - start))
            start += len(piece)
            yield piece


class _File:
    """A descriptor that is closed when nobody refers to it any more."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __del__(self) -> None:
        with contextlib.suppress(OSError):  # a deferred write error: who cares has read the octets
            os.close(self._descriptor)

    def write(self, octets: bytes) -> None:
        view = memoryview(octets)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def read(self, start: int, octets: int) -> bytes:
        read = os.pread(self._descriptor, octets, start)
        if len(read) != octets:  # the disk lost some: what follows would be another message
            raise OSError(errno.EIO, "a spool file is shorter than what was written to it")
        return read


class _Facts:
    """What is learned of octets while they pass, and saves reading them again."""

    __slots__ = ("_before", "_last_two", "_lone", "is_ascii", "sha256")

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()
        self.is_ascii = True
        self._lone = False
        self._before = b""
        self._last_two = b""

    @property
    def is_crlf(self) -> bool:
        """Whether CRLF ends every line, and no CR or LF stands alone."""
        return not self._lone and self._last_two == b"\r\n"

    def take(self, octets: bytes) -> None:
        if not octets:
            return
        self.sha256.update(octets)
        self.is_ascii = self.is_ascii and octets.isascii()
        self._last_two = (self._last_two + octets[-2:])[-2:]
        if not self._lone:
            # A CR at the border waits for what follows it.
            held = octets.endswith(b"\r")
            starts_inside = self._before == b"\r"
            pairs = octets.count(b"\r\n") + (starts_inside and octets.startswith(b"\n"))
            returns = octets.count(b"\r") - held + starts_inside
            self._lone = not (pairs == octets.count(b"\n") == returns)
            self._before = b"\r" if held else b""
