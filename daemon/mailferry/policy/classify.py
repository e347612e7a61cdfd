"""Replies in, fate out: which failures blame the hop, the message, a recipient, and which are for ever.

The policy is promise 5: unknown means deferred. A permanent failure is stated
only where the server's words can mean nothing but "this message" or "this
recipient"; what may be our configuration, our session or the server's own
trouble is tried again. Postfix draws the same three circles (site, message,
recipient) in its `smtp_trouble`.

A reply code is believed before its enhanced status (RFC 3463 gives the status
its class from the same event, so a contradiction is a broken server).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from mailferry.errors import (
    HeloRefusedError,
    HopAuthenticationError,
    HopError,
    HopGreetingRefusedError,
    HopLoginUnavailableError,
    RefusedReply,
    StartTlsRefusedError,
)
from mailferry.model import Deferred, Delivered, DeliveryReport, Outcome, PermanentFailure, Scope
from mailferry.protocol.smtp_replies import SmtpReply
from mailferry.protocol.smtp_transaction import TransactionFinished

HopStage = Literal["greeting", "ehlo", "lhlo", "starttls", "auth"]
_Fate = Literal["accepted", "refused", "deferred", "in-doubt"]

# 421 closes the session, 454 and 432 are temporary faults of TLS or AUTH, 521 takes no mail at all (RFC 7504),
# 530, 534, 535 and 538 want authentication or TLS (RFC 4954 s.6, RFC 3207 s.4): none is about a message.
_HOP_CODES = frozenset({421, 432, 454, 521, 530, 534, 535, 538})
# RFC 4954 s.6 and RFC 5248: bad credentials, mechanism too weak; 5.7.30 is in use for "basic authentication is off".
_HOP_STATUSES = frozenset({"5.7.8", "5.7.9", "5.7.30"})
_NOT_TRIED_CODES = frozenset({500, 501, 502, 503, 504})
_TOO_LARGE_STATUSES = frozenset({"5.3.4", "5.2.3"})
_NO_SUCH_RECIPIENT_CODES = frozenset({550, 551, 553, 556})
_MAX_NAMED = 3

_STAGE_NAMES = {
    "greeting": "greeting",
    "ehlo": "EHLO",
    "lhlo": "LHLO",
    "starttls": "STARTTLS",
    "auth": "AUTH",
}
_STAGE_ERRORS: dict[str, type[HopError]] = {
    "greeting": HopGreetingRefusedError,
    "ehlo": HeloRefusedError,
    "lhlo": HeloRefusedError,
    "starttls": StartTlsRefusedError,
    "auth": HopLoginUnavailableError,
}
_ADVICE = {
    "greeting": "the server takes no mail from us now; if this stays, ask its operator",
    "ehlo": "check the host name that we give in EHLO",
    "lhlo": "check that the server speaks LMTP there, and the host name that we give",
    "starttls": "the server cannot do TLS now; if this stays, check the destination's tls setting",
    "auth": "the server could not check our credentials; tried again later",
}
_CREDENTIAL_ADVICE = "check the destination's user name, password and mechanism"


def classify_transaction(finished: TransactionFinished) -> DeliveryReport:
    """Tell what became of a message, from every reply that its transaction got."""
    if _heard_of_content(finished) and finished.final_replies is not None:
        return _by_final_replies(finished, finished.final_replies)
    if _accepted_content(finished):
        return _by_recipients(finished)
    if finished.in_doubt:
        reason = "the connection ended after the message was sent and before the server's word on it"
        return DeliveryReport(Deferred(Scope.MESSAGE, reason, in_doubt=True))
    for stage, reply in _said(finished):
        if _blames_hop(reply):
            told_after_it = finished.content_sent and reply is finished.data_reply
            reason = _reason(stage, reply)
            return DeliveryReport(Deferred(Scope.NEXT_HOP, reason, in_transaction=True, counts=told_after_it))
    if finished.sender_reply is None or not finished.sender_reply.positive:
        return DeliveryReport(_classify_sender(finished))
    if None in finished.recipient_replies:
        return DeliveryReport(_lost("RCPT"))
    if not any(reply is not None and reply.positive for reply in finished.recipient_replies):
        return _by_recipients(finished)
    return DeliveryReport(_classify_data(finished))


def hop_failure(stage: HopStage, reply: SmtpReply) -> HopError:
    """Return the error for a session that a reply ended before any message."""
    name = _STAGE_NAMES[stage]
    said = RefusedReply("" if stage == "greeting" else name, reply.code, reply.enhanced_status, reply.text)
    if stage == "auth" and _refuses_credentials(reply):
        return HopAuthenticationError(f"{_reason(name, reply)} ({_CREDENTIAL_ADVICE})", refused=said)
    return _STAGE_ERRORS[stage](f"{_reason(name, reply)} ({_ADVICE[stage]})", refused=said)


# -- stages ------------------------------------------------------------------


def _accepted_content(finished: TransactionFinished) -> bool:
    """Whether the server took the message; a yes to data without sender or recipients is none."""
    return (
        finished.content_sent
        and finished.data_reply is not None
        and finished.data_reply.positive
        and finished.sender_reply is not None
        and finished.sender_reply.positive
        and any(reply is not None and reply.positive for reply in finished.recipient_replies)
    )


def _heard_of_content(finished: TransactionFinished) -> bool:
    """Whether LMTP has said of a recipient what became of the content for it."""
    sender = finished.sender_reply
    heard = finished.final_replies is not None and any(finished.final_replies)
    return heard and finished.content_sent and sender is not None and sender.positive


def _classify_sender(finished: TransactionFinished) -> Outcome:
    """Judge MAIL."""
    reply = finished.sender_reply
    if reply is None:
        return _lost("MAIL")
    reason = _reason(_mail_stage(finished), reply)
    status = _status(reply)
    if not reply.permanent:
        return Deferred(Scope.MESSAGE, reason)
    if (
        _too_large(reply) or status == "5.6.7"
    ):  # RFC 6531 s.3.5: 5.6.7 says that no SMTPUTF8 will ever pass here
        return PermanentFailure(Scope.MESSAGE, reason)
    if reply.code in {500, 502, 503}:
        # The verb itself is unknown, switched off or out of turn: the next message would hear the same.
        return Deferred(Scope.NEXT_HOP, reason, in_transaction=True)
    if reply.code in {501, 504, 555}:
        # An argument is disliked: this sender's syntax or this message's parameters. Others may pass.
        return Deferred(Scope.MESSAGE, reason)
    if status.startswith(("5.2.", "5.3.", "5.4.", "5.5.", "5.7.")):
        # Mailbox, system, routing and protocol are not the sender's fault. 5.7.x at MAIL mostly says that we may
        # not send as this sender: a setting of ours or the server's, and settings get mended.
        return Deferred(Scope.MESSAGE, reason)
    return PermanentFailure(Scope.MESSAGE, reason)


def _classify_recipient(reply: SmtpReply) -> Literal["accepted", "refused", "deferred"]:
    """Judge RCPT."""
    if reply.positive:
        return "accepted"
    # RFC 5321 s.4.5.3.1.10: 552 at RCPT is to be read as 452, too many recipients; it is not in the list. Nor is
    # 5.7.x: recipients come from the configuration, so "relaying denied" is a fault of the set-up.
    if reply.code in _NO_SUCH_RECIPIENT_CODES:
        status = _status(reply)
        if not status or status.startswith("5.1.") or status == "5.2.1":
            return "refused"
    return "deferred"


def _classify_data(finished: TransactionFinished) -> Outcome:
    """Judge the reply to DATA or to the end of the data; some recipients had been accepted."""
    reply = finished.data_reply
    if reply is None:
        return _lost("DATA")
    reason = _reason("end of data" if finished.content_sent else "DATA", reply)
    permanent = _refuses_content(reply) or (finished.content_sent and _refuses_after_reading(reply))
    return PermanentFailure(Scope.MESSAGE, reason) if permanent else Deferred(Scope.MESSAGE, reason)


def _refuses_content(reply: SmtpReply) -> bool:
    """Whether size, form or policy is given as the reason; good enough even before the content."""
    return _too_large(reply) or _status(reply).startswith(("5.6.", "5.7."))


def _refuses_after_reading(reply: SmtpReply) -> bool:
    """Whether a plain refusal of what has been read must be meant."""
    if reply.code not in {550, 554} or _says_mailbox_full(reply):
        return False
    # 5.3.x is the server's own state, 5.4.x routing, 5.5.x the protocol; of these only a loop (5.4.6) is for ever.
    status = _status(reply)
    return status == "5.4.6" or not status.startswith(("5.3.", "5.4.", "5.5."))


def _by_recipients(finished: TransactionFinished) -> DeliveryReport:
    """Sum up the recipients, when the content was accepted or no recipient was."""
    fates = _Fates()
    for recipient, reply in zip(finished.transaction.recipients, finished.recipient_replies, strict=True):
        fate = "deferred" if reply is None else _classify_recipient(reply)
        fates.add(recipient, fate, "" if fate == "accepted" else _reason(f"RCPT <{recipient}>", reply))
    return fates.report(str(finished.data_reply))


def _by_final_replies(
    finished: TransactionFinished, final_replies: Sequence[SmtpReply | None]
) -> DeliveryReport:
    """Sum up what LMTP has said of each recipient after the content (RFC 2033 s.4.2)."""
    fates = _Fates()
    replies = zip(finished.transaction.recipients, finished.recipient_replies, final_replies, strict=True)
    fate: _Fate
    for recipient, rcpt, final in replies:
        if rcpt is None or not rcpt.positive:
            fate = "deferred" if rcpt is None else _classify_recipient(rcpt)
            fates.add(recipient, fate, _reason(f"RCPT <{recipient}>", rcpt))
        else:
            fate = "in-doubt" if final is None else _classify_final(final)
            fates.add(recipient, fate, _reason(f"end of data for <{recipient}>", final))
    report = fates.report(_listed([str(final) for final in final_replies if final is not None]))
    hop = any(final is not None and _blames_hop(final) for final in final_replies)
    if hop and not report.accepted_recipients and isinstance(report.outcome, Deferred):
        # As with SMTP: a store that is going down, say. One that took the message for somebody is up.
        return replace(report, outcome=replace(report.outcome, scope=Scope.NEXT_HOP, counts=True))
    return report


def _classify_final(reply: SmtpReply) -> _Fate:
    """Judge LMTP's reply to the content for one recipient: as that to RCPT, or as SMTP's to the content."""
    fate = _classify_recipient(reply)
    if fate != "deferred" or _blames_hop(reply):
        return fate
    return "refused" if _refuses_content(reply) or _refuses_after_reading(reply) else "deferred"


@dataclass(slots=True)
class _Fates:
    """What became of the message for each recipient."""

    recipients: dict[_Fate, list[str]] = field(default_factory=lambda: defaultdict(list))
    reasons: dict[_Fate, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, recipient: str, fate: _Fate, reason: str) -> None:
        """Note one recipient's fate."""
        self.recipients[fate].append(recipient)
        self.reasons[fate].append(reason)

    def report(self, receipt: str) -> DeliveryReport:
        """Return what that makes for the message: delivered only when every recipient accepted."""
        outcome: Outcome = Delivered(receipt)
        if doubts := self.reasons["in-doubt"]:
            outcome = Deferred(Scope.MESSAGE, _listed(doubts), in_doubt=True)
        elif deferrals := self.reasons["deferred"]:
            outcome = Deferred(Scope.RECIPIENT, _listed(deferrals))
        elif refusals := self.reasons["refused"]:
            outcome = PermanentFailure(Scope.RECIPIENT, _listed(refusals))
        named = self.recipients
        deferred = (*named["in-doubt"], *named["deferred"])
        return DeliveryReport(outcome, tuple(named["accepted"]), tuple(named["refused"]), deferred)


# -- replies -----------------------------------------------------------------


def _refuses_credentials(reply: SmtpReply) -> bool:
    """Whether a reply to AUTH wants another password, name or way to log in (RFC 4954 s.6).

    432 (4.7.12) wants the password changed first. The other 4yz, 421 and 454 among them, are
    the server's own trouble, and 500 to 504 its word that it did not even try.
    """
    if reply.code == 432 or reply.enhanced_status == "4.7.12":
        return True
    return reply.permanent and reply.code not in _NOT_TRIED_CODES


def _status(reply: SmtpReply) -> str:
    """Return the enhanced status, empty when it is missing or contradicts the reply code."""
    status = reply.enhanced_status or ""
    return status if status[:1] == str(reply.code)[:1] else ""


def _blames_hop(reply: SmtpReply) -> bool:
    return reply.code in _HOP_CODES or _status(reply) in _HOP_STATUSES


def _too_large(reply: SmtpReply) -> bool:
    """552 (RFC 1870 s.6.1) or a status that says the same; not 552 5.2.2, a full mailbox."""
    return (reply.code == 552 and not _says_mailbox_full(reply)) or _status(reply) in _TOO_LARGE_STATUSES


def _says_mailbox_full(reply: SmtpReply) -> bool:
    return _status(reply) == "5.2.2"  # RFC 3463 s.3.3: it may be emptied


def _said(finished: TransactionFinished) -> list[tuple[str, SmtpReply]]:
    """Return every reply with its stage, in the order of the dialogue."""
    stages = [
        (_mail_stage(finished), finished.sender_reply),
        *zip(
            (f"RCPT <{recipient}>" for recipient in finished.transaction.recipients),
            finished.recipient_replies,
            strict=True,
        ),
        ("end of data" if finished.content_sent else "DATA", finished.data_reply),
    ]
    return [(stage, reply) for stage, reply in stages if reply is not None]


def _mail_stage(finished: TransactionFinished) -> str:
    return f"MAIL <{finished.transaction.envelope_sender}>"


def _lost(stage: str) -> Deferred:
    return Deferred(Scope.NEXT_HOP, f"the connection ended before the reply to {stage}", in_transaction=True)


def _reason(stage: str, reply: SmtpReply | None) -> str:
    return f"{stage}: {reply}" if reply is not None else f"{stage}: no reply"


def _listed(reasons: Sequence[str]) -> str:
    """Name the first few; a destination may have thousands of recipients."""
    more = len(reasons) - _MAX_NAMED
    shown = "; ".join(reasons[:_MAX_NAMED])
    return f"{shown}; and {more} more" if more > 0 else shown
