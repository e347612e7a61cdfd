"""The order of things: what waits to be sent, what is sent and unanswered, what was written.

Commands go out in the order in which they were put, and SMTP answers in that
order too, so two queues are the whole bookkeeping. Without PIPELINING (RFC
2920) one command is on its way at a time; with it everything that waits goes
at once, unless an order asks to be held back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from mailferry.protocol.smtp_commands import Command
from mailferry.protocol.smtp_replies import SmtpReply
from mailferry.protocol.smtp_transaction import TransactionRun

Awaiting = Literal["", "greeting", "ehlo", "mail", "rcpt", "data", "final", "command"]
"""What is being waited for, named so that RFC 5321 s.4.5.3.2 gives the deadline."""

Trace = Callable[[Literal["send", "reply", "note"], str], None]
"""Is told every line of the dialogue, secrets and content masked."""


@dataclass(slots=True, eq=False)
class Order:
    """One thing to write that will be answered by one reply.

    Attributes:
        on_reply: takes the reply.
        content: written after the line, as it is; its end is the end of the data.
        run: the transaction that it belongs to.
        command: the plain command that it is, for the trace.
        ready: asked while others are unanswered: may it go all the same?
    """

    awaiting: Awaiting
    line: bytes
    on_reply: Callable[[SmtpReply], None]
    run: TransactionRun | None = None
    content: Sequence[bytes] | None = None
    command: Command | None = None
    ready: Callable[[], bool] | None = None


class Pipeline:
    """The queues of one session."""

    __slots__ = ("_carried", "_out", "_sent", "_trace", "_waiting", "overlapping")

    def __init__(self, trace: Trace | None) -> None:
        self.overlapping = False
        self._waiting: deque[Order] = deque()
        self._sent: deque[Order] = deque()
        self._out: list[bytes] = []
        self._carried: list[TransactionRun] = []
        self._trace = trace

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
            if self._trace is not None:
                self._show(order, self._trace)
            if order.run is not None:
                order.run.outstanding += 1
                if order.content is not None:
                    self._carry(order.run, order.content, lines)
                    lines = []
        if lines:
            self._out.append(b"".join(lines))

    def _may_go(self, order: Order) -> bool:
        if not self._sent:
            return True
        return self.overlapping and (order.ready is None or order.ready())

    def _carry(self, run: TransactionRun, content: Sequence[bytes], lines: list[bytes]) -> None:
        """Write an order with content; the chunks stay the objects they are."""
        if line := b"".join(lines):
            self._out.append(line)
        self._out.extend(content)
        run.content_queued = True
        self._carried.append(run)

    def answered(self) -> Order | None:
        """Take the order that the next reply answers; None when no reply is due."""
        if not self._sent:
            return None
        order = self._sent.popleft()
        if order.run is not None:
            order.run.outstanding -= 1
        return order

    def abandon(self, run: TransactionRun) -> None:
        """Forget what the transaction has not sent yet."""
        if self._waiting:
            self._waiting = deque(order for order in self._waiting if order.run is not run)

    def drain(self) -> list[bytes]:
        """Hand over what was written; from here on its content counts as sent."""
        for run in self._carried:
            run.content_sent = True
        self._carried.clear()
        out, self._out = self._out, []
        return out

    def discard(self) -> None:
        """Forget everything: the session is over."""
        self._waiting.clear()
        self._sent.clear()
        self._out.clear()
        self._carried.clear()

    @staticmethod
    def _show(order: Order, trace: Trace) -> None:
        """Trace an order as it is written."""
        if order.command is not None:
            trace("send", order.command.trace)
        elif order.line:
            trace("send", order.line.decode("utf-8", "replace").rstrip("\r\n"))
        if order.content is not None:
            trace("note", f"{sum(map(len, order.content))} octets of content")
