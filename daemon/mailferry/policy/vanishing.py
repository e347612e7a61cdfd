"""What becomes of the rows of messages that come into sight again, or go out of it.

A maildrop that is empty for once proves little: a folder that was not mounted shows
like one that was emptied. So what was delivered is kept in mind for a while, and what
is shown again is recognised, under its old unique-id or another one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mailferry.model import (
    DeliveryState,
    DestinationName,
    KnownMessage,
    MessageRecord,
    MessageState,
    Uidl,
)
from mailferry.policy.plan import Retention, settled_state

MISSING_SECONDS = 30 * 86400.0
"""How long a delivered message that is no longer listed is kept in mind: a move to other
software or a restored backup is a matter of days, with a holiday in between of weeks. A
row costs some hundred octets, and an age that is too short a second copy of everything."""

UNCONFIRMED_SECONDS = 86400.0
"""How long an empty maildrop is no proof of deletions whose QUIT was not answered: the
server that died at our QUIT may come back without its mail, and later with it."""

_NOTED = b""
"""The content digest of a missing message of which only a note about its size was relayed."""

_DONE = (MessageState.ACCEPTED, MessageState.DELETE_PENDING)


def was_delivered(entry: KnownMessage) -> bool:
    """Whether to deliver the message again would double anything."""
    return entry.message.accepted_at is not None or any(
        delivery.state is DeliveryState.ACCEPTED or delivery.accepted_recipients
        for delivery in entry.deliveries
    )


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a decision about rows depends on.

    Attributes:
        destinations: all that the maildrop delivers to.
        now: seconds since the epoch.
        complete: whether the listing has every message of the maildrop.
        ages_count: whether `now` can be believed so far that something may be old;
            asked only after something seems to be.
    """

    destinations: Sequence[DestinationName]
    now: float
    complete: bool = True
    ages_count: Callable[[], bool] = lambda: True

    def is_older(self, row: MessageRecord, seconds: float) -> bool:
        """Whether a row last changed longer ago than that."""
        return self.now - row.updated_at > seconds and self.ages_count()


def after_vanishing(
    entry: KnownMessage, circumstances: Circumstances, *, deletion_certain: bool
) -> MessageRecord:
    """Return the row of a message that is not listed, as it is if nothing changes.

    `deletion_certain` says whether the listing proves that deletions took place.
    """
    row, now = entry.message, circumstances.now
    match row.state:
        case MessageState.MISSING:
            over = circumstances.is_older(row, MISSING_SECONDS)
        case MessageState.DELETE_PENDING:
            over = deletion_certain or circumstances.is_older(row, UNCONFIRMED_SECONDS)
        case _:
            over = not was_delivered(entry)
            if not over:
                content = _NOTED if row.state is MessageState.SKIPPED else row.content_digest
                return replace(row, state=MessageState.MISSING, content_digest=content, updated_at=now)
    return replace(row, state=MessageState.GONE, updated_at=now) if over else row


def in_sight_again(
    entry: KnownMessage, uidl: Uidl, size_octets: int, circumstances: Circumstances
) -> KnownMessage:
    """Return what is known of a message that is listed, now under this unique-id and size.

    A missing message stands again where it stood; the very entry comes back when
    nothing changes.
    """
    row = entry.message
    if (row.uidl, row.size_octets) == (uidl, size_octets) and row.state is not MessageState.MISSING:
        return entry
    state = (
        _former_state(entry, circumstances.destinations) if row.state is MessageState.MISSING else row.state
    )
    # Where no time of acceptance is written, the last change stands for it.
    accepted_at = row.updated_at if row.accepted_at is None and state in _DONE else row.accepted_at
    message = replace(
        row,
        uidl=uidl,
        size_octets=size_octets,
        state=state,
        accepted_at=accepted_at,
        updated_at=circumstances.now,
    )
    return replace(entry, message=message)


def _former_state(entry: KnownMessage, destinations: Sequence[DestinationName]) -> MessageState:
    row = entry.message
    if row.header_digest and row.content_digest == _NOTED:
        return MessageState.SKIPPED
    if row.accepted_at is not None:
        return MessageState.ACCEPTED  # everywhere, as the settings were: a new destination changes nothing
    return settled_state(entry.deliveries, destinations, Retention(None))
