"""What a 4yz or 5yz is called: one class for each way of failing, with the server's reply.

For who drives a session by hand or sends one message in it. What a destination makes of
the same replies, which is not an error but a value, stands in `policy.classify`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from mailferry.errors import (
    ConnectionLostError,
    DataRefusedError,
    HeloRefusedError,
    HopClosedError,
    MailferryError,
    RecipientRefusedError,
    RecipientsRefusedError,
    RefusedReply,
    SenderRefusedError,
    SmtpCommandRefusedError,
    SmtpRefusedError,
)
from mailferry.protocol.smtp_replies import SmtpReply
from mailferry.protocol.smtp_transaction import TransactionFinished

_BY_VERB: Mapping[str, type[SmtpRefusedError]] = MappingProxyType(
    {
        "EHLO": HeloRefusedError,
        "HELO": HeloRefusedError,
        "LHLO": HeloRefusedError,
        "MAIL": SenderRefusedError,
        "RCPT": RecipientRefusedError,
    }
)


def refused(verb: str, reply: SmtpReply) -> RefusedReply:
    """Return what a server refused, and in which words."""
    return RefusedReply(verb, reply.code, reply.enhanced_status, reply.text)


def command_refused(verb: str, reply: SmtpReply) -> SmtpRefusedError:
    """Return the error for a command that was refused, not raised."""
    kind = HopClosedError if reply.code == 421 else _BY_VERB.get(verb, SmtpCommandRefusedError)
    return kind(f"{verb} refused: {reply}", refused=refused(verb, reply))


def session_closed(reply: SmtpReply) -> HopClosedError:
    """Return the error for a session that the server ended before anything was asked, not raised."""
    return HopClosedError(f"the server has ended the session: {reply}", refused=refused("", reply))


def recipient_refusals(finished: TransactionFinished) -> tuple[RecipientRefusedError, ...]:
    """Return one error for each recipient that was refused, in the order of the recipients."""
    said = zip(
        finished.transaction.recipients, finished.recipient_replies, finished.recipient_verdicts, strict=True
    )
    return tuple(
        _recipient_refused(recipient, verdict, after_content=verdict is not rcpt)
        for recipient, rcpt, verdict in said
        if verdict is not None and not verdict.positive
    )


def _recipient_refused(recipient: str, reply: SmtpReply, *, after_content: bool) -> RecipientRefusedError:
    what, verb = ("the message for", "DATA") if after_content else ("RCPT", "RCPT")
    return RecipientRefusedError(
        f"{what} <{recipient}> refused: {reply}", recipient, refused=refused(verb, reply)
    )


def transaction_error(finished: TransactionFinished, failure: MailferryError | None) -> MailferryError | None:
    """Return why a message was accepted for no recipient, not raised; None if it was for one at least.

    Args:
        finished: what was said.
        failure: why the session died, if it did.
    """
    if finished.accepted_recipients:
        return None
    sender, data = finished.sender_reply, finished.data_reply
    if sender is not None and not sender.positive:
        return command_refused("MAIL", sender)
    refusals = recipient_refusals(finished)
    if len(refusals) == len(finished.transaction.recipients):
        return RecipientsRefusedError(refusals)
    if data is not None and not data.positive:
        kind = HopClosedError if data.code == 421 else DataRefusedError
        return kind(f"the message was refused: {data}", refused=refused("DATA", data))
    return failure or ConnectionLostError("the session ended before the server's word on the message")
