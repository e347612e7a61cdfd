"""A client of the receiver's sessions without a socket: octets in, replies out, in the loop's own time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from mailferry.events import Event, ReceiverRefused
from mailferry.message.spool import Spool
from mailferry.model import DestinationName, ReceivedMail
from mailferry.protocol.smtp_replies import SmtpReply, make_reply
from mailferry.receiver.link import SessionLimits
from mailferry.receiver.sessions import ReceiverSessions, SharedLimits, Surroundings
from mailferry.services.budget import MemoryBudget
from support.virtual_time import settle

OURS = ("example.org", ".branch.example.org")
TAKEN = make_reply(250, ("2.0.0 OK: taken",))


class FakeTransport(asyncio.Transport):
    """Keeps what is written; closing it tells the protocol, as a real one does."""

    def __init__(self, address: str = "192.0.2.7") -> None:
        super().__init__({"peername": (address, 40000)})
        self.written = bytearray()
        self.closed = False
        self.protocol: asyncio.Protocol | None = None

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self.protocol = protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.closed:
            self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            assert self.protocol is not None
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def pause_reading(self) -> None:
        """Nothing comes by itself."""

    def resume_reading(self) -> None:
        """Nothing comes by itself."""


class FakeReception:
    """Implements `ports.Reception`: keeps what it gets, and answers what the test says."""

    def __init__(self) -> None:
        self.mails: list[ReceivedMail] = []
        self.replies: list[SmtpReply] = []
        self.gate: asyncio.Event | None = None

    async def receive(self, mail: ReceivedMail) -> SmtpReply:
        self.mails.append(mail)
        if self.gate is not None:
            await self.gate.wait()
        return self.replies.pop(0) if self.replies else TAKEN


class Post:
    """All sessions of a receiver, with fakes for the rest of the daemon."""

    def __init__(self, folder: Path, shared: SharedLimits | None = None, **limits: Any) -> None:
        self.events: list[Event] = []
        self.reception = FakeReception()
        self.budget = MemoryBudget(1 << 24, spool_threshold_octets=1 << 16)
        around = Surroundings(
            self.reception, self.budget, Spool(folder, 1 << 16), self.events.append, "mx.example.org"
        )
        self.sessions = ReceiverSessions(around, SessionLimits(**limits), shared)

    async def client(self, address: str = "192.0.2.7", **service: Any) -> Client:
        """Connect a client and read the greeting."""
        client = Client(self, address, **service)
        await settle()
        return client

    @property
    def mails(self) -> list[ReceivedMail]:
        return self.reception.mails

    @property
    def refusals(self) -> list[tuple[str, str]]:
        return [(e.what, e.reply[:3]) for e in self.events if isinstance(e, ReceiverRefused)]


class Client:
    """One connection."""

    def __init__(self, post: Post, address: str, **service: Any) -> None:
        self.transport = FakeTransport(address)
        self.session = post.sessions.protocol(domains=OURS, deliver=(DestinationName("office"),), **service)
        self.session.attach(self.transport)

    @property
    def closed(self) -> bool:
        return self.transport.closed

    async def say(self, *lines: str | bytes) -> list[str]:
        """Send lines, CRLF added, and return the last line of each reply since the last call."""
        octets = b"".join((each.encode() if isinstance(each, str) else each) + b"\r\n" for each in lines)
        return await self.send(octets)

    async def send(self, octets: bytes) -> list[str]:
        """Send octets as they are."""
        if octets and not self.closed:
            self.session.data_received(octets)
        await settle()
        return self.heard()

    def heard(self) -> list[str]:
        """Return the last line of each reply since the last call."""
        text, self.transport.written = bytes(self.transport.written).decode(), bytearray()
        return [line for line in text.split("\r\n") if line[3:4] == " "]

    async def greet(self) -> Client:
        """Say EHLO, and forget what was answered."""
        await self.say("EHLO client.example.net")
        return self

    async def codes(self, *lines: str | bytes) -> list[str]:
        """Send lines and return the codes of the replies."""
        return [reply[:3] for reply in await self.say(*lines)]


ENVELOPE = ("MAIL FROM:<a@example.net>", "RCPT TO:<u@example.org>", "DATA")
MESSAGE = ("Subject: hi", "", "body", ".")
