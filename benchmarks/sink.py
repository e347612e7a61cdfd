"""Asking the sink what has come."""

from __future__ import annotations

import socket
import time

from benchmarks.mail import parse_record

_ANSWER_SECONDS = 60.0
_STEP_SECONDS = 0.01


def take_arrivals(port: int) -> list[tuple[int, str]]:
    """Return number and digest of each message that came since this was last asked."""
    return [parse_record(line) for line in _ask(port, "XTAKE")[:-1]]


def await_arrivals(port: int, count: int, seconds: float) -> None:
    """Give the sink a moment to read what is still on its way, at best until `count` messages came."""
    deadline = time.monotonic() + seconds
    while int(_ask(port, "XCOUNT")[0]) < count and time.monotonic() < deadline:
        time.sleep(_STEP_SECONDS)


def _ask(port: int, verb: str) -> list[str]:
    """Return the lines of the reply, without code."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=_ANSWER_SECONDS) as link,
        link.makefile("rb") as replies,
    ):
        replies.readline()  # the greeting
        link.sendall(verb.encode("ascii") + b"\r\n")
        lines = []
        while True:
            line = replies.readline().decode("ascii")
            if not line:
                raise ConnectionError("the sink has gone")
            lines.append(line[4:].rstrip())
            if line[3] == " ":
                return lines
