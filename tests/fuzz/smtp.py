"""The SMTP core against any server.

An input is one line with the letters of what we do (`_ACTIONS`, digits begin
transactions, `P` and `C` at the front forgo PIPELINING and CHUNKING, `S` there is
a slow link, on which a stream gets out piece by piece), then what the server says, in parts. Before each part we do what the script allows, as a
driver would: what has to wait for a reply waits.

The `Referee` reads both directions apart from the client, by the words of RFC
5321, 2920 and 3030. What it saw accepted must be what the client calls delivered.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from unittest import mock

from fuzz.harness import SEPARATOR, Harness, cut, cut_bytewise, dice_for
from mailferry.errors import LocalProtocolError, RemoteProtocolError
from mailferry.model import Delivered
from mailferry.policy.classify import classify_transaction
from mailferry.protocol import smtp_pipeline
from mailferry.protocol.smtp import (
    Continuation,
    Event,
    SmtpConnection,
    SmtpLimits,
    SmtpReply,
    SmtpState,
    Transaction,
    TransactionFinished,
)
from mailferry.protocol.smtp_commands import (
    Auth,
    AuthCancel,
    AuthResponse,
    Command,
    Ehlo,
    Etrn,
    Helo,
    Noop,
    Quit,
    Rset,
    StartTls,
    Verb,
)
from mailferry.protocol.smtp_transaction import read_pieces

LIMITS = SmtpLimits(reply_line_octets=100, reply_lines=6, grouped_bdat_octets=40)
_PARTS = 40


class Stream:
    """Content that is read while it is sent; `fails` makes the disk lose its end."""

    def __init__(self, *pieces: bytes, fails: bool = False) -> None:
        self.octets = b"".join(pieces)
        self.fails = fails
        self._pieces = pieces

    def __len__(self) -> int:
        return len(self.octets)

    @property
    def ends_line(self) -> bool:
        return self.octets.endswith(b"\r\n")

    def pieces(self) -> Iterator[bytes]:
        yield from self._pieces[:-1] if self.fails else self._pieces
        if self.fails:
            raise OSError("the disk is gone")


def _order(number: int, recipients: int, *content: bytes | Stream, sender: str = "s@x.org") -> Transaction:
    names = tuple(f"r{number}{index}@y.org" for index in range(recipients))
    return Transaction(number, sender, names, content, sum(map(len, content)))


def octets_of(transaction: Transaction) -> bytes:
    return b"".join(read_pieces(transaction.content))


ORDERS = (
    _order(0, 1, b"x\r\n"),
    _order(1, 2, b".\r\n..\r\n", b".x\r\n", b"y\r", b"\n.\r", b"\n"),
    _order(2, 1, b"Subject: long\r\n\r\n", b"0123456789\r\n" * 8),
    _order(3, 3, b"MAIL FROM:<evil@x.org>\r\n", sender=""),
    Transaction(4, "jörg@x.org", ("ü@y.org",), (b"\xc3\xbc\r\n",), 4, eight_bit=True, smtputf8=True),
    _order(5, 1, Stream(b"", b".\r", b"\n.", b"\r\n..\r\n", b"", b"last line of it\r\n")),
    _order(6, 2, b"Received: x\r", Stream(b"\n.\r\n" * 4, b"DATA\r\n.\r\n", b"y\r\n")),
    _order(7, 1),
    _order(8, 12, b"\r\n.\r\n"),
    _order(9, 1, b"z\r\n", Stream(b"some of it\r\n" * 3, b"and the rest\r\n", fails=True)),
)
_UNWRITABLE = {
    "U": _order(0, 1, b"no end of line"),
    "V": _order(0, 1, b"x\r\n", sender="a> SIZE=1"),
    "W": _order(0, 1, Stream(b"x\r\n", b"y")),
}
_ACTIONS: dict[str, Command] = {
    "e": Ehlo("me.example.org"), "h": Helo("me.example.org"), "s": StartTls(), "a": Auth("PLAIN", b"x"), "A": Auth("LOGIN"),
    "y": AuthResponse(b"x"), "x": AuthCancel(), "r": Rset(), "n": Noop(), "q": Quit(), "E": Etrn("x.org"),
    "v": Verb("MAIL FROM:<by@hand.org>"),
}  # fmt: skip
_TLS = "T"


class Breach(AssertionError):  # noqa: N818  (it is what it says)
    """We did what the RFCs forbid."""


@dataclass
class Letter:
    """What the referee knows of one transaction."""

    mail: int | None = None
    recipients: list[int] = field(default_factory=list)
    expected: int = 0
    data: int | None = None
    final: int | None = None
    content: bytes | None = None
    chunk: int | None = None

    @property
    def hopeless(self) -> bool:
        """No recipient can get it any more."""
        if self.mail is not None and not 200 <= self.mail < 300:
            return True
        answered = len(self.recipients) == self.expected
        return answered and not any(200 <= code < 300 for code in self.recipients)

    @property
    def in_doubt(self) -> bool:
        return self.content is not None and self.final is None and not self.hopeless

    def accepted(self, index: int) -> bool:
        """Whether the server took the message for this recipient."""
        took = self.final is not None and 200 <= self.final < 300 and self.content is not None
        from_sender = self.mail is not None and 200 <= self.mail < 300
        return took and from_sender and index < len(self.recipients) and 200 <= self.recipients[index] < 300


Slot = tuple[str, Letter | None]


@dataclass
class Referee:
    """Both directions in the order in which they were on the wire."""

    may_pipeline: bool
    may_chunk: bool
    pipelining: bool = False
    chunking: bool = False
    letters: list[Letter] = field(default_factory=list)
    expected: deque[Slot] = field(default_factory=lambda: deque([("greeting", None)]))
    closing: bool = False
    in_exchange: bool = False
    out: bytes = b""
    receiving: Letter | None = None
    lines: list[bytes] = field(default_factory=list)
    partial: bytes = b""

    # -- ours ----------------------------------------------------------------

    def sent(self, octets: bytes) -> None:
        self.out += octets
        while self.out or (self.receiving is not None and self.receiving.chunk == 0):
            if self.receiving is not None:
                if not self.take_content(self.receiving):
                    return
                continue
            line, end, self.out = self.out.partition(b"\r\n")
            if not end or b"\n" in line or b"\r" in line:
                raise Breach(f"half a line or a bare line end: {line!r}")
            self.take_line(line)

    def take_line(self, line: bytes) -> None:
        verb = re.split(rb"[ :]", line)[0].upper()
        if self.expected and not (
            self.pipelining and self.expected[-1][0] in {"mail", "rcpt", "reset", "final"}
        ):
            raise Breach(f"{line!r} while {self.expected[-1][0]} was due")
        if self.in_exchange:
            self.in_exchange = False
            self.expected.append(("auth", None))
            return
        match verb:
            case b"MAIL" if line != b"MAIL FROM:<by@hand.org>":
                self.letters.append(Letter())
                self.expected.append(("mail", self.letters[-1]))
            case b"RCPT":
                self.letters[-1].expected += 1
                self.expected.append(("rcpt", self.letters[-1]))
            case b"DATA":
                self.expected.append(("data", self.letters[-1]))
            case b"BDAT":
                self.take_bdat(line, self.letters[-1])
            case b"RSET":
                self.expected.append(("reset", None))
            case _:
                self.expected.append(("auth" if verb == b"AUTH" else "command", None))

    def take_bdat(self, line: bytes, letter: Letter) -> None:
        found = re.fullmatch(rb"BDAT (\d+) LAST", line)
        if not found or not self.chunking:
            raise Breach(f"{line!r} is not for this server")
        letter.chunk = int(found[1])
        self.receiving = letter

    def take_content(self, letter: Letter) -> bool:
        """Take the content, once all of it is there."""
        if any(other.in_doubt for other in self.letters):
            raise Breach("two messages in doubt")
        taken = self.take_chunk(letter) if letter.chunk is not None else self.take_data(letter)
        if taken:
            self.receiving = None
            self.expected.append(("final", letter))
        return taken

    def take_chunk(self, letter: Letter) -> bool:
        octets = letter.chunk or 0
        if len(self.out) < octets:
            return False
        letter.content, self.out = self.out[:octets], self.out[octets:]
        return True

    def take_data(self, letter: Letter) -> bool:
        """A strict server: the end is CRLF "." CRLF, and what follows is commands again."""
        end = 0 if self.out.startswith(b".\r\n") else self.out.find(b"\r\n.\r\n") + 2
        if end == 1:
            return False
        content, self.out = self.out[:end], self.out[end + 3 :]
        if letter.hopeless and content:
            raise Breach("content for nobody")
        lines = content.split(b"\r\n")
        letter.content = b"\r\n".join(line.removeprefix(b".") for line in lines)
        return True

    # -- theirs --------------------------------------------------------------

    def heard(self, line: bytes) -> None:
        """Take one whole line that the client found to be one of a reply."""
        self.lines.append(line)
        if len({before[:3] for before in self.lines}) > 1:
            raise Breach("the client took a reply with two codes")
        if line[3:4] == b"-":
            return
        code = int(line[:3])
        self.lines.clear()
        if not self.expected:
            if not (self.closing or code == 421):
                raise Breach("the client took a reply that nothing asked for")
            self.closing = True
            return
        kind, letter = self.expected.popleft()
        self.closing |= code == 421 or (kind == "greeting" and code >= 400)
        self.answer(kind, letter, code)

    def answer(self, kind: str, letter: Letter | None, code: int) -> None:
        if self.closing and letter is not None and letter.content is None:
            return  # after a 421 nothing that is said of it matters any more
        if kind == "auth":
            self.in_exchange = code == 334
        elif 300 <= code < 400 and not (kind == "data" and code == 354):
            raise Breach(f"the client took {code} as the answer to {kind}")
        elif letter is None:
            return
        elif kind == "mail":
            letter.mail = code
        elif kind == "rcpt":
            letter.recipients.append(code)
        elif kind == "final":
            letter.final = code
        else:
            letter.data = code
            self.receiving = letter if code == 354 else None


@dataclass
class Session:
    """A session as it was played."""

    connection: SmtpConnection
    begun: list[Transaction] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    ends: list[TransactionFinished] = field(default_factory=list)
    written: list[bytes] = field(default_factory=list)
    failed: bool = False
    is_slow: bool = False
    referee: Referee | None = None

    def play(self, script: str, parts: list[bytes], cutter: Callable[[bytes], list[bytes]]) -> None:
        for part in parts:
            script = self.act(script)
            for piece in cutter(part):
                if not self.failed:
                    self.hear(piece)
            self.write()
            if self.failed:
                return

    def act(self, script: str) -> str:
        """Do what can be done now; return what is left of the script."""
        for at, letter in enumerate(script):
            if letter == "|":
                self.write()
                return script[at + 1 :]
            if not self.do(letter):
                self.write()
                return script[at:]
        self.write()
        return ""

    def do(self, letter: str) -> bool:
        """Do one thing; False if it has to wait for a reply."""
        connection = self.connection
        before = (connection.state, connection.unfinished, connection.awaiting, connection.idle)
        try:
            if "0" <= letter <= "9":
                return self.begin(ORDERS[int(letter)])
            if letter in _UNWRITABLE:
                assert not self.begin_unwritable(_UNWRITABLE[letter])
            if letter == _TLS:
                connection.tls_established()
            elif letter in _ACTIONS:
                connection.send(_ACTIONS[letter])
        except LocalProtocolError:
            assert (connection.state, connection.unfinished, connection.awaiting, connection.idle) == before
            return connection.idle or connection.state is SmtpState.CLOSED
        return True

    def begin(self, order: Transaction) -> bool:
        connection = self.connection
        if not connection.can_begin:
            return connection.idle or connection.closing
        transaction = Transaction(
            len(self.begun), order.envelope_sender, order.recipients, order.content, order.size_octets,
            order.eight_bit, order.smtputf8,
        )  # fmt: skip
        connection.begin(transaction)
        self.begun.append(transaction)
        return True

    def begin_unwritable(self, order: Transaction) -> bool:
        """Try to begin what must be refused before a single octet of it is written."""
        if self.connection.can_begin:
            self.connection.begin(order)
            return True
        return False

    def write(self) -> None:
        """Write what there is; a slow link takes one piece of a stream at a time."""
        while not self.failed:
            self.write_piece()
            if self.is_slow or not self.connection.streaming:
                return

    def write_piece(self) -> None:
        try:
            out = b"".join(self.connection.data_to_send())
        except OSError:
            self.failed = True
            return
        self.written.append(out)
        if self.referee is not None:
            features = self.connection.features
            self.referee.chunking = self.referee.may_chunk and features.chunking
            self.referee.pipelining = self.referee.may_pipeline and features.pipelining
            self.referee.sent(out)

    def hear(self, piece: bytes) -> None:
        try:
            events = self.connection.receive_data(piece)
        except RemoteProtocolError:
            self.failed = True
            assert self.connection.state is SmtpState.CLOSED
            return
        self.events += [event for event in events if not isinstance(event, TransactionFinished)]
        self.ends += [event for event in events if isinstance(event, TransactionFinished)]
        assert self.connection.receiving_octets <= LIMITS.reply_lines * LIMITS.reply_line_octets

    def end(self) -> None:
        """Lose the link; every transaction that began must have ended, once, in order."""
        connection = self.connection
        in_doubt = connection.in_doubt
        lost = connection.connection_lost()
        assert any(end.in_doubt for end in lost) == in_doubt
        self.ends += lost
        assert connection.unfinished == 0
        assert not connection.in_doubt
        assert connection.data_to_send() == []
        assert connection.receive_data(b"250 late\r\n") == []
        assert [end.transaction for end in self.ends] == self.begun
        assert sum(end.in_doubt for end in self.ends) <= 1
        for end in self.ends:
            has_word = end.data_reply is not None and end.data_reply.positive
            assert end.content_sent or not (end.in_doubt or has_word)


_FLAGS = 3


def _session(script: str, referee: Referee | None = None) -> Session:
    flags = script[:_FLAGS]
    connection = SmtpConnection(LIMITS, use_pipelining="P" not in flags, use_chunking="C" not in flags)
    return Session(connection, is_slow="S" in flags, referee=referee)


def judge(session: Session, referee: Referee) -> None:
    """What the client believes must be what happened."""
    letters = iter(referee.letters)
    for end in session.ends:
        letter = next(letters, Letter())
        report = classify_transaction(end)
        names = end.transaction.recipients
        took = tuple(name for index, name in enumerate(names) if letter.accepted(index))
        assert report.accepted_recipients == took
        delivered = isinstance(report.outcome, Delivered)
        assert delivered == (took == names)
        assert end.in_doubt == letter.in_doubt
        assert getattr(report.outcome, "in_doubt", False) == end.in_doubt
        if end.content_sent:
            assert letter.content == octets_of(end.transaction)
        if took:
            assert end.content_sent


def play_by_lines(script: str, parts: list[bytes]) -> None:
    """Play with the referee: one line at a time, as fast as a driver could answer."""
    referee = Referee(may_pipeline="P" not in script[:_FLAGS], may_chunk="C" not in script[:_FLAGS])
    session = _session(script, referee)
    for part in parts:
        if not session.failed:
            script = session.act(script)
            for line in re.findall(rb"[^\n]*\n|[^\n]+\Z", part):
                _hear_line(session, referee, line)
    session.end()
    judge(session, referee)


def _hear_line(session: Session, referee: Referee, line: bytes) -> None:
    if session.failed or session.connection.state is SmtpState.CLOSED:
        return
    session.hear(line)
    referee.partial += line
    if not session.failed and line.endswith(b"\n"):
        referee.heard(referee.partial)
        referee.partial = b""
    session.write()


def verify_event(event: Event) -> None:
    if isinstance(event, Continuation):
        assert isinstance(event.challenge, bytes)
        return
    reply = event.data_reply if isinstance(event, TransactionFinished) else event.reply
    if isinstance(reply, SmtpReply):
        assert 200 <= reply.code < 600
        assert str(reply).isprintable()
        assert len(str(reply)) <= 500
        assert reply.enhanced_status is None or reply.enhanced_status[0] == str(reply.code)[0]


def check(data: bytes) -> None:
    with mock.patch.object(smtp_pipeline, "DRAIN_OCTETS", 10):
        _check(data)


def _check(data: bytes) -> None:
    head, _, rest = data.partition(b"\n")
    script = head.decode("latin-1")
    parts = rest.split(SEPARATOR)[:_PARTS]
    dice = dice_for(data)
    played: list[Session] = []
    for cutter in (lambda part: [part], lambda part: cut(dice, part), cut_bytewise):
        session = _session(script)
        session.play(script, parts, cutter)
        session.end()
        if session.failed:
            session.events.clear()  # the failing octets' own are not handed out, so they depend on the cut
        played.append(session)
    whole = played[0]
    for other in played[1:]:
        assert (other.ends, other.events, other.failed) == (whole.ends, whole.events, whole.failed)
        assert other.written == whole.written
    for event in (*whole.events, *whole.ends):
        verify_event(event)
    play_by_lines(script, parts)


_HARNESS = Harness(
    name="smtp",
    check=check,
    tokens=(
        b"250 ok\r\n", b"250-", b"250 2.0.0 ", b"220 mx\r\n", b"354 go\r\n", b"354\r\n", b"550 5.1.1 no\r\n", b"451 later\r\n",
        b"421 bye\r\n", b"503 5.5.1 no\r\n", b"334 dGVzdA==\r\n", b"334 \r\n", b"235 ok\r\n", b"535 5.7.8 no\r\n", b"221 bye\r\n",
        b"251 ok\r\n", b"552 5.2.2 full\r\n", b"250-PIPELINING\r\n", b"250-CHUNKING\r\n", b"250-SIZE 9\r\n", b"250-SMTPUTF8\r\n",
        b"250-8BITMIME\r\n", b"250-AUTH PLAIN\r\n", b"250 mx\r\n250 ok\r\n250 ok\r\n", SEPARATOR, b"\r\n", b"\n", b"\r", b" ", b"-",
        b"\0", b"\xff", b"200", b"599", b"600", b"e0", b"0123", b"5", b"6", b"9", b"S", b"P", b"C", b"|",
    ),
    max_octets=1500,
    modules=("protocol/smtp.py", "protocol/smtp_commands.py", "protocol/smtp_dialogue.py", "protocol/smtp_features.py", "protocol/smtp_pipeline.py", "protocol/smtp_replies.py", "protocol/smtp_states.py", "protocol/smtp_transaction.py", "policy/classify.py"),
)  # fmt: skip

HARNESSES = (_HARNESS,)
