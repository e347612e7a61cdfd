"""A destination that feeds the maildrop: the circle ends after few rounds, and other mail flows."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mailferry.events import MessageRejected
from mailferry.sandbox.maildrop import SandboxMaildrop
from mailferry.sandbox.pop3_server import SandboxPop3Server
from mailferry.sandbox.smtp_sink import SinkMessage, SmtpSink
from support.configs import PASSWORD
from support.relay import Relay, until

ROUNDS = 12
"""Far more polls than a circle may take."""
ADDRESS = b"alice@example.org"
LETTER = b"Received: from a by b with ESMTP id 1; x\r\nSubject: %b\r\nFrom: bob@example.net\r\n\r\nbody\r\n"


class Circle:
    """An office server that forwards what is addressed to alice back into the maildrop.

    Each delivery adds what a mail server adds: its Received field, and with `marked` the
    Delivered-To of the mailbox.
    """

    def __init__(self, folder: Path, *, marked: bool, subjects: bytes = b"loops") -> None:
        self.marked = marked
        self._returning = subjects
        self.box = SandboxMaildrop(PASSWORD)
        self.pop3 = SandboxPop3Server({"alice": self.box})
        self.sink = SmtpSink(on_message=self._forward)
        self.relay = Relay(folder)

    @contextlib.asynccontextmanager
    async def running(self, **maildrop: str) -> AsyncIterator[None]:
        await self.pop3.start()
        await self.sink.start()
        self.relay.maildrop(self.pop3.port, "alice", **maildrop)
        self.relay.destination(self.sink.port, recipients=[ADDRESS.decode()])
        try:
            yield
        finally:
            await self.pop3.stop()
            await self.sink.stop()

    def arrive(self, content: bytes) -> None:
        """Let a message reach the maildrop, as its server writes it down."""
        mark = b"Delivered-To: %b\r\n" % ADDRESS if self.marked else b""
        self.box.append(mark + b"Received: from office by provider with ESMTP id 2; x\r\n" + content)

    def _forward(self, message: SinkMessage) -> None:
        if b"Subject: " + self._returning in message.content:
            self.arrive(b"Received: from relay by office with ESMTP id 3; x\r\n" + message.content)

    def passed(self, subject: bytes) -> int:
        """How often a message was relayed."""
        return sum(b"Subject: " + subject in message.content for message in self.sink.received)

    async def poll(self, rounds: int = ROUNDS) -> None:
        for _ in range(rounds):
            await self.relay.once()

    @property
    def reasons(self) -> list[str]:
        return [event.reason for event in self.relay.told(MessageRejected)]


@pytest.mark.parametrize(
    ("marked", "passes", "reason"),
    [
        (True, 1, "mail loop: came by here before and reached alice@example.org twice"),
        (False, 3, "mail loop: came by here 3 times before"),
    ],
)
async def test_a_circle_ends_after_few_rounds_and_other_mail_flows(
    tmp_path: Path, *, marked: bool, passes: int, reason: str
) -> None:
    circle = Circle(tmp_path, marked=marked)
    async with circle.running():
        circle.arrive(LETTER % b"loops")
        for number in range(ROUNDS):
            circle.arrive(LETTER % b"other %d" % number)
            await circle.poll(1)
    assert circle.passed(b"loops") == passes
    assert circle.passed(b"other") == ROUNDS
    assert circle.reasons == [reason], "told once"
    assert len(circle.box.messages) == 1, "kept on its server"
    assert b"Subject: loops" in circle.box.messages[0]


async def test_a_circle_that_hides_our_trace_ends_at_the_limit_of_hops(tmp_path: Path) -> None:
    """Some forwarder writes our Received fields anew: then only their number tells."""
    circle = Circle(tmp_path, marked=False)

    def hide(message: SinkMessage) -> None:
        content = message.content.replace(b" with POP3 id ", b" with ESMTP id ")
        circle.arrive(b"Received: from relay by office with ESMTP id 3; x\r\n" + content)

    circle.sink._on_message = hide
    async with circle.running():
        circle.relay.tables["maildrop.alice"] = {**circle.relay.tables["maildrop.alice"], "max_hops": 15}
        circle.arrive(LETTER % b"loops")
        await circle.poll()
    assert circle.passed(b"loops") == 5
    assert circle.reasons == ["mail loop: 17 Received fields, max_hops is 15"]


async def test_a_loop_can_be_moved_to_the_quarantine_so_that_the_maildrop_gets_empty(tmp_path: Path) -> None:
    circle = Circle(tmp_path, marked=True)
    async with circle.running(rejected="quarantine"):
        circle.arrive(LETTER % b"loops")
        await circle.poll(4)
    assert circle.box.messages == []
    assert len(circle.reasons) == 1
    confined = list((tmp_path / "state").rglob("*"))
    assert any(b"Subject: loops" in path.read_bytes() for path in confined if path.is_file())


async def test_the_usual_case_is_no_loop(tmp_path: Path) -> None:
    """A provider's maildrop for alice is relayed to alice at the office, who answers and forwards."""
    circle = Circle(tmp_path, marked=True, subjects=b"never")
    async with circle.running():
        for number in range(20):
            circle.arrive(LETTER % b"letter %d" % number)
        await circle.poll(2)
    assert circle.passed(b"letter") == 20
    assert circle.reasons == []
    assert circle.box.messages == []


async def test_many_circles_at_once_do_not_hold_up_the_daemon(tmp_path: Path) -> None:
    circle = Circle(tmp_path, marked=True)
    async with circle.running(every="1s"):
        for number in range(50):
            circle.arrive(LETTER % b"loops %d" % number)
        async with circle.relay.running():
            await until(lambda: len(circle.reasons) == 50, "every circle has ended", 30)
            circle.arrive(LETTER % b"other")
            await until(lambda: circle.passed(b"other"), "other mail", 20)
    assert circle.passed(b"loops") == 50
    assert len(circle.box.messages) == 50
