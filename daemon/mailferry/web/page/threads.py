"""A few threads of the page's own: what somebody looks at must never hold up the mail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from mailferry.errors import MailferryError

THREADS = 2
MOST_WAITING = 24

P = ParamSpec("P")
T = TypeVar("T")


class PageBusyError(MailferryError):
    """Too many pages are asked for at once."""


class PageThreads:
    """Runs what blocks; so many wait for their turn at most."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="mailferry-page")
        self._under_way = 0

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do something that blocks.

        Raises:
            PageBusyError: too much waits already.
        """
        if self._under_way >= THREADS + MOST_WAITING:
            raise PageBusyError("too many pages are asked for at once; try again in a moment")
        self._under_way += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._pool, partial(work, *args, **kwargs)
            )
        finally:
            self._under_way -= 1

    def close(self) -> None:
        """Begin nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)
