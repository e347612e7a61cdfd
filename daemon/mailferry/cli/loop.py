"""The event loop: uvloop's where it is installed (extra `uvloop`), asyncio's own otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run_in_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a new event loop."""
    with loop_runner() as runner:
        return runner.run(work)


def loop_runner() -> asyncio.Runner:
    """Return what runs several coroutines, one after the other, in one event loop; use it as a context."""
    return asyncio.Runner(loop_factory=_loop_factory())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        from uvloop import new_event_loop
    except ImportError:
        return asyncio.new_event_loop
    return new_event_loop
