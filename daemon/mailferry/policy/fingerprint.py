"""By what a message is known again when its unique-id does not tell.

A header with a Received field is like no other: the server that took the message in
wrote its own number and the time into it. Such a header tells which message it is. One
without (mail that was put straight into the maildrop, or has no header at all) tells
only which message it is not; there the content must be the same, octet for octet. A
Message-ID alone never counts: the sender chooses it, and it may choose it twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from mailferry.model import KnownMessage, MessageId, MessageRecord, MessageState


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What was seen of a listed message.

    Attributes:
        header: its digest; messages without a header share one.
        traced: whether the header has a Received field.
        content: the digest of the whole; empty when only the header was seen.
    """

    header: bytes
    traced: bool
    content: bytes = b""


def comparable_content(row: MessageRecord) -> bytes:
    """Return the digest of what was fetched; empty if that was not the message itself.

    To destinations of a skipped message went a note about its size, and its row has
    the digest of that note.
    """
    return b"" if row.state is MessageState.SKIPPED else row.content_digest


def is_same(seen: Fingerprint, row: MessageRecord) -> bool | None:
    """Tell whether a row speaks of the message that was seen; None if only its content can tell.

    Once the content was seen, the answer is never None.
    """
    content = comparable_content(row)
    if seen.content and seen.content == content:
        return True
    if seen.header != row.header_digest:
        return False
    if seen.traced:
        return True
    return False if seen.content or not content else None


class Pool:
    """Rows whose messages are not listed under their own unique-id, each to be claimed at most once.

    Rows with one fingerprint are copies, and it does not matter which of them is which.
    """

    def __init__(self, rows: Iterable[KnownMessage] = ()) -> None:
        self._rows: dict[MessageId, KnownMessage] = {}
        self._by_header: dict[bytes, deque[MessageId]] = {}
        self._by_content: dict[bytes, deque[MessageId]] = {}
        self._sizes: set[int] = set()
        for row in rows:
            self._add(row)

    def __len__(self) -> int:
        return len(self._rows)

    def _add(self, entry: KnownMessage) -> None:
        row = entry.message
        self._rows[row.message_id] = entry
        if not row.header_digest:
            return  # it was never seen, so nothing can be recognised as it
        self._sizes.add(row.size_octets)
        self._by_header.setdefault(row.header_digest, deque()).append(row.message_id)
        if content := comparable_content(row):
            self._by_content.setdefault(content, deque()).append(row.message_id)

    @property
    def recognisable(self) -> bool:
        """Whether a message could be recognised as one of these at all."""
        return bool(self._by_header)

    def has_size(self, size_octets: int) -> bool:
        """Whether one of these was listed with that size."""
        return size_octets in self._sizes

    def wants_content(self, seen: Fingerprint) -> bool:
        """Whether a message of which only the header was seen may be one of these."""
        if seen.content or seen.traced:
            return False
        alike = (self._rows.get(number) for number in self._by_header.get(seen.header, ()))
        return any(entry is not None and comparable_content(entry.message) for entry in alike)

    def claim(self, seen: Fingerprint) -> KnownMessage | None:
        """Take out the first row that speaks of the message that was seen."""
        entry = self._take(self._by_content, seen.content) if seen.content else None
        if entry is None and seen.traced:
            entry = self._take(self._by_header, seen.header)
        return entry

    def unclaimed(self) -> list[KnownMessage]:
        """Return what nobody has claimed."""
        return list(self._rows.values())

    def _take(self, index: dict[bytes, deque[MessageId]], digest: bytes) -> KnownMessage | None:
        numbers = index.get(digest)
        while numbers:
            # One that was claimed by its other digest is still in this index.
            entry = self._rows.pop(numbers.popleft(), None)
            if entry is not None:
                return entry
        return None
