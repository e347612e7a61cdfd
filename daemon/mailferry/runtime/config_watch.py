"""Watches the configuration's files, by looking at them every few seconds.

Polling sees what notifications of the kernel miss: network file systems, links that
are turned to another folder, bind mounts. A change counts when it has stood for one look, so
that a file is not read while it is being written. What was refused is tried again
when the files change once more.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Hashable

from mailferry.runtime.reload import Reload

_bugs = logging.getLogger("mailferry.bugs")

LOOK_SECONDS = 2.0


@contextlib.asynccontextmanager
async def watching(
    fingerprint: Callable[[], Hashable], reload: Reload, wanted: Callable[[], bool]
) -> AsyncIterator[None]:
    """Reload, as long as the block lasts, when the files have changed.

    Args:
        fingerprint: returns another value when a file has changed; called in a thread.
        reload: reads the configuration and puts it in force.
        wanted: whether to watch at the moment; a reload may change that.
    """
    task = asyncio.get_running_loop().create_task(
        _watch(fingerprint, reload, wanted), name="watch of the files"
    )
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled() and (error := task.exception()) is not None:
            _bugs.error("watch of the configuration", exc_info=error)


async def _watch(fingerprint: Callable[[], Hashable], reload: Reload, wanted: Callable[[], bool]) -> None:
    in_force = seen = await asyncio.to_thread(fingerprint)
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        if not wanted():
            continue
        now = await asyncio.to_thread(fingerprint)
        if now == seen and now != in_force:
            in_force = now
            await reload()
        seen = now
