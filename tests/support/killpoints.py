"""What a forked program does before it becomes the program: it learns where to die.

The product has no fail points. Here, in the process of the test's program only,
a function of it is wrapped so that its n-th call ends with SIGKILL: before it
does anything (`before`) or once it has done everything (`after`).
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import signal
import time
from collections.abc import Callable
from typing import Any, Final

from mailferry.runtime.clock import SystemClock

POINTS: Final[dict[str, tuple[str, str, str]]] = {
    "250 read, not noted": ("mailferry.ledger.store", "SqlLedger.note", "before"),
    "noted, not ordered": ("mailferry.ledger.store", "SqlLedger.note", "after"),
    "ordered, not written": ("mailferry.ledger.store", "SqlLedger.commit", "after"),
    "transaction begun": ("mailferry.ledger.worker", "write_records", "before"),
    "rows written, not committed": ("mailferry.ledger.worker", "write_records", "after"),
    "committed, nobody told": ("mailferry.ledger.store", "SqlLedger._settle", "before"),
    "told, no DELE": ("mailferry.services.deletions", "Deletions.mark", "before"),
    "DELE ordered": ("mailferry.services.deletions", "Deletions.mark", "after"),
    "QUIT not sent": ("mailferry.net.pop3_session", "Pop3Session.quit", "before"),
    "QUIT confirmed, no row": ("mailferry.net.pop3_session", "Pop3Session.quit", "after"),
    "notes read": ("mailferry.ledger.journal", "ReceiptJournal.open", "after"),
    "notes written, not committed": ("mailferry.ledger.store", "replay_records", "after"),
    "notes replayed, not wiped": ("mailferry.ledger.store", "SqlLedger._replay", "after"),
    "ledger closed": ("mailferry.ledger.store", "SqlLedger.close", "after"),
    "copy not begun": ("mailferry.ledger.copies", "copy_database", "before"),
    "copy made, not named": ("mailferry.ledger.copies", "copy_database", "after"),
    "copy before moved away": ("mailferry.ledger.copies", "replace_file", "before"),
    "copy named": ("mailferry.ledger.copies", "replace_file", "after"),
    "change log begun": ("mailferry.ledger.changes", "ChangeLog.begin", "after"),
    "change logged, not committed": ("mailferry.ledger.changes", "ChangeLog.append", "after"),
}
"""Where a program can be killed from within: module, function, which end of the call."""


def die_at(order: dict[str, Any]) -> None:
    """Arrange for death at the `nth` (from 1) passage of a `point`, counted from the passage of `since` on."""
    state = _Countdown(order["nth"], begun="since" not in order)
    if "since" in order:
        _wrap(order["since"], state.begin)
    _wrap(order["point"], state.passed)


class _Countdown:
    """Counts passages down to the deadly one."""

    def __init__(self, left: int, *, begun: bool) -> None:
        self._left = left
        self._begun = begun

    def begin(self) -> None:
        """Let passages count from now on."""
        self._begun = True

    def passed(self) -> None:
        """Count one; the last one kills."""
        self._left -= self._begun
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)


def _wrap(point: str, passed: Callable[[], None]) -> None:
    module_name, path, end = POINTS[point]
    owner: Any = importlib.import_module(module_name)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    setattr(owner, name, _watched(getattr(owner, name), end, passed))


def move_clock(seconds: float) -> None:
    """Let the program believe that so much time has passed: pauses from earlier runs are over."""
    real = time.time

    def moved() -> float:
        return real() + seconds

    time.time = moved
    # The program's own clock has taken hold of the real one already.
    app = importlib.import_module("mailferry.app")
    vars(app)["SystemClock"] = functools.partial(SystemClock, wall=moved)


def _watched(function: Callable[..., Any], end: str, passed: Callable[[], None]) -> Callable[..., Any]:
    def pass_by(this_end: str) -> None:
        if this_end == end:
            passed()

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def wrapped_coroutine(*arguments: Any, **named: Any) -> Any:
            pass_by("before")
            result = await function(*arguments, **named)
            pass_by("after")
            return result

        return wrapped_coroutine

    @functools.wraps(function)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        pass_by("before")
        result = function(*arguments, **named)
        pass_by("after")
        return result

    return wrapped
