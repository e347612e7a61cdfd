"""Servers for mail that is made while it is sent, and hashed while it arrives: none of it is held.

`StreamingPop3` lists messages of any size and makes their octets on the way; each
verb can be told to say something without an end instead. `HashingSmtp` takes what
comes, by DATA or BDAT, and keeps a digest of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

PIECE_OCTETS = 64 * 1024
Say = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class GeneratedMail:
    """A message that is made again each time it is asked for.

    Attributes:
        line: the body is made of it, again and again; it begins with no dot.
        lines: how often.
    """

    uidl: str
    line: bytes
    lines: int
    eight_bit: bool = False
    header: bytes = b""

    @property
    def head(self) -> bytes:
        """The header with the empty line."""
        return self.header + b"From: a@example.org\r\nSubject: %s\r\n\r\n" % self.uidl.encode()

    @property
    def octets(self) -> int:
        """Its true size."""
        return len(self.head) + len(self.line) * self.lines

    def pieces(self) -> Iterator[bytes]:
        """Yield its octets."""
        yield self.head
        at_once = max(PIECE_OCTETS // len(self.line), 1)
        for first in range(0, self.lines, at_once):
            yield self.line * min(at_once, self.lines - first)

    @property
    def digest(self) -> str:
        """SHA-256 over all of it."""
        digest = hashlib.sha256()
        for piece in self.pieces():
            digest.update(piece)
        return digest.hexdigest()


def large_mail(uidl: str, octets: int, header: bytes = b"") -> GeneratedMail:
    """Return a message of about that size, in lines of 76 letters."""
    line = (uidl.encode() + b"-" + b"x" * 76)[:76] + b"\r\n"
    return GeneratedMail(uidl, line, max(octets // len(line), 1), header=header)


def endless(piece: bytes, first: bytes = b"") -> Say:
    """Return something to say that has no end, as fast as it is read."""

    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        block = piece * max(PIECE_OCTETS // len(piece), 1)
        while True:
            writer.write(block)
            await writer.drain()

    return say


def dripping(octet: bytes, first: bytes = b"", seconds: float = 0.05) -> Say:
    """Return something to say that comes octet by octet and has no end."""

    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        while True:
            writer.write(octet)
            await writer.drain()
            await asyncio.sleep(seconds)

    return say


@dataclass
class StreamingPop3:
    """A POP3 server with one maildrop.

    Attributes:
        mails: what is there; a confirmed QUIT removes what was marked.
        says: for a verb, or a verb and its argument (`RETR 2`), or `GREETING`, what is said instead.
        listing: makes the bodies of LIST and UIDL, when they are not those of `mails`.
        count: what STAT says then.
        sent_octets: how many octets have left, in all.
        ended: how many sessions have ended.
        retrieved: the message numbers that RETR asked for.
    """

    mails: list[GeneratedMail] = field(default_factory=list)
    says: dict[str, Say] = field(default_factory=dict)
    listing: dict[str, Callable[[], Iterable[bytes]]] = field(default_factory=dict)
    count: int | None = None
    port: int = 0
    sent_octets: int = 0
    ended: int = 0
    retrieved: list[str] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[StreamingPop3]:
        """Listen on loopback."""
        async with _serving(self._serve) as self.port:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        marked: set[int] = set()
        mails = list(self.mails)
        try:
            await self._say("GREETING", "", writer, [b"+OK ready\r\n"])
            while line := (await reader.readline()).decode().strip():
                verb, _, argument = line.partition(" ")
                verb = verb.upper()
                if verb == "RETR":
                    self.retrieved.append(argument)
                if verb == "DELE":
                    marked.add(int(argument))
                await self._say(verb, argument, writer, self._reply(verb, argument, mails))
                if verb == "QUIT":
                    gone = {mails[number - 1].uidl for number in marked}
                    self.mails[:] = [mail for mail in self.mails if mail.uidl not in gone]
                    return
        finally:
            self.ended += 1

    async def _say(
        self, verb: str, argument: str, writer: asyncio.StreamWriter, usual: Iterable[bytes]
    ) -> None:
        other = self.says.get(f"{verb} {argument}") or self.says.get(verb)
        if other is not None:
            await other(writer)
            return
        for piece in usual:
            self.sent_octets += len(piece)
            writer.write(piece)
            await writer.drain()

    def _reply(self, verb: str, argument: str, mails: Sequence[GeneratedMail]) -> Iterator[bytes]:
        if verb == "CAPA":
            yield b"+OK\r\nTOP\r\nUIDL\r\nUSER\r\nPIPELINING\r\n.\r\n"
        elif verb == "STAT":
            count = len(mails) if self.count is None else self.count
            yield b"+OK %d %d\r\n" % (count, sum(mail.octets for mail in mails))
        elif verb in ("LIST", "UIDL"):
            yield b"+OK\r\n"
            yield from self.listing[verb]() if verb in self.listing else _listing(verb, mails)
            yield b".\r\n"
        elif verb == "RETR":
            yield b"+OK\r\n"
            yield from mails[int(argument) - 1].pieces()
            yield b".\r\n"
        elif verb == "TOP":
            yield b"+OK\r\n" + mails[int(argument.split(maxsplit=1)[0]) - 1].head + b".\r\n"
        else:
            yield b"+OK\r\n"


def _listing(verb: str, mails: Sequence[GeneratedMail]) -> Iterator[bytes]:
    for number, mail in enumerate(mails, 1):
        yield b"%d %s\r\n" % (number, b"%d" % mail.octets if verb == "LIST" else mail.uidl.encode())


@dataclass(frozen=True, slots=True)
class HashedMessage:
    """What arrived: below the Received field that the relay adds."""

    octets: int
    digest: str
    parameters: bytes
    by: str


@dataclass
class HashingSmtp:
    """An SMTP server that keeps only digests.

    Attributes:
        chunking, eight_bit: whether CHUNKING and 8BITMIME are offered.
        stops_after: octets of a message after which it reads no more.
        refuses_after: octets of a message after which it says 552 and reads no more.
        accepted: what came whole.
    """

    chunking: bool = False
    eight_bit: bool = True
    stops_after: int | None = None
    refuses_after: int | None = None
    port: int = 0
    accepted: list[HashedMessage] = field(default_factory=list)
    most_line_octets: int = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[HashingSmtp]:
        """Listen on loopback."""
        async with _serving(self._serve) as self.port:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        offers = b"250-CHUNKING\r\n" * self.chunking + b"250-8BITMIME\r\n" * self.eight_bit
        parameters = b""
        writer.write(b"220 hashing.example.org\r\n")
        while line := (await reader.readline()).strip():
            verb = line.split(b" ")[0].upper()
            if verb == b"EHLO":
                writer.write(b"250-hashing.example.org\r\n" + offers + b"250-PIPELINING\r\n250 SIZE\r\n")
            elif verb == b"DATA":
                writer.write(b"354 go on\r\n")
                await writer.drain()
                self._keep(await self._read_data(reader, writer), parameters, "DATA")
                writer.write(b"250 2.0.0 kept\r\n")
            elif verb == b"BDAT":
                assert line.endswith(b" LAST")
                octets = int(line.split(b" ")[1])
                self._keep(await self._read_chunk(reader, writer, octets), parameters, "BDAT")
                writer.write(b"250 2.0.0 kept\r\n")
            elif verb == b"QUIT":
                writer.write(b"221 bye\r\n")
                return
            else:
                parameters = line if verb == b"MAIL" else parameters
                writer.write(b"250 2.0.0 ok\r\n")
            await writer.drain()

    async def _pieces(self, reader: asyncio.StreamReader, octets: int) -> AsyncIterator[bytes]:
        while octets:
            piece = await reader.read(min(octets, PIECE_OCTETS))
            if not piece:
                raise ConnectionResetError("the end came before the end of the message")
            octets -= len(piece)
            yield piece

    async def _misbehave(self, writer: asyncio.StreamWriter, hasher: _Hasher) -> None:
        if self.refuses_after is not None and hasher.octets >= self.refuses_after:
            writer.write(b"552 5.3.4 enough of it\r\n")
            await asyncio.Event().wait()
        if self.stops_after is not None and hasher.octets >= self.stops_after:
            await asyncio.Event().wait()

    async def _read_chunk(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, octets: int
    ) -> _Hasher:
        hasher = _Hasher()
        async for piece in self._pieces(reader, octets):
            hasher.take(piece)
            await self._misbehave(writer, hasher)
        return hasher

    async def _read_data(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> _Hasher:
        """Read up to the final dot and undo the stuffing; a line is in one piece."""
        hasher = _Hasher()
        while True:
            line = await reader.readuntil(b"\r\n")
            if line == b".\r\n":
                return hasher
            self.most_line_octets = max(self.most_line_octets, len(line))
            hasher.take(line.removeprefix(b"."))
            await self._misbehave(writer, hasher)

    def _keep(self, hasher: _Hasher, parameters: bytes, by: str) -> None:
        octets, digest = hasher.result()
        self.accepted.append(HashedMessage(octets, digest, parameters, by))


class _Hasher:
    """SHA-256 of a message without the Received field that stands first."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self.octets = 0
        self._start: bytes | None = b""

    def take(self, piece: bytes) -> None:
        if self._start is not None:
            self._start += piece
            if len(self._start) < 2000:
                return
            piece, self._start = _below_trace(self._start), None
        self._digest.update(piece)
        self.octets += len(piece)

    def result(self) -> tuple[int, str]:
        if self._start is not None:
            rest, self._start = _below_trace(self._start), None
            self.take(rest)
        return self.octets, self._digest.hexdigest()


def _below_trace(start: bytes) -> bytes:
    assert start.startswith(b"Received: "), start[:100]
    position = start.index(b"\r\n") + 2
    while start[position : position + 1] in (b"\t", b" "):
        position = start.index(b"\r\n", position) + 2
    return start[position:]


@contextlib.asynccontextmanager
async def _serving(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    tasks: set[asyncio.Task[None]] = set()

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            # Cancelled at the end: asyncio's own callback would take that for a failure.
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await serve(reader, writer)
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(session, "127.0.0.1", 0, limit=8 * 2**20)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
