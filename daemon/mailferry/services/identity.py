"""Which message is which, for servers whose unique-ids do not tell.

Where UIDL is missing (or refused for once), or one unique-id stands for several
messages, a message is known by the digest of its header: Received fields make that
as good as unique. TOP fetches just the header; without TOP the whole message must be
fetched to learn that it is an old one, which is what such a server costs.

A message that the ledger knows under a UIDL of the server keeps that identity, so
that a server that refuses UIDL once does not have its whole maildrop relayed again.
A message without a header has only its content to be known by.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence

from mailferry.message.digest import content_digest, header_digest
from mailferry.message.headers import split_header
from mailferry.model import KnownMessage, ListedMessage, Uidl
from mailferry.policy.plan import Identified, identity_from_digest
from mailferry.ports import MaildropSession

HEADERLESS = header_digest(b"")
"""The digest that all messages without a header share: it tells nothing."""


class Identities:
    """Hands out identities within one listing, none of them twice.

    Messages with one digest are interchangeable copies: the first gets what the
    ledger knows of the first, and so on, and the rest get rising numbers.
    """

    def __init__(self, known: Mapping[Uidl, KnownMessage], listed: Collection[Uidl] = ()) -> None:
        """Take what the ledger knows; `listed` are the UIDLs that stand for themselves."""
        self._known = known
        self._made: Counter[bytes] = Counter()
        self._unclaimed: dict[bytes, deque[Uidl]] = {}
        for uidl, entry in known.items():
            if entry.message.header_digest and uidl not in listed:
                digest = _telling_digest(entry.message.header_digest, entry.message.content_digest)
                self._unclaimed.setdefault(digest, deque()).append(uidl)

    def of(self, octets: bytes) -> Uidl:
        """Return the identity of the next message with this content."""
        header, _ = split_header(octets)
        return self.of_digest(_telling_digest(header_digest(header), content_digest(octets)))

    def of_digest(self, digest: bytes) -> Uidl:
        """Return the identity of the next message with this digest (not `HEADERLESS`)."""
        if self._unclaimed.get(digest):
            return self._unclaimed[digest].popleft()
        while True:
            self._made[digest] += 1
            uidl = identity_from_digest(digest, self._made[digest])
            if uidl not in self._known:
                return uidl


def _telling_digest(of_header: bytes, of_content: bytes) -> bytes:
    return of_content if of_header == HEADERLESS else of_header


async def identify_by_header(
    session: MaildropSession, messages: Sequence[ListedMessage], identities: Identities
) -> tuple[list[Identified], list[ListedMessage]]:
    """Ask for headers and identify what can be; the rest must be fetched whole.

    Raises:
        Exception: the session's failure, when it died meanwhile.
    """
    if not messages or not session.traits.has_top:
        return [], list(messages)
    digests = await asyncio.gather(*(_shown_digest(session, message) for message in messages))
    if session.failure is not None:
        raise session.failure
    identified: list[Identified] = []
    unidentified: list[ListedMessage] = []
    for message, digest in zip(messages, digests, strict=True):
        if digest is None or digest == HEADERLESS:
            unidentified.append(message)
        else:
            identified.append(Identified(message, identities.of_digest(digest)))
    return identified, unidentified


def _shown_digest(session: MaildropSession, message: ListedMessage) -> asyncio.Future[bytes | None]:
    """Ask for a header by TOP and keep its digest only: there may be thousands."""
    answered: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()

    def done(header: bytes | None, _why: str) -> None:
        if not answered.done():
            answered.set_result(None if header is None else header_digest(split_header(header)[0]))

    session.top(message, done)
    return answered


async def has_same_header(session: MaildropSession, message: ListedMessage, digest: bytes) -> bool | None:
    """Compare a listed message's header with a digest from the ledger; None if it is not shown."""
    shown = await _shown_digest(session, message)
    return None if shown is None else shown == digest
