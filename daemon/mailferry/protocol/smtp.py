"""The SMTP client as a machine without I/O: octets in, events and octets out.

A session stands in one of these states::

    GREETING ── 2yz ──► CONNECTED ── EHLO, HELO 2yz ──► READY ── AUTH ──► AUTHENTICATING
                          ▲                            │   ▲                    │
                          │ tls_established()          │   ╰─ 2yz, 4yz, 5yz ────╯
                         TLS ◄── STARTTLS 2yz ─────────┤
                         TURNING ◄── ATRN ─────────────┤
                          │ 4yz, 5yz: READY            ╰── QUIT ──► QUITTING ──► CLOSED
                          ╰ 250 ──► TURNED

Which plain command is legal in which state, and where its reply leads, stands
in `smtp_states` and nowhere else. CLOSED is also where anything that is not SMTP
leads: a session that was misread is never resynchronised.

Transactions are not commands but runs. In READY, `begin` puts MAIL, one RCPT
for each recipient, and DATA or BDAT into the pipeline (`smtp_pipeline`). Without
PIPELINING they go one by one and what has become pointless is not sent; with it
they go as one group and every reply is taken, whatever the first ones said. The
content follows a 354, or goes along with BDAT.

While a run waits for the reply to the end of its data, the next may begin: its
envelope travels while the server still stores the one before. Its own content
stays here until that reply has come (DATA: the 354 comes after it; BDAT: held
back), so at most one message of a session is ever in doubt. `bdat_window` allows more of
them, where small contents go by BDAT: whole transactions then leave one after the other.

A 421 may answer anything, or come unasked. The session is then `closing`: runs
whose content was not written finish with it, a run whose content was written
still waits for its reply or for the end of the link.

After ATRN (RFC 2645) a 250 turns the connection round: what follows it is not a
reply but the first words of a client. TURNED ends this machine's part; `turned_octets`
holds what came behind the 250, for the server that takes over.

The machine has no clock. `awaiting` says what is due, and the driver's deadline
ends the session with `connection_lost`, as a broken link does.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from mailferry.errors import LocalProtocolError, RemoteProtocolError
from mailferry.protocol.smtp_commands import (
    Atrn,
    Auth,
    AuthCancel,
    AuthResponse,
    Command,
    Ehlo,
    Etrn,
    Helo,
    Quit,
    Rset,
    Verb,
)
from mailferry.protocol.smtp_dialogue import Dialogue
from mailferry.protocol.smtp_features import SmtpFeatures, parse_features
from mailferry.protocol.smtp_pipeline import Awaiting, Order, Pipeline
from mailferry.protocol.smtp_replies import ReplyParser, SmtpLimits, SmtpReply
from mailferry.protocol.smtp_states import MOVES, Move, SmtpState
from mailferry.protocol.smtp_transaction import (
    Continuation,
    Event,
    Greeting,
    Replied,
    Transaction,
    TransactionFinished,
    dot_stuff,
)
from mailferry.protocol.tracing import Trace, switch_of

__all__ = [
    "Awaiting",
    "Continuation",
    "Event",
    "Greeting",
    "Replied",
    "SmtpConnection",
    "SmtpFeatures",
    "SmtpLimits",
    "SmtpReply",
    "SmtpState",
    "Transaction",
    "TransactionFinished",
    "dot_stuff",
]


_SASL = (Auth, AuthResponse, AuthCancel)
_MOST_TURNED_OCTETS = 65536
"""What a peer may send behind the 250 to ATRN before somebody takes over; it should wait for a greeting."""
_NO_FEATURES = SmtpFeatures()


class SmtpConnection:
    """One session as its client sees it.

    Args:
        limits: bounds on what the server may send.
        use_pipelining: False keeps to one command at a time, whatever is offered.
        use_chunking: False keeps to DATA, whatever is offered.
        lmtp: the server speaks LMTP (RFC 2033): LHLO is its EHLO, and each recipient has its own reply.
        trace: told every line of the dialogue, masked.
        on_reply: told the code of every reply.

    Attributes:
        state: where the session stands.
        features: what the server offered last; empty before EHLO and after STARTTLS.
        closing_reply: the reply that ended the session's usefulness, or None.
        turned_octets: what the peer has sent since the 250 to ATRN.
        clean: set by the owner: takes secrets of ours out of what the server says.
    """

    def __init__(
        self,
        limits: SmtpLimits = SmtpLimits(),  # noqa: B008  (frozen)
        *,
        use_pipelining: bool = True,
        use_chunking: bool = True,
        lmtp: bool = False,
        trace: Trace | None = None,
        on_reply: Callable[[int], None] = lambda _code: None,
    ) -> None:
        self.state = SmtpState.GREETING
        self.features = _NO_FEATURES
        self.closing_reply: SmtpReply | None = None
        self.turned_octets = b""
        self._use_pipelining = use_pipelining
        self._use_chunking = use_chunking
        self._trace = trace
        self._on_reply = on_reply
        self.clean: Callable[[str], str] = str
        self._traced = switch_of(trace)
        self._parser = ReplyParser(limits)
        self._pipeline = Pipeline(trace)
        self._events: list[Event] = []
        self._dialogue = Dialogue(self._pipeline, limits, self._finished, lmtp=lmtp)
        self._failure: RemoteProtocolError | None = None
        self._pipeline.put(Order("greeting", b"", self._greeted))

    # -- what the driver asks ------------------------------------------------

    @property
    def closing(self) -> bool:
        """421, or a greeting that is a refusal: nothing more than QUIT is legal."""
        return self.closing_reply is not None

    @property
    def idle(self) -> bool:
        """No reply is due and nothing waits to be sent."""
        return self._pipeline.idle

    @property
    def can_begin(self) -> bool:
        """Whether `begin` is legal now."""
        if self.state is not SmtpState.READY or self.closing:
            return False
        return self._pipeline.idle or self._dialogue.may_overlap

    @property
    def bdat_window(self) -> int:
        """How many messages may be in doubt at once where small ones go by BDAT; at first 1."""
        return self._dialogue.window

    @bdat_window.setter
    def bdat_window(self, window: int) -> None:
        self._dialogue.window = window

    @property
    def in_doubt(self) -> bool:
        """Whether the server may have a message of which its word has not come yet."""
        return any(run.in_doubt for run in self._dialogue.runs)

    @property
    def unfinished(self) -> int:
        """How many transactions have begun and not finished: at most one more than the window."""
        return len(self._dialogue.runs)

    @property
    def awaiting(self) -> Awaiting:
        """What the next reply will answer; empty when none is due."""
        return self._pipeline.awaiting

    @property
    def streaming(self) -> bool:
        """Whether `data_to_send` has more to give once the transport has taken what it gave."""
        return self._pipeline.streaming

    @property
    def receiving_octets(self) -> int:
        """How much of an unfinished reply has arrived; 0 between replies."""
        return self._parser.receiving_octets

    # -- what the driver does ------------------------------------------------

    def receive_data(self, data: bytes) -> list[Event]:
        """Take octets from the server; return what they mean.

        After an error the session is CLOSED and `connection_lost` tells what
        became of the transactions, those included that had finished in `data`.

        Raises:
            RemoteProtocolError: this is not SMTP, or not what was due.
        """
        if not data or self.state is SmtpState.CLOSED:
            return []
        try:
            self._receive(data)
        except RemoteProtocolError as error:
            self._failure = error
            self._end()
            raise
        events, self._events = self._events, []
        return events

    def data_to_send(self) -> list[bytes]:
        """Return what to write, in order. From here on it counts as handed to the transport.

        Raises:
            OSError: a content's stream cannot be read; the session is of no more use.
        """
        return self._pipeline.drain()

    def send(self, command: Command) -> None:
        """Queue a plain command; its reply comes as `Replied` (or `Continuation`).

        Raises:
            LocalProtocolError: not legal now, or it cannot be encoded; nothing was queued.
        """
        move = MOVES.get(type(command))
        if move is None or self.state not in move.legal:
            raise LocalProtocolError(f"{command.verb} is not legal in state {self.state.name}")
        if self.closing and not isinstance(command, Quit):
            raise LocalProtocolError(f"{command.verb} is not legal after {self.closing_reply}")
        if not self._pipeline.idle:
            raise LocalProtocolError(f"{command.verb} is not legal while a reply is due ({self.awaiting})")
        line = command.encode()
        orders = []
        if self._dialogue.reset_due and isinstance(command, Etrn | Atrn):
            orders.append(self._dialogue.reset_order())  # RFC 1985 s.4: not inside a mail transaction
        kind: Awaiting = "ehlo" if isinstance(command, Ehlo | Helo) else "command"
        orders.append(Order(kind, line, partial(self._answered, command, move), command=command))
        self.state = move.unanswered or self.state
        self._dialogue.reset_due |= isinstance(command, Verb)  # it may have been MAIL
        self._pipeline.put(*orders)

    def begin(self, transaction: Transaction) -> None:
        """Begin a transaction; it ends with one `TransactionFinished`.

        Raises:
            LocalProtocolError: `can_begin` is False, or the transaction cannot be
                written (address, content's end); nothing was queued.
        """
        if not self.can_begin:
            raise LocalProtocolError(
                f"no transaction can begin in state {self.state.name} ({self.awaiting or 'idle'})"
            )
        chunking = self._use_chunking and self.features.chunking
        self._dialogue.begin(transaction, self.features, chunking=chunking)

    def tls_established(self) -> None:
        """Go on under TLS: nothing that was learned before it survives (RFC 3207 s.4.2).

        Raises:
            RemoteProtocolError: octets had followed the 220 to STARTTLS.
        """
        if self._failure is not None:
            raise RemoteProtocolError(str(self._failure))
        if self.state is not SmtpState.TLS:
            raise LocalProtocolError(f"TLS was not asked for in state {self.state.name}")
        self.state = SmtpState.CONNECTED
        self._learn(_NO_FEATURES)

    def connection_lost(self) -> list[TransactionFinished]:
        """End the session, for whatever reason; return what became of the transactions.

        Among them are those that finished in the very octets that brought a
        protocol error: a 250 counts, whatever came after it.
        """
        finished = [event for event in self._events if isinstance(event, TransactionFinished)]
        finished.extend(self._dialogue.lost())
        self._events.clear()
        self._end()
        return finished

    # -- replies -------------------------------------------------------------

    def _receive(self, data: bytes) -> None:
        for piece in self._cut(data):
            self._receive_piece(piece)

    def _cut(self, data: bytes) -> Iterator[bytes]:
        """Cut line by line while the reply to ATRN is due: the next line may be a client's (RFC 2645 s.5.3)."""
        while data and self.state is SmtpState.TURNING:
            line, end, data = data.partition(b"\n")
            yield line + end
        if data:
            yield data

    def _receive_piece(self, data: bytes) -> None:
        if self.state is SmtpState.TURNED:
            self._keep_turned(data)
            return
        self._refuse_before_tls()
        for said in self._parser.feed(data):
            self._refuse_before_tls()
            reply = self._without_secrets(said)
            if self._trace is not None and self._traced.on:
                self._show(reply, self._trace)
            self._on_reply(reply.code)
            self._take(reply)
            if self.state is SmtpState.CLOSED:
                return
        if self._parser.receiving_octets:
            self._refuse_before_tls()

    def _without_secrets(self, reply: SmtpReply) -> SmtpReply:
        """Clean a reply's text, which goes into logs and rows; a challenge is no text."""
        lines = tuple(map(self.clean, reply.lines))
        return reply if lines == reply.lines or reply.code == 334 else replace(reply, lines=lines)

    def _keep_turned(self, data: bytes) -> None:
        self.turned_octets += data
        if len(self.turned_octets) > _MOST_TURNED_OCTETS:
            raise RemoteProtocolError("the peer did not wait for our greeting after ATRN")

    def _refuse_before_tls(self) -> None:
        """Refuse octets that came after the 220 to STARTTLS but before the handshake."""
        # RFC 3207 s.4.2 and s.6: whoever put them there wants them read as if they had come under TLS.
        if self.state is SmtpState.TLS:
            raise RemoteProtocolError("octets between the reply to STARTTLS and the TLS handshake")

    def _take(self, reply: SmtpReply) -> None:
        """Give a reply to what it answers."""
        order = self._pipeline.answered()
        if order is None:
            self._take_unasked(reply)
            return
        if order.run is None or not order.run.finished:
            order.on_reply(reply)
        if reply.code == 421 and not self.closing:
            self._shut_down(reply)
        self._pipeline.pump()

    def _take_unasked(self, reply: SmtpReply) -> None:
        if self.closing:
            return  # the server has said its last word already
        if reply.code != 421:  # RFC 5321 s.3.8: the only reply that may come by itself
            raise RemoteProtocolError("a reply that nothing asked for", str(reply).encode())
        self._shut_down(reply)

    def _shut_down(self, reply: SmtpReply) -> None:
        self.closing_reply = reply
        self._dialogue.shut_down(reply)

    def _finished(self, finished: TransactionFinished) -> None:
        self._events.append(finished)

    def _greeted(self, reply: SmtpReply) -> None:
        if reply.intermediate:
            raise RemoteProtocolError("a greeting that is no greeting", str(reply).encode())
        self.state = SmtpState.CONNECTED
        if not reply.positive:
            self.closing_reply = reply  # RFC 5321 s.3.1: only QUIT may follow
        self._events.append(Greeting(reply))

    def _answered(self, command: Command, move: Move, reply: SmtpReply) -> None:
        """Take the reply to a plain command."""
        if reply.intermediate:
            self._events.append(Continuation(command, _challenge(command, reply)))
            return
        if isinstance(command, Atrn) and reply.positive and reply.code != 250:
            raise RemoteProtocolError("neither 250 nor a refusal came for ATRN", str(reply).encode())
        self.state = (move.granted if reply.positive else move.refused) or self.state
        if reply.positive and isinstance(command, Ehlo | Helo):
            self._learn(parse_features(reply) if isinstance(command, Ehlo) else _NO_FEATURES)
        if reply.positive and isinstance(command, Ehlo | Helo | Rset):
            self._dialogue.reset_due = False
        self._events.append(Replied(command, reply))

    def _learn(self, features: SmtpFeatures) -> None:
        self.features = features
        self._pipeline.overlapping = self._use_pipelining and features.pipelining

    def _end(self) -> None:
        self.state = SmtpState.CLOSED
        self._pipeline.discard()

    @staticmethod
    def _show(reply: SmtpReply, trace: Trace) -> None:
        """Trace a reply, line by line."""
        for line in reply.lines:
            trace("reply", str(SmtpReply(reply.code, reply.enhanced_status, (line,))))


def _challenge(command: Command, reply: SmtpReply) -> bytes:
    """Decode the challenge of a 334."""
    if not isinstance(command, _SASL) or reply.code != 334 or len(reply.lines) != 1:
        raise RemoteProtocolError("a reply that asks for more where nothing more is due", str(reply).encode())
    try:
        return binascii.a2b_base64(reply.lines[0].strip().encode(), strict_mode=True)
    except binascii.Error as error:
        raise RemoteProtocolError("a challenge that is not base64") from error
