"""From the octets that RETR brought to a message that destinations can take."""

from __future__ import annotations

from dataclasses import replace

from mailferry.message.digest import content_digest, header_digest
from mailferry.message.headers import header_of, return_path
from mailferry.message.oversize import header_only_notice
from mailferry.message.summary import summarise
from mailferry.message.trace_fields import trace_facts
from mailferry.model import Content, FetchedMessage, ListedMessage, MessageRecord, MessageState, Uidl
from mailferry.policy.backoff import FETCH_BACKOFF
from mailferry.policy.loops import LoopLimits, find_loop
from mailferry.policy.plan import FetchOrder, Identified
from mailferry.services.context import MaildropPolicy, Surroundings
from mailferry.services.parcel import Parcel


def make_parcel(
    order: FetchOrder,
    uidl: Uidl,
    octets: Content,
    policy: MaildropPolicy,
    surroundings: Surroundings,
    *,
    protected: bool,
) -> Parcel:
    """Turn what was fetched into a parcel with its first row (not yet written).

    Raises:
        OSError: the file in which it lies cannot be read.
    """
    now = surroundings.clock()
    header = header_of(octets)
    content = octets
    if order.header_only:
        content = header_only_notice(
            header,
            size_octets=order.listed.size_octets,
            limit_octets=policy.max_size_octets,
            server=policy.server,
        )
    earlier = order.known.message if order.known else None
    message = FetchedMessage(
        maildrop=policy.maildrop,
        message_id=earlier.message_id if earlier else surroundings.new_message_id(),
        uidl=uidl,
        content=content,
        header_digest=header_digest(header),
        content_digest=content_digest(content),
        envelope_sender=return_path(header) or "",
        summary=summarise(header),
        fetched_at=now,
        fetched_from=policy.server,
        fetched_with="POP3S" if protected else "POP3",
    )
    record = _filled(earlier, message) if earlier else _first_record(order.listed, message)
    parcel = Parcel(order, message, record)
    parcel.loop = find_loop(trace_facts(header, policy.by_host), LoopLimits(policy.max_hops))
    return parcel


def _first_record(listed: ListedMessage, message: FetchedMessage) -> MessageRecord:
    """Make the row of a message that the ledger does not know, and that is here: made once, not filled later."""
    return MessageRecord(
        message_id=message.message_id,
        maildrop=message.maildrop,
        uidl=message.uidl,
        state=MessageState.DEFERRED,
        size_octets=listed.size_octets,
        first_seen_at=message.fetched_at,
        updated_at=message.fetched_at,
        header_digest=message.header_digest,
        content_digest=message.content_digest,
        sender=message.summary.sender,
        recipient=message.summary.recipient,
        subject=message.summary.subject,
    )


def new_record(
    listed: ListedMessage, uidl: Uidl, policy: MaildropPolicy, surroundings: Surroundings
) -> MessageRecord:
    """Make the row of a message that the ledger does not know and that is not here."""
    now = surroundings.clock()
    return MessageRecord(
        message_id=surroundings.new_message_id(),
        maildrop=policy.maildrop,
        uidl=uidl,
        state=MessageState.DEFERRED,
        size_octets=listed.size_octets,
        first_seen_at=now,
        updated_at=now,
    )


def skipped_record(message: Identified, policy: MaildropPolicy, surroundings: Surroundings) -> MessageRecord:
    """Make the row of a message that is too large to be fetched."""
    return replace(
        new_record(message.listed, message.uidl, policy, surroundings),
        state=MessageState.SKIPPED,
        reason=too_large(message.listed, policy),
    )


def too_large(listed: ListedMessage, policy: MaildropPolicy) -> str:
    """Say why a message is not fetched."""
    return f"too large: {listed.size_octets} octets, max_size is {policy.max_size_octets}"


def failed_record(
    order: FetchOrder, uidl: Uidl, why: str, policy: MaildropPolicy, surroundings: Surroundings
) -> MessageRecord:
    """Make the row of a message that the server listed but did not hand over."""
    record = order.known.message if order.known else new_record(order.listed, uidl, policy, surroundings)
    attempts = record.fetch_attempts + 1
    now = surroundings.clock()
    return replace(
        record,
        fetch_attempts=attempts,
        next_fetch_at=now + FETCH_BACKOFF.pause_seconds(attempts, surroundings.chance()),
        updated_at=now,
        reason=why[:1000],
    )


def _filled(record: MessageRecord, message: FetchedMessage) -> MessageRecord:
    return replace(
        record,
        header_digest=message.header_digest,
        content_digest=message.content_digest,
        sender=message.summary.sender,
        recipient=message.summary.recipient,
        subject=message.summary.subject,
        fetch_attempts=0,
        next_fetch_at=0.0,
    )
