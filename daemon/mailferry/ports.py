"""What the services need from the outside world, and nothing about how it is done.

Adapters (net, destinations, ledger, telemetry) implement these; services and
the runtime see only this file. Callbacks run on the event loop's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mailferry.errors import MailferryError
from mailferry.events import Event
from mailferry.model import (
    Content,
    Delivery,
    DeliveryRecord,
    DestinationName,
    FetchedMessage,
    KnownMessage,
    LedgerRecord,
    ListedMessage,
    MaildropName,
    MessageRecord,
    ReceivedMail,
    StandingKind,
    StandingRecord,
    Uidl,
)
from mailferry.protocol.smtp_replies import SmtpReply

Emit = Callable[[Event], None]
"""Tells logs and metrics what happened; never raises, never blocks."""

Clock = Callable[[], float]
"""Seconds since the epoch."""


class Ledger(Protocol):
    """The state store. Every method raises `StoreError` when the store cannot do it."""

    def note(self, records: Sequence[LedgerRecord]) -> None:
        """Put records into the receipt journal, at once and without waiting.

        When this returns, the death of the process cannot lose them; the death
        of the machine can. For what must not be forgotten between a 250 and
        its commit. The records must also be given to `commit`.
        """

    def commit(self, records: Sequence[LedgerRecord], done: Callable[[Exception | None], None]) -> None:
        """Write rows; `done(None)` once they are synced to disk, `done(error)` otherwise.

        Orders given while a commit is under way share the next one.
        """

    async def save(self, records: Sequence[LedgerRecord]) -> None:
        """Do as `commit` does, awaitable."""

    async def adopt(self, records: Sequence[MessageRecord]) -> None:
        """Write rows whose UIDL has changed; they may take over each other's UIDLs.

        All or nothing, and synced when it returns.
        """

    async def known_messages(self, maildrop: MaildropName) -> Mapping[Uidl, KnownMessage]:
        """Return every message of the maildrop that is not gone."""

    async def received_messages(self, uidls: Sequence[Uidl], since: float) -> Mapping[Uidl, KnownMessage]:
        """Return those of some messages that came by SMTP (maildrop `RECEIVER`); at most 500 can be asked for.

        One that is gone counts if it last changed at `since` or later.
        """

    async def prune(self, before: float) -> int:
        """Delete rows of gone messages last touched before that time; return how many."""

    async def keep_copy(self) -> None:
        """Make a good copy of the store if one is due; what fails is told as an event."""

    async def standings(self) -> Mapping[tuple[StandingKind, str], StandingRecord]:
        """Return all standings."""


class Quarantine(Protocol):
    """Where messages go that every way was closed to."""

    async def put(
        self, message: FetchedMessage, record: MessageRecord, deliveries: Sequence[DeliveryRecord]
    ) -> str:
        """Keep a message and the reasons beside it, synced to disk; return its name.

        The same message put twice is the same entry.

        Raises:
            QuarantineError: it could not be written.
        """


class Destination(Protocol):
    """A place where messages go. `available` is False while its route is paused."""

    @property
    def name(self) -> DestinationName:
        """The name in the configuration."""

    @property
    def available(self) -> bool:
        """Whether it makes sense to fetch a message for it now."""

    @property
    def half_open(self) -> bool:
        """Whether it took no mail before and has not been seen to since: one message at a time."""

    def submit(self, delivery: Delivery) -> None:
        """Take an order; its `done` is called exactly once, whatever happens."""

    async def drain(self) -> None:
        """Refuse what has not begun, finish what has, close sessions."""


@dataclass(frozen=True, slots=True)
class MaildropListing:
    """STAT, LIST and UIDL of one session, put together.

    Attributes:
        messages: in the order of message numbers; one that LIST or UIDL left out
            is not among them.
        has_uidls: whether the server knows UIDL at all.
        complete: whether the three agree. If not, a message that is missing here
            may still be there.
        octets: the size of the maildrop as STAT has it.
    """

    messages: tuple[ListedMessage, ...]
    has_uidls: bool
    complete: bool
    octets: int


@dataclass(frozen=True, slots=True)
class MaildropTraits:
    """What a server told of itself, after login where the two differ."""

    has_top: bool
    pipelining: bool
    login_delay_seconds: float | None
    expire_days: int | None
    """0: fetched mail is deleted by the server; None: never or unknown (RFC 2449 s.6.7)."""
    protected: bool
    """Whether TLS was in force."""


class MaildropSession(Protocol):
    """One POP3 session that has logged in and holds the maildrop's lock.

    Requests are answered in order; a request's callback is called exactly once,
    with None when the session died before the answer. After any error the
    session is dead and `failure` says why.
    """

    @property
    def traits(self) -> MaildropTraits:
        """What the server offers."""

    @property
    def failure(self) -> Exception | None:
        """Why the session died, or None."""

    async def listing(self) -> MaildropListing:
        """Ask for STAT, LIST, UIDL.

        Raises:
            ProtocolError: they contradict each other or cannot be parsed.
            TransportError: the link failed.
        """

    def retrieve(self, message: ListedMessage, done: Callable[[Content | None, str], None]) -> None:
        """Ask for a whole message (RETR); `done(content, "")` or `done(None, why)`.

        A reason that is empty means that the session died. With a reason it goes on.
        """

    def top(self, message: ListedMessage, done: Callable[[bytes | None, str], None]) -> None:
        """Ask for a message's header only (TOP n 0); as `retrieve`."""

    def delete(self, message_number: int, done: Callable[[bool, str], None]) -> None:
        """Ask for deletion at the end of the session (DELE)."""

    async def quit(self) -> bool:
        """End the session; True when the server confirmed the deletions (QUIT +OK)."""

    def abort(self) -> None:
        """Drop the link; nothing that was marked is deleted. Safe to call twice."""


class MaildropConnector(Protocol):
    """Opens sessions to one configured maildrop."""

    async def open(self) -> MaildropSession:
        """Connect, protect, log in.

        Raises:
            TransportError: no connection, no TLS.
            MaildropError: the server refused.
            ProtocolError: the peer does not speak POP3.
            SecretError: the password could not be read.
        """

    def credentials_changed_at(self) -> float | None:
        """Return when the place of the password was last written to; None if that cannot be told."""


@dataclass(frozen=True, slots=True)
class EtrnTraits:
    """What a server offers for ETRN, and how we stand with it.

    Attributes:
        offered: whether it says in EHLO that it knows ETRN (RFC 1985 s.3).
        protected: whether TLS is in force; `offers_tls` whether it could be.
        logged_in: whether we have logged in; `offers_auth` whether we could.
    """

    offered: bool
    protected: bool
    logged_in: bool
    offers_tls: bool = False
    offers_auth: bool = False


class EtrnSession(Protocol):
    """One SMTP session for ETRN requests, one at a time."""

    @property
    def traits(self) -> EtrnTraits:
        """What the server offers."""

    async def ask(self, node: str) -> SmtpReply:
        """Ask for a node's mail.

        Raises:
            HopError: the server has ended the session.
            TransportError: the link failed.
            ProtocolError: the answer is none; or the node cannot be sent as it is.
        """

    async def quit(self) -> None:
        """End the session in good order; never raises, never takes long."""

    def abort(self) -> None:
        """Drop the link. Safe to call twice."""


class EtrnConnector(Protocol):
    """Opens sessions to one server that is asked with ETRN."""

    async def open(self) -> EtrnSession:
        """Connect, protect, log in.

        Raises:
            TransportError: no connection, no TLS.
            HopError: the server refused greeting, EHLO, STARTTLS or AUTH.
            ProtocolError: the peer does not speak SMTP.
            SecretError: the password could not be read.
        """


@dataclass(frozen=True, slots=True)
class TurnReport:
    """What came over a connection that had turned round (RFC 2645 s.5.3).

    Attributes:
        accepted: messages that every destination has.
        deferred: messages that the provider was asked to keep, and to send again.
        rejected: messages that were refused for good.
        refusals: commands and recipients that were refused, as for domains that nobody asked for.
        complete: whether the provider said with QUIT that it had no more.
        failure: why the connection ended before that; None when we ended it at a bound of ours.
    """

    accepted: int = 0
    deferred: int = 0
    rejected: int = 0
    refusals: int = 0
    complete: bool = False
    failure: MailferryError | None = None


class OdmrSession(Protocol):
    """One SMTP session with a provider that is asked with ATRN."""

    @property
    def traits(self) -> EtrnTraits:
        """What the provider offers; `offered` is about ATRN."""

    async def ask(self, domains: Sequence[str]) -> SmtpReply:
        """Ask for the mail of these domains; after a 250 only `take_mail` may follow.

        Raises:
            HopError: the provider has ended the session.
            TransportError: the link failed.
            ProtocolError: the answer is none; or the domains cannot be sent as they are.
        """

    async def take_mail(self, domains: Sequence[str]) -> TurnReport:
        """Be the server over this connection until it ends; only mail for these domains is taken."""

    def drain(self) -> None:
        """End `take_mail` at its next safe point: a message whose end has come is answered first."""

    async def quit(self) -> None:
        """End the session in good order; never raises, never takes long."""

    def abort(self) -> None:
        """Drop the link. Safe to call twice."""


class OdmrConnector(Protocol):
    """Opens sessions to one provider that is asked with ATRN."""

    async def open(self) -> OdmrSession:
        """Connect, protect, log in; raises as `EtrnConnector.open` does."""


class Listener(Protocol):
    """Our own mail server, to which the mail will come that a request releases."""

    async def trouble(self) -> str:
        """Return why it would take no mail now, empty when it would; never raises, takes seconds at most."""


class Reception(Protocol):
    """What becomes of a message that came in by SMTP."""

    async def receive(self, mail: ReceivedMail) -> SmtpReply:
        """Deliver it and return what to answer; never raises, and takes minutes at most.

        A positive reply means that every destination has accepted, and that the rows
        which say so are synced. It does its work to the end even if nobody waits for it.
        """


class Budget(Protocol):
    """Octets of mail that may be in memory at once, over the whole daemon."""

    def share_of(self, octets: int) -> int:
        """Return what a message of this size is to take."""

    async def reserve(self, octets: int) -> None:
        """Take octets as soon as they can be had; nothing is taken when the caller is cancelled."""

    def give_back(self, octets: int) -> None:
        """Return octets."""
