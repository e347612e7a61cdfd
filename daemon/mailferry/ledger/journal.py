"""The receipt journal: what must survive `kill -9` before its row is synced.

Between a 250 and the synced row lie a queue, a transaction and an fsync. A note
closes that gap: one `pwrite` on the event loop's thread into space that is
already allocated, so that it neither waits nor needs room on the disk. There is
no fsync: the page cache outlives the process. It does not outlive a power
failure, which may therefore double what was delivered in the last
milliseconds (RFC 1047 explains why some such window always remains).

The rule for reuse: *a noted record is outstanding until an order that holds a
record with the same primary key, queued after the note, has been synced.* The
order carries the sequence number of the last note before it was queued; a
segment may be overwritten when it holds no outstanding record. The rule needs
nothing from the order in which callers note and commit, and a record that is
noted again moves to the newer frame, since records are rows written whole.

- A note that finds nothing outstanding in the active segment begins it anew
  under a new token; a quiet daemon keeps overwriting the same page.
- Under load the other segment takes over when the active one is more than half
  full and the other has nothing outstanding.
- Only if neither holds does the active segment grow, which a full disk can
  refuse; the next new beginning gives the space back.

Frames of rows that are synced long since may still be in a segment, and a
replay meets them. It compares numbers: a row bears that of the last note before it
was ordered, so a note with a higher one is newer.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mailferry.errors import StoreError
from mailferry.ledger.faults import store_error
from mailferry.ledger.frames import TOKEN_OCTETS, Note, build_frame, read_frames, read_note
from mailferry.ledger.rows import RecordKey, record_key
from mailferry.model import LedgerRecord

SEGMENT_OCTETS: Final = 1 << 20


class _Segment:
    """One preallocated file and how far its present use has come."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._grown = os.fstat(self._fd).st_size > size
        self.token = b""
        self.offset = 0
        self.outstanding = 0
        try:
            allocate(self._fd, size)
        except OSError:
            self.close()
            raise

    def read(self) -> bytes:
        """Return all octets; a grown segment is as large as what was outstanding."""
        return self._path.read_bytes()

    def rewind(self) -> None:
        """Begin anew: what the next frame does not overwrite no longer counts."""
        if self._grown:
            os.ftruncate(self._fd, self._size)
            self._grown = False
        self.token = os.urandom(TOKEN_OCTETS)
        self.offset = 0

    def append(self, frame: bytes) -> None:
        """Write one frame; after a failure the next one takes its place."""
        end = self.offset + len(frame)
        if end > self._size:
            self._grown = True
        written = os.pwrite(self._fd, frame, self.offset)
        while written < len(frame):  # a limit was met: the next call says which
            written += os.pwrite(self._fd, frame[written:], self.offset + written)
        self.offset = end

    def clear(self) -> None:
        """Make sure that a replay finds nothing here."""
        self.rewind()
        os.pwrite(self._fd, bytes(TOKEN_OCTETS), 0)

    def close(self) -> None:
        os.close(self._fd)


class ReceiptJournal:
    """Two segments, `<path>.0` and `<path>.1`, used in turn; the event loop's thread writes.

    The caller sees to it that no other process has the same journal open.
    """

    def __init__(self, path: Path, segment_octets: int = SEGMENT_OCTETS) -> None:
        self._path = path
        self._segment_octets = segment_octets
        self._segments: list[_Segment] = []
        self._active = 0
        self._outstanding: dict[RecordKey, tuple[int, int]] = {}
        self.sequence = 1
        """The number of the last note; an order is stamped with it when it is queued.

        Never 0: that is the stamp of rows of which nobody knows."""

    def open(self) -> list[Note]:
        """Allocate both segments and return what they hold, in the order it was noted.

        Raises:
            StoreError: no permission, no space, or notes of another version.
        """
        try:
            for number in (0, 1):
                path = self._path.with_name(f"{self._path.name}.{number}")
                self._segments.append(_Segment(path, self._segment_octets))
            frames = [frame for segment in self._segments for frame in read_frames(segment.read())]
        except OSError as error:
            self.close()
            raise store_error(error, f"{self._path}: receipt journal") from error
        try:
            notes = [read_note(frame) for frame in sorted(frames)]
        except StoreError as error:
            self.close()
            advice = "start the version that wrote it once, so that it can put them into the ledger"
            raise StoreError(f"{self._path}: receipt journal: {error}: {advice}") from error
        # Numbers go on rising, so that frames left behind sort before new ones.
        self.go_on_from(notes[-1].sequence if notes else 0)
        return notes

    def go_on_from(self, sequence: int) -> None:
        """Number later notes from there on: above every note that a row of the ledger knows."""
        self.sequence = max(self.sequence, sequence)

    def note(self, records: Sequence[LedgerRecord]) -> None:
        """Write records in one frame; when this returns, `kill -9` cannot lose them.

        Raises:
            StoreError: the segment had to grow and could not; nothing was noted.
        """
        if not self._segments:
            raise StoreError(f"{self._path}: the receipt journal is not open")
        sequence = self.sequence + 1
        try:
            segment = self._ready_segment()
            segment.append(build_frame(segment.token, sequence, records))
        except OSError as error:
            raise store_error(error, f"{self._path}: receipt journal") from error
        self.sequence = sequence
        for record in records:
            key = record_key(record)
            self._forget(key)
            self._outstanding[key] = (sequence, self._active)
            segment.outstanding += 1

    def holds(self, key: RecordKey, stamp: int) -> bool:
        """Tell whether a note not later than `stamp` waits for this row to be synced."""
        entry = self._outstanding.get(key)
        return entry is not None and entry[0] <= stamp

    def number_of(self, key: RecordKey) -> int:
        """Return the number of the note that waits for this row to be synced; 0 if none does."""
        return self._outstanding.get(key, (0, 0))[0]

    def release(self, key: RecordKey, stamp: int) -> None:
        """Take notice that an order stamped `stamp`, holding this row, is settled."""
        if self.holds(key, stamp):
            self._forget(key)

    def clear(self) -> None:
        """Wipe every segment that holds nothing outstanding, so that no replay meets old rows.

        Raises:
            StoreError: the file could not be written.
        """
        try:
            for segment in self._segments:
                if not segment.outstanding:
                    segment.clear()
        except OSError as error:
            raise store_error(error, f"{self._path}: receipt journal") from error

    def close(self) -> None:
        """Close the files and leave their octets; safe to call twice."""
        while self._segments:
            self._segments.pop().close()

    def _ready_segment(self) -> _Segment:
        segment = self._segments[self._active]
        if not segment.outstanding:
            segment.rewind()
        elif segment.offset > self._segment_octets // 2:
            other = self._segments[1 - self._active]
            if not other.outstanding:
                self._active = 1 - self._active
                segment = other
                segment.rewind()
        return segment

    def _forget(self, key: RecordKey) -> None:
        entry = self._outstanding.pop(key, None)
        if entry is not None:
            self._segments[entry[1]].outstanding -= 1


def allocate(fd: int, size: int) -> None:
    """Give the file blocks for `size` octets, keeping what it holds."""
    try:
        os.posix_fallocate(fd, 0, size)
    except (OSError, AttributeError) as error:
        # macOS has no such call, some file systems refuse it: zeros do as well.
        if isinstance(error, OSError) and error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
        present = os.fstat(fd).st_size
        if present < size:
            os.pwrite(fd, bytes(size - present), present)
