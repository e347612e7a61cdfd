"""The log of changes: every row that was written since the last good copy.

A copy and the log together are the ledger once more, to the last commit. A frame
is appended inside the transaction, before its COMMIT: what the ledger has, the log
has. It may have one more, of a transaction that the death of the process cut
off; that says nothing but what had happened.

The database's write lock guards the log: whoever appends (the daemon, a command
beside it) holds it, and the number of each frame is that of the ledger's
position. There is no fsync per frame, since the page cache outlives the process;
after the death of the machine a ledger that is ahead of its log is copied anew.

A frame that cannot be appended fails its transaction, as a full disk would.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Final

from sqlalchemy import BigInteger, Connection, bindparam, case, select, update

from mailferry.errors import StoreError
from mailferry.ledger.faults import store_error
from mailferry.ledger.files import LedgerFiles, sync
from mailferry.ledger.frames import TOKEN_OCTETS, Frame, Stamped, build_change, read_log
from mailferry.ledger.schema import POSITION

_POSITION: Final = select(POSITION.c.sequence, POSITION.c.noted)
_STAMP: Final = bindparam("stamp", type_=BigInteger)
_ADVANCE: Final = update(POSITION).values(
    sequence=POSITION.c.sequence + 1,
    noted=case((POSITION.c.noted < _STAMP, _STAMP), else_=POSITION.c.noted),
)

SYNC_SECONDS: Final = 10.0
"""What the death of the machine may take from the log; the ledger loses nothing by it."""


class ChangeLog:
    """Appends to the newest log; belongs to the thread that writes the ledger."""

    def __init__(self, files: LedgerFiles) -> None:
        self.size_octets = 0
        self._files = files
        self._path: Path | None = None
        self._fd = -1
        self._token = b""
        self._whole_octets: int | None = None
        """How long the log was before the transaction that is under way."""
        self._synced_at = 0.0

    @property
    def path(self) -> Path | None:
        """The log that is being written; None while there is none."""
        return self._path

    @property
    def has_changes(self) -> bool:
        """Whether it holds more than its beginning."""
        return self.size_octets > len(build_change(self._token, 0, ()))

    def go_on(self) -> None:
        """Append to the newest log from now on, if there is one."""
        newest = self._files.logs()[-1:]
        if [self._path] != newest:
            self.close()
            if newest:
                self._open(newest[0], os.O_RDWR)

    def begin(self, sequence: int) -> None:
        """Begin a new log behind the change with that number, synced.

        Raises:
            OSError: it could not be made; the present one goes on.
        """
        self.sync()  # first: a log beside the one that goes on would end the chain too soon
        path = self._files.next_log()
        token = os.urandom(TOKEN_OCTETS)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, build_change(token, sequence, ()))
            os.fsync(fd)
        except OSError:
            path.unlink()
            raise
        finally:
            os.close(fd)
        self.close()
        self._open(path, os.O_RDWR)
        sync(path.parent)

    def append(self, connection: Connection, rows: Collection[Stamped]) -> None:
        """Number a change and put its rows down; part of the caller's transaction.

        Raises:
            StoreError: there was no room; the transaction must not be committed.
        """
        sequence = _advance(connection, max(row.stamp for row in rows))
        if self._path is None:
            return
        frame = build_change(self._token, sequence, rows)
        try:
            if self._whole_octets is None:
                self._whole_octets = os.fstat(self._fd).st_size
            written = os.write(self._fd, frame)
            while written < len(frame):  # a limit was met: the next call says which
                written += os.write(self._fd, frame[written:])
        except OSError as error:
            raise store_error(error, f"{self._path}: log of changes") from error
        self.size_octets = self._whole_octets + len(frame)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Take back what was appended when the transaction inside comes to nothing."""
        self._whole_octets = None
        try:
            yield
        except BaseException:
            self._take_back()
            raise
        finally:
            self._whole_octets = None

    def _take_back(self) -> None:
        if self._whole_octets is not None:
            # What stays behind if that fails does no harm: it is no frame, or says what nearly was.
            with suppress(OSError):
                os.ftruncate(self._fd, self._whole_octets)
            self.size_octets = self._whole_octets

    def sync_in_time(self) -> None:
        """Sync, if that was long ago."""
        if time.monotonic() - self._synced_at >= SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        """Let what was appended survive the death of the machine.

        Raises:
            OSError: it could not be written.
        """
        self._synced_at = time.monotonic()
        if self._path is not None:
            os.fsync(self._fd)

    def give_up(self) -> None:
        """Remove all logs: without them no copy passes for one that can be brought up.

        Raises:
            OSError: one could not be removed.
        """
        self.close()
        self.size_octets = 0
        for log in self._files.logs():
            log.unlink()

    def close(self) -> None:
        """Let go of the file; safe to call twice."""
        if self._path is not None:
            os.close(self._fd)
        self._path = None

    def _open(self, path: Path, flags: int) -> None:
        self._fd = os.open(path, flags | os.O_APPEND | os.O_CLOEXEC)
        self._path = path
        self._token = os.pread(self._fd, TOKEN_OCTETS, 0)
        self.size_octets = os.fstat(self._fd).st_size


@dataclass(frozen=True, slots=True)
class Chain:
    """What all logs hold together.

    Attributes:
        frames: in the order in which they were written.
        first: the number of the last change before the oldest log.
        last: the number of the newest change.
        lost_octets: what could not be read between frames.
        unreadable: whether a log has not a single frame that can be read.
        gaps: the numbers before and behind each place where changes are missing.
        disordered: whether a number is followed by a lower one: a command has changed a ledger
            that lacked changes of its log.
    """

    frames: tuple[Frame, ...] = ()
    first: int = 0
    last: int = -1
    lost_octets: int = 0
    unreadable: bool = False
    gaps: tuple[tuple[int, int], ...] = ()
    disordered: bool = False

    def complete_from(self, sequence: int) -> bool:
        """Whether every change after that number is here."""
        covered = self.first <= sequence <= self.last and not self.unreadable
        return covered and all(after <= sequence for _, after in self.gaps)

    def between(self, after: int, up_to: int) -> Iterable[Frame]:
        """Return the changes after one number, up to and with another."""
        return (frame for frame in self.frames if after < frame.sequence <= up_to)


def read_chain(logs: Iterable[Path]) -> Chain:
    """Read logs, oldest first.

    Raises:
        StoreError: one could not be read at all.
    """
    frames: list[Frame] = []
    lost, unreadable = 0, False
    for path in logs:
        try:
            log = path.read_bytes()
        except OSError as error:
            raise store_error(error, f"{path}: log of changes") from error
        found, unread = read_log(log)
        frames += found
        lost += unread
        unreadable = unreadable or bool(log and not found)
    if not frames:
        return Chain(lost_octets=lost, unreadable=unreadable)
    numbers = [frame.sequence for frame in frames]
    highest = list(accumulate(numbers, max))
    steps = list(zip(highest, numbers[1:], strict=False))
    gaps = tuple((before, after) for before, after in steps if after > before + 1)
    disordered = any(after < before for before, after in steps)
    return Chain(tuple(frames), numbers[0], highest[-1], lost, unreadable, gaps, disordered)


def mend_tail(path: Path) -> None:
    """Cut off what the death of a process left behind the last whole frame of a log.

    Raises:
        OSError: it could not be cut.
    """
    log = path.read_bytes()
    frames, lost = read_log(log)
    whole = sum(frame.octets for frame in frames) + lost
    if whole < len(log):
        os.truncate(path, whole)


def position(connection: Connection) -> tuple[int, int]:
    """Return the number of the ledger's last change, and the highest number of a note in it.

    Raises:
        StoreError: the ledger has no position, which only damage can bring about.
    """
    row = connection.execute(_POSITION).one_or_none()
    if row is None:
        raise StoreError("the ledger has lost its position")
    return row.sequence, row.noted


def set_position(connection: Connection, sequence: int, noted: int) -> None:
    """Let these be the ledger's numbers."""
    connection.execute(update(POSITION).values(sequence=sequence, noted=noted))


def touch(connection: Connection) -> None:
    """Change a row and change it back, to see that writing works.

    A row that is overwritten by itself SQLite does not write at all.
    """
    for step in (1, -1):
        connection.execute(update(POSITION).values(noted=POSITION.c.noted + step))


def _advance(connection: Connection, stamp: int) -> int:
    connection.execute(_ADVANCE, {"stamp": stamp})
    return position(connection)[0]
