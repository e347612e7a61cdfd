"""One fetched message on its way: what each destination said, and what that makes of it.

No I/O: reports go in, rows for the ledger come out.
"""

from __future__ import annotations

from collections.abc import Callable

from mailferry.model import (
    Deferred,
    Delivered,
    Delivery,
    DeliveryRecord,
    DeliveryReport,
    DeliveryState,
    DestinationName,
    FetchedMessage,
    ListedMessage,
    MessageRecord,
    MessageState,
    Outcome,
    Scope,
)
from mailferry.policy.backoff import MESSAGE_BACKOFF
from mailferry.policy.plan import FetchOrder, settled_state
from mailferry.services.context import MaildropPolicy


class Parcel:
    """A message, the destinations that it is under way to, and its rows so far."""

    def __init__(self, order: FetchOrder, message: FetchedMessage, record: MessageRecord) -> None:
        self.message = message
        self.record = record
        self.listed: ListedMessage = order.listed
        self.header_only = order.header_only
        self.under_way: set[DestinationName] = set(order.destinations)
        self.loop: str | None = None
        """Why it must go nowhere (RFC 5321 s.6.3): it has been this way before."""
        self.budget_octets = 0
        """What it holds of the memory budget."""
        earlier = order.known.deliveries if order.known is not None else ()
        self._deliveries = {delivery.destination: delivery for delivery in earlier}

    @property
    def deliveries(self) -> tuple[DeliveryRecord, ...]:
        """What became of it at each destination so far."""
        return tuple(self._deliveries.values())

    @property
    def refused(self) -> bool:
        """Whether a destination refused it for good."""
        return any(delivery.state is DeliveryState.REJECTED for delivery in self._deliveries.values())

    def delivery_for(self, destination: DestinationName, done: Callable[[DeliveryReport], None]) -> Delivery:
        """Make the order to one destination."""
        earlier = self._deliveries.get(destination)
        settled = (
            frozenset(earlier.accepted_recipients + earlier.refused_recipients) if earlier else frozenset()
        )
        return Delivery(self.message, done, settled, self.attempt_at(destination) + 1)

    def attempt_at(self, destination: DestinationName) -> int:
        """How many attempts this destination has seen."""
        earlier = self._deliveries.get(destination)
        return earlier.attempts if earlier else 0

    def take_report(
        self, destination: DestinationName, report: DeliveryReport, now: float, chance: float
    ) -> DeliveryRecord | None:
        """Note what a destination said; None when it changes no row.

        A failure of the route leaves the message untouched (promise 5): no
        attempt is counted, no row is written.
        """
        self.under_way.discard(destination)
        if _leaves_no_trace(report):
            return None
        delivery = self._delivery_record(destination, report, now, chance)
        self._deliveries[destination] = delivery
        return delivery

    def settle(self, policy: MaildropPolicy, now: float) -> MessageRecord:
        """Work out where the message stands now and return its row."""
        deliveries = tuple(self._deliveries.values())
        state = settled_state(deliveries, policy.destinations, policy.retention)
        if self.header_only:
            state = MessageState.SKIPPED  # the message itself was not relayed
        done = state in (MessageState.ACCEPTED, MessageState.DELETE_PENDING)
        self.record = self.record.standing_at(
            state, now, reason=self._reason(state), accepted_at=now if done else None
        )
        return self.record

    def _reason(self, state: MessageState) -> str:
        errors = "; ".join(d.error for d in self._deliveries.values() if d.error)[:1000]
        if self.header_only:
            return f"too large: {self.record.size_octets} octets; {errors or 'header relayed'}"
        return errors if state in (MessageState.DEFERRED, MessageState.REJECTED) else ""

    def _delivery_record(
        self, destination: DestinationName, report: DeliveryReport, now: float, chance: float
    ) -> DeliveryRecord:
        earlier = self._deliveries.get(destination)
        attempts = (earlier.attempts if earlier else 0) + 1
        accepted = _merge(earlier.accepted_recipients if earlier else (), report.accepted_recipients)
        refused = _merge(earlier.refused_recipients if earlier else (), report.refused_recipients)
        state = _state_of(report.outcome, refused)
        waits = state in (DeliveryState.DEFERRED, DeliveryState.IN_DOUBT)
        return DeliveryRecord(
            message_id=self.record.message_id,
            destination=destination,
            state=state,
            attempts=attempts,
            next_attempt_at=now + MESSAGE_BACKOFF.pause_seconds(attempts, chance) if waits else 0.0,
            updated_at=now,
            receipt=report.outcome.receipt if isinstance(report.outcome, Delivered) else "",
            error=_error_of(report.outcome, refused),
            accepted_recipients=accepted,
            refused_recipients=refused,
        )


def _leaves_no_trace(report: DeliveryReport) -> bool:
    outcome = report.outcome
    if not isinstance(outcome, Deferred) or outcome.in_doubt or outcome.counts:
        return False
    settled_some = report.accepted_recipients or report.refused_recipients
    return not settled_some and (not outcome.attempted or outcome.scope is Scope.NEXT_HOP)


def _state_of(outcome: Outcome, refused: tuple[str, ...]) -> DeliveryState:
    if isinstance(outcome, Delivered):
        return DeliveryState.REJECTED if refused else DeliveryState.ACCEPTED
    if isinstance(outcome, Deferred):
        return DeliveryState.IN_DOUBT if outcome.in_doubt else DeliveryState.DEFERRED
    return DeliveryState.REJECTED


def _error_of(outcome: Outcome, refused: tuple[str, ...]) -> str:
    if isinstance(outcome, Delivered):
        return f"refused earlier for {', '.join(refused)}" if refused else ""
    return outcome.reason


def _merge(earlier: tuple[str, ...], new: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(earlier + new))
