"""Drives the POP3 core over a link: commands in, replies out, in order.

Requests wait in a queue; as many as pipelining allows are on the wire. All that
becomes sendable while one chunk of the peer is being handled leaves in one write.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import NoReturn

from mailferry.errors import (
    ConnectionLostError,
    MailferryError,
    ProtocolError,
    ReadTimeoutError,
    RemoteProtocolError,
    TransportError,
)
from mailferry.net.link import LEAST_RATE_OCTETS_PER_SECOND, Link
from mailferry.net.trace import Trace, no_trace, octets_note, switch_of
from mailferry.protocol.framing import BodySink
from mailferry.protocol.pop3 import Continuation, Event, Greeting, Pop3Connection, Pop3Limits, Reply
from mailferry.protocol.pop3_commands import Capa, Command

Answer = Reply | Continuation
Done = Callable[[Answer | None], None]
"""Takes the answer to a command, or None when the session died before it."""

_TRACED_LINES, _TRACED_CHARACTERS = 64, 200
"""How much of a capability list the trace shows; both are far above what servers announce."""

_PIPELINE_DEPTH = 128
"""Commands on the wire at once: far below what would fill a socket buffer (RFC 2449 s.6.6)."""

_PATIENCE = 30
"""A session is given up when its replies have been late, in all, by so many times the timeout."""

_QUICK_SECONDS = 2.0
"""No reply that comes within this time is late, nor one of many octets at the least rate."""


class Pop3Dialogue:
    """One POP3 session's commands and replies."""

    def __init__(
        self,
        link: Link,
        *,
        limits: Pop3Limits,
        trace: Trace = no_trace,
        new_sink: Callable[[], BodySink] | None = None,
        clean: Callable[[str], str] = str,
    ) -> None:
        self.core = Pop3Connection(limits, new_sink, clean)
        self.failure: MailferryError | None = None
        self.pipelining = False
        """Set by the owner once the server has offered it."""
        self._link = link
        self._trace = trace
        self._traced = switch_of(trace)
        self._loop = asyncio.get_running_loop()
        self._greeting: asyncio.Future[Greeting] = self._loop.create_future()
        self._waiting: deque[tuple[Command, Done]] = deque()
        self._on_wire: deque[Done] = deque()
        self._flush_scheduled = False
        self._handling = False
        self._asked_at = 0.0
        self._received_octets = 0
        self._late_seconds = 0.0
        link.reply_octets = lambda: self.core.receiving_octets

    @property
    def link(self) -> Link:
        """The connection below."""
        return self._link

    async def greeting(self) -> Greeting:
        """Begin to read and wait for the greeting.

        Raises:
            TransportError, ProtocolError: it did not come, or is none.
        """
        self._asked_at = self._loop.time()
        self._link.expect("the greeting")
        self._link.attach(self)
        return await self._greeting

    def submit(self, command: Command, done: Done) -> None:
        """Queue a command; `done` is called exactly once."""
        if self.failure is not None:
            self._loop.call_soon(done, None)
            return
        self._waiting.append((command, done))
        if not self._handling and not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    def request(self, command: Command) -> asyncio.Future[Answer | None]:
        """Queue a command; the future has its answer, or None when the session died before it.

        What is requested in one go leaves in one write, where the server pipelines.
        """
        answered: asyncio.Future[Answer | None] = self._loop.create_future()

        def done(answer: Answer | None) -> None:
            if not answered.done():
                answered.set_result(answer)

        self.submit(command, done)
        return answered

    async def ask(self, command: Command) -> Answer:
        """Send a command and wait for its answer.

        Raises:
            TransportError, ProtocolError: the session died.
        """
        return self._answer(await self.request(command))

    async def reply(self, request: asyncio.Future[Answer | None]) -> Reply:
        """Wait for the answer to what was requested, which is to be a reply; raises as `ask`."""
        answer = self._answer(await request)
        if not isinstance(answer, Reply):
            raise self.fail(RemoteProtocolError(f"a challenge in answer to {answer.command.verb}"))
        return answer

    async def command(self, command: Command) -> Reply:
        """Send a command that is answered by a reply, not by a challenge."""
        return await self.reply(self.request(command))

    def group_login(self) -> None:
        """Send the login, and what is asked right after it, as one group: the server pipelines (RFC 2449 s.6.6)."""
        self.pipelining = self.core.groups_login = True

    def _answer(self, answer: Answer | None) -> Answer:
        if answer is None:
            raise self.failure or RemoteProtocolError("the session ended before the reply")
        return answer

    async def start_tls(self) -> None:
        """Put TLS on the link after STLS was accepted (RFC 2595 s.4).

        Raises:
            TlsError: the handshake failed.
            RemoteProtocolError: the server sent octets before the handshake.
        """
        if self._traced.on:
            self._trace("note", "TLS handshake")
        try:
            await self._link.start_tls()
            self.core.tls_established()
        except MailferryError as error:
            self.fail_with(error)

    def fail_with(self, error: MailferryError) -> NoReturn:
        """End the session for this reason and raise the one that stands."""
        failure = self.fail(error)
        if failure is error:
            raise error
        raise failure from error

    def fail(self, error: MailferryError) -> MailferryError:
        """End the session for this reason; returns the reason that stands."""
        if self.failure is None:
            # Its traceback would keep this session, and what is buffered, until the next collection.
            self.failure = error.with_traceback(None)
            if self._traced.on:
                self._trace("note", f"session ended: {error}")
            self._link.close()
            self._abandon()
        return self.failure

    def end(self) -> None:
        """Close the link after the answer to QUIT, with which the trace ends."""
        if self.failure is None:
            self.failure = ConnectionLostError("the session has ended with QUIT")
            self._link.close()
            self._abandon()

    # The link's side

    def data_received(self, data: bytes) -> None:
        """Feed the core and hand its events out."""
        failure: MailferryError | None = None
        self._received_octets += len(data)
        unfinished_octets = self.core.receiving_octets + len(data)
        try:
            events: Sequence[Event] = self.core.receive_data(data)
        except ProtocolError as error:
            # Replies that were complete before the offence still count.
            events, failure = self.core.events_before_failure, error
        self._handling = True
        try:
            for event in events:
                self._handle(event)
        finally:
            self._handling = False
        # Octets that complete nothing are not progress: a peer could drip for ever.
        answered = self.core.receiving_octets != unfinished_octets
        if answered:
            failure = failure or self._out_of_patience()
        if failure is not None:
            self.fail(failure)
        self._flush(answered=answered)

    def link_lost(self, error: TransportError) -> None:
        """The link died: so does the session."""
        self.fail(error)

    def _out_of_patience(self) -> ReadTimeoutError | None:
        """Add up by how much replies come late: each in its time, all together could take days."""
        due_after = _QUICK_SECONDS + self._received_octets / LEAST_RATE_OCTETS_PER_SECOND
        self._late_seconds += max(self._loop.time() - self._asked_at - due_after, 0.0)
        self._received_octets = 0
        endpoint = self._link.endpoint
        if self._late_seconds <= _PATIENCE * endpoint.timeout_seconds:
            return None
        return ReadTimeoutError(
            f"{endpoint}: every reply came in its time, but they were late by {self._late_seconds:.0f} s in all"
        )

    def _handle(self, event: Event) -> None:
        self._trace_event(event)
        if isinstance(event, Greeting):
            if not self._greeting.done():  # who waited for it may just have been cancelled
                self._greeting.set_result(event)
        elif self._on_wire:
            self._on_wire.popleft()(event)

    def _flush(self, *, answered: bool = False) -> None:
        self._flush_scheduled = False
        if self.failure is not None:
            return
        still_due = not answered and (bool(self._on_wire) or not self._greeting.done())
        try:
            octets = self._encode_sendable()
        except ProtocolError as error:  # a name or password with CR, LF or NUL in it
            self.fail(error)
            return
        if octets:
            self._link.write([b"".join(octets)])
        if still_due:
            return
        if self._on_wire:
            self._asked_at = self._loop.time()
            self._link.expect(f"the reply to {self._awaited_verb()}")
        else:
            self._link.expect_nothing()

    def _encode_sendable(self) -> list[bytes]:
        octets: list[bytes] = []
        while self._waiting and self._may_send():
            command, done = self._waiting.popleft()
            self._on_wire.append(done)
            octets.append(self.core.send(command))
            if self._traced.on:
                self._trace("send", command.trace)
        return octets

    def _may_send(self) -> bool:
        return len(self._on_wire) < (_PIPELINE_DEPTH if self.pipelining else 1)

    def _awaited_verb(self) -> str:
        awaiting = self.core.awaiting
        return awaiting.verb if awaiting is not None else "the last command"

    def _abandon(self) -> None:
        """Tell everybody who waits that no answer will come, oldest first."""
        if not self._greeting.done() and self.failure is not None:
            self._greeting.set_exception(self.failure)
            self._greeting.exception()  # nobody may be waiting for it
        abandoned = [*self._on_wire, *(done for _, done in self._waiting)]
        self._on_wire.clear()
        self._waiting.clear()
        for done in abandoned:
            self._loop.call_soon(done, None)

    def _trace_event(self, event: Event) -> None:
        if not self._traced.on:
            return
        if isinstance(event, Continuation):
            self._trace("reply", "+ " + octets_note(len(event.challenge)))
        elif isinstance(event, Reply) and event.body is not None and isinstance(event.command, Capa):
            self._trace("reply", event.line)
            for line in _capability_lines(event.body):
                self._trace("reply", line)
        elif isinstance(event, Reply) and event.body is not None:
            self._trace("reply", f"{event.line} {octets_note(len(event.body))}")
        elif isinstance(event, Reply) and event.sink is not None:
            self._trace("reply", f"{event.line} {octets_note(event.sink.octets)}")
        else:
            self._trace("reply", event.line)


def _capability_lines(body: bytes) -> list[str]:
    """Return what a server says it can, for the trace: no secret and no mail is in it (RFC 2449 s.5)."""
    lines = body.splitlines()
    shown = [
        line[:_TRACED_CHARACTERS].decode("ascii", "backslashreplace")
        + octets_note(len(line)) * (len(line) > _TRACED_CHARACTERS)
        for line in lines[:_TRACED_LINES]
    ]
    return shown + [f"<{len(lines) - _TRACED_LINES} more lines>"] * (len(lines) > _TRACED_LINES)
