"""The story of one message, step by step, as far as the ledger knows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mailferry.model import (
    RECEIVER,
    DeliveryRecord,
    DeliveryState,
    KnownMessage,
    MessageRecord,
    MessageState,
)
from mailferry.web.page.model import Tone
from mailferry.web.page.words import DELIVERY_TONES
from mailferry.wording import counted, span


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened.

    Attributes:
        at: when; None where the ledger does not tell.
        lines: more about it, in one sentence.
        said: the words of the other side, or the reason, as they were.
    """

    title: str
    at: float | None
    tone: Tone = Tone.GOOD
    lines: str = ""
    said: str = ""


def story_of(known: KnownMessage, now: float) -> list[Step]:
    """Return the steps in their order."""
    return [*_beginning(known), *_deliveries(known, now), *_end(known.message)]


def _beginning(known: KnownMessage) -> Iterator[Step]:
    message = known.message
    if message.maildrop == RECEIVER:
        yield Step("Received by SMTP", message.first_seen_at)
        return
    yield Step("Listed by its server", message.first_seen_at)
    tried = message.fetch_attempts
    if known.deliveries or message.content_digest or message.accepted_at is not None:
        yield Step("Fetched", None, lines=f"After {counted(tried, 'failed attempt')}." if tried else "")
    elif tried:
        words = f"{counted(tried, 'attempt')}."
        yield Step("Could not be fetched", message.updated_at, Tone.WARN, words, message.reason)


def _deliveries(known: KnownMessage, now: float) -> Iterator[Step]:
    for delivery in sorted(known.deliveries, key=lambda each: (each.updated_at, each.destination)):
        title, said = _delivery_words(delivery)
        lines = "; ".join(_delivery_lines(delivery, now))
        more = f"{lines[0].upper()}{lines[1:]}." if lines else ""
        yield Step(title, delivery.updated_at, DELIVERY_TONES[delivery.state], more, said)


def _delivery_words(delivery: DeliveryRecord) -> tuple[str, str]:
    name = delivery.destination
    match delivery.state:
        case DeliveryState.ACCEPTED:
            return f"Accepted by {name}", delivery.receipt
        case DeliveryState.REJECTED:
            return f"Refused by {name}", delivery.error
        case DeliveryState.IN_DOUBT:
            return f"In doubt at {name}: its word was lost, so it may come twice", delivery.error
        case DeliveryState.DEFERRED:
            return f"Not taken by {name} yet", delivery.error


def _delivery_lines(delivery: DeliveryRecord, now: float) -> Iterator[str]:
    if delivery.attempts > 1 or delivery.state is not DeliveryState.ACCEPTED:
        yield counted(delivery.attempts, "attempt")
    if delivery.state in {DeliveryState.DEFERRED, DeliveryState.IN_DOUBT}:
        left = delivery.next_attempt_at - now
        yield f"tried again in {span(left)}" if left > 0 else "tried again with the next poll"
    if delivery.accepted_recipients and delivery.state is not DeliveryState.ACCEPTED:
        yield f"accepted for {', '.join(delivery.accepted_recipients)}"
    if delivery.refused_recipients:
        yield f"refused for {', '.join(delivery.refused_recipients)}"


def _end(message: MessageRecord) -> Iterator[Step]:
    at, said, received = message.updated_at, message.reason, message.maildrop == RECEIVER
    delivered = message.accepted_at is not None
    match message.state:
        case MessageState.GONE if received and delivered:
            yield Step("Acknowledged to its sender", message.accepted_at)
        case MessageState.GONE if delivered:
            yield Step("Deleted from the server", at, said=said)
        case MessageState.GONE:
            yield Step("Left the server undelivered", at, Tone.WARN, said=said)
        case MessageState.DELETE_PENDING:
            yield Step("To be deleted; not confirmed yet", at, said=said)
        case MessageState.ACCEPTED if not received:
            yield Step("Kept on the server for now", message.accepted_at)
        case MessageState.MISSING:
            yield Step("Not listed any more, though it was not deleted by us", at, Tone.QUIET)
        case MessageState.REJECTED:
            yield Step("Kept on the server, since it was refused", at, Tone.BAD, said=said)
        case MessageState.SKIPPED:
            yield Step("Left on the server on purpose", at, Tone.QUIET, said=said)
        case _:
            return
