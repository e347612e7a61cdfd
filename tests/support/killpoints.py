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
}
"""Where a program can be killed from within: module, function, which end of the call."""


def die_at(order: dict[str, Any]) -> None:
    """Arrange for death at the `nth` (from 1) passage of a `point`."""
    module_name, path, end = POINTS[order["point"]]
    owner: Any = importlib.import_module(module_name)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    setattr(owner, name, _deadly(getattr(owner, name), end, order["nth"]))


def move_clock(seconds: float) -> None:
    """Let the program believe that so much time has passed: pauses from earlier runs are over."""
    real = time.time

    def moved() -> float:
        return real() + seconds

    time.time = moved
    # The program's own clock has taken hold of the real one already.
    app = importlib.import_module("mailferry.app")
    vars(app)["SystemClock"] = functools.partial(SystemClock, wall=moved)


def _deadly(function: Callable[..., Any], end: str, nth: int) -> Callable[..., Any]:
    passed = 0

    def pass_by(this_end: str) -> None:
        nonlocal passed
        if this_end == end:
            passed += 1
            if passed == nth:
                os.kill(os.getpid(), signal.SIGKILL)

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
