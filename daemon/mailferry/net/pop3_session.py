"""A POP3 session in the transaction state: the port that polls are written against."""

from __future__ import annotations

from collections.abc import Callable

from mailferry.errors import MaildropUnavailableError, MailferryError, ProtocolError
from mailferry.message.spool import SpoolFile
from mailferry.model import Content, ListedMessage, Uidl
from mailferry.net.pop3_dialogue import Answer, Pop3Dialogue
from mailferry.ports import MaildropListing, MaildropTraits
from mailferry.protocol.pop3 import Reply
from mailferry.protocol.pop3_commands import Dele, List_, Quit, Retr, Stat, Top, UidlCommand
from mailferry.protocol.pop3_listings import parse_scan_listing, parse_stat, parse_uid_listing

_TROUBLE = frozenset({"SYS/TEMP", "SYS/PERM", "IN-USE"})
"""Response codes (RFC 3206 s.4, RFC 2449 s.8.1.2) that no server gives to an unknown command."""


class Pop3Session:
    """Implements `ports.MaildropSession` on a dialogue that has logged in."""

    def __init__(self, dialogue: Pop3Dialogue, traits: MaildropTraits, *, offers_uidl: bool = False) -> None:
        self.traits = traits
        self._dialogue = dialogue
        self._offers_uidl = offers_uidl

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
            count, octets = parse_stat(stat.text)
            sizes = parse_scan_listing(scan.body or b"")
            uidls = dict(parse_uid_listing(uids.body or b"")) if uids.ok else None
        except ProtocolError as error:
            raise self._dialogue.fail(error) from error
        return _put_together(count, octets, sizes, uidls)

    async def _ask_for_listings(self) -> tuple[Reply, Reply, Reply]:
        replies: list[Reply] = []

        def keep(answer: Answer | None) -> None:
            if isinstance(answer, Reply):
                replies.append(answer)

        self._dialogue.submit(Stat(), keep)
        self._dialogue.submit(List_(), keep)
        replies.append(await self._dialogue.command(UidlCommand()))
        stat, scan, uids = replies
        for reply in (stat, scan):
            if not reply.ok:
                raise _refused(reply)
        if not uids.ok and (self._offers_uidl or uids.response_code in _TROUBLE):
            # Not an unknown command but a passing trouble: to go on without unique-ids
            # would make the whole maildrop look new.
            raise _refused(uids)
        return stat, scan, uids

    def retrieve(self, message: ListedMessage, done: Callable[[Content | None, str], None]) -> None:
        """RETR: `done(content, "")`, or `done(None, why)`; why is "" when the session died."""

        def answered(answer: Answer | None) -> None:
            if isinstance(answer, Reply) and isinstance(answer.sink, SpoolFile):
                # A full disk costs this message its turn; the session goes on.
                done(answer.sink.content(), answer.sink.failure)
            else:
                done(*_held(answer))

        self._dialogue.submit(Retr(message.message_number, message.size_octets), answered)

    def top(self, message: ListedMessage, done: Callable[[bytes | None, str], None]) -> None:
        """TOP n 0: the header only; as `retrieve`."""
        self._dialogue.submit(Top(message.message_number, 0), lambda answer: done(*_held(answer)))

    def delete(self, message_number: int, done: Callable[[bool, str], None]) -> None:
        """DELE: marks the message; it goes when QUIT is answered with +OK."""

        def answered(answer: Answer | None) -> None:
            if isinstance(answer, Reply):
                done(answer.ok, answer.text)
            else:
                done(False, "the session ended")

        self._dialogue.submit(Dele(message_number), answered)

    async def quit(self) -> bool:
        """Send QUIT; True when +OK came: only then are the deletions done (RFC 1939 s.6)."""
        try:
            reply = await self._dialogue.command(Quit())
        except MailferryError:
            return False
        self._dialogue.end()
        return reply.ok

    def abort(self) -> None:
        """Drop the link: the server unmarks what was marked for deletion."""
        self._dialogue.fail(MaildropUnavailableError("the session was given up"))


def _held(answer: Answer | None) -> tuple[bytes | None, str]:
    """Return what a reply brought in memory, or why it brought nothing."""
    if not isinstance(answer, Reply):
        return None, ""
    return (answer.body or b"", "") if answer.ok else (None, f"{answer.command.verb} refused: {answer.line}")


def _refused(reply: Reply) -> MaildropUnavailableError:
    return MaildropUnavailableError(f"{reply.command.verb} refused: {reply.line}")


def _put_together(
    count: int, octets: int, sizes: list[tuple[int, int]], uidls: dict[int, bytes] | None
) -> MaildropListing:
    if uidls is None:
        messages = tuple(ListedMessage(number, size, None) for number, size in sizes)
        return MaildropListing(messages, has_uidls=False, complete=count == len(sizes), octets=octets)
    messages = tuple(
        ListedMessage(number, size, Uidl(uidls[number])) for number, size in sizes if number in uidls
    )
    complete = count == len(sizes) == len(uidls) == len(messages)
    return MaildropListing(messages, has_uidls=True, complete=complete, octets=octets)
