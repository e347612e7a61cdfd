"""How many octets of fetched mail may be in memory at once, over all maildrops.

Without it the memory of the daemon would be the product of maildrops, prefetch
and message size, which is what the sender of the mail decides.

A message in a spool file counts only in part, but never for less than the largest
one that is held whole: so the budget also bounds how many lie in files at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from mailferry.model import Content

SPOOLED_OCTETS = 2**20
"""What a message in a file holds at least: pieces on their way in, and out to a few destinations."""


class MemoryBudget:
    """Octets that can be taken and given back; waiters are served in their order.

    A demand above the whole budget is met when nothing else is out: a large
    message must pass, but alone.
    """

    def __init__(self, limit_octets: int, *, spool_threshold_octets: int | None = None) -> None:
        """Take the limit, and the size above which messages lie in files (None: they never do)."""
        self.limit_octets = limit_octets
        self._most_octets = (
            None if spool_threshold_octets is None else max(spool_threshold_octets, SPOOLED_OCTETS)
        )
        self.in_use_octets = 0
        self._waiters: deque[tuple[int, Callable[[], None]]] = deque()

    def resize(self, limit_octets: int) -> None:
        """Let another limit hold from now on; what is out stays out, however much it is."""
        self.limit_octets = limit_octets
        self._grant()

    def share_of(self, octets: int) -> int:
        """Return what a message of this size is to take."""
        return octets if self._most_octets is None else min(octets, self._most_octets)

    def share_of_content(self, content: Content) -> int:
        """Return what a message takes that is here."""
        return len(content) if isinstance(content, bytes) else self.share_of(len(content))

    def take(self, octets: int, granted: Callable[[], None]) -> bool:
        """Take octets and return True, or return False and call `granted` later.

        When `granted` is called, the octets have been taken for the caller.
        """
        if not self._waiters and self._fits(octets):
            self.in_use_octets += octets
            return True
        self._waiters.append((octets, granted))
        return False

    async def reserve(self, octets: int) -> None:
        """Take octets as soon as they can be had; nothing is taken when the caller is cancelled."""
        taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def granted() -> None:
            if taken.cancelled():
                self.give_back(octets)
            else:
                taken.set_result(None)

        if self.take(octets, granted):
            return
        try:
            await taken
        except asyncio.CancelledError:
            if taken.cancelled():
                self.withdraw(granted)
            else:  # granted in the same moment
                self.give_back(octets)
            raise

    def withdraw(self, granted: Callable[[], None]) -> None:
        """Forget a demand that has not been granted, and let the next one try."""
        self._waiters = deque(entry for entry in self._waiters if entry[1] != granted)
        self._grant()

    def give_back(self, octets: int) -> None:
        """Return octets and grant what fits now."""
        self.in_use_octets -= octets
        self._grant()

    def _fits(self, octets: int) -> bool:
        return self.in_use_octets == 0 or self.in_use_octets + octets <= self.limit_octets

    def _grant(self) -> None:
        while self._waiters and self._fits(self._waiters[0][0]):
            octets, granted = self._waiters.popleft()
            self.in_use_octets += octets
            granted()
