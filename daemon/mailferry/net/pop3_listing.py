"""STAT, LIST and UIDL of one session, put together; large ones in a thread.

A maildrop may hold millions of messages, and reading their list takes seconds:
the other sessions must not wait for that. What is put together is built in one
pass, so that few of those millions of values are in memory twice.
"""

from __future__ import annotations

import asyncio

from mailferry.errors import RemoteProtocolError
from mailferry.model import ListedMessage, Uidl
from mailferry.ports import MaildropListing
from mailferry.protocol.pop3_listings import iter_scan_listing, iter_uid_listing, parse_stat

THREAD_OCTETS = 2**20
"""From this size on, some 30,000 messages, a listing is read in a thread."""

_MORE_LINES = 10_000
"""What LIST and UIDL may have beyond twice what STAT told: its number can be a moment old."""


async def read_listing(stat: str, scan: bytes, uids: bytes | None) -> MaildropListing:
    """Read the text of STAT and the bodies of LIST and UIDL (None: the server has no UIDL).

    Raises:
        RemoteProtocolError: one of them cannot be understood, or lists far more than STAT told.
    """
    if len(scan) + len(uids or b"") > THREAD_OCTETS:
        return await asyncio.to_thread(_put_together, stat, scan, uids)
    return _put_together(stat, scan, uids)


def _put_together(stat: str, scan: bytes, uids: bytes | None) -> MaildropListing:
    count, octets = parse_stat(stat)
    for verb, body in (("LIST", scan), ("UIDL", uids or b"")):
        lines = body.count(b"\n")
        if lines > 2 * count + _MORE_LINES:
            raise RemoteProtocolError(f"{verb} has {lines} lines, but STAT told of {count} messages")
    if uids is None:
        messages = tuple(ListedMessage(number, size, None) for number, size in iter_scan_listing(scan))
        return MaildropListing(messages, has_uidls=False, complete=count == len(messages), octets=octets)
    uidls = dict(iter_uid_listing(uids))
    messages = tuple(
        ListedMessage(number, size, Uidl(uidls[number]))
        for number, size in iter_scan_listing(scan)
        if number in uidls
    )
    listed = scan.count(b"\n")
    complete = count == listed == len(uidls) == len(messages)
    return MaildropListing(messages, has_uidls=True, complete=complete, octets=octets)
