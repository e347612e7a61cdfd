"""How late the event loop is: what keeps it busy for long keeps everybody waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

LOOK_SECONDS = 1.0


class LoopLag:
    """Asks to be called once a second and tells how much later that was."""

    def __init__(self, tell: Callable[[float], None]) -> None:
        self._tell = tell
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to measure."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(loop.time() + LOOK_SECONDS, self._look, loop.time() + LOOK_SECONDS)

    def stop(self) -> None:
        """End it; safe to call twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, due: float) -> None:
        self._tell(max(asyncio.get_running_loop().time() - due, 0.0))
        self.start()
