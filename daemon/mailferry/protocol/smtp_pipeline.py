"""The order of things: what waits to be sent, what is sent and unanswered, what was written.

Commands go out in the order in which they were put, and SMTP answers in that
order too, so two queues are the whole bookkeeping. Without PIPELINING (RFC
2920) one command is on its way at a time; with it everything that waits goes
at once, unless an order asks to be held back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from mailferry.protocol.smtp_commands import Command
from mailferry.protocol.smtp_replies import SmtpReply
from mailferry.protocol.smtp_transaction import TransactionRun
from mailferry.protocol.tracing import Trace, switch_of

DRAIN_OCTETS = 256 * 1024
"""How much of a stream is written at a time; what is in memory anyway is written as a whole."""

Awaiting = Literal["", "greeting", "ehlo", "mail", "rcpt", "data", "final", "command"]
"""What is being waited for, named so that RFC 5321 s.4.5.3.2 gives the deadline."""


@dataclass(slots=True, eq=False)
class Order:
    """One thing to write that will be answered by one reply.

    Attributes:
        on_reply: takes the reply.
        content: written after the line, as it is; its end is the end of the data.
        stream: content that is read only as fast as the transport takes it.
        content_octets: how many that are, for the trace.
        run: the transaction that it belongs to.
        command: the plain command that it is, for the trace.
        ready: asked while others are unanswered: may it go all the same?
    """

    awaiting: Awaiting
    line: bytes
    on_reply: Callable[[SmtpReply], None]
    run: TransactionRun | None = None
    content: Sequence[bytes] | None = None
    stream: Iterator[bytes] | None = None
    content_octets: int = 0
    command: Command | None = None
    ready: Callable[[], bool] | None = None


class _Stream:
    """Content that is read while it is written; it knows which piece is the last one."""

    __slots__ = ("_next", "_pieces", "run")

    def __init__(self, run: TransactionRun, pieces: Iterator[bytes]) -> None:
        self.run = run
        self._pieces = pieces
        self._next: bytes | None = b""

    @property
    def ended(self) -> bool:
        """Whether the last piece has been taken; known at once, since it decides what is in doubt."""
        return self._next is None

    def take(self) -> bytes:
        """Return the next piece; OSError when what comes after it cannot be read."""
        piece, self._next = self._next, next(self._pieces, None)
        return piece or b""


class Pipeline:
    """The queues of one session."""

    __slots__ = (
        "_behind",
        "_carried",
        "_out",
        "_sent",
        "_stream",
        "_trace",
        "_traced",
        "_waiting",
        "overlapping",
    )

    def __init__(self, trace: Trace | None) -> None:
        self.overlapping = False
        self._waiting: deque[Order] = deque()
        self._sent: deque[Order] = deque()
        self._out: list[bytes] = []
        self._stream: _Stream | None = None
        self._behind: list[bytes] = []
        self._carried: list[TransactionRun] = []
        self._trace = trace
        self._traced = switch_of(trace)

    @property
    def idle(self) -> bool:
        """Nothing waits to be sent and nothing to be answered."""
        return not self._sent and not self._waiting

    @property
    def awaiting(self) -> Awaiting:
        """What the next reply will answer."""
        return self._sent[0].awaiting if self._sent else ""

    def put(self, *orders: Order) -> None:
        """Put orders at the end and write what may go."""
        self._waiting.extend(orders)
        self.pump()

    def pump(self) -> None:
        """Write what may go now."""
        waiting, lines = self._waiting, []
        while waiting and self._may_go(waiting[0]):
            order = waiting.popleft()
            self._sent.append(order)
            lines.append(order.line)
            if self._trace is not None and self._traced.on:
                self._show(order, self._trace)
            if order.run is not None:
                order.run.outstanding += 1
                if order.content is not None or order.stream is not None:
                    self._carry(order, order.run, lines)
                    lines = []
        if lines:
            self._write([b"".join(lines)])

    def _may_go(self, order: Order) -> bool:
        if not self._sent:
            return True
        return self.overlapping and (order.ready is None or order.ready())

    def _carry(self, order: Order, run: TransactionRun, lines: list[bytes]) -> None:
        """Write an order with content; the chunks stay the objects they are."""
        if line := b"".join(lines):
            self._write([line])
        run.content_queued = True
        if order.stream is not None:
            self._stream = _Stream(run, order.stream)
        elif order.content is not None:
            self._write(order.content)
            self._carried.append(run)

    def _write(self, octets: Sequence[bytes]) -> None:
        """Put octets behind everything that was written before."""
        # Nothing with content comes behind a stream: the next run's waits for the reply to it.
        (self._out if self._stream is None else self._behind).extend(octets)

    def answered(self) -> Order | None:
        """Take the order that the next reply answers; None when no reply is due."""
        if not self._sent:
            return None
        order = self._sent.popleft()
        if order.run is not None:
            order.run.outstanding -= 1
        return order

    def expect(self, order: Order) -> None:
        """Expect a further reply, before all others, to what was sent already."""
        self._sent.appendleft(order)
        if order.run is not None:
            order.run.outstanding += 1

    def abandon(self, run: TransactionRun) -> None:
        """Forget what the transaction has not sent yet."""
        if self._waiting:
            self._waiting = deque(order for order in self._waiting if order.run is not run)

    @property
    def streaming(self) -> bool:
        """Whether there is more to write than `drain` hands over at once."""
        return self._stream is not None

    def drain(self) -> list[bytes]:
        """Hand over what was written; from here on its content counts as sent.

        Of a stream a piece is handed over; what was written after it waits for its end.

        Raises:
            OSError: a stream cannot be read.
        """
        if self._stream is not None:
            self._read_on(self._stream)
        for run in self._carried:
            run.content_sent = True
        self._carried.clear()
        out, self._out = self._out, []
        return out

    def _read_on(self, stream: _Stream) -> None:
        octets = 0
        while octets < DRAIN_OCTETS and not stream.ended:
            if piece := stream.take():
                octets += len(piece)
                self._out.append(piece)
        if stream.ended:
            self._carried.append(stream.run)
            self._stream = None
            self._out += self._behind
            self._behind.clear()

    def discard(self) -> None:
        """Forget everything: the session is over."""
        self._waiting.clear()
        self._sent.clear()
        self._out.clear()
        self._stream = None
        self._behind.clear()
        self._carried.clear()

    @staticmethod
    def _show(order: Order, trace: Trace) -> None:
        """Trace an order as it is written."""
        if order.command is not None:
            trace("send", order.command.trace)
        elif order.line:
            trace("send", order.line.decode("utf-8", "replace").rstrip("\r\n"))
        if order.content is not None or order.stream is not None:
            trace("note", f"{order.content_octets} octets of content")
