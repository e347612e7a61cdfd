"""From a delivery to what goes over SMTP: envelope, trace field, eight-bit form."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from mailferry.message.content import Rest
from mailferry.message.eightbit import downgrade, has_eight_bit
from mailferry.message.headers import drop_return_path, head_of
from mailferry.message.lineends import has_only_crlf, normalise_line_ends
from mailferry.message.received import received_field
from mailferry.message.rewriting import DOWNGRADE_LIMIT_OCTETS
from mailferry.model import (
    Content,
    Deferred,
    Delivered,
    Delivery,
    Outcome,
    PermanentFailure,
    Scope,
    StoredContent,
)
from mailferry.protocol.smtp_features import SmtpFeatures
from mailferry.protocol.smtp_transaction import ContentPiece, Transaction, is_envelope_address

THREAD_OCTETS = 64 * 1024
"""From this size on a downgrade goes to a thread: a hostile message makes it take long."""

NO_ENVELOPE = (
    'it came without envelope recipients (POP3 tells none), and recipients = "original" names no others: '
    "give the destination addresses"
)


class Sender(StrEnum):
    """Which envelope sender to use, when it is not a fixed address."""

    ORIGINAL = "original"
    NULL = "null"


@dataclass(frozen=True, slots=True)
class Envelope:
    """The envelope that the configuration wants.

    Attributes:
        sender: `Sender.ORIGINAL` (from Return-Path), `Sender.NULL`, or an address.
        recipients: empty for the original ones, those that a message came with by SMTP.
        by_host: our own name, for the Received field.
    """

    sender: str
    recipients: tuple[str, ...]
    by_host: str

    def recipients_for(self, delivery: Delivery) -> tuple[str, ...]:
        """Return all recipients of a message, each once; empty when it came without an envelope."""
        return self.recipients or tuple(dict.fromkeys(delivery.message.envelope_recipients))

    def sender_for(self, delivery: Delivery, features: SmtpFeatures) -> str:
        """Return the reverse-path for a message; empty for the null one.

        A Return-Path that cannot be written as an address counts as the null one:
        nobody could be told of a failure there anyway. So does one that this next hop
        cannot take for want of SMTPUTF8: a stranger chose it, and the message is not
        to be refused for that.
        """
        if self.sender == Sender.ORIGINAL:
            original = delivery.message.envelope_sender
            writable = is_envelope_address(original) and (original.isascii() or features.smtputf8)
            return original if writable else ""
        return "" if self.sender == Sender.NULL else self.sender


@dataclass(frozen=True, slots=True)
class Rewrite:
    """The content has to be written anew first, which is work for a thread; see `message.rewriting`."""

    seven_bit: bool


@dataclass(frozen=True, slots=True)
class _Form:
    """A content as it can be sent."""

    pieces: tuple[ContentPiece, ...]
    eight_bit: bool


def compose(
    delivery: Delivery, envelope: Envelope, features: SmtpFeatures, rewritten: Content | None = None
) -> Transaction | Outcome | Rewrite:
    """Make the transaction for a delivery, in the form that this next hop can take.

    The message's own octets stay as they were fetched, but for what SMTP asks:
    CRLF line ends, Return-Path consumed (RFC 5321 s.4.4), seven bits where
    8BITMIME is missing (RFC 6152 s.3).

    Args:
        rewritten: what an earlier `Rewrite` has brought.

    Returns:
        The transaction; or why this next hop can never take this message; or
        that nobody is left to whom it would have to go, or that nobody can tell who that
        would be; or what is to be done first.

    Raises:
        OSError: the file in which the message lies cannot be read.
    """
    all_recipients = envelope.recipients_for(delivery)
    if not all_recipients:  # a mistake in the settings, which may be mended: the message is kept
        return Deferred(Scope.MESSAGE, NO_ENVELOPE)
    recipients = tuple(r for r in all_recipients if r not in delivery.settled_recipients)
    if not recipients:  # the configuration has lost the last recipient who had not answered
        return Delivered("every recipient had been settled before")
    message = delivery.message
    if rewritten is not None:
        form = _form_of_rewritten(rewritten, features)
    elif isinstance(message.content, bytes):
        form = _form_of_held(message.content, features)
    else:
        form = _form_of_stored(message.content, features)
    if not isinstance(form, _Form):
        return form
    sender = envelope.sender_for(delivery, features)
    trace = received_field(
        from_host=message.fetched_from,
        with_protocol=message.fetched_with,
        by_host=envelope.by_host,
        message_id=message.message_id,
        recipient=recipients[0] if len(recipients) == 1 else None,
        at=message.fetched_at,
    )
    size = len(trace) + sum(map(len, form.pieces))
    smtputf8 = not (sender.isascii() and all(recipient.isascii() for recipient in recipients))
    refusal = _refusal(size, smtputf8, features)
    if refusal:
        return PermanentFailure(Scope.MESSAGE, refusal)
    return Transaction(
        tag=delivery,
        envelope_sender=sender,
        recipients=recipients,
        content=(trace, *form.pieces),
        size_octets=size,
        eight_bit=form.eight_bit,
        smtputf8=smtputf8,
    )


def _form_of_held(content: bytes, features: SmtpFeatures) -> _Form | Rewrite | PermanentFailure:
    content = normalise_line_ends(drop_return_path(content))
    eight_bit = has_eight_bit(content)
    if eight_bit and not features.eight_bit_mime:
        if len(content) > THREAD_OCTETS:
            return _downgrade(content)
        content, eight_bit = downgrade(content), False
    return _Form((content,), eight_bit)


def _form_of_stored(content: StoredContent, features: SmtpFeatures) -> _Form | Rewrite | PermanentFailure:
    head = head_of(content)
    if len(head) == len(content):
        return _form_of_held(head, features)
    start = drop_return_path(head)
    # What the file says of all octets holds for those that are left, unless the very field
    # that goes had the only 8-bit ones, or its end was no line end for the rest.
    unclear = start is not head and (head.isascii() is not start.isascii() or not _is_clean_start(start))
    if unclear:
        return Rewrite(seven_bit=False)
    if not content.is_ascii and not features.eight_bit_mime:
        return _downgrade(content)
    if not content.is_crlf:
        return Rewrite(seven_bit=False)
    return _Form((start, Rest(content, len(head))), eight_bit=not content.is_ascii)


def _is_clean_start(start: bytes) -> bool:
    """Tell whether CRLF ends its lines; the file has the LF for a CR at the end."""
    return has_only_crlf(start.removesuffix(b"\r"))


def _form_of_rewritten(content: Content, features: SmtpFeatures) -> _Form | Rewrite | PermanentFailure:
    eight_bit = has_eight_bit(content) if isinstance(content, bytes) else not content.is_ascii
    if eight_bit and not features.eight_bit_mime:
        return _downgrade(content)
    return _Form((content if isinstance(content, bytes) else Rest(content, 0),), eight_bit)


def _downgrade(content: Content) -> Rewrite | PermanentFailure:
    if len(content) <= DOWNGRADE_LIMIT_OCTETS:
        return Rewrite(seven_bit=True)
    return PermanentFailure(
        Scope.MESSAGE,
        f"8-bit, and the next hop does not offer 8BITMIME: {len(content)} octets are not re-encoded,"
        f" the limit is {DOWNGRADE_LIMIT_OCTETS}",
    )


def _refusal(size: int, smtputf8: bool, features: SmtpFeatures) -> str:
    limit = features.size_limit
    if limit and size > limit:  # RFC 1870 s.6.1: spares both sides the transfer
        return f"too large for the next hop: {size} octets, its SIZE limit is {limit}"
    if smtputf8 and not features.smtputf8:
        return "the envelope needs SMTPUTF8, which the next hop does not offer (RFC 6531 s.3.2)"
    return ""
