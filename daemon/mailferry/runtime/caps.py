"""How many POP3 sessions there may be at once, in all and to one host.

A place at the host is taken before a place in all, so that a crowd waiting for one
slow host does not take the places of the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class SessionCaps:
    """Places for sessions; those who wait are served in their order."""

    def __init__(self, total: int, per_host: int) -> None:
        self.in_use = 0
        self.waiting = 0
        self._per_host_limit = per_host
        self._total = asyncio.Semaphore(total)
        self._hosts: dict[str, asyncio.Semaphore] = {}

    @asynccontextmanager
    async def place(self, host: str) -> AsyncIterator[None]:
        """Hold a place for a session to this host."""
        at_host = self._hosts.setdefault(host.lower(), asyncio.Semaphore(self._per_host_limit))
        self.waiting += 1
        entered = False
        try:
            async with at_host, self._total:
                self.waiting -= 1
                self.in_use += 1
                entered = True
                yield
        finally:
            if entered:
                self.in_use -= 1
            else:
                self.waiting -= 1
