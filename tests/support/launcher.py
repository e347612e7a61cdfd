"""Starts the real program again and again without importing it again and again.

Run as `python -m support.launcher`. It has imported what the program imports and
forks one process for each order that stands as a JSON line on its standard input;
the child then runs the command line's `main` as `mailferry` would. It tells of
each start and each end on its standard output.

A child that has ended is not reaped before the order to do so: until then its
process id stays its own, and whoever kills by that number can hit nothing else.
When standard input ends, so do all children.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import time
from typing import Any, Final

# What a run of `once` imports while it runs; a fork finds it here.
PRELOADED: Final = (
    "alembic.command",
    "mailferry.app",
    "mailferry.cli.main",
    "mailferry.cli.once_report",
    "mailferry.ledger.reader",
    "rich.progress",
    "sqlalchemy.dialects.sqlite",
    "support.killpoints",
)
_READ_OCTETS = 65536


class Launcher:
    """The loop: orders in, words about children out."""

    def __init__(self) -> None:
        self._children: dict[int, int] = {}
        """Process id by order number."""
        self._ended: set[int] = set()
        self._kills: list[tuple[float, int]] = []
        self._input = b""
        self._selector = selectors.DefaultSelector()
        self._wakeup, self._alarm = socket.socketpair()

    def run(self) -> dict[str, Any] | None:
        """Serve until standard input ends; in a child return the order that it is to carry out."""
        self._listen()
        while True:
            for key, _ in self._selector.select(self._seconds_to_next_kill()):
                if key.fd == self._wakeup.fileno():
                    self._wakeup.recv(_READ_OCTETS)
                    self._tell_ends()
                    continue
                octets = os.read(0, _READ_OCTETS)
                if not octets:
                    self._end_all()
                    return None
                order = self._take(octets)
                if order is not None:
                    return order
            self._kill_what_is_due()

    def _listen(self) -> None:
        self._alarm.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._alarm.fileno(), warn_on_full_buffer=False)
        self._selector.register(self._wakeup, selectors.EVENT_READ)
        self._selector.register(0, selectors.EVENT_READ)

    def _take(self, octets: bytes) -> dict[str, Any] | None:
        *lines, self._input = (self._input + octets).split(b"\n")
        for line in lines:
            order: dict[str, Any] = json.loads(line)
            if order["do"] == "kill":
                self._kills.append((time.monotonic() + order["after_seconds"], order["number"]))
            elif order["do"] == "reap":
                os.waitpid(self._children.pop(order["number"]), 0)
            elif self._start(order):
                return order
        return None

    def _start(self, order: dict[str, Any]) -> bool:
        """Fork; tell whether this is the child."""
        child = os.fork()
        if child:
            self._children[order["number"]] = child
            _say({"number": order["number"], "pid": child})
            return False
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        self._wakeup.close()
        self._alarm.close()
        return True

    def _tell_ends(self) -> None:
        for number, child in self._children.items():
            if number in self._ended:
                continue
            how = os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if how is not None:
                self._ended.add(number)
                code = how.si_status if how.si_code == os.CLD_EXITED else -how.si_status
                _say({"number": number, "code": code})

    def _seconds_to_next_kill(self) -> float | None:
        if not self._kills:
            return None
        return max(min(due for due, _ in self._kills) - time.monotonic(), 0)

    def _kill_what_is_due(self) -> None:
        now = time.monotonic()
        for due, number in self._kills:
            if due <= now and number in self._children:
                os.kill(self._children[number], signal.SIGKILL)
        self._kills = [(due, number) for due, number in self._kills if due > now]

    def _end_all(self) -> None:
        for child in self._children.values():
            os.kill(child, signal.SIGKILL)
        for child in self._children.values():
            os.waitpid(child, 0)


def _say(words: dict[str, int]) -> None:
    os.write(1, json.dumps(words).encode("ascii") + b"\n")


def _carry_out(order: dict[str, Any]) -> None:
    """Be the program: with its own output, its own arguments, and what the test has prepared."""
    output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(output)
    for name, argument in order["prepare"].items():
        module, _, function = name.partition(":")
        getattr(importlib.import_module(module), function)(argument)
    from mailferry.cli.main import main  # noqa: PLC0415  -- as late as the program's own entry does

    sys.argv[0] = "mailferry"
    main(order["arguments"])


if __name__ == "__main__":
    for _name in PRELOADED:
        importlib.import_module(_name)
    gc.freeze()  # what is shared stays shared
    _order = Launcher().run()
    if _order is not None:
        _carry_out(_order)
