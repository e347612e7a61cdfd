"""The client's side of POP3, without a socket: octets in, events and octets out.

The connection keeps the order of commands and replies, the state, and the
bounds. It has no clock: `awaiting`, `pending` and `receiving_octets` tell the
transport what is due, and the transport decides how long to wait. After any
`RemoteProtocolError` the session is dead: a dialogue that lost its place once is
never resynchronised, since the next "+OK" could be a line of somebody's mail.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from mailferry.errors import LocalProtocolError, MessageTooLargeError, RemoteProtocolError
from mailferry.protocol.framing import BodySink, HeadSink, ReceiveBuffer, StreamedBody
from mailferry.protocol.pop3_commands import Capa, Command, Retr, Top, User, Utf8
from mailferry.protocol.pop3_listings import Capabilities, parse_capabilities
from mailferry.protocol.pop3_state import MOVES, Move, Pop3State

# RFC 1939 s.3: indicators are upper-case; servers with "+Ok" have been met.
# RFC 2449 s.8: a code stands in brackets directly after the indicator.
_STATUS = re.compile(
    rb"(?P<indicator>\+OK|-ERR)(?![0-9A-Za-z])"
    rb"[ \t]*(?:\[(?P<code>[!-.0-\\^-~]+(?:/[!-.0-\\^-~]+)*)\][ \t]*)?"
    rb"(?P<text>.*)",
    re.IGNORECASE | re.DOTALL,
)
# RFC 1939 s.7: the timestamp is a message-id. Anything looser lets a false server
# choose what is hashed with the password (CVE-2007-1558). It stands last.
_TIMESTAMP = re.compile(r"<[!-;=?A-~]+@[!-;=?A-~]+>")
_LISTED_OCTETS_SLACK = 64 * 1024
"""What a message may exceed its listed size by: servers count line ends differently."""


@dataclass(frozen=True, slots=True)
class Pop3Limits:
    """What a server may send before it is called hostile or broken.

    Attributes:
        line_octets: a status line; RFC 2449 s.4 allows 512.
        challenge_octets: a line while a SASL exchange is under way.
        message_octets: the reply to RETR or TOP, dots still stuffed.
        held_octets: how much of a reply to RETR is held in memory; what grows beyond it, or
            is listed with more, goes to a sink. None: all of it is held.
        header_octets: how much of a reply to TOP is kept; what follows is let go.
        listing_octets: the reply to LIST or UIDL; two million of the longest lines of RFC 1939 fit.
        capability_octets: the reply to CAPA.
    """

    line_octets: int = 4096
    challenge_octets: int = 12_288
    message_octets: int = 100 * 2**20
    held_octets: int | None = None
    header_octets: int = 2**20 + 2**16
    listing_octets: int = 160 * 2**20
    capability_octets: int = 64 * 2**10


@dataclass(frozen=True, slots=True)
class Greeting:
    """The server's first line.

    Attributes:
        text: what follows the indicator and the response code.
        apop_timestamp: the timestamp to digest for APOP, brackets included; None if there is none.
        ok: False when the server refuses the session; it is closed then.
        response_code: upper-case, without brackets.
    """

    text: str
    apop_timestamp: str | None
    ok: bool
    response_code: str | None

    @property
    def line(self) -> str:
        """The status line, for an error's text or a trace."""
        return _status_text(self.ok, self.response_code, self.text)


@dataclass(frozen=True, slots=True)
class Reply:
    """The final reply to a command.

    Attributes:
        command: what was asked; an AUTH exchange ends with a reply to its `Auth`.
        ok: +OK or -ERR.
        response_code: upper-case, without brackets (`IN-USE`, `SYS/TEMP`).
        text: what follows the indicator and the response code.
        body: the unstuffed octets of a multi-line reply, without the final "."; None if there is none.
        sink: where they went instead, when they were too many to be held.
    """

    command: Command
    ok: bool
    response_code: str | None
    text: str
    body: bytes | None
    sink: BodySink | None = None

    @property
    def line(self) -> str:
        """The status line, for an error's text or a trace."""
        return _status_text(self.ok, self.response_code, self.text)


@dataclass(frozen=True, slots=True)
class Continuation:
    """A SASL challenge, to be answered by `AuthResponse` or `AuthCancel` (RFC 5034 s.4)."""

    command: Command
    challenge: bytes


Event = Greeting | Reply | Continuation


@dataclass(frozen=True, slots=True)
class _Status:
    ok: bool
    response_code: str | None
    text: str
    octets: int


class Pop3Connection:
    """One POP3 session, from the greeting to the end.

    Args:
        new_sink: makes the sink for a message that is too large to be held.
        clean: takes secrets of ours out of what the server says with -ERR.

    Attributes:
        state: see `pop3_state` for the machine.
        capabilities: what the last CAPA brought; None before it, after a refused
            one, and after TLS has begun.
        utf8: whether UTF8 has been accepted (RFC 6856 s.2.1).
        groups_login: set by the owner where the server pipelines before the login, too:
            PASS may then follow USER at once, and what belongs to TRANSACTION the login.
        events_before_failure: what the octets of the failing `receive_data` still
            gave before the error. These replies are good (a message that came
            whole is whole), and without them one bad reply would hold up all
            that arrive in the same read, for ever.
    """

    def __init__(
        self,
        limits: Pop3Limits = Pop3Limits(),
        new_sink: Callable[[], BodySink] | None = None,
        clean: Callable[[str], str] = str,
    ) -> None:
        self.state = Pop3State.GREETING
        self.capabilities: Capabilities | None = None
        self.utf8 = False
        self.groups_login = False
        self.events_before_failure: tuple[Event, ...] = ()
        self._limits = limits
        self._buffer = ReceiveBuffer()
        self._pending: deque[tuple[Command, Move]] = deque()
        self._leads_to = Pop3State.GREETING
        self._status: _Status | None = None
        self._new_sink = new_sink
        self._clean = clean
        self._streamed: StreamedBody | None = None
        self._challenged = False
        self._user_accepted = False
        self._failure: RemoteProtocolError | None = None

    @property
    def pending(self) -> int:
        """How many commands have been sent whose final reply has not come."""
        return len(self._pending)

    @property
    def awaiting(self) -> Command | None:
        """The oldest command without its final reply."""
        return self._pending[0][0] if self._pending else None

    @property
    def receiving_octets(self) -> int:
        """How many octets have come of the reply that is under way."""
        passed = self._streamed.octets if self._streamed else 0
        return len(self._buffer) + passed + (self._status.octets if self._status else 0)

    def send(self, command: Command) -> bytes:
        """Note a command as sent and return its octets.

        Raises:
            LocalProtocolError: it is illegal now, or cannot be encoded; nothing has changed.
        """
        move = self._legal_move(command)
        octets = command.encode()
        if move.answers:
            self._challenged = False
        else:
            self._leads_to = move.sent or move.ok or self._standing
            self._pending.append((command, move))
            self.state = move.sent or self.state
        return octets

    def receive_data(self, data: bytes) -> list[Event]:
        """Take octets from the server and return what they complete; any split gives the same.

        Octets that come after the session's end are ignored.

        Raises:
            RemoteProtocolError: the server broke the protocol or a limit, now or
                before; `MessageTooLargeError` for a message beyond its limit.
                `events_before_failure` has what was whole.
        """
        if self._failure:
            raise self._failure
        events: list[Event] = []
        if self.state is Pop3State.CLOSED:
            return events
        self._buffer.feed(data)
        try:
            while (event := self._next_event()) is not None:
                events.append(event)
        except RemoteProtocolError as error:
            self._failure = error
            self.events_before_failure = tuple(events)
            self._close()
            raise
        return events

    def receive_eof(self) -> list[Event]:
        """Note that the server closed the link; `pending` tells what stays unanswered."""
        self._close()
        return []

    def tls_established(self) -> None:
        """Go on after the handshake, with nothing of what was learned before it.

        Raises:
            RemoteProtocolError: the server spoke between its +OK and the handshake.
            LocalProtocolError: no STLS has been accepted.
        """
        if self._failure:
            raise self._failure
        if self.state is not Pop3State.TLS:
            raise LocalProtocolError(f"TLS established in state {self.state.value}")
        # RFC 2595 s.4: what the server said in the clear may be an attacker's word.
        self.capabilities = None
        self.state = Pop3State.AUTHORIZATION

    @property
    def _standing(self) -> Pop3State:
        """Where the session stands for what is sent next: in a group, where all before it leads to."""
        return self._leads_to if self._pending and self.groups_login else self.state

    def _legal_move(self, command: Command) -> Move:
        standing = self._standing
        move = MOVES[standing].get(type(command))
        if move is None:
            raise LocalProtocolError(f"{command.verb} is not legal in state {standing.value}")
        if move.answers and not self._challenged:
            raise LocalProtocolError("no challenge is waiting for an answer")
        if self._pending and not (move.answers or self._may_follow(move)):
            raise LocalProtocolError(
                f"{command.verb} has to wait for the reply to {self._pending[0][0].verb}"
            )
        if move.after_user and not (self._user_accepted or self._user_is_sent):
            raise LocalProtocolError(f"{command.verb} is legal only after a successful USER")
        if move.not_in_utf8 and self.utf8:
            raise LocalProtocolError(f"{command.verb} is not legal after UTF8")
        return move

    def _may_follow(self, move: Move) -> bool:
        """Whether it may be sent while replies are due; what changes the state by being sent waits for a login."""
        if move.sent is not None and self._standing is not self.state:
            return False
        return move.pipelined or (move.in_login_group and self.groups_login)

    @property
    def _user_is_sent(self) -> bool:
        return self.groups_login and bool(self._pending) and isinstance(self._pending[-1][0], User)

    def _next_event(self) -> Event | None:
        if self._status:
            return self._next_body(self._status)
        if self.state is Pop3State.CLOSED:
            self._buffer.clear()
        if not len(self._buffer):
            return None
        self._refuse_what_nobody_asked_for()
        return self._next_line()

    def _refuse_what_nobody_asked_for(self) -> None:
        if self.state is Pop3State.TLS:
            # CVE-2011-0411 and its kin: these would be read as if they came under TLS.
            raise RemoteProtocolError(
                "octets between the +OK of STLS and the handshake", self._buffer.peek(200)
            )
        if self.state is not Pop3State.GREETING and (self._challenged or not self._pending):
            raise RemoteProtocolError("octets that nobody asked for", self._buffer.peek(200))

    def _next_line(self) -> Event | None:
        in_exchange = self.state is Pop3State.AUTHENTICATING
        limits = self._limits
        line = self._buffer.take_line(limits.challenge_octets if in_exchange else limits.line_octets)
        if line is None:
            return None
        if in_exchange and line[:2] in {b"+", b"+ "}:
            return self._on_challenge(line)
        status = _parse_status(line)
        if self.state is Pop3State.GREETING:
            return self._on_greeting(status)
        if status.ok and self._pending[0][0].has_body:
            self._status = status
            return self._next_body(status)
        return self._finish(status, None)

    def _on_greeting(self, status: _Status) -> Greeting:
        self.state = Pop3State.AUTHORIZATION if status.ok else Pop3State.CLOSED
        timestamps = _TIMESTAMP.findall(status.text)
        return Greeting(status.text, timestamps[-1] if timestamps else None, status.ok, status.response_code)

    def _on_challenge(self, line: bytes) -> Continuation:
        try:
            challenge = base64.b64decode(line[2:].strip(), validate=True)
        except binascii.Error:
            raise RemoteProtocolError("challenge is not base64", line) from None
        self._challenged = True
        return Continuation(self._pending[0][0], challenge)

    def _next_body(self, status: _Status) -> Reply | None:
        if self._streamed is not None:
            return self._go_on(status, self._streamed)
        limit, too_large = self._body_limit(self._pending[0][0])
        body = self._buffer.take_body(limit, too_large)
        if body is None:
            sink = self._sink_for(self._pending[0][0])
            if sink is None:
                return None
            self._streamed = StreamedBody(self._buffer, sink, limit, too_large)
            return self._go_on(status, self._streamed)
        self._status = None
        return self._finish(status, body)

    def _sink_for(self, command: Command) -> BodySink | None:
        """Return a sink if what is under way is, or will be, more than is to be held."""
        if isinstance(command, Top):
            kept = self._limits.header_octets
            return HeadSink(kept) if len(self._buffer) > kept else None
        held = self._limits.held_octets
        if held is None or self._new_sink is None or not isinstance(command, Retr):
            return None
        listed = command.listed_octets
        if listed is not None:
            # The list may lie: memory was set aside for what it said, so nothing beyond that is held.
            held = 0 if listed > held else min(held, listed + listed // 8 + _LISTED_OCTETS_SLACK)
        return self._new_sink() if len(self._buffer) > held else None

    def _go_on(self, status: _Status, streamed: StreamedBody) -> Reply | None:
        if not streamed.advance():
            return None
        self._status = self._streamed = None
        if isinstance(streamed.sink, HeadSink):
            return self._finish(status, bytes(streamed.sink.head))
        return self._finish(status, None, streamed.sink)

    def _body_limit(self, command: Command) -> tuple[int, type[RemoteProtocolError]]:
        if isinstance(command, Retr | Top):
            return self._limits.message_octets, MessageTooLargeError
        if isinstance(command, Capa):
            return self._limits.capability_octets, RemoteProtocolError
        return self._limits.listing_octets, RemoteProtocolError

    def _finish(self, status: _Status, body: bytes | None, sink: BodySink | None = None) -> Reply:
        command, move = self._pending.popleft()
        self.state = (move.ok if status.ok else move.err) or self.state
        self._user_accepted = status.ok and isinstance(command, User)
        self.utf8 = self.utf8 or (status.ok and isinstance(command, Utf8))
        if isinstance(command, Capa):
            self.capabilities = None if body is None else parse_capabilities(body)
        # The text of +OK may be a unique-id, which is never changed; that of -ERR goes into logs.
        text = status.text if status.ok else self._clean(status.text)
        return Reply(command, status.ok, status.response_code, text, body, sink)

    def _close(self) -> None:
        self.state = Pop3State.CLOSED
        self._status = None
        if self._streamed is not None:
            self._streamed.sink.discard()
            self._streamed = None
        self._buffer.clear()


@lru_cache(maxsize=256)  # "+OK 4096 octets", "+OK marked": thousands of times the same
def _parse_status(line: bytes) -> _Status:
    match = _STATUS.fullmatch(line)
    if match is None:
        raise RemoteProtocolError("neither +OK nor -ERR", line)
    code = match["code"]
    return _Status(
        ok=line.startswith(b"+"),
        response_code=code.decode("ascii").upper() if code else None,
        text=match["text"].decode("utf-8", "replace"),
        octets=len(line) + 2,
    )


def _status_text(ok: bool, response_code: str | None, text: str) -> str:
    words = ("+OK" if ok else "-ERR", f"[{response_code}]" if response_code else "", text)
    return " ".join(word for word in words if word)
