"""Tells what happens to messages: builds events with the fields that bind them together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mailferry.events import (
    MaildropExpiryShort,
    MessageDeferred,
    MessageFetchFailed,
    MessageInDoubt,
    MessageQuarantined,
    MessageRecognised,
    MessageRejected,
    MessageRelayed,
    MessageSkipped,
    UidlsChanged,
)
from mailferry.message.received import message_name
from mailferry.model import (
    DeliveryRecord,
    DeliveryState,
    FetchedMessage,
    ListedMessage,
    MaildropName,
    MessageRecord,
    Uidl,
)
from mailferry.policy.plan import Retention
from mailferry.ports import Emit
from mailferry.services.memory import Trouble


@dataclass(frozen=True, slots=True)
class Story:
    """The events of one poll."""

    maildrop: MaildropName
    poll_id: str
    emit: Emit

    def delivery(self, message: FetchedMessage, delivery: DeliveryRecord, first_seen_at: float) -> None:
        """Tell what a destination did, once the row that says so is synced."""
        common: dict[str, Any] = self._about(message)  # the keyword arguments of MessageEvent
        common |= {"destination": delivery.destination, "attempt": delivery.attempts}
        match delivery.state:
            case DeliveryState.ACCEPTED:
                age = max(delivery.updated_at - message.fetched_at, 0.0)
                known = max(delivery.updated_at - first_seen_at, age)
                self.emit(
                    MessageRelayed(**common, receipt=delivery.receipt, age_seconds=age, known_seconds=known)
                )
            case DeliveryState.IN_DOUBT:
                self.emit(MessageInDoubt(**common, reason=delivery.error))
            case DeliveryState.REJECTED:
                self.emit(MessageRejected(**common, reason=delivery.error))
            case DeliveryState.DEFERRED:
                self.emit(
                    MessageDeferred(**common, reason=delivery.error, next_attempt_at=delivery.next_attempt_at)
                )

    def quarantined(self, message: FetchedMessage, entry: str, reason: str) -> None:
        """Tell that a refused message lies in the quarantine, once the row that says so is synced."""
        self.emit(MessageQuarantined(**self._about(message), entry=entry, reason=reason))

    def skipped(self, record: MessageRecord) -> None:
        """Tell that a message is left on the server on purpose."""
        self.emit(
            MessageSkipped(
                self.maildrop, self.poll_id, readable(record.uidl), record.size_octets, record.reason
            )
        )

    def skipped_unidentified(self, listed: ListedMessage, reason: str) -> None:
        """Tell the same of a message without an identity: at every poll, as no row remembers it."""
        name = f"message {listed.message_number}, no UIDL"
        self.emit(MessageSkipped(self.maildrop, self.poll_id, name, listed.size_octets, reason))

    def fetch_failed(self, record: MessageRecord) -> None:
        """Tell that the server did not hand a message over."""
        self.emit(
            MessageFetchFailed(
                self.maildrop,
                self.poll_id,
                readable(record.uidl),
                record.fetch_attempts,
                record.reason,
                record.next_fetch_at,
            )
        )

    def fetch_failed_unidentified(self, listed: ListedMessage, reason: str, trouble: Trouble | None) -> None:
        """Tell the same of a message without an identity, of which only this process remembers it."""
        name = f"message {listed.message_number}, no UIDL"
        failures, again = (trouble.failures, trouble.not_before) if trouble is not None else (1, 0.0)
        self.emit(MessageFetchFailed(self.maildrop, self.poll_id, name, failures, reason, again))

    def recognised(self, uidl: Uidl, known_as: Uidl) -> None:
        """Tell that a message turned out to be one that we had."""
        self.emit(MessageRecognised(self.maildrop, self.poll_id, readable(uidl), readable(known_as)))

    def uidls_changed(self, recognised: int, unrecognised: int) -> None:
        """Tell that the server has given new unique-ids to messages that we had."""
        self.emit(UidlsChanged(self.maildrop, self.poll_id, recognised, unrecognised))

    def expiry_short(self, expire_days: int, retention: Retention) -> None:
        """Tell that the server deletes mail sooner than we would."""
        keep = retention.keep_seconds
        self.emit(
            MaildropExpiryShort(self.maildrop, self.poll_id, expire_days, -1.0 if keep is None else keep)
        )

    def _about(self, message: FetchedMessage) -> dict[str, Any]:
        return {
            "maildrop": self.maildrop,
            "poll_id": self.poll_id,
            "uidl": readable(message.uidl),
            "size_octets": len(message.content),
            "sender": message.summary.sender,
            "recipient": message.summary.recipient,
            "subject": message.summary.subject,
            "message_id": message_name(message.message_id),
        }


def readable(uidl: Uidl) -> str:
    """Return a UIDL as text, for logs; odd octets escaped."""
    return uidl.decode("ascii", "backslashreplace").strip()
