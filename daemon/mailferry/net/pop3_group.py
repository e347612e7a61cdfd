"""A login and the first questions in one group, and what is remembered of a server for that.

Over a distance a poll costs round trips and hardly anything else. RFC 2449 s.6.6 lets a
client send USER and PASS together, and more behind them, to a server that announces
PIPELINING before the login. What such a server announced in one session saves the next
one the question; see `ServerNotes` for how little is taken from memory.
"""

from __future__ import annotations

import asyncio

from mailferry.net.endpoint import Endpoint
from mailferry.net.pop3_dialogue import Answer, Pop3Dialogue
from mailferry.protocol.pop3 import Reply
from mailferry.protocol.pop3_commands import Capa, List_, Stat, UidlCommand
from mailferry.protocol.pop3_listings import Capabilities

PATIENCE_SECONDS = 10.0
"""How long the answer to what was sent along with a login may take, once that was granted."""

DISTRUST_SECONDS = 3600.0
"""How long a server that lost what was sent along with a login is spoken to step by step."""


class ServerNotes:
    """What a server announced before the login, for all maildrops there.

    Nothing that a poll goes by is taken from it: only that a group may be sent, and which
    ways to log in there are. CAPA is asked behind every login, and what differs, or fails,
    ends the trust.
    """

    def __init__(self) -> None:
        self._announced: Capabilities | None = None
        self._distrusted_until = 0.0

    def announced(self, now: float) -> Capabilities | None:
        """Return what the last session was told under the same protection; None to ask again."""
        return self._announced if self.trusted(now) else None

    def trusted(self, now: float) -> bool:
        """Whether groups have not failed lately; `now` is the loop's time."""
        return now >= self._distrusted_until

    def learn(self, before: Capabilities, after: Capabilities | None) -> None:
        """Take note of what a server announced before and after a login that it granted."""
        pipelines = before.pipelining and after is not None and after.pipelining
        self._announced = before if pipelines else None

    def forget(self) -> None:
        """Ask again: something was not as it used to be."""
        self._announced = None

    def distrust(self, now: float) -> None:
        """Send no login as a group for a while."""
        self._announced = None
        self._distrusted_until = now + DISTRUST_SECONDS


class ServerBook:
    """The notes on all servers; a server is another one where it is reached or protected otherwise."""

    def __init__(self) -> None:
        self._notes: dict[tuple[str, int, str], ServerNotes] = {}

    def notes_on(self, endpoint: Endpoint) -> ServerNotes:
        """Return the notes on a server."""
        key = (endpoint.host.lower(), endpoint.port, endpoint.tls.value)
        return self._notes.setdefault(key, ServerNotes())


class ListingRequest:
    """STAT, LIST and UIDL, asked in one go; the server answers them in this order."""

    def __init__(self, dialogue: Pop3Dialogue) -> None:
        self._dialogue = dialogue
        self._requests = [dialogue.request(command) for command in (Stat(), List_(), UidlCommand())]

    async def replies(self) -> tuple[Reply, Reply, Reply]:
        """Wait for the three replies; raises what kills the session."""
        stat, scan, uids = [await self._dialogue.reply(request) for request in self._requests]
        return stat, scan, uids


class Behind:
    """What is asked right behind a login: CAPA, which may differ now (RFC 2449 s.5), and the listings."""

    def __init__(self, dialogue: Pop3Dialogue) -> None:
        self.listing: ListingRequest | None = None
        self._dialogue = dialogue
        self._capabilities: asyncio.Future[Answer | None] | None = None

    @property
    def asked(self) -> bool:
        """Whether it has been sent."""
        return self._capabilities is not None

    def ask(self) -> None:
        """Send it, with what was requested just before."""
        self._capabilities = self._dialogue.request(Capa())
        self.listing = ListingRequest(self._dialogue)

    async def capabilities(self, patience_seconds: float | None) -> Reply:
        """Wait for the answer to CAPA.

        Raises:
            TimeoutError: it does not come within the patience.
            TransportError, ProtocolError: the session died.
        """
        if self._capabilities is None:
            self.ask()
        assert self._capabilities is not None  # asked just now, if not before
        async with asyncio.timeout(patience_seconds):
            return await self._dialogue.reply(self._capabilities)
