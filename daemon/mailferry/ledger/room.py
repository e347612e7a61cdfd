"""Room for the last rows: a file that is given up when the disk is full.

What a next hop has accepted must be written down, full disk or not. The receipt
journal takes it first, into space of its own; this is the space for the rows
themselves. Once it is given up nothing new is begun until it could be taken again.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from mailferry.ledger.journal import allocate

RESERVE_OCTETS: Final = 4 << 20


class Reserve:
    """The file; belongs to the thread that writes the ledger."""

    def __init__(self, path: Path, octets: int = RESERVE_OCTETS) -> None:
        self._path = path
        self._octets = octets
        self.whole = False
        """Whether the room was there when last looked at."""

    def take(self) -> None:
        """Make sure that the room is there.

        Raises:
            OSError: it is not to be had.
        """
        if self.whole:
            return
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            allocate(fd, self._octets)
        finally:
            os.close(fd)
        self.whole = True

    def give_up(self) -> bool:
        """Give the room back to the disk; tell whether that freed any."""
        self.whole = False
        with contextlib.suppress(OSError):  # then nothing is freed, and the caller's failure stands
            if self._path.stat().st_size:
                os.truncate(self._path, 0)
                return True
        return False
