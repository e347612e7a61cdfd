"""Peers that are not there: a port that refuses, and one whose connections nobody ever takes."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

_KNOCKS = 4


@contextlib.contextmanager
def refusing() -> Iterator[int]:
    """Give a port that refuses every connection, and keeps doing so."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can listen there
        port: int = bound.getsockname()[1]
        yield port


@contextlib.contextmanager
def unaccepting() -> Iterator[int]:
    """Give a port that answers no connection: its queue is full and nobody empties it."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(_KNOCKS):
            knocking = stack.enter_context(socket.socket())
            knocking.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                knocking.connect(listener.getsockname())
        port: int = listener.getsockname()[1]
        yield port
