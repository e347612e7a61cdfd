"""How many POP3 sessions there may be at once, in all and to one host.

A place at the host is taken before a place in all, so that a crowd waiting for one
slow host does not take the places of the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
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
    async def place(self, host: str) -> AsyncIterator[Callable[[], None]]:
        """Hold a place for a session to this host; yields a function that gives it back early."""
        at_host = self._hosts.setdefault(host.lower(), asyncio.Semaphore(self._per_host_limit))
        self.waiting += 1
        try:
            await self._acquire(at_host)
        finally:
            self.waiting -= 1
        self.in_use += 1
        held = True

        def leave() -> None:
            nonlocal held
            if held:
                held = False
                self.in_use -= 1
                self._total.release()
                at_host.release()

        try:
            yield leave
        finally:
            leave()

    async def _acquire(self, at_host: asyncio.Semaphore) -> None:
        await at_host.acquire()
        try:
            await self._total.acquire()
        except BaseException:
            at_host.release()
            raise
