"""What becomes of a message that came in by SMTP: who it is, who lacks it, what its sender is told.

We queue nothing: the sender's server keeps a message until we say 250. It brings the
whole transaction again after a 4yz, and after a 250 that it never read. So each message
has an identity of its content, its reverse-path and one recipient, and a row for each
recipient: however the sender groups recipients when it comes again, each gets the message
once, and who had it before does not get it twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from mailferry.model import (
    Deferred,
    Delivered,
    DeliveryRecord,
    DeliveryReport,
    DeliveryState,
    KnownMessage,
    MessageState,
    PermanentFailure,
    Scope,
    Uidl,
)
from mailferry.protocol.smtp_replies import SmtpReply

KNOWN_SECONDS = 7 * 86400.0
"""So long a message is known again, and so long a sender may take to bring it again: RFC 5321
s.4.5.4.1 has senders give up after four to five days."""

LOOP_WORDS = "mail loop:"
"""With these `policy.loops` begins."""

_REASON_CHARACTERS = 300
_IDENTITY_OCTETS = 16

BUSY = SmtpReply(451, "4.3.2", ("This very message is being delivered; try again later",))
NOT_KEPT = SmtpReply(451, "4.3.0", ("What became of it could not be written down; try again later",))
UNREADABLE = SmtpReply(451, "4.3.0", ("It could not be read again here; try again later",))
LATER = SmtpReply(451, "4.4.1", ("Not every destination has it yet; try again later",))


def received_uidl(content_digest: bytes, envelope_sender: str, recipient: str) -> Uidl:
    """Return the identity of a message for one recipient.

    It begins with a space, which no UIDL in a listing can. The domain's case does not
    matter (RFC 5321 s.2.4), that of the local part may.
    """
    local, _, domain = recipient.rpartition("@")
    envelope = f"{envelope_sender}\0{local}@{domain.lower()}".encode("utf-8", "backslashreplace")
    digest = hashlib.sha256(envelope).digest()[:_IDENTITY_OCTETS]
    return Uidl(b" smtp %s.%s" % (content_digest.hex().encode(), digest.hex().encode()))


def was_accepted(known: KnownMessage | None) -> bool:
    """Tell whether a row says that every destination had the message."""
    return (
        known is not None
        and known.message.state is MessageState.GONE
        and known.message.accepted_at is not None
    )


def reopened_deliveries(deliveries: Iterable[DeliveryRecord]) -> tuple[DeliveryRecord, ...]:
    """Return deliveries as they stand before another attempt: what was refused is asked again.

    The sender's server was told, and brings the message all the same: a person may have
    mended what was wrong.
    """
    return tuple(
        delivery
        if delivery.state is not DeliveryState.REJECTED
        else replace(delivery, state=DeliveryState.DEFERRED, refused_recipients=())
        for delivery in deliveries
    )


def settled_before(has_it: Iterable[str], lacking: Sequence[DeliveryRecord | None]) -> frozenset[str]:
    """Return the recipients that a destination is not to be asked for again.

    Args:
        has_it: envelope recipients for whom the destination has accepted.
        lacking: how it stands with the others. A destination with recipients of its own
            may have accepted for some: those are left out if that holds for all of the others.
    """
    accepted = [frozenset(each.accepted_recipients) if each else frozenset[str]() for each in lacking]
    common = frozenset.intersection(*accepted) if accepted else frozenset[str]()
    return common | frozenset(has_it)


def report_for(recipient: str, envelope: Collection[str], report: DeliveryReport) -> DeliveryReport:
    """Return what a destination's report says about one envelope recipient.

    A destination may send to the envelope's recipients; then the report names them. One
    with recipients of its own names those, and its report speaks for all alike: also for an
    envelope recipient that is one of them, who has it, while the others do not.
    """
    if any(each not in envelope for each in report.deferred_recipients):
        return report
    if recipient in report.accepted_recipients:
        outcome = report.outcome
        receipt = outcome.receipt if isinstance(outcome, Delivered) else "accepted for this recipient"
        return DeliveryReport(Delivered(receipt))
    if recipient in report.refused_recipients:
        return DeliveryReport(PermanentFailure(Scope.RECIPIENT, _reason(report)))
    return DeliveryReport(
        report.outcome,
        tuple(each for each in report.accepted_recipients if each not in envelope),
        tuple(each for each in report.refused_recipients if each not in envelope),
    )


def reply_to(reports: Iterable[DeliveryReport], message_name: str) -> SmtpReply:
    """Return what the sender is told: one reply for all recipients and destinations (RFC 5321 s.4.1.1.4).

    Not now comes before never: what is tried again goes only where it is missing, and
    ends with what is refused then. Why a destination does not take mail now is for our
    log; why it refuses the message is for its sender.
    """
    refusals: list[str] = []
    for report in reports:
        if isinstance(report.outcome, Deferred):
            return LATER
        if isinstance(report.outcome, PermanentFailure):
            refusals.append(report.outcome.reason)
        elif report.refused_recipients:
            refusals.append(f"refused for {', '.join(report.refused_recipients)}")
    if refusals:
        return _refusal(refusals[0])
    return SmtpReply(250, "2.0.0", (f"OK: taken as {message_name}",))


def _refusal(reason: str) -> SmtpReply:
    status = "5.4.6" if reason.startswith(LOOP_WORDS) else "5.0.0"
    words = "".join(each if " " <= each <= "~" else "?" for each in reason[:_REASON_CHARACTERS])
    return SmtpReply(554, status, (words,))


def _reason(report: DeliveryReport) -> str:
    outcome = report.outcome
    return "refused for this recipient" if isinstance(outcome, Delivered) else outcome.reason
