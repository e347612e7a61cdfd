"""Which message is which, for servers whose unique-ids do not tell.

Where UIDL is missing, or one unique-id stands for several messages, a message is
known by the digest of its header (Received fields make that as good as unique).
TOP fetches just the header; without TOP the whole message must be fetched to learn
that it is an old one, which is what such a server costs.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from mailferry.message.digest import header_digest
from mailferry.message.headers import split_header
from mailferry.model import ListedMessage, Uidl
from mailferry.policy.plan import Identified, identity_from_digest
from mailferry.ports import MaildropSession


class Identities:
    """Hands out identities within one listing; equal headers get rising numbers."""

    def __init__(self) -> None:
        self._seen: Counter[bytes] = Counter()

    def of(self, octets: bytes) -> Uidl:
        """Return the identity of the next message with this header."""
        header, _ = split_header(octets)
        digest = header_digest(header)
        self._seen[digest] += 1
        return identity_from_digest(digest, self._seen[digest])


async def identify_by_header(
    session: MaildropSession, messages: Sequence[ListedMessage], identities: Identities
) -> tuple[list[Identified], list[ListedMessage]]:
    """Ask for headers and identify what can be; the rest must be fetched whole.

    Raises:
        Exception: the session's failure, when it died meanwhile.
    """
    if not messages or not session.traits.has_top:
        return [], list(messages)
    headers = await asyncio.gather(*(_header(session, message) for message in messages))
    if session.failure is not None:
        raise session.failure
    identified: list[Identified] = []
    unidentified: list[ListedMessage] = []
    for message, header in zip(messages, headers, strict=True):
        if header is None:
            unidentified.append(message)
        else:
            identified.append(Identified(message, identities.of(header)))
    return identified, unidentified


def _header(session: MaildropSession, message: ListedMessage) -> asyncio.Future[bytes | None]:
    answered: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()

    def done(header: bytes | None, _why: str) -> None:
        if not answered.done():
            answered.set_result(header)

    session.top(message, done)
    return answered


async def has_same_header(session: MaildropSession, message: ListedMessage, digest: bytes) -> bool | None:
    """Compare a listed message's header with a digest from the ledger; None when TOP brought none."""
    header = await _header(session, message)
    if header is None:
        return None
    return header_digest(split_header(header)[0]) == digest
