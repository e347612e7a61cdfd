"""How many messages lie in the quarantine, for a gauge that is read often.

The daemon counts its own additions. What commands and mail readers take away is
seen by counting the files anew, at most once a minute; who asks is in a thread
(a scrape), so that may block.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

RECOUNT_SECONDS = 60.0


class QuarantineTally:
    """Keeps a number; any thread may call it."""

    def __init__(self, count: Callable[[], int], now: Callable[[], float] = time.monotonic) -> None:
        self._count = count
        self._now = now
        self._lock = threading.Lock()
        self._number: int | None = None
        self._counted_at = 0.0

    def add_one(self) -> None:
        """Take note of a new message."""
        with self._lock:
            if self._number is not None:
                self._number += 1

    def __call__(self) -> float:
        """Return the number.

        Raises:
            QuarantineError: the folder cannot be read.
        """
        with self._lock:
            now = self._now()
            if self._number is None or now - self._counted_at >= RECOUNT_SECONDS:
                self._number = self._count()
                self._counted_at = now
            return self._number
