"""From a delivery to what goes over SMTP: envelope, trace field, eight-bit form."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from mailferry.message.eightbit import downgrade, has_eight_bit
from mailferry.message.headers import drop_return_path
from mailferry.message.lineends import normalise_line_ends
from mailferry.message.received import received_field
from mailferry.model import Delivered, Delivery, Outcome, PermanentFailure, Scope
from mailferry.protocol.smtp_features import SmtpFeatures
from mailferry.protocol.smtp_transaction import Transaction, is_envelope_address


class Sender(StrEnum):
    """Which envelope sender to use, when it is not a fixed address."""

    ORIGINAL = "original"
    NULL = "null"


@dataclass(frozen=True, slots=True)
class Envelope:
    """The envelope that the configuration wants.

    Attributes:
        sender: `Sender.ORIGINAL` (from Return-Path), `Sender.NULL`, or an address.
        by_host: our own name, for the Received field.
    """

    sender: str
    recipients: tuple[str, ...]
    by_host: str

    def sender_for(self, delivery: Delivery) -> str:
        """Return the reverse-path for a message; empty for the null one.

        A Return-Path that cannot be written as an address counts as the null one:
        nobody could be told of a failure there anyway.
        """
        if self.sender == Sender.ORIGINAL:
            original = delivery.message.envelope_sender
            return original if is_envelope_address(original) else ""
        return "" if self.sender == Sender.NULL else self.sender


def compose(delivery: Delivery, envelope: Envelope, features: SmtpFeatures) -> Transaction | Outcome:
    """Make the transaction for a delivery, in the form that this next hop can take.

    The message's own octets stay as they were fetched, but for what SMTP asks:
    CRLF line ends, Return-Path consumed (RFC 5321 s.4.4), seven bits where
    8BITMIME is missing (RFC 6152 s.3).

    Returns:
        The transaction; or why this next hop can never take this message; or
        that nobody is left to whom it would have to go.
    """
    recipients = tuple(r for r in envelope.recipients if r not in delivery.settled_recipients)
    if not recipients:  # the configuration has lost the last recipient who had not answered
        return Delivered("every recipient had been settled before")
    message = delivery.message
    content = normalise_line_ends(drop_return_path(message.content))
    eight_bit = has_eight_bit(content)
    if eight_bit and not features.eight_bit_mime:
        content, eight_bit = downgrade(content), False
    sender = envelope.sender_for(delivery)
    trace = received_field(
        from_host=message.fetched_from,
        with_protocol=message.fetched_with,
        by_host=envelope.by_host,
        message_id=message.message_id,
        recipient=recipients[0] if len(recipients) == 1 else None,
        at=message.fetched_at,
    )
    size = len(trace) + len(content)
    smtputf8 = not (sender.isascii() and all(recipient.isascii() for recipient in recipients))
    refusal = _refusal(size, smtputf8, features)
    if refusal:
        return PermanentFailure(Scope.MESSAGE, refusal)
    return Transaction(
        tag=delivery,
        envelope_sender=sender,
        recipients=recipients,
        content=(trace, content),
        size_octets=size,
        eight_bit=eight_bit,
        smtputf8=smtputf8,
    )


def _refusal(size: int, smtputf8: bool, features: SmtpFeatures) -> str:
    limit = features.size_limit
    if limit and size > limit:  # RFC 1870 s.6.1: spares both sides the transfer
        return f"too large for the next hop: {size} octets, its SIZE limit is {limit}"
    if smtputf8 and not features.smtputf8:
        return "the envelope needs SMTPUTF8, which the next hop does not offer (RFC 6531 s.3.2)"
    return ""
