"""How many POP3 sessions there may be at once, in all and to one host.

A place at the host is taken before a place in all, so that a crowd waiting for one
slow host does not take the places of the others.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class _Places:
    """A semaphore whose number may be changed while places are taken."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._waiters: deque[asyncio.Future[None]] = deque()

    def resize(self, limit: int) -> None:
        """Allow so many; those who are inside stay, whatever the number is."""
        self._limit = limit
        self._admit()

    async def acquire(self) -> None:
        """Take a place, or wait for one."""
        if self._taken < self._limit and not self._waiters:
            self._taken += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiters.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._waiters.remove(turn)
            else:  # given in the same moment
                self.release()
            raise

    def release(self) -> None:
        """Give a place back."""
        self._taken -= 1
        self._admit()

    def _admit(self) -> None:
        for turn in list(self._waiters):
            if self._taken >= self._limit:
                return
            if not turn.cancelled():  # it takes itself off the list
                self._waiters.remove(turn)
                self._taken += 1
                turn.set_result(None)


class SessionCaps:
    """Places for sessions; those who wait are served in their order."""

    def __init__(self, total: int, per_host: int) -> None:
        self.in_use = 0
        self.waiting = 0
        self._per_host_limit = per_host
        self._total = _Places(total)
        self._hosts: dict[str, _Places] = {}

    def resize(self, total: int, per_host: int) -> None:
        """Let other numbers hold from now on."""
        self._per_host_limit = per_host
        self._total.resize(total)
        for places in self._hosts.values():
            places.resize(per_host)

    @asynccontextmanager
    async def place(self, host: str) -> AsyncIterator[Callable[[], None]]:
        """Hold a place for a session to this host; yields a function that gives it back early."""
        at_host = self._hosts.setdefault(host.lower(), _Places(self._per_host_limit))
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

    async def _acquire(self, at_host: _Places) -> None:
        await at_host.acquire()
        try:
            await self._total.acquire()
        except BaseException:
            at_host.release()
            raise
