"""The ports of `mailferry.ports` in memory, able to misbehave.

All fakes of one `support.rig.Rig` write what they are asked and what they do into one list,
`effects`, so that a test can hold the order of effects across ports to a promise.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mailferry.errors import ConnectionLostError, StoreError
from mailferry.model import (
    RECEIVER,
    Delivered,
    Delivery,
    DeliveryRecord,
    DeliveryReport,
    DestinationName,
    FetchedMessage,
    KnownMessage,
    LedgerRecord,
    ListedMessage,
    MaildropName,
    MessageId,
    MessageRecord,
    MessageState,
    StandingKind,
    StandingRecord,
    Uidl,
)
from mailferry.ports import MaildropListing, MaildropTraits

ALICE = MaildropName("alice")


# -- the maildrop --------------------------------------------------------------


@dataclass(slots=True)
class FakeMail:
    """One message on the server; `octets` is the size it lists, the true one by default."""

    uidl: bytes | None
    content: bytes
    octets: int = 0

    @property
    def name(self) -> str:
        return self.uidl.decode() if self.uidl is not None else "?"

    @property
    def size(self) -> int:
        return self.octets or len(self.content)


def mail(
    uidl: str | None, subject: str = "", body: str = "body\r\n", octets: int = 0, *, traced: bool = True
) -> FakeMail:
    """Make a message whose header follows from its subject (by default its UIDL).

    `traced`: it came by SMTP, so it has a Received field.
    """
    trace = f"Received: from mx.example.net; {subject or uidl}\r\n" if traced else ""
    header = f"{trace}From: a@example.org\r\nTo: b@example.org\r\nSubject: {subject or uidl}\r\n\r\n"
    return FakeMail(uidl.encode() if uidl is not None else None, (header + body).encode(), octets)


@dataclass(slots=True)
class FakeMaildrop:
    """A POP3 server with one maildrop; also its connector.

    Attributes:
        refuses: requests ("retr", 2) that are answered with -ERR.
        dies_at: the request at which the link breaks.
        held: answers wait for `FakeSession.answer`.
        quit_confirms: whether QUIT is answered with +OK; `quit_deletes` whether it deletes.
    """

    mails: list[FakeMail]
    effects: list[str] = field(default_factory=list)
    traits: MaildropTraits = field(
        default_factory=lambda: MaildropTraits(
            has_top=True, pipelining=True, login_delay_seconds=None, expire_days=None, protected=True
        )
    )
    has_uidls: bool = True
    complete: bool = True
    refuses: set[tuple[str, int]] = field(default_factory=set)
    dies_at: tuple[str, int] | None = None
    held: bool = False
    quit_confirms: bool = True
    quit_deletes: bool = True
    open_error: Exception | None = None
    listing_error: Exception | None = None
    sessions: list[FakeSession] = field(default_factory=list)
    before_open: Callable[[], Awaitable[None]] | None = None
    password_written_at: float | None = None

    def credentials_changed_at(self) -> float | None:
        return self.password_written_at

    async def open(self) -> FakeSession:
        if self.before_open is not None:
            await self.before_open()
        await asyncio.sleep(0)
        if self.open_error is not None:
            raise self.open_error
        self.effects.append("login")
        self.sessions.append(FakeSession(self))
        return self.sessions[-1]

    @property
    def session(self) -> FakeSession:
        """The newest one."""
        return self.sessions[-1]


class FakeSession:
    """Implements `ports.MaildropSession` as `Pop3Session` does: answers never come synchronously."""

    def __init__(self, maildrop: FakeMaildrop) -> None:
        self.failure: Exception | None = None
        self.marked: set[int] = set()
        self.unread: deque[tuple[str, int, Callable[[], None], Callable[[], None]]] = deque()
        self._maildrop = maildrop
        self._mails = list(maildrop.mails)

    @property
    def traits(self) -> MaildropTraits:
        return self._maildrop.traits

    async def listing(self) -> MaildropListing:
        await asyncio.sleep(0)
        if self._maildrop.listing_error is not None:
            self.die(self._maildrop.listing_error)
            raise self._maildrop.listing_error
        has_uidls = self._maildrop.has_uidls
        messages = tuple(
            ListedMessage(number, m.size, Uidl(m.uidl) if has_uidls and m.uidl is not None else None)
            for number, m in enumerate(self._mails, 1)
        )
        octets = sum(m.size for m in self._mails)
        return MaildropListing(messages, has_uidls, self._maildrop.complete, octets)

    def retrieve(self, message: ListedMessage, done: Callable[[bytes | None, str], None]) -> None:
        self._fetch("retr", message, done)

    def top(self, message: ListedMessage, done: Callable[[bytes | None, str], None]) -> None:
        self._fetch("top", message, done)

    def _fetch(self, verb: str, message: ListedMessage, done: Callable[[bytes | None, str], None]) -> None:
        number = message.message_number
        content = self._mails[number - 1].content
        if verb == "top":
            content = content.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"

        def answer() -> None:
            if (verb, number) in self._maildrop.refuses:
                done(None, f"{verb.upper()} refused: no")
            else:
                done(content, "")

        self._ask(verb, number, answer, lambda: done(None, ""))

    def delete(self, message_number: int, done: Callable[[bool, str], None]) -> None:
        def answer() -> None:
            if ("dele", message_number) in self._maildrop.refuses:
                done(False, "no")
            else:
                self.marked.add(message_number)
                done(True, "marked")

        self._ask("dele", message_number, answer, lambda: done(False, "the session ended"))

    async def quit(self) -> bool:
        answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def answer() -> None:
            if self._maildrop.quit_deletes:
                left = [m for number, m in enumerate(self._mails, 1) if number not in self.marked]
                self._maildrop.mails[:] = left
            say(self._maildrop.quit_confirms)

        def say(confirmed: bool) -> None:
            if not answered.done():  # the caller may have been cancelled
                answered.set_result(confirmed)

        self._ask("quit", 0, answer, lambda: say(False))
        try:
            return await answered
        finally:
            self.die(ConnectionLostError("the session has ended with QUIT"))

    def abort(self) -> None:
        self.die(ConnectionLostError("the session was given up"))

    def die(self, error: Exception) -> None:
        """Break the link: everybody who waits is told, oldest first, soon."""
        if self.failure is not None:
            return
        self.failure = error
        loop = asyncio.get_running_loop()
        while self.unread:
            *_, abandoned = self.unread.popleft()
            loop.call_soon(abandoned)

    def answer(self) -> None:
        """Answer the oldest request."""
        if not self.unread:
            return
        verb, number, *_ = self.unread[0]
        if self._maildrop.dies_at == (verb, number):
            self.die(ConnectionLostError(f"reset at {verb} {number}"))
            return
        _, _, answer, _ = self.unread.popleft()
        answer()

    def _ask(self, verb: str, number: int, answer: Callable[[], None], abandoned: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        if self.failure is not None:
            loop.call_soon(abandoned)
            return
        name = self._mails[number - 1].name if number else ""
        self._maildrop.effects.append(f"{verb} {name}".strip())
        self.unread.append((verb, number, answer, abandoned))
        if not self._maildrop.held:
            loop.call_soon(self.answer)


# -- destinations --------------------------------------------------------------


class FakeDestination:
    """Implements `ports.Destination`.

    Attributes:
        when: "soon" answers in the loop's next round, "now" before `submit` returns,
            "held" when the test calls `answer`.
        script: what is said to a message, by UIDL, attempt by attempt; an exception is
            raised by `submit`. What is not in it is accepted.
    """

    def __init__(self, name: str, effects: list[str], when: str = "soon") -> None:
        self.name = DestinationName(name)
        self.available = True
        self.half_open = False
        self.when = when
        self.script: dict[bytes, list[DeliveryReport | Exception]] = {}
        self.submitted: list[Delivery] = []
        self.held: list[Delivery] = []
        self.drained = False
        self._effects = effects

    def submit(self, delivery: Delivery) -> None:
        uidl = delivery.message.uidl
        self._effects.append(f"submit {self.name} {uidl.decode()}")
        self.submitted.append(delivery)
        if self.when == "held":
            self.held.append(delivery)
            return
        report = self._next_report(uidl)
        if self.when == "now":
            delivery.done(report)
        else:
            asyncio.get_running_loop().call_soon(delivery.done, report)

    def answer(self, report: DeliveryReport | None = None, index: int = 0) -> None:
        """Answer a held order."""
        delivery = self.held.pop(index)
        delivery.done(report if report is not None else self._next_report(delivery.message.uidl))

    async def drain(self) -> None:
        await asyncio.sleep(0)
        self.drained = True
        self._effects.append(f"drain {self.name}")

    def _next_report(self, uidl: bytes) -> DeliveryReport:
        said = self.script.get(uidl)
        report = said.pop(0) if said else DeliveryReport(Delivered(f"250 {self.name}"))
        if isinstance(report, Exception):
            raise report
        return report


# -- the quarantine ------------------------------------------------------------


class FakeQuarantine:
    """Implements `ports.Quarantine`; `error` is raised in place of storing."""

    def __init__(self, effects: list[str]) -> None:
        self.error: Exception | None = None
        self.entries: dict[str, tuple[FetchedMessage, MessageRecord, tuple[DeliveryRecord, ...]]] = {}
        self._effects = effects

    async def put(
        self, message: FetchedMessage, record: MessageRecord, deliveries: Sequence[DeliveryRecord]
    ) -> str:
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        name = f"{record.maildrop}-{record.message_id}"
        self.entries[name] = (message, record, tuple(deliveries))
        self._effects.append(f"confine {record.uidl.decode()}")
        return name


# -- the ledger ----------------------------------------------------------------


def row_text(record: LedgerRecord) -> str:
    """Name a row and where it stands."""
    match record:
        case MessageRecord():
            return f"{record.uidl.decode()}={record.state}"
        case DeliveryRecord():
            return f"{record.destination}={record.state}"
        case StandingRecord():
            return f"{record.name}:{record.consecutive_failures}"


class FakeLedger:
    """Implements `ports.Ledger`, as the real one does it.

    Two live rows with one UIDL are refused. What was noted and could not be written
    is a debt that is paid before known messages are told.

    Attributes:
        fails: says whether a commit of these rows is to fail.
        raises: `commit` raises at once, as the port allows.
        held: commits wait for `sync`.
    """

    def __init__(self, effects: list[str]) -> None:
        self.messages: dict[MessageId, MessageRecord] = {}
        self.deliveries: dict[tuple[MessageId, DestinationName], DeliveryRecord] = {}
        self.standing_rows: dict[tuple[StandingKind, str], StandingRecord] = {}
        self.fails: Callable[[Sequence[LedgerRecord]], bool] = lambda _: False
        self.raises = False
        self.note_fails = False
        self.known_fails = False
        self.held = False
        self.pruned: list[float] = []
        self.copies_kept = 0
        self._noted: list[LedgerRecord] = []
        self._owed: list[LedgerRecord] = []
        self.waiting: deque[tuple[Sequence[LedgerRecord], Callable[[Exception | None], None]]] = deque()
        self._effects = effects

    def note(self, records: Sequence[LedgerRecord]) -> None:
        if self.note_fails:
            raise StoreError("the journal cannot grow")
        self._noted.extend(records)
        self._effects.append("note " + " ".join(map(row_text, records)))

    def commit(self, records: Sequence[LedgerRecord], done: Callable[[Exception | None], None]) -> None:
        if self.raises:
            raise StoreError("the ledger is closed")
        self.waiting.append((tuple(records), done))
        if not self.held:
            asyncio.get_running_loop().call_soon(self.sync)

    async def save(self, records: Sequence[LedgerRecord]) -> None:
        saved: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(error: Exception | None) -> None:
            if saved.done():  # the caller was cancelled
                return
            if error is None:
                saved.set_result(None)
            else:
                saved.set_exception(error)

        self.commit(records, done)
        await saved

    def sync(self) -> None:
        """Write the oldest order and tell."""
        if not self.waiting:
            return
        records, done = self.waiting.popleft()
        error = self._write(records)
        text = " ".join(map(row_text, records))
        if text:
            self._effects.append(f"{'synced' if error is None else 'failed'} {text}")
        done(error)

    async def known_messages(self, maildrop: MaildropName) -> Mapping[Uidl, KnownMessage]:
        await self._ready_to_answer()
        return {
            known.message.uidl: known
            for known in self._all_known(maildrop)
            if known.message.state is not MessageState.GONE
        }

    async def received_messages(self, uidls: Sequence[Uidl], since: float) -> Mapping[Uidl, KnownMessage]:
        await self._ready_to_answer()
        found = [known for known in self._all_known(RECEIVER) if known.message.uidl in uidls]
        found.sort(key=lambda known: (known.message.state is not MessageState.GONE, known.message.updated_at))
        return {
            known.message.uidl: known
            for known in found
            if known.message.state is not MessageState.GONE or known.message.updated_at >= since
        }

    async def _ready_to_answer(self) -> None:
        await asyncio.sleep(0)
        if self.known_fails or (self._owed and self._write(self._owed) is not None):
            raise StoreError("the ledger cannot be read")
        if self._owed:
            self._effects.append("synced " + " ".join(map(row_text, self._owed)))
            self._owed.clear()

    def _all_known(self, maildrop: MaildropName) -> list[KnownMessage]:
        return [
            KnownMessage(m, tuple(d for (n, _), d in self.deliveries.items() if n == m.message_id))
            for m in self.messages.values()
            if m.maildrop == maildrop
        ]

    async def adopt(self, records: Sequence[MessageRecord]) -> None:
        await asyncio.sleep(0)
        error = self._write(records)
        text = " ".join(map(row_text, records))
        self._effects.append(f"{'adopted' if error is None else 'failed'} {text}")
        if error is not None:
            raise error

    async def prune(self, before: float) -> int:
        await asyncio.sleep(0)
        self.pruned.append(before)
        if self.known_fails:
            raise StoreError("the ledger cannot be read")
        return 0

    async def keep_copy(self) -> None:
        await asyncio.sleep(0)
        self.copies_kept += 1

    async def standings(self) -> Mapping[tuple[StandingKind, str], StandingRecord]:
        return self.standing_rows

    def states(self) -> dict[str, str]:
        """Where each message stands, by UIDL; the newest of several with one UIDL."""
        return {m.uidl.decode(): str(m.state) for m in self.messages.values()}

    def of(self, uidl: str) -> MessageRecord:
        """The newest row of a UIDL."""
        return [m for m in self.messages.values() if m.uidl == uidl.encode()][-1]

    def delivery(self, uidl: str, destination: str) -> DeliveryRecord | None:
        """What a destination did with the newest message of a UIDL."""
        return self.deliveries.get((self.of(uidl).message_id, DestinationName(destination)))

    def _write(self, records: Sequence[LedgerRecord]) -> Exception | None:
        if self.fails(records):
            self._owed += [record for record in records if record in self._noted]
            return StoreError("disk full")
        messages = dict(self.messages)
        messages |= {r.message_id: r for r in records if isinstance(r, MessageRecord)}
        live = [(m.maildrop, m.uidl) for m in messages.values() if m.state is not MessageState.GONE]
        if len(set(live)) != len(live):
            return StoreError("two live rows with one UIDL")
        self.messages = messages
        self.deliveries |= {
            (r.message_id, r.destination): r for r in records if isinstance(r, DeliveryRecord)
        }
        self.standing_rows |= {(r.kind, r.name): r for r in records if isinstance(r, StandingRecord)}
        return None
