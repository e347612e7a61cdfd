"""One mail transaction: what the caller hands in, what comes out, what goes on the wire.

The content arrives with CRLF line ends only and is never altered here; over
DATA it is dot-stuffed (RFC 5321 s.4.5.2), over BDAT it goes as it is. An address
that could end its path early, and so smuggle a parameter or a command, is
refused before anything is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, TypeGuard

from mailferry.errors import LocalProtocolError
from mailferry.protocol.smtp_commands import COMMAND_LINE_OCTETS, Command
from mailferry.protocol.smtp_features import SmtpFeatures
from mailferry.protocol.smtp_replies import SmtpReply

# Quoted strings (RFC 5321 s.4.1.2) and anything else that holds no space, no angle bracket, no control character
# and no lone surrogate. Possessive, so that no address can make the match slow.
_ADDRESS = re.compile(
    r"""(?: "(?: [^"\\<>\x00-\x1f\x7f-\x9f\ud800-\udfff] | \\[^<>\x00-\x1f\x7f-\x9f\ud800-\udfff] )*+"
          | [^\s"<>\x00-\x1f\x7f-\x9f\ud800-\udfff] )++""",
    re.VERBOSE,
)
_CRLF = b"\r\n"
_CR, _LF, _DOT = b"\r\n."


class ContentStream(Protocol):
    """Content that is too large to be held: it is read piece by piece as the transport takes it."""

    def __len__(self) -> int:
        """How many octets there are."""

    @property
    def ends_line(self) -> bool:
        """Whether the last octets are CRLF."""

    def pieces(self) -> Iterator[bytes]:
        """Yield the octets, as many as `len` says; each call begins anew. May raise OSError."""


ContentPiece = bytes | ContentStream


@dataclass(frozen=True, slots=True)
class Transaction:
    """An order: carry this content from this sender to these recipients.

    Attributes:
        tag: the caller's own; not looked at.
        envelope_sender: empty for the null reverse-path.
        recipients: at least one.
        content: pieces with CRLF line ends only, the last one ending in CRLF; not dot-stuffed.
            Only the last one may be a stream.
        size_octets: the content's size, for SIZE= (RFC 1870).
        eight_bit: the content holds octets above 127: BODY=8BITMIME where it is offered.
        smtputf8: SMTPUTF8 where it is offered.
    """

    tag: object
    envelope_sender: str
    recipients: tuple[str, ...]
    content: tuple[ContentPiece, ...]
    size_octets: int
    eight_bit: bool = False
    smtputf8: bool = False


@dataclass(frozen=True, slots=True)
class TransactionFinished:
    """A transaction has come to its end; every reply is the server's own, None where none came.

    Attributes:
        data_reply: the reply to DATA when that was refused, otherwise to the end of the data. Believe it
            only together with the others: a server may say yes to data that it has no recipient for.
        content_sent: the final dot, or BDAT LAST with its content, was handed to the transport.
        in_doubt: `content_sent`, the server could have accepted it, and its word never came; with LMTP
            also when the word on some of the recipients is missing.
        final_replies: with LMTP what was said of the content for each recipient (RFC 2033 s.4.2), None
            for those that RCPT had refused; None altogether with SMTP. `data_reply` is then the last
            of them, and None until all have come.
    """

    transaction: Transaction
    sender_reply: SmtpReply | None
    recipient_replies: tuple[SmtpReply | None, ...]
    data_reply: SmtpReply | None
    content_sent: bool
    in_doubt: bool
    final_replies: tuple[SmtpReply | None, ...] | None = None

    @property
    def recipient_verdicts(self) -> tuple[SmtpReply | None, ...]:
        """The last word on each recipient alone: of RCPT, or of LMTP after the content; None where it is missing."""
        if self.final_replies is None:
            return self.recipient_replies
        pairs = zip(self.recipient_replies, self.final_replies, strict=True)
        return tuple(final if rcpt is not None and rcpt.positive else rcpt for rcpt, final in pairs)

    @property
    def accepted_recipients(self) -> tuple[str, ...]:
        """Those for whom the server has taken the message over."""
        sender, data = self.sender_reply, self.data_reply
        by_all = self.final_replies is not None or (data is not None and data.positive)
        if not self.content_sent or sender is None or not sender.positive or not by_all:
            return ()
        verdicts = zip(self.transaction.recipients, self.recipient_verdicts, strict=True)
        return tuple(recipient for recipient, reply in verdicts if reply is not None and reply.positive)


@dataclass(frozen=True, slots=True)
class Greeting:
    """The server's first words; anything but 2yz allows nothing but QUIT."""

    reply: SmtpReply


@dataclass(frozen=True, slots=True)
class Replied:
    """A plain command was answered."""

    command: Command
    reply: SmtpReply


@dataclass(frozen=True, slots=True)
class Continuation:
    """The server asks for the next step of a SASL exchange (334); `challenge` is decoded."""

    command: Command
    challenge: bytes


Event = Greeting | Replied | Continuation | TransactionFinished


class TransactionRun:
    """How far one transaction has come; `smtp_dialogue` moves it."""

    __slots__ = (
        "accepted",
        "by_bdat",
        "by_recipient",
        "content_queued",
        "content_sent",
        "data_reply",
        "final_replies",
        "finished",
        "outstanding",
        "recipient_replies",
        "sender_reply",
        "transaction",
    )

    def __init__(self, transaction: Transaction, *, by_bdat: bool, by_recipient: bool = False) -> None:
        self.transaction = transaction
        self.sender_reply: SmtpReply | None = None
        self.recipient_replies: list[SmtpReply] = []
        self.data_reply: SmtpReply | None = None
        self.final_replies: list[SmtpReply] = []
        self.by_recipient = by_recipient
        self.accepted = 0
        self.outstanding = 0
        self.by_bdat = by_bdat
        self.content_queued = False
        self.content_sent = False
        self.finished = False

    @property
    def hopeless(self) -> bool:
        """The replies so far prove that no content will be accepted."""
        if self.sender_reply is not None and not self.sender_reply.positive:
            return True
        return not self.accepted and len(self.recipient_replies) == len(self.transaction.recipients)

    @property
    def in_doubt(self) -> bool:
        """The server may have the message and we do not know."""
        return self.content_sent and self.data_reply is None and not self.hopeless

    def take_final(self, reply: SmtpReply) -> bool:
        """Take a reply to the content; True when it was the last one that is due."""
        self.final_replies.append(reply)
        if self.by_recipient and len(self.final_replies) < self.accepted:
            return False
        self.data_reply = reply
        return True

    def finish(self) -> TransactionFinished:
        """Close the books."""
        self.finished = True
        missing = len(self.transaction.recipients) - len(self.recipient_replies)
        return TransactionFinished(
            transaction=self.transaction,
            sender_reply=self.sender_reply,
            recipient_replies=(*self.recipient_replies, *(None,) * missing),
            data_reply=self.data_reply,
            content_sent=self.content_sent,
            in_doubt=self.in_doubt,
            final_replies=self._by_recipient() if self.by_recipient else None,
        )

    def _by_recipient(self) -> tuple[SmtpReply | None, ...]:
        """Put each reply to the content beside its recipient: they come in the order of those that RCPT accepted."""
        finals = iter(self.final_replies)
        heard = [next(finals, None) if reply.positive else None for reply in self.recipient_replies]
        missing = len(self.transaction.recipients) - len(heard)
        return (*heard, *(None,) * missing)


def is_envelope_address(address: str) -> bool:
    """Tell whether `address` can stand between the brackets of MAIL or RCPT and stay one path."""
    return len(address) < COMMAND_LINE_OCTETS and _ADDRESS.fullmatch(address) is not None


def mail_line(transaction: Transaction, features: SmtpFeatures) -> bytes:
    """Return MAIL with the parameters that the server offers.

    Raises:
        LocalProtocolError: the sender cannot be written.
    """
    utf8 = transaction.smtputf8 and features.smtputf8
    sender = transaction.envelope_sender
    line = [_path_line("MAIL FROM", sender, utf8=utf8) if sender else b"MAIL FROM:<>"]
    if "SIZE" in features.keywords:
        line.append(b"SIZE=%d" % transaction.size_octets)  # RFC 1870 s.6
    if transaction.eight_bit and features.eight_bit_mime:
        line.append(b"BODY=8BITMIME")  # RFC 6152 s.3
    if utf8:
        line.append(b"SMTPUTF8")  # RFC 6531 s.3.4
    return b" ".join(line) + _CRLF


def rcpt_lines(transaction: Transaction, features: SmtpFeatures) -> list[bytes]:
    """Return one RCPT for each recipient.

    Raises:
        LocalProtocolError: there is none, or one cannot be written.
    """
    if not transaction.recipients:
        raise LocalProtocolError("a transaction without recipients")
    utf8 = transaction.smtputf8 and features.smtputf8
    return [_path_line("RCPT TO", recipient, utf8=utf8) + _CRLF for recipient in transaction.recipients]


@lru_cache(maxsize=1024)  # a destination's recipients come with every message
def _path_line(verb: str, address: str, *, utf8: bool) -> bytes:
    if not is_envelope_address(address):
        raise LocalProtocolError(f"{address[:100]!r} cannot be written as an envelope address")
    if not utf8 and not address.isascii():
        raise LocalProtocolError(f"{address[:100]!r} needs SMTPUTF8, which is not offered or not asked for")
    line = f"{verb}:<{address}>".encode()
    # RFC 5321 s.4.5.3.1.4; MAIL's parameters have room of their own (RFC 1870 s.3, RFC 6152 s.2, RFC 6531 s.3.4).
    if len(line) + len(_CRLF) > COMMAND_LINE_OCTETS:
        raise LocalProtocolError(f"an envelope address of {len(address)} characters is too long")
    return line


def check_content(content: Sequence[ContentPiece]) -> None:
    """Make sure that the content ends a line, so that the dot after it stands alone.

    Raises:
        LocalProtocolError: it does not.
    """
    tail = b""
    for piece in reversed(content):
        if not isinstance(piece, bytes):  # the last one
            tail = _CRLF if piece.ends_line else b"?"
            break
        tail = piece[-2:] + tail
        if len(tail) >= 2:
            break
    if tail and tail[-2:] != _CRLF:
        raise LocalProtocolError("the content does not end with CRLF")


def is_held(content: tuple[ContentPiece, ...]) -> TypeGuard[tuple[bytes, ...]]:
    """Tell whether all of the content is in memory; only the last piece may be a stream."""
    return not content or isinstance(content[-1], bytes)


def read_pieces(content: Iterable[ContentPiece]) -> Iterator[bytes]:
    """Yield all octets, in pieces; OSError when a stream cannot be read."""
    for piece in content:
        if isinstance(piece, bytes):
            yield piece
        else:
            yield from piece.pieces()


def dot_stuff(chunks: Iterable[bytes]) -> list[bytes]:
    """Double each dot that begins a line (RFC 5321 s.4.5.2); the final dot is not added.

    A line may begin at the border of two chunks. Chunks in which nothing is to
    be stuffed come through as the same objects.
    """
    return list(dot_stuffed(chunks))


def dot_stuffed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what `dot_stuff` returns, chunk by chunk."""
    before = _CRLF  # the two octets before the chunk: the content's beginning begins a line
    for chunk in chunks:
        if not chunk:
            continue
        wire = chunk
        if chunk[0] == _DOT and before == _CRLF:
            yield b"."
        elif chunk[0] == _LF and before[-1] == _CR and chunk[1:2] == b".":
            yield b"\n."
            wire = chunk[1:]
        yield wire.replace(b"\r\n.", b"\r\n..") if b"\r\n." in wire else wire
        before = chunk[-2:] if len(chunk) > 1 else before[-1:] + chunk
