"""A POP3 session driven by hand: any command, and a glance at what lies in the maildrop.

Nothing is deleted unless DELE was asked for: without one, RSET goes before QUIT. What is
too large for memory is not kept; a person reads its beginning.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from mailferry.errors import CommandRefusedError, LocalProtocolError, MailferryError
from mailferry.message.headers import split_header
from mailferry.message.summary import summarise
from mailferry.model import ListedMessage, Summary, Uidl
from mailferry.net.by_hand import HELD_OCTETS, HandAnswer
from mailferry.net.endpoint import Endpoint
from mailferry.net.opening import Opening
from mailferry.net.pop3_connector import Pop3Connector, Pop3Settings
from mailferry.net.pop3_session import Pop3Session
from mailferry.net.shown_certificate import refused_tls
from mailferry.net.trace import Trace
from mailferry.ports import MaildropTraits
from mailferry.protocol.framing import HeadSink
from mailferry.protocol.pop3 import Reply
from mailferry.protocol.pop3_commands import Command, Dele, Retr

WHOLE_OCTETS = 64 * 1024
"""Without TOP, a message up to this size is fetched whole for its header; a larger one is not."""

_LISTED_AT_ONCE = 10_000
"""Up to so many messages LIST and UIDL are asked as the daemon does; beyond, message by message."""


@dataclass(frozen=True, slots=True)
class GlancedMessage:
    """One message of a maildrop as its server tells of it.

    Attributes:
        uidl: None where the server has none.
        summary: None when the header could not be had; `problem` says why.
    """

    message_number: int
    size_octets: int
    uidl: Uidl | None
    summary: Summary | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Glance:
    """What STAT told, and the newest messages, the oldest of them first."""

    count: int
    octets: int
    messages: tuple[GlancedMessage, ...]


class HeadKeeper:
    """Keeps the beginning of what is too large for memory; a `SinkMaker`."""

    threshold_octets = HELD_OCTETS

    def new_file(self) -> HeadSink:
        """Return a sink for one message."""
        return HeadSink(HELD_OCTETS)


class Pop3Probe:
    """One session by hand.

    Args:
        settings: as the daemon uses them; without credentials nobody logs in.
        trace: told every line, secrets masked.

    Attributes:
        opening: what was learned on the way, also after a failure.
        deletes: whether a message was marked by DELE since the last RSET.
    """

    def __init__(self, settings: Pop3Settings, trace: Trace) -> None:
        self.opening = Opening()
        self.deletes = False
        self._settings = replace(settings, spool=HeadKeeper())
        self._logs_in = settings.credentials is not None
        self._connector = Pop3Connector(self._settings, lambda: trace)
        self._session: Pop3Session | None = None

    @property
    def session(self) -> Pop3Session:
        """The open session."""
        assert self._session is not None, "not open"
        return self._session

    @property
    def traits(self) -> MaildropTraits:
        """What the server told of itself."""
        return self.session.traits

    @property
    def alive(self) -> bool:
        """Whether the session is open and well."""
        return self._session is not None and self._session.failure is None

    async def open(self) -> None:
        """Connect, protect, log in; raises as `ports.MaildropConnector.open`."""
        self._session = await self._connector.open(self.opening)

    async def see_certificate(self, error: MailferryError) -> None:
        """After a failed `open`, find out which certificate was not accepted, if one was shown."""

        async def look(endpoint: Endpoint) -> None:
            await Pop3Connector(replace(self._settings, credentials=None, endpoint=endpoint)).open()

        self.opening.refused_tls = await refused_tls(error, self._settings.endpoint, look)

    async def perform(self, command: Command) -> HandAnswer:
        """Send one command; a refusal is an answer.

        Raises:
            LocalProtocolError: it is not legal now; the session lives on.
            ProtocolError, TransportError: the session died.
        """
        if not self.session.is_legal(command):
            raise LocalProtocolError("needs a login, and there was none")
        try:
            reply = await self.session.perform(command)
        except CommandRefusedError as error:
            return HandAnswer(command.trace, command.verb, ok=False, reply=_refusal(error))
        self._note_deletion(command)
        body, octets = _held(reply)
        return HandAnswer(command.trace, command.verb, True, reply.line, body, octets)

    async def glance(self, limit: int) -> Glance:
        """Look at the newest messages, at most so many.

        Raises:
            CommandRefusedError: STAT or LIST was refused.
            ProtocolError, TransportError: the session died.
        """
        count, octets = await self.session.stat()
        listed = await self._newest(count, limit)
        messages = await asyncio.gather(*map(self._look_at, listed))
        if self.session.failure is not None:
            raise self.session.failure
        return Glance(count, octets, tuple(messages))

    async def close(self) -> bool:
        """End the session with QUIT, and with RSET before it unless DELE was asked for.

        Returns whether the server confirmed the end. Never raises.
        """
        if not self.alive:
            return False
        if self._logs_in and not self.deletes:
            try:
                await self.session.rset()
            except MailferryError:
                self.session.abort()  # without QUIT nothing is deleted either (RFC 1939 s.6)
                return False
        return await self.session.quit()

    def abort(self) -> None:
        """Drop the link, if there is one; nothing is deleted."""
        if self._session is not None:
            self._session.abort()

    def _note_deletion(self, command: Command) -> None:
        if isinstance(command, Dele):
            self.deletes = True
        elif command.verb == "RSET":
            self.deletes = False

    async def _newest(self, count: int, limit: int) -> list[ListedMessage]:
        if count <= _LISTED_AT_ONCE:
            messages = (await self.session.listing()).messages
            return list(messages[max(len(messages) - limit, 0) :])
        numbers = range(max(count - limit, 0) + 1, count + 1)
        return list(await asyncio.gather(*map(self._listed, numbers)))

    async def _listed(self, message_number: int) -> ListedMessage:
        size_octets = await self.session.list_one(message_number)
        try:
            uidl = await self.session.uidl_one(message_number)
        except CommandRefusedError:
            return ListedMessage(message_number, size_octets, None)
        return ListedMessage(message_number, size_octets, uidl)

    async def _look_at(self, message: ListedMessage) -> GlancedMessage:
        summary, problem = None, ""
        try:
            summary = summarise(await self._header(message))
        except MailferryError as error:  # of this message; a session that died is told by the caller
            problem = str(error)
        return GlancedMessage(message.message_number, message.size_octets, message.uidl, summary, problem)

    async def _header(self, message: ListedMessage) -> bytes:
        number = message.message_number
        if self.traits.has_top:
            try:
                return split_header(await self.session.top_lines(number))[0]
            except CommandRefusedError:
                if not self._may_fetch(message):
                    raise
        elif not self._may_fetch(message):
            raise LocalProtocolError("the server has no TOP, and the message is not fetched for its header")
        reply = await self.session.perform(Retr(number, message.size_octets))
        return split_header(_held(reply)[0] or b"")[0]

    def _may_fetch(self, message: ListedMessage) -> bool:
        """Whether to fetch all of a message: not with EXPIRE 0, under which that deletes (RFC 2449 s.6.7)."""
        return message.size_octets <= WHOLE_OCTETS and self.traits.expire_days != 0


def _held(reply: Reply) -> tuple[bytes | None, int]:
    if isinstance(reply.sink, HeadSink):
        return bytes(reply.sink.head), reply.sink.octets
    body = reply.body
    return (None, 0) if body is None else (body[:HELD_OCTETS], len(body))


def _refusal(error: CommandRefusedError) -> str:
    said = error.refused
    if said is None:
        return str(error)
    words = ("-ERR", f"[{said.response_code}]" if said.response_code else "", said.text)
    return " ".join(word for word in words if word)
