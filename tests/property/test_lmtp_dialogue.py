"""LMTP whatever the store says and wherever the link breaks: nobody's word is taken for another's."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from mailferry.protocol.smtp import SmtpConnection, Transaction, TransactionFinished
from mailferry.protocol.smtp_commands import Lhlo

REPLIES = (
    "250 2.0.0 ok",
    "250-2.0.0 two\r\n250 2.0.0 lines",
    "452 4.2.2 full",
    "550 5.1.1 nobody",
    "421 4.3.2 bye",
)


@dataclass
class Store:
    """Answers as RFC 2033 wants it, with the fates that it was given; keeps what it took, and for whom."""

    rcpts: list[str]
    finals: list[str]
    offers: tuple[str, ...]
    took: dict[int, set[str]] = field(default_factory=dict)
    out: list[bytes] = field(default_factory=lambda: [b"220 store LMTP\r\n"])
    waiting: bytes = b""
    recipients: list[str] = field(default_factory=list)
    number: int = 0
    in_data: bool = False
    chunk_octets: int = -1
    over: bool = False

    def say(self, reply: str) -> None:
        self.out.append(reply.encode() + b"\r\n")
        self.over = self.over or reply.startswith("421")

    def take(self, octets: bytes) -> None:
        self.waiting += octets
        while not self.over and self._step():
            pass

    def _step(self) -> bool:
        if self.chunk_octets >= 0:
            if len(self.waiting) < self.chunk_octets:
                return False
            self.waiting, self.chunk_octets = self.waiting[self.chunk_octets :], -1
            return self._end()
        line, end, rest = self.waiting.partition(b"\r\n")
        if not end:
            return False
        self.waiting = rest
        if self.in_data:
            self.in_data = line != b"."
            return self.in_data or self._end()
        return self._command(line.decode())

    def _command(self, line: str) -> bool:
        verb = line.split(maxsplit=1)[0]
        if verb == "LHLO":
            self.say("\r\n".join(("250-store", *(f"250-{each}" for each in self.offers), "250 8BITMIME")))
        elif verb == "MAIL":
            self.number, self.recipients = int(line.partition("<")[2].partition("@")[0]), []
            self.say("250 ok")
        elif verb == "RCPT":
            fate = self.rcpts.pop() if self.rcpts else REPLIES[0]
            if fate.startswith("250"):
                self.recipients.append(line.partition("<")[2].rstrip(">"))
            self.say(fate)
        elif verb == "DATA":
            self.in_data = bool(self.recipients)
            self.say("354 go" if self.in_data else "503 5.5.1 nobody to take it for")
        elif verb == "BDAT":
            assert self.recipients, "content for nobody"
            self.chunk_octets = int(line.split()[1])
        else:
            assert verb == "RSET", line
            self.say("250 ok")
        return True

    def _end(self) -> bool:
        """One reply for each recipient, even after a 421 that nobody will hear."""
        for recipient in self.recipients:
            fate = self.finals.pop() if self.finals else REPLIES[0]
            if self.over:
                break
            if fate.startswith("250"):
                self.took.setdefault(self.number, set()).add(recipient)
            self.say(fate)
        self.recipients = []
        return True


FATES = st.lists(st.sampled_from(REPLIES), max_size=14)
OFFERS = st.sampled_from([(), ("PIPELINING",), ("CHUNKING",), ("PIPELINING", "CHUNKING")])


def drive(
    store: Store, orders: list[Transaction], cuts: list[int], heard_octets: int
) -> list[TransactionFinished]:
    """Run to the end, or until so many octets of the store's have been heard and the link breaks."""
    client, waiting, ended = SmtpConnection(lmtp=True), list(orders), list[TransactionFinished]()
    greeted = False
    while store.out and heard_octets > 0:
        octets, store.out = b"".join(store.out), []
        at = (cuts.pop() if cuts else len(octets)) % len(octets) + 1
        now, later = octets[: min(at, heard_octets)], octets[min(at, heard_octets) :]
        heard_octets -= len(now)
        store.out = [later] if later else []
        events = client.receive_data(now)
        ended += [event for event in events if isinstance(event, TransactionFinished)]
        if not greeted and client.state.name == "CONNECTED" and client.idle:
            client.send(Lhlo("me.example.org"))
            greeted = True
        while waiting and client.can_begin:
            client.begin(waiting.pop(0))
        store.take(b"".join(client.data_to_send()))
    return ended + client.connection_lost()


def number_of(ended: TransactionFinished) -> int:
    assert isinstance(ended.transaction.tag, int)
    return ended.transaction.tag


@given(
    rcpts=FATES, finals=FATES, offers=OFFERS,
    counts=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 60), max_size=30),
    heard_octets=st.one_of(st.just(100_000), st.integers(1, 1200)),
)  # fmt: skip
def test_who_is_told_to_have_it_has_it_and_who_lacks_it_is_known_or_in_doubt(
    rcpts: list[str],
    finals: list[str],
    offers: tuple[str, ...],
    counts: list[int],
    cuts: list[int],
    heard_octets: int,
) -> None:
    orders = [
        Transaction(at, f"{at}@x.org", tuple(f"r{at}-{n}@y.org" for n in range(count)), (b"Hi\r\n",), 4)
        for at, count in enumerate(counts)
    ]
    store = Store(rcpts, finals, offers)
    ended = drive(store, orders, cuts, heard_octets)
    # After a 421 the second is over at once, while the first waits for its own replies.
    assert sorted(map(number_of, ended)) == list(range(len(ended)))
    for each in ended:
        told, took = set(each.accepted_recipients), store.took.get(number_of(each), set())
        assert told <= took
        assert told == took or each.in_doubt
        for recipient, verdict in zip(each.transaction.recipients, each.recipient_verdicts, strict=True):
            if verdict is not None and not verdict.positive:
                assert recipient not in took
