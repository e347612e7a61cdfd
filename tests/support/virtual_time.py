"""A loop whose time does not pass while there is something to do, and a clock that goes with it.

A test that waits for an hour takes no time, and a wait that nothing can end is an
error at once instead of a hang.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

START = 1_000_000.0
"""What the clock shows when a loop begins."""


class NothingWillHappenError(AssertionError):
    """All wait for ever: in production this would be a hang."""


class _Selector(selectors.SelectSelector):
    loop: VirtualTimeLoop

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout is None:
            raise NothingWillHappenError("no callback, no timer, no file: a hang")
        if not ready and timeout:
            self.loop.passed += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Time passes only when nothing is left to do, and then at once."""

    def __init__(self) -> None:
        self.passed = 0.0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.passed


def run(main: Coroutine[Any, Any, T], *, debug: bool = True) -> T:
    """Run a coroutine to its end in virtual time; a hang raises."""
    with asyncio.Runner(debug=debug, loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)


def timeless(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Make an asynchronous test run in virtual time."""

    @functools.wraps(test)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        run(test(*args, **kwargs))

    return wrapped


async def settle(rounds: int = 50) -> None:
    """Let everything happen that needs no time."""
    for _ in range(rounds):
        await asyncio.sleep(0)


class FakeClock:
    """A wall clock that goes with the loop and can be set."""

    def __init__(self, start: float = START) -> None:
        self.base = start

    def __call__(self) -> float:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return self.base
        return self.base + loop.time()
