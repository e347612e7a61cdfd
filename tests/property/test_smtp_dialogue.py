"""Whole sessions against a model of a server that checks us as it goes.

The model is written apart from the client and by other means: it reads our
octets as RFC 5321, 2920 and 3030 say, notes every breach, and remembers what it
accepted. What it decides depends on seed and transaction only, not on when it is
asked, so that any cutting of the streams must lead to the same end.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailferry.model import Delivered
from mailferry.policy.classify import classify_transaction
from mailferry.protocol.smtp import SmtpConnection, SmtpLimits, SmtpState, Transaction, TransactionFinished
from mailferry.protocol.smtp_commands import Ehlo

REFUSALS = {
    "mail": ["250 ok"] * 6 + ["550 no", "451 later", "530 5.7.0 authenticate"],
    "rcpt": ["250 ok"] * 4 + ["550 5.1.1 no such user", "450 later", "251 ok"],
    "data": ["354 go"] * 5 + ["554 no", "451 later"],
    "nobody": ["354 go", "554 no valid recipients"],
    "final": ["250 2.0.0 stored"] * 5 + ["554 5.7.1 spam", "452 full"],
}


@dataclass
class Stored:
    recipients: list[str]
    content: bytes


@dataclass
class ModelServer:
    """Octets in, octets out; breaches of the RFCs are noted, not forgiven."""

    seed: int
    pipelining: bool
    chunking: bool
    closes: bool
    breaches: list[str] = field(default_factory=list)
    stored: dict[str, Stored] = field(default_factory=dict)
    buffer: bytes = b""
    out: bytes = b"220 mx\r\n"
    sender: str | None = None
    recipients: list[str] = field(default_factory=list)
    bdat_failed: bool = False
    receiving: bool = False
    chunk: int | None = None
    closed: bool = False

    def choose(self, kind: str, *key: object) -> str:
        dice = random.Random(f"{self.seed} {kind} {key}")
        if self.closes and dice.random() < 0.04:
            return "421 bye"
        return dice.choice(REFUSALS[kind])

    def feed(self, data: bytes) -> None:
        self.buffer += data
        while not self.closed and self.step():
            pass

    def say(self, reply: str) -> None:
        self.out += reply.encode() + b"\r\n"
        self.closed = reply.startswith("421")

    def step(self) -> bool:
        if self.receiving:
            return self.take_data()
        if self.chunk is not None:
            return self.take_chunk(self.chunk)
        line, end, rest = self.buffer.partition(b"\r\n")
        if not end:
            return False
        self.buffer = rest
        verb = re.split(rb"[ :]", line)[0].decode().upper()
        if rest and not self.pipelining and verb != "BDAT":
            self.breaches.append(f"{verb} and more without PIPELINING")
        if rest and verb in ("DATA", "EHLO"):
            self.breaches.append(f"{verb} is not the last of its group")
        getattr(self, f"do_{verb.lower()}")(line.decode())
        return True

    def reset(self) -> None:
        self.sender, self.recipients, self.bdat_failed = None, [], False

    def do_ehlo(self, line: str) -> None:
        offers = ["mx", *["PIPELINING"] * self.pipelining, *["CHUNKING"] * self.chunking, "SIZE 1000000"]
        self.out += b"".join(b"250-%b\r\n" % offer.encode() for offer in offers[:-1])
        self.say(f"250 {offers[-1]}")

    def do_rset(self, line: str) -> None:
        self.reset()
        self.say("250 reset")

    def do_mail(self, line: str) -> None:
        found = re.fullmatch(r"MAIL FROM:<([^<>]*)> SIZE=\d+", line)
        if self.sender is not None or self.bdat_failed or not found:
            self.breaches.append(f"MAIL out of order: {line}")
            self.say("503 no")
            return
        reply = self.choose("mail", found[1])
        self.say(reply)
        if reply.startswith("250"):
            self.sender = found[1]

    def do_rcpt(self, line: str) -> None:
        found = re.fullmatch(r"RCPT TO:<([^<>]*)>", line)
        if self.sender is None or not found:
            if not self.pipelining or not found:
                self.breaches.append(f"RCPT out of order: {line}")
            self.say("503 no")
            return
        reply = self.choose("rcpt", self.sender, found[1])
        self.say(reply)
        if reply.startswith("25"):
            self.recipients.append(found[1])

    def do_data(self, line: str) -> None:
        if not self.recipients and not self.pipelining:
            self.breaches.append("DATA to nobody")
        reply = self.choose("data" if self.recipients else "nobody", self.sender)
        self.say(reply)
        self.receiving = reply.startswith("354")

    def take_data(self) -> bool:
        end = 0 if self.buffer.startswith(b".\r\n") else self.buffer.find(b"\r\n.\r\n") + 2
        if end == 1:
            return False
        content, self.buffer = self.buffer[:end], self.buffer[end + 3 :]
        self.receiving = False
        if not self.recipients:
            if content:
                self.breaches.append("content for nobody")
            self.say("250 a lone dot is fine")  # a lie that must not be believed
        else:
            self.store(b"\r\n".join(line.removeprefix(b".") for line in content.split(b"\r\n")))
        self.reset()
        return True

    def store(self, content: bytes) -> bool:
        reply = self.choose("final", self.sender)
        self.say(reply)
        if reply.startswith("250"):
            assert self.sender is not None
            assert self.sender not in self.stored, "stored twice"
            self.stored[self.sender] = Stored(self.recipients, content)
        return reply.startswith("250")

    def do_bdat(self, line: str) -> None:
        found = re.fullmatch(r"BDAT (\d+) LAST", line)
        assert found
        if not self.chunking:
            self.breaches.append("BDAT without CHUNKING")
        self.chunk = int(found[1])

    def take_chunk(self, octets: int) -> bool:
        if len(self.buffer) < octets:
            return False
        content, self.buffer = self.buffer[:octets], self.buffer[octets:]
        self.chunk = None
        if not self.recipients:
            self.say("503 RCPT first")
            self.bdat_failed = True
        elif self.store(content):
            self.reset()
        else:
            self.bdat_failed = True
        return True


def make_transactions(dice: random.Random) -> list[Transaction]:
    orders = []
    for number in range(dice.randint(1, 5)):
        lines = [
            dice.choice([b"", b".", b"..", b".x", b"text", b"RSET", b"MAIL FROM:<evil@x.org>"])
            for _ in range(dice.randint(0, 6))
        ]
        content = b"".join(line + b"\r\n" for line in lines)
        border = dice.randint(0, len(content))
        recipients = tuple(f"r{index}@y.org" for index in range(dice.randint(1, 3)))
        orders.append(
            Transaction(
                number, f"s{number}@x.org", recipients, (content[:border], content[border:]), len(content)
            )
        )
    return orders  # fmt: skip


def piece(dice: random.Random, data: bytes, greedy: bool) -> bytes:
    return data if greedy else data[: dice.randint(1, max(1, min(len(data), 40)))]


@dataclass
class Session:
    """A driver in miniature: it begins what may begin and carries octets in pieces."""

    server: ModelServer
    connection: SmtpConnection
    queue: list[Transaction]
    dice: random.Random
    greedy: bool
    ends: list[TransactionFinished] = field(default_factory=list)
    to_server: bytes = b""

    def run(self, steps: int) -> None:
        """Go on until nothing moves any more, or for so many steps."""
        for _ in range(steps):
            if not self.turn():
                break
        self.ends += self.connection.connection_lost()

    def turn(self) -> bool:
        connection = self.connection
        if connection.state is SmtpState.CONNECTED and connection.idle:
            connection.send(Ehlo("me.example.org"))
        while self.queue and connection.can_begin:
            connection.begin(self.queue.pop(0))
        self.to_server += b"".join(connection.data_to_send())
        assert sum(run.in_doubt for run in connection._dialogue.runs) <= 1
        if self.to_server and (self.greedy or self.dice.random() < 0.6):
            part = piece(self.dice, self.to_server, self.greedy)
            self.to_server = self.to_server[len(part) :]
            self.server.feed(part)
        elif not self.server.out:
            return bool(self.to_server)
        if self.server.out and (self.greedy or self.dice.random() < 0.6):
            part = piece(self.dice, self.server.out, self.greedy)
            self.server.out = self.server.out[len(part) :]
            self.ends += [
                end for end in connection.receive_data(part) if isinstance(end, TransactionFinished)
            ]
        return True


def session(
    seed: int, greedy: bool, *, pipelining: bool, chunking: bool, closes: bool
) -> tuple[Session, int]:
    orders = make_transactions(random.Random(seed))
    server = ModelServer(seed, pipelining, chunking, closes)
    connection = SmtpConnection(SmtpLimits(grouped_bdat_octets=20))
    return Session(server, connection, orders, random.Random(seed + 1), greedy), len(orders)


def check(played: Session) -> None:
    """Compare what we believe with what the server did."""
    assert played.server.breaches == []
    stored = played.server.stored
    for end in played.ends:
        sender = end.transaction.envelope_sender
        report = classify_transaction(end)
        if report.accepted_recipients:
            assert stored[sender].content == b"".join(end.transaction.content)
            assert stored[sender].recipients == list(report.accepted_recipients)
        elif not end.in_doubt:
            assert sender not in stored
        assert isinstance(report.outcome, Delivered) <= (
            report.accepted_recipients == end.transaction.recipients
        )


OFFERS = [(False, False), (True, False), (False, True), (True, True)]
SEEDS = st.integers(0, 2**32)


@pytest.mark.parametrize(("pipelining", "chunking"), OFFERS)
@settings(max_examples=60, deadline=None)
@given(seed=SEEDS)
def test_we_believe_what_the_server_did(seed: int, pipelining: bool, chunking: bool) -> None:
    slow, count = session(seed, False, pipelining=pipelining, chunking=chunking, closes=False)
    slow.run(10000)
    check(slow)
    assert len(slow.ends) == count
    assert not any(end.in_doubt for end in slow.ends)

    fast, _ = session(seed, True, pipelining=pipelining, chunking=chunking, closes=False)
    fast.run(10000)
    check(fast)
    assert fast.ends == slow.ends
    assert fast.server.stored == slow.server.stored


@pytest.mark.parametrize(("pipelining", "chunking"), OFFERS)
@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, steps=st.integers(5, 200), closes=st.booleans())
def test_we_believe_nothing_else_when_the_link_breaks(
    seed: int, steps: int, pipelining: bool, chunking: bool, closes: bool
) -> None:
    played, count = session(seed, False, pipelining=pipelining, chunking=chunking, closes=closes)
    played.run(steps)

    check(played)
    begun = count - len(played.queue)
    assert len(played.ends) == begun
    assert sum(end.in_doubt for end in played.ends) <= 1
