"""Messages that were refused for good, as the pipeline hands them to the quarantine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from mailferry.message.digest import content_digest, header_digest
from mailferry.message.headers import split_header
from mailferry.message.summary import summarise
from mailferry.model import (
    DeliveryRecord,
    DeliveryState,
    DestinationName,
    FetchedMessage,
    MaildropName,
    MessageId,
    MessageRecord,
    MessageState,
    Uidl,
)

CONTENT = (
    b"Return-Path: <ann@example.org>\r\nFrom: Ann <ann@example.org>\r\nTo: bob@example.org\r\n"
    b"Subject: =?utf-8?b?0J/RgNC40LLQtdGC?=\r\n\r\nbare\nlines \r and\r\n.\r\n\xff\x00 octets without an end"
)
REFUSAL = "end of data: 554 5.7.1 not here"


@dataclass(frozen=True)
class Refused:
    """What `ports.Quarantine.put` is given."""

    message: FetchedMessage
    record: MessageRecord
    deliveries: tuple[DeliveryRecord, ...]


def refused(
    content: bytes = CONTENT, *, number: int = 1, maildrop: str = "alice", hops: tuple[str, ...] = ("hop",)
) -> Refused:
    """Return a message that every one of `hops` has refused."""
    header, _ = split_header(content)
    message = FetchedMessage(
        maildrop=MaildropName(maildrop),
        message_id=MessageId(number),
        uidl=Uidl(b"uid-%d" % number),
        content=content,
        header_digest=header_digest(header),
        content_digest=content_digest(content),
        envelope_sender="ann@example.org",
        summary=summarise(header),
        fetched_at=1_780_000_000.25,
        fetched_from="pop.example.org",
        fetched_with="POP3S",
    )
    record = MessageRecord(
        message_id=message.message_id,
        maildrop=message.maildrop,
        uidl=message.uidl,
        state=MessageState.REJECTED,
        size_octets=len(content),
        first_seen_at=1_779_999_999.5,
        updated_at=1_780_000_001.0,
        header_digest=message.header_digest,
        content_digest=message.content_digest,
        sender=message.summary.sender,
        recipient=message.summary.recipient,
        subject=message.summary.subject,
        reason=REFUSAL,
    )
    return Refused(message, record, tuple(delivery(hop, number=number) for hop in hops))


def delivery(hop: str = "hop", *, number: int = 1, **more: Any) -> DeliveryRecord:
    """Return the row of a destination that has refused, unless `more` says otherwise."""
    row = DeliveryRecord(
        message_id=MessageId(number),
        destination=DestinationName(hop),
        state=DeliveryState.REJECTED,
        attempts=1,
        next_attempt_at=0.0,
        updated_at=1_780_000_001.0,
        error=REFUSAL,
    )
    return replace(row, **more)
