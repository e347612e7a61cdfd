"""How many octets of fetched mail may be in memory at once, over all maildrops.

Without it the memory of the daemon would be the product of maildrops, prefetch
and message size, which is what the sender of the mail decides.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable


class MemoryBudget:
    """Octets that can be taken and given back; waiters are served in their order.

    A demand above the whole budget is met when nothing else is out: a large
    message must pass, but alone.
    """

    def __init__(self, limit_octets: int) -> None:
        self.limit_octets = limit_octets
        self.in_use_octets = 0
        self._waiters: deque[tuple[int, Callable[[], None]]] = deque()

    def take(self, octets: int, granted: Callable[[], None]) -> bool:
        """Take octets and return True, or return False and call `granted` later.

        When `granted` is called, the octets have been taken for the caller.
        """
        if not self._waiters and self._fits(octets):
            self.in_use_octets += octets
            return True
        self._waiters.append((octets, granted))
        return False

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
