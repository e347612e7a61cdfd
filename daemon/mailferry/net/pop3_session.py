"""A POP3 session in the transaction state: the port that polls are written against."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from mailferry.errors import (
    MaildropUnavailableError,
    MailferryError,
    ProtocolError,
    RemoteProtocolError,
)
from mailferry.message.spool import SpoolFile
from mailferry.model import Content, ListedMessage, Uidl
from mailferry.net.pop3_dialogue import Answer, Pop3Dialogue
from mailferry.net.pop3_group import ListingRequest
from mailferry.net.pop3_listing import read_listing
from mailferry.net.pop3_refusals import command_refused
from mailferry.ports import MaildropListing, MaildropTraits
from mailferry.protocol.pop3 import Reply
from mailferry.protocol.pop3_commands import (
    Command,
    Dele,
    Lang,
    List_,
    Noop,
    Quit,
    Retr,
    Rset,
    Stat,
    Top,
    UidlCommand,
)
from mailferry.protocol.pop3_listings import (
    parse_languages,
    parse_scan_line,
    parse_stat,
    parse_uid_line,
)
from mailferry.protocol.pop3_state import MOVES

T = TypeVar("T")

_TROUBLE = frozenset({"SYS/TEMP", "SYS/PERM", "IN-USE"})
"""Response codes (RFC 3206 s.4, RFC 2449 s.8.1.2) that no server gives to an unknown command."""


class Pop3Session:
    """Implements `ports.MaildropSession` on a dialogue that has logged in."""

    def __init__(
        self,
        dialogue: Pop3Dialogue,
        traits: MaildropTraits,
        *,
        offers_uidl: bool = False,
        asked: ListingRequest | None = None,
    ) -> None:
        """Take a dialogue, what the server offers, and the listings if they were asked for already."""
        self.traits = traits
        self._asked = asked
        self._dialogue = dialogue
        self.on_utf8_needed: Callable[[], None] = lambda: None
        """Called when a message cannot be had without UTF8 (RFC 6856 s.5)."""
        self._offers_uidl = offers_uidl
        self._retrieved: set[int] = set()
        self._deleted: set[int] = set()

    @property
    def failure(self) -> MailferryError | None:
        """Why the session died, or None."""
        return self._dialogue.failure

    async def listing(self) -> MaildropListing:
        """Ask for STAT, LIST and UIDL, in one group where the server pipelines.

        Raises:
            ProtocolError: a listing cannot be parsed.
            MaildropUnavailableError: STAT or LIST was refused, or UIDL although the
                server has it.
            TransportError: the link failed.
        """
        stat, scan, uids = await self._ask_for_listings()
        try:
            return await read_listing(stat.text, scan.body or b"", (uids.body or b"") if uids.ok else None)
        except ProtocolError as error:
            self._dialogue.fail_with(error)

    async def _ask_for_listings(self) -> tuple[Reply, Reply, Reply]:
        asked, self._asked = self._asked or ListingRequest(self._dialogue), None
        stat, scan, uids = await asked.replies()
        for reply in (stat, scan):
            if not reply.ok:
                raise command_refused(reply)
        if not uids.ok and (self._offers_uidl or uids.response_code in _TROUBLE):
            # Not an unknown command but a passing trouble: to go on without unique-ids
            # would make the whole maildrop look new.
            raise command_refused(uids)
        return stat, scan, uids

    def retrieve(self, message: ListedMessage, done: Callable[[Content | None, str], None]) -> None:
        """RETR: `done(content, "")`, or `done(None, why)`; why is "" when the session died."""

        def answered(answer: Answer | None) -> None:
            self._note(answer, message.message_number)
            if isinstance(answer, Reply) and isinstance(answer.sink, SpoolFile):
                # A full disk costs this message its turn; the session goes on.
                done(answer.sink.content(), answer.sink.failure)
            else:
                done(*_held(answer))

        self._dialogue.submit(Retr(message.message_number, message.size_octets), answered)

    def top(self, message: ListedMessage, done: Callable[[bytes | None, str], None]) -> None:
        """TOP n 0: the header only; as `retrieve`."""

        def answered(answer: Answer | None) -> None:
            self._note(answer)
            done(*_held(answer))

        self._dialogue.submit(Top(message.message_number, 0), answered)

    def delete(self, message_number: int, done: Callable[[bool, str], None]) -> None:
        """DELE: marks the message; it goes when QUIT is answered with +OK."""

        def answered(answer: Answer | None) -> None:
            if isinstance(answer, Reply):
                if answer.ok:
                    self._deleted.add(message_number)
                done(answer.ok, answer.text)
            else:
                done(False, "the session ended")

        self._dialogue.submit(Dele(message_number), answered)

    async def quit(self) -> bool:
        """Send QUIT; True when +OK came: only then are the deletions done (RFC 1939 s.6).

        A server with EXPIRE 0 may take what was retrieved for deleted (RFC 2449 s.6.7). If
        something was, and is not marked, the link is dropped instead: nothing is deleted
        then, and what was marked is marked again in the next session.
        """
        if self.traits.expire_days == 0 and self._retrieved - self._deleted:
            self._dialogue.fail(
                MaildropUnavailableError("no QUIT, which would delete what was fetched and not delivered")
            )
            return False
        try:
            reply = await self._dialogue.command(Quit())
        except MailferryError:
            return False
        if reply.ok:
            self._dialogue.end()
        else:
            self._dialogue.fail(command_refused(reply))
        return reply.ok

    def abort(self) -> None:
        """Drop the link: the server unmarks what was marked for deletion."""
        self._dialogue.fail(MaildropUnavailableError("the session was given up"))

    # By hand

    def is_legal(self, command: Command) -> bool:
        """Whether a command may be sent as the session stands; without a login hardly any may."""
        return type(command) in MOVES[self._dialogue.core.state]

    async def perform(self, command: Command) -> Reply:
        """Send one command and return its +OK.

        Raises:
            CommandRefusedError: -ERR; each command has a class of its own.
            ProtocolError, TransportError: the session died.
        """
        reply = await self._dialogue.command(command)
        self._note(reply, command.message_number if isinstance(command, Retr) else None)
        if not reply.ok:
            raise command_refused(reply)
        if isinstance(command, Dele):
            self._deleted.add(command.message_number)
        elif isinstance(command, Rset):
            self._deleted.clear()
        return reply

    async def stat(self) -> tuple[int, int]:
        """STAT: the number of messages and their octets; raises as `perform`."""
        return self._read(parse_stat, (await self.perform(Stat())).text)

    async def list_one(self, message_number: int) -> int:
        """LIST n: one message's size in octets; raises as `perform`."""
        reply = await self.perform(List_(message_number))
        return self._about(message_number, *self._read(parse_scan_line, reply.text))

    async def uidl_one(self, message_number: int) -> Uidl:
        """UIDL n: one message's unique-id; raises as `perform`."""
        reply = await self.perform(UidlCommand(message_number))
        return Uidl(self._about(message_number, *self._read(parse_uid_line, reply.text)))

    async def top_lines(self, message_number: int, lines: int = 0) -> bytes:
        """TOP n k: the header and the first lines of the body; raises as `perform`."""
        return (await self.perform(Top(message_number, lines))).body or b""

    async def rset(self) -> None:
        """RSET: take all deletion marks back; raises as `perform`."""
        await self.perform(Rset())

    async def noop(self) -> None:
        """NOOP; raises as `perform`."""
        await self.perform(Noop())

    async def lang(self) -> list[tuple[str, str]]:
        """LANG: the languages of the server's texts, tag and name; raises as `perform`."""
        return parse_languages((await self.perform(Lang())).body or b"")

    async def set_lang(self, tag: str) -> str:
        """LANG tag: choose one, and return the server's words; raises as `perform`."""
        return (await self.perform(Lang(tag))).text

    def _note(self, answer: Answer | None, retrieved: int | None = None) -> None:
        if not isinstance(answer, Reply):
            return
        if answer.ok and retrieved is not None:
            self._retrieved.add(retrieved)
        if not answer.ok and answer.response_code == "UTF8":
            self.on_utf8_needed()

    def _read(self, parse: Callable[[str], T], text: str) -> T:
        try:
            return parse(text)
        except ProtocolError as error:
            self._dialogue.fail_with(error)

    def _about(self, asked: int, number: int, value: T) -> T:
        if number != asked:
            raise self._dialogue.fail(
                RemoteProtocolError(f"asked about message {asked}, told about {number}")
            )
        return value


def _held(answer: Answer | None) -> tuple[bytes | None, str]:
    """Return what a reply brought in memory, or why it brought nothing."""
    if not isinstance(answer, Reply):
        return None, ""
    return (answer.body or b"", "") if answer.ok else (None, f"{answer.command.verb} refused: {answer.line}")
