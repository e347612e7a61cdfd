"""One SMTP session: drives the core over a link and owns its deadlines.

The waits are those of RFC 5321 s.4.5.3.2, or longer. Above all ten minutes after
the final dot: to give up earlier there makes duplicates, since the server may have
accepted the message.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable

from mailferry.errors import MailferryError, ProtocolError, RemoteProtocolError, TransportError
from mailferry.net.link import Link
from mailferry.net.smtp_refusals import command_refused, session_closed, transaction_error
from mailferry.protocol.smtp import (
    Awaiting,
    Event,
    Greeting,
    SmtpConnection,
    SmtpFeatures,
    SmtpReply,
    Transaction,
    TransactionFinished,
)
from mailferry.protocol.smtp_commands import Command, Quit
from mailferry.protocol.smtp_transaction import Continuation, Replied

Answer = Replied | Continuation
Finished = Callable[[TransactionFinished], None]

QUIT_SECONDS = 5.0
"""Nothing depends on the answer to QUIT (RFC 5321 s.4.1.1.10), so it gets little time."""


class SmtpSession:
    """A session that is ready for transactions (once `SmtpConnector` has opened it).

    Attributes:
        failure: why the session died, or None.
        on_change: called when a transaction finished or the session died.
        on_end: called once, when the session is over.
    """

    def __init__(self, link: Link, core: SmtpConnection, *, final_timeout_seconds: float = 600.0) -> None:
        self.link = link
        self.core = core
        self.failure: MailferryError | None = None
        self.on_change: Callable[[], None] = lambda: None
        self.on_end: Callable[[], None] = lambda: None
        self.transactions = 0
        """How many have been begun."""
        self.round_trips = 0
        """How many replies were timed; not the greeting, which has other reasons to wait."""
        self.round_trip_seconds = math.inf
        """The shortest time in which one of them came."""
        self._asked_at: float | None = None
        self._final_timeout_seconds = final_timeout_seconds
        self._loop = asyncio.get_running_loop()
        self._greeting: asyncio.Future[Greeting] = self._loop.create_future()
        self._awaiting: Awaiting = "greeting"
        self._asked = ""
        self._answer: asyncio.Future[Answer] | None = None
        self._finished: dict[int, Finished] = {}
        self._handling = False
        self._writing = False
        link.reply_octets = lambda: self.core.receiving_octets

    @property
    def features(self) -> SmtpFeatures:
        """What the server offers."""
        return self.core.features

    @property
    def window(self) -> int:
        """How many messages may be on their way at once where it takes BDAT."""
        return self.core.bdat_window

    @window.setter
    def window(self, window: int) -> None:
        self.core.bdat_window = window

    @property
    def can_begin(self) -> bool:
        """Whether a transaction can begin now."""
        return self.failure is None and self.core.can_begin

    @property
    def idle(self) -> bool:
        """Whether no transaction is under way."""
        return not self._finished

    def begin(self, transaction: Transaction, finished: Finished) -> None:
        """Begin a transaction; `finished` is called exactly once.

        Raises:
            LocalProtocolError: an address cannot be written; the session lives on.
        """
        self.core.begin(transaction)
        self.transactions += 1
        self._finished[id(transaction)] = finished
        if not self._handling:
            self._flush()

    async def greeting(self) -> Greeting:
        """Begin to read and wait for the greeting; raises what kills the session."""
        self.link.expect("the greeting")
        self.link.attach(self)
        return await self._greeting

    async def ask(self, command: Command, timeout_seconds: float | None = None) -> Answer:
        """Send a plain command and wait for its reply; raises what kills the session."""
        if self.failure is not None:
            raise self.failure
        self.core.send(command)
        self._asked = command.verb
        self._answer = self._loop.create_future()
        self._flush(timeout_seconds)
        return await self._answer

    async def perform(self, command: Command) -> SmtpReply:
        """Send one command and return its 2yz; `protocol.smtp_by_hand` makes commands of lines.

        Raises:
            SmtpRefusedError: 4yz or 5yz; MAIL, RCPT, EHLO and 421 have classes of their own.
            LocalProtocolError: not legal now, or it cannot be sent; the session lives on.
            ProtocolError, TransportError: the session died.
        """
        closing = self.core.closing_reply
        if self.failure is None and closing is not None:  # RFC 5321 s.3.8: a 421 that came unasked
            raise session_closed(closing)
        answer = await self.ask(command)
        if not isinstance(answer, Replied):
            raise unexpected(answer)
        if not answer.reply.positive:
            raise command_refused(command.verb, answer.reply)
        return answer.reply

    async def deliver(self, transaction: Transaction) -> TransactionFinished:
        """Send one message and return what became of it; at least one recipient has it.

        Raises:
            SenderRefusedError, RecipientsRefusedError, DataRefusedError: nobody has it.
            LocalProtocolError: an address cannot be written; the session lives on.
            HopClosedError, ProtocolError, TransportError: the session ended before anybody was known to
                have it; whoever had not been refused by then may have it all the same.
        """
        ended: asyncio.Future[TransactionFinished] = self._loop.create_future()
        self.begin(transaction, lambda finished: None if ended.done() else ended.set_result(finished))
        finished = await ended
        error = transaction_error(finished, self.failure)
        if error is not None:
            raise error
        return finished

    async def quit(self) -> None:
        """End the session in good order; never raises, never takes long."""
        if self.failure is None and self.idle and self.core.idle:
            # Whatever comes of it, the session is over, and nothing was under way.
            with contextlib.suppress(MailferryError):
                await self.ask(Quit(), QUIT_SECONDS)
        self.fail(TransportError("the session has ended with QUIT"))

    def fail(self, error: MailferryError) -> None:
        """End the session; every unfinished transaction is told."""
        if self.failure is not None:
            return
        # Its traceback would keep this session, and the message in hand, until the next collection.
        self.failure = error.with_traceback(None)
        self.link.close()
        for future in (self._greeting, self._answer):
            if future is not None and not future.done():
                future.set_exception(error)
                future.exception()  # nobody may be waiting for it
        self.on_end()
        for event in self.core.connection_lost():
            self._tell(event)
        self.on_change()

    # The link's side

    def data_received(self, data: bytes) -> None:
        """Feed the core and hand its events out."""
        unfinished_octets = self.core.receiving_octets + len(data)
        try:
            events = self.core.receive_data(data)
        except ProtocolError as error:
            self.fail(error)
            return
        # Octets that complete nothing are not progress: a peer could drip for ever.
        answered = self.core.receiving_octets != unfinished_octets
        if answered and self._asked_at is not None:
            self._note_round_trip(self._loop.time() - self._asked_at)
        self._handling = True
        try:
            for event in events:
                self._handle(event)
            if answered:  # also without an event: a 354 lets the next transaction begin, a 421 none
                self.on_change()
        finally:
            self._handling = False
        if self.failure is None:
            self._flush(answered=answered)

    def link_lost(self, error: TransportError) -> None:
        """The link died: so does the session."""
        self.fail(error)

    def _handle(self, event: Event) -> None:
        if isinstance(event, TransactionFinished):
            self._tell(event)
        elif isinstance(event, Greeting):
            if not self._greeting.done():  # who waited for it may just have been cancelled
                self._greeting.set_result(event)
        elif self._answer is not None and not self._answer.done():
            self._answer.set_result(event)

    def _tell(self, event: TransactionFinished) -> None:
        finished = self._finished.pop(id(event.transaction), None)
        if finished is not None:
            finished(event)

    def _note_round_trip(self, seconds: float) -> None:
        self._asked_at = None
        self.round_trips += 1
        self.round_trip_seconds = min(self.round_trip_seconds, seconds)

    def _flush(self, timeout_seconds: float | None = None, *, answered: bool = False) -> None:
        wrote = self._write()
        awaiting, before = self.core.awaiting, self._awaiting
        self._awaiting = awaiting
        if awaiting and (not before or (wrote and awaiting == "final" != before)):
            self._asked_at = (
                self._loop.time()
            )  # the next reply is to what was just written, and to nothing older
        if not awaiting:
            self.link.expect_nothing()
        elif awaiting == before and not answered:
            return  # the same reply is still due, and so is its deadline
        elif awaiting == "final":
            self.link.expect("the reply to the end of the data", self._final_timeout_seconds)
        else:
            what = self._asked if awaiting == "command" else awaiting.upper()
            self.link.expect(f"the reply to {what}", timeout_seconds)

    def _write(self) -> bool:
        """Write what is due; of a large content a piece, and the next when the transport has taken it."""
        if self._writing:
            return False  # what is new waits behind the content
        try:
            octets = self.core.data_to_send()
        except OSError as error:
            self.fail(TransportError(f"the message cannot be read from its file: {error.strerror or error}"))
            return False
        if octets:
            self.link.write(octets)
        if self.core.streaming:
            self._writing = True
            self.link.when_room(self._write_on)
        return bool(octets)

    def _write_on(self) -> None:
        self._writing = False
        if self.failure is None:
            self._write()


def unexpected(answer: Answer) -> RemoteProtocolError:
    """Say that a challenge came where a reply was due."""
    return RemoteProtocolError(f"a challenge in answer to {answer.command.verb}")
