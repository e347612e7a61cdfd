"""Mail that comes in by SMTP: delivered at once or not taken.

Nothing is queued here. The sender's server hears 250 only when every destination has
accepted and the rows which say so are synced; anything else leaves the message with it.
The order is that of mail from a maildrop: note, commit, and then the word that lets the
sender forget the message, which is the 250 in the place of DELE.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from mailferry.errors import StoreError
from mailferry.events import ReceiverMessageReceived
from mailferry.message.digest import content_digest, header_digest
from mailferry.message.headers import header_of, is_told_apart
from mailferry.message.summary import summarise
from mailferry.message.trace_fields import trace_facts
from mailferry.model import (
    RECEIVER,
    FetchedMessage,
    KnownMessage,
    ListedMessage,
    MessageId,
    MessageRecord,
    MessageState,
    ReceivedMail,
    Uidl,
)
from mailferry.policy.loops import LoopLimits, find_loop
from mailferry.policy.plan import FetchOrder
from mailferry.policy.reception import (
    BUSY,
    KNOWN_SECONDS,
    NOT_KEPT,
    UNREADABLE,
    received_uidl,
    reopened_deliveries,
    was_accepted,
)
from mailferry.protocol.smtp_paths import domain_of
from mailferry.protocol.smtp_replies import SmtpReply
from mailferry.services.arrival import new_record
from mailferry.services.context import MaildropPolicy, Surroundings
from mailferry.services.incoming import Incoming
from mailferry.services.parcel import Parcel

_bugs = logging.getLogger("mailferry.bugs")

_KNOWN = SmtpReply(250, "2.0.0", ("OK: it was taken before",))
_BROKEN = SmtpReply(451, "4.3.0", ("Something went wrong here; try again later",))

NEVER_CAME_AGAIN = "the sender has not brought it again"


@dataclass(frozen=True, slots=True)
class ReceptionPolicy:
    """How messages are looked at.

    Attributes:
        by_host: our own name in Received fields, by which a loop is seen.
    """

    by_host: str
    max_hops: int = 100


class MailReception:
    """Implements `ports.Reception`.

    Args:
        mail_came: told of the domain of each recipient whose mail has come, whatever
            becomes of it.
    """

    def __init__(
        self, policy: ReceptionPolicy, surroundings: Surroundings, mail_came: Callable[[str], None]
    ) -> None:
        self._policy = policy
        self._around = surroundings
        self._mail_came = mail_came
        self._under_way: set[Uidl] = set()

    async def receive(self, mail: ReceivedMail) -> SmtpReply:
        """Deliver a message and return what to answer; see `ports.Reception`."""
        began = self._around.clock()
        for domain in dict.fromkeys(map(domain_of, mail.envelope_recipients)):
            if domain is not None:
                self._mail_came(domain)
        try:
            reply = await self._receive(mail)
        except StoreError:
            reply = NOT_KEPT  # told as an event by the ledger
        except OSError as error:  # of the file that it lies in
            _bugs.warning("a message that came in cannot be read from the spool: %s", error)
            reply = UNREADABLE
        except Exception:  # noqa: BLE001  whatever it is, the sender keeps the message
            _bugs.exception("a message that came in from %s", mail.received_from)
            reply = _BROKEN
        self._tell(mail, reply, self._around.clock() - began)
        return reply

    async def forget_old(self) -> None:
        """Give up messages that their senders have not brought again for a long time.

        Raises:
            StoreError: the ledger cannot be read or written.
        """
        now = self._around.clock()
        if not self._around.ages_count():
            return  # what only seems old is not forgotten
        known = await self._around.ledger.known_messages(RECEIVER)
        old = [each.message for each in known.values() if each.message.updated_at < now - KNOWN_SECONDS]
        if old:
            await self._around.ledger.save([_given_up(record, now) for record in old])

    async def _receive(self, mail: ReceivedMail) -> SmtpReply:
        digest = content_digest(mail.content)
        uidls = {
            received_uidl(digest, mail.envelope_sender, recipient): recipient
            for recipient in mail.envelope_recipients
        }
        if not self._under_way.isdisjoint(uidls):
            return BUSY
        self._under_way.update(uidls)
        try:
            since = self._around.clock() - KNOWN_SECONDS
            known = await self._around.ledger.received_messages(tuple(uidls), since)
            if not is_told_apart(header_of(mail.content)):
                known = {uidl: each for uidl, each in known.items() if not was_accepted(each)}
            new = {uidl: recipient for uidl, recipient in uidls.items() if not was_accepted(known.get(uidl))}
            return await self._deliver(mail, digest, new, known) if new else _KNOWN
        finally:
            self._under_way.difference_update(uidls)

    async def _deliver(
        self,
        mail: ReceivedMail,
        digest: bytes,
        recipients: dict[Uidl, str],
        known: Mapping[Uidl, KnownMessage],
    ) -> SmtpReply:
        header = header_of(mail.content)
        policy = MaildropPolicy(RECEIVER, mail.received_from, mail.destinations, by_host=self._policy.by_host)
        message = FetchedMessage(
            maildrop=RECEIVER,
            message_id=MessageId(0),
            uidl=next(iter(recipients)),
            content=mail.content,
            header_digest=header_digest(header),
            content_digest=digest,
            envelope_sender=mail.envelope_sender,
            summary=summarise(header),
            fetched_at=self._around.clock(),
            fetched_from=mail.received_from,
            fetched_with=mail.received_with,
            envelope_recipients=tuple(recipients.values()),
        )
        parcels = {
            recipient: self._parcel(message, policy, uidl, recipient, known.get(uidl))
            for uidl, recipient in recipients.items()
        }
        # One number for all in the Received field and in the reply: that of the first one's row.
        message = replace(message, message_id=next(iter(parcels.values())).message.message_id)
        loop = find_loop(trace_facts(header, policy.by_host), LoopLimits(self._policy.max_hops))
        incoming = Incoming(message, parcels, policy, self._around, mail.session_id)
        return await incoming.deliver(loop)

    def _parcel(
        self,
        message: FetchedMessage,
        policy: MaildropPolicy,
        uidl: Uidl,
        recipient: str,
        known: KnownMessage | None,
    ) -> Parcel:
        """Make one recipient's parcel, with the row that is to be written."""
        listed = ListedMessage(0, len(message.content), uidl)
        if known is not None:
            known = KnownMessage(known.message, reopened_deliveries(known.deliveries))
        record = known.message if known else new_record(listed, uidl, policy, self._around)
        record = replace(
            record,
            header_digest=message.header_digest,
            content_digest=message.content_digest,
            sender=message.summary.sender,
            recipient=recipient,
            subject=message.summary.subject,
        )
        own = replace(
            message,
            message_id=record.message_id,
            uidl=uidl,
            summary=replace(message.summary, recipient=recipient),
        )
        return Parcel(FetchOrder(listed, uidl, policy.destinations, known), own, record)

    def _tell(self, mail: ReceivedMail, reply: SmtpReply, seconds: float) -> None:
        if reply.positive:
            result = "known" if reply is _KNOWN else "accepted"
        else:
            result = "rejected" if reply.permanent else "deferred"
        self._around.emit(
            ReceiverMessageReceived(
                mail.session_id,
                mail.received_from,
                len(mail.content),
                len(mail.envelope_recipients),
                result,
                str(reply),
                max(seconds, 0.0),
            )
        )


def _given_up(record: MessageRecord, now: float) -> MessageRecord:
    reason = f"{NEVER_CAME_AGAIN}; {record.reason}"[:1000]
    return replace(record, state=MessageState.GONE, updated_at=now, reason=reason)
