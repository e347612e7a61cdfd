"""A network without sockets: a clock that is moved by hand, and a link whose far end is a function."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from mailferry.net.endpoint import Endpoint, TlsMode
from mailferry.net.link import Link

TIMEOUT_SECONDS = 10.0
ENDPOINT = Endpoint("peer.example.org", 110, TlsMode.NONE, timeout_seconds=TIMEOUT_SECONDS)

Answer = Callable[[bytes], bytes]
"""What the peer says to a line."""


class FakeTimer:
    """A timer of `FakeLoop`."""

    def __init__(self, when: float, callback: Callable[[], object]) -> None:
        self._when = when
        self.callback = callback
        self.cancelled = False

    def when(self) -> float:
        """When it is due."""
        return self._when

    def cancel(self) -> None:
        """Do not call."""
        self.cancelled = True


class FakeLoop:
    """As much of an event loop as a `Link` needs; time moves only in `advance`."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[FakeTimer] = []

    def time(self) -> float:
        """The time."""
        return self.now

    def call_later(self, delay: float, callback: Callable[[], object]) -> FakeTimer:
        """Call later."""
        timer = FakeTimer(self.now + delay, callback)
        self.timers.append(timer)
        return timer

    def call_soon(self, callback: Callable[..., object], *arguments: object) -> FakeTimer:
        """Call in the next `advance`."""
        return self.call_later(0.0, lambda: callback(*arguments))

    @property
    def pending(self) -> int:
        """How many timers are armed."""
        return sum(not timer.cancelled for timer in self.timers)

    def advance(self, seconds: float) -> None:
        """Let time pass; what falls due is called in order."""
        end = self.now + seconds
        while due := [each for each in self.timers if not each.cancelled and each.when() <= end]:
            timer = min(due, key=FakeTimer.when)
            self.timers.remove(timer)
            self.now = max(self.now, timer.when())
            timer.callback()
        self.now = end


class FakeTransport(asyncio.Transport):
    """Keeps what is written; `unsent` plays the octets that the peer has not taken yet."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.writes = 0
        self.unsent = 0
        self.reading = True
        self.aborted = 0
        self.on_write: Callable[[bytes], None] = lambda _data: None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep it."""
        self.written += data
        self.writes += 1
        self.on_write(bytes(data))

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        """Keep them, as one write."""
        self.write(b"".join(list_of_data))

    def get_write_buffer_size(self) -> int:
        """What the test says."""
        return self.unsent

    def pause_reading(self) -> None:
        """Note it."""
        self.reading = False

    def resume_reading(self) -> None:
        """Note it."""
        self.reading = True

    def abort(self) -> None:
        """Count it."""
        self.aborted += 1


class FakeWire:
    """A real `Link` over a fake transport and a fake clock.

    With `answer` the far end replies to every line that is written, in the next
    turn of the running loop; after `limit` octets it closes the link.
    """

    def __init__(
        self,
        answer: Answer | None = None,
        *,
        greeting: bytes = b"",
        limit: int | None = None,
        piece: int = 1 << 30,
        endpoint: Endpoint = ENDPOINT,
    ) -> None:
        self.loop = FakeLoop()
        self.link = Link(endpoint, self.loop)  # type: ignore[arg-type]  # all that it needs
        self.transport = FakeTransport()
        self.lines: list[bytes] = []
        self.said = 0
        self._answer = answer
        self._piece = piece
        self._limit = limit
        self._input = b""
        self.transport.on_write = self._heard
        self.link.connection_made(self.transport)
        if greeting:
            self._later(greeting)
        elif limit == 0:
            self._later(b"")

    @property
    def closed(self) -> bool:
        """Whether our side dropped the link."""
        return self.transport.aborted > 0

    def receive(self, data: bytes) -> None:
        """Let octets come from the peer."""
        self.link.data_received(data)

    def _heard(self, data: bytes) -> None:
        if self._answer is None:
            return
        *lines, self._input = (self._input + data).split(b"\r\n")
        for line in lines:
            self.lines.append(line)
            self._later(self._answer(line))

    def _later(self, data: bytes) -> None:
        asyncio.get_running_loop().call_soon(self._say, data)

    def _say(self, data: bytes) -> None:
        left = len(data) if self._limit is None else self._limit - self.said
        data, ends = data[:left], left <= len(data) and self._limit is not None
        self.said += len(data)
        for start in range(0, len(data), self._piece):
            self.link.data_received(data[start : start + self._piece])
        if ends:
            self.link.connection_lost(None)
