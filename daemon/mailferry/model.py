"""The values that rooms hand to each other: frozen, without behaviour that needs I/O.

Names are those of RFC 1939 (maildrop, message number, unique-id, octets) and
RFC 5321 (envelope, reverse-path, reply). Times are seconds since the epoch, UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType, Protocol

MaildropName = NewType("MaildropName", str)
DestinationName = NewType("DestinationName", str)

RECEIVER = MaildropName("receiver")
"""What mail that comes by SMTP has in the place of a maildrop."""

Uidl = NewType("Uidl", bytes)
"""A unique-id (RFC 1939 s.7) as opaque octets, or an identity of our own making.

Servers without usable unique-ids get identities made from the message's
fingerprint; those start with a space, which no listing can contain.
"""

MessageId = NewType("MessageId", int)
"""Our own number for one message in the ledger: 63 bits, rising with time."""


@dataclass(frozen=True, slots=True)
class ListedMessage:
    """One line of a maildrop's listing: `message_number` holds for this session only."""

    message_number: int
    size_octets: int
    uidl: Uidl | None


class MessageState(StrEnum):
    """Where a message stands; see `docs/architecture.md` for the picture."""

    DEFERRED = "deferred"
    """Not accepted everywhere yet; still on the server, to be tried again."""
    ACCEPTED = "accepted"
    """Every destination has it; kept on the server for now."""
    DELETE_PENDING = "delete-pending"
    """Every destination has it; to be deleted, or deleted but not yet confirmed."""
    REJECTED = "rejected"
    """Proven permanent refusal of this message; kept on the server."""
    SKIPPED = "skipped"
    """Deliberately not fetched (too large); the row says why."""
    MISSING = "missing"
    """Delivered, and no longer listed though we did not delete it: kept in mind for
    a while, so that it is recognised when the server shows it again under another UIDL."""
    GONE = "gone"
    """No longer on the server; the row is history and its UIDL may come again."""


class DeliveryState(StrEnum):
    """What one destination did with one message."""

    ACCEPTED = "accepted"
    DEFERRED = "deferred"
    IN_DOUBT = "in-doubt"
    """The link broke between the final dot and its reply: tried again, possibly doubled."""
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class MessageRecord:
    """A message's row in the ledger, always written whole."""

    message_id: MessageId
    maildrop: MaildropName
    uidl: Uidl
    state: MessageState
    size_octets: int
    first_seen_at: float
    updated_at: float
    header_digest: bytes = b""
    content_digest: bytes = b""
    sender: str = ""
    recipient: str = ""
    subject: str = ""
    reason: str = ""
    fetch_attempts: int = 0
    next_fetch_at: float = 0.0
    accepted_at: float | None = None

    def standing_at(
        self, state: MessageState, now: float, *, reason: str, accepted_at: float | None
    ) -> MessageRecord:
        """Return the row as it stands now; `replace` would take three times as long."""
        return MessageRecord(
            self.message_id,
            self.maildrop,
            self.uidl,
            state,
            self.size_octets,
            self.first_seen_at,
            now,
            self.header_digest,
            self.content_digest,
            self.sender,
            self.recipient,
            self.subject,
            reason,
            self.fetch_attempts,
            self.next_fetch_at,
            accepted_at,
        )


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """What became of one message at one destination, always written whole."""

    message_id: MessageId
    destination: DestinationName
    state: DeliveryState
    attempts: int
    next_attempt_at: float
    updated_at: float
    receipt: str = ""
    """The text of the 250 (or the file's name): the next hop's word that it has the message."""
    error: str = ""
    accepted_recipients: tuple[str, ...] = ()
    refused_recipients: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KnownMessage:
    """What the ledger knows of a message that may still be on the server."""

    message: MessageRecord
    deliveries: tuple[DeliveryRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class QuarantineEntry:
    """A message that was refused for good, taken off its server and kept by us.

    Attributes:
        name: what commands call it; unique in the quarantine, made of safe characters.
        message: its row as it was then, with From, To and Subject decoded.
        deliveries: what became of it at each destination; the refused ones say why.
        envelope_sender: the reverse-path; empty for the null one.
        fetched_at: seconds since the epoch; `fetched_from` and `fetched_with` as in
            `FetchedMessage`.
        envelope_recipients: those that it came with by SMTP; POP3 knows none.
    """

    name: str
    message: MessageRecord
    deliveries: tuple[DeliveryRecord, ...]
    envelope_sender: str
    fetched_at: float
    fetched_from: str
    fetched_with: str
    quarantined_at: float
    envelope_recipients: tuple[str, ...] = ()


class StandingKind(StrEnum):
    """What a standing is about."""

    MAILDROP = "maildrop"
    DESTINATION = "destination"
    ETRN = "etrn"
    NOTICE = "notice"
    """The summary for the operator."""


@dataclass(frozen=True, slots=True)
class StandingRecord:
    """How a maildrop, destination or ETRN node has fared, across restarts."""

    kind: StandingKind
    name: str
    last_success_at: float | None = None
    last_error_at: float | None = None
    last_error: str = ""
    consecutive_failures: int = 0
    not_before: float = 0.0
    """No attempt before this time: back-off, LOGIN-DELAY."""
    login_delay_seconds: float = 0.0
    last_attempt_at: float | None = None
    """ETRN: when the node was last asked for, whatever the answer."""
    last_reply: str = ""
    """ETRN: the server's last answer, whole."""


LedgerRecord = MessageRecord | DeliveryRecord | StandingRecord


class Scope(StrEnum):
    """Whom a failure blames (Postfix draws the same line: site, message, recipient)."""

    RECIPIENT = "recipient"
    MESSAGE = "message"
    NEXT_HOP = "next-hop"


@dataclass(frozen=True, slots=True)
class Delivered:
    """Accepted: the destination now answers for the message."""

    receipt: str


@dataclass(frozen=True, slots=True)
class Deferred:
    """Not accepted, try again; also every case that is not understood."""

    scope: Scope
    reason: str
    in_doubt: bool = False
    """True when the final dot was sent and its reply never came."""
    attempted: bool = True
    """False when nothing was tried (route paused, shutting down): counts as no attempt."""
    credentials: bool = False
    """True when the next hop did not take our user name or password: a person must act."""
    in_transaction: bool = False
    """True when what blames the next hop came in the middle of this message's own transaction."""
    counts: bool = False
    """True when it counts as an attempt of the message, though it blames the hop: it may be the
    message, which must not go first for ever."""


@dataclass(frozen=True, slots=True)
class PermanentFailure:
    """Proven refusal of this message or recipient; never of a route."""

    scope: Scope
    reason: str


Outcome = Delivered | Deferred | PermanentFailure


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """What one attempt at one destination brought.

    `outcome` speaks for the delivery as a whole: `Delivered` only when every
    recipient has been accepted. The first two tuples name recipients whose fate this
    attempt settled, the third those for whom it is to be tried again, where that is told
    one by one.
    """

    outcome: Outcome
    accepted_recipients: tuple[str, ...] = ()
    refused_recipients: tuple[str, ...] = ()
    deferred_recipients: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Summary:
    """From, To and Subject decoded for human eyes; never used for decisions."""

    sender: str = ""
    recipient: str = ""
    subject: str = ""


@dataclass(frozen=True, slots=True)
class TraceFacts:
    """What a message's trace fields say of its way, as far as loops are concerned.

    Attributes:
        received: how many Received fields there are; counted up to a bound.
        received_by_us: those that this daemon wrote.
        repeated_delivered_to: addresses that stand in Delivered-To more than once, printable.
    """

    received: int = 0
    received_by_us: int = 0
    repeated_delivered_to: tuple[str, ...] = ()


class StoredContent(Protocol):
    """A message's octets in a file, since they are too many for memory.

    What can be said about them without reading them again is kept. The file lasts
    as long as somebody refers to this object, and no longer.
    """

    def __len__(self) -> int:
        """How many octets there are."""

    @property
    def sha256(self) -> bytes:
        """The digest of all octets."""

    @property
    def is_ascii(self) -> bool:
        """Whether no octet has its eighth bit set."""

    @property
    def is_crlf(self) -> bool:
        """Whether every line, the last one too, ends with CRLF, and no CR or LF stands alone."""

    def head(self, octets: int) -> bytes:
        """Return the first octets, at most so many.

        Raises:
            OSError: the file cannot be read.
        """

    def pieces(self, start: int = 0) -> Iterator[bytes]:
        """Yield the octets from `start` on, in pieces of at most some hundred KB.

        Raises:
            OSError: the file cannot be read.
        """


Content = bytes | StoredContent
"""A message's octets, in memory or in a file."""


@dataclass(frozen=True, slots=True)
class FetchedMessage:
    """A message as it was fetched: `content` is unstuffed, line ends untouched."""

    maildrop: MaildropName
    message_id: MessageId
    uidl: Uidl
    content: Content
    header_digest: bytes
    content_digest: bytes
    envelope_sender: str
    """From Return-Path, or MAIL when it came by SMTP; empty for the null reverse-path."""
    summary: Summary
    fetched_at: float
    fetched_from: str
    """The POP3 server's name as the configuration has it."""
    fetched_with: str
    """`POP3` or `POP3S`, for the Received field; `ESMTP` and its kin when it came by SMTP (RFC 3848)."""
    envelope_recipients: tuple[str, ...] = ()
    """The recipients that a message came with by SMTP; POP3 knows none."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """An order to one destination: take this message.

    `done` is called exactly once, on the event loop's thread, maybe before the
    call that submitted it returns.
    """

    message: FetchedMessage
    done: Callable[[DeliveryReport], None] = field(compare=False, repr=False)
    settled_recipients: frozenset[str] = frozenset()
    """Recipients who accepted or refused in an earlier attempt: not asked again."""
    attempt: int = 1

    def answered_by(self, done: Callable[[DeliveryReport], None]) -> Delivery:
        """Return the same order with another `done`; `replace` would take several times as long."""
        return Delivery(self.message, done, self.settled_recipients, self.attempt)


@dataclass(frozen=True, slots=True)
class ReceivedMail:
    """A message that came in by SMTP, whole, and is not answered yet.

    Attributes:
        envelope_sender: the reverse-path of MAIL; empty for the null one.
        envelope_recipients: those that were taken at RCPT, each once, in their order.
        content: unstuffed; no CR or LF stands alone in it.
        received_from: who sent it, for the Received field: EHLO name and address.
        received_with: `SMTP`, `ESMTP`, `ESMTPS` and so on (RFC 3848).
        destinations: where it goes; all of them must accept.
        session_id: tells sessions apart in logs.
    """

    envelope_sender: str
    envelope_recipients: tuple[str, ...]
    content: Content
    received_from: str
    received_with: str
    destinations: tuple[DestinationName, ...]
    session_id: str
