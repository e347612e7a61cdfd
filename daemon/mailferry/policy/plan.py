"""What to do with each message of a maildrop, decided before anything is done.

A pure function from the listing, the ledger's knowledge and the settings to a
`Plan`. It never asks for a deletion that the ledger does not justify: a message
is deleted only when every destination has accepted it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType

from mailferry.model import (
    DeliveryRecord,
    DeliveryState,
    DestinationName,
    KnownMessage,
    ListedMessage,
    MessageState,
    Uidl,
)
from mailferry.policy.backoff import FETCH_BACKOFF, MESSAGE_BACKOFF, is_due

REPEATED_FAILURES = 4
"""From so many attempts on at one destination, a message is fetched alone: the second and
third belong to greylisting, which whole batches of messages meet."""


class Oversize(StrEnum):
    """What to do with a message above the size limit."""

    SKIP = "skip"
    HEADERS = "headers"
    """Relay the header only, with a note of the size."""


class Rejected(StrEnum):
    """What to do with a message that was refused for good."""

    KEEP = "keep"
    QUARANTINE = "quarantine"
    """Take it off the server once it lies in the quarantine."""


@dataclass(frozen=True, slots=True)
class Retention:
    """When a message that every destination accepted is deleted.

    `keep_seconds` counts from the acceptance: 0 deletes at once, None never.
    """

    keep_seconds: float | None = 0.0

    @property
    def deletes_at_once(self) -> bool:
        """Whether acceptance itself justifies the deletion."""
        return self.keep_seconds == 0

    def is_over(self, accepted_at: float, now: float) -> bool:
        """Whether a message accepted at that time is to be deleted now."""
        if self.keep_seconds is None:
            return False
        return self.deletes_at_once or now - accepted_at >= self.keep_seconds

    def without_ages(self) -> Retention:
        """Return what holds while ages cannot be believed: nothing is deleted for its age."""
        return self if self.deletes_at_once else Retention(None)


@dataclass(frozen=True, slots=True)
class PlanRules:
    """The settings that a plan depends on.

    Attributes:
        destinations: all that the maildrop delivers to.
        available: those whose route is not paused.
        max_size_octets: 0 for no limit.
    """

    destinations: tuple[DestinationName, ...]
    available: frozenset[DestinationName]
    retention: Retention
    max_size_octets: int = 0
    oversize: Oversize = Oversize.SKIP
    quarantine: bool = False
    """Whether refused messages are moved to the quarantine."""


@dataclass(frozen=True, slots=True)
class Identified:
    """A listed message with the identity under which the ledger knows it."""

    listed: ListedMessage
    uidl: Uidl


@dataclass(frozen=True, slots=True)
class FetchOrder:
    """Fetch this message for these destinations; for none: to put it into the quarantine.

    `uidl` is None when only the content can tell which message this is.
    """

    listed: ListedMessage
    uidl: Uidl | None
    destinations: tuple[DestinationName, ...]
    known: KnownMessage | None = None
    header_only: bool = False
    alone: bool = False
    """Only when nothing else is in flight: it broke a session before, or failed again and again."""


@dataclass(frozen=True, slots=True)
class DeleteOrder:
    """Delete this message."""

    listed: ListedMessage
    known: KnownMessage


@dataclass(slots=True)
class Plan:
    """What one poll is to do. `waiting` counts messages that are not at their goal yet."""

    fetch: list[FetchOrder] = field(default_factory=list)
    delete: list[DeleteOrder] = field(default_factory=list)
    skip: list[Identified] = field(default_factory=list)
    skip_unidentified: list[ListedMessage] = field(default_factory=list)
    """Too large, and without an identity there is no row to remember that by."""
    settle: list[KnownMessage] = field(default_factory=list)
    """Deferred messages for which, by the present settings, nothing is left to deliver."""
    reopen: list[KnownMessage] = field(default_factory=list)
    """Skipped messages that are to be fetched after all, as they stand now."""
    waiting: int = 0


def identity_from_digest(header_digest: bytes, occurrence: int) -> Uidl:
    """Make an identity for a message without a usable UIDL.

    Begins with a space, which no UIDL in a listing can. Copies with the same
    header are told apart by `occurrence` (counted from 1 in listing order): they
    are interchangeable, so it does not matter which is which in the next poll.
    """
    return Uidl(b" %s.%d" % (header_digest.hex().encode("ascii"), occurrence))


def make_plan(
    messages: Sequence[Identified],
    unidentified: Sequence[ListedMessage],
    known: Mapping[Uidl, KnownMessage],
    rules: PlanRules,
    now: float,
    broken: Mapping[int, int] = MappingProxyType({}),
) -> Plan:
    """Decide what to do with each listed message.

    Args:
        messages: identified ones, in the order of the listing.
        unidentified: those that must be fetched to learn which they are.
        known: the ledger's messages that are not gone.
        rules: the settings.
        now: seconds since the epoch.
        broken: how often a message broke its session, by message number, as far as
            no row remembers it.
    """
    plan = Plan()
    for message in messages:
        _plan_one(plan, message, known.get(message.uidl), rules, now)
    for listed in unidentified:
        _plan_unidentified(plan, listed, rules)
    plan.fetch = _in_order(plan.fetch, broken)
    return plan


def _in_order(orders: Sequence[FetchOrder], broken: Mapping[int, int]) -> list[FetchOrder]:
    """Put what failed before last, and what may take others with it alone."""

    def failures(order: FetchOrder) -> int:
        return _failures(order.known) + broken.get(order.listed.message_number, 0)

    def is_dangerous(order: FetchOrder) -> bool:
        return order.listed.message_number in broken or _broke_a_session(order.known)

    marked = [replace(order, alone=True) if is_dangerous(order) else order for order in orders]
    marked.sort(key=lambda order: (order.alone, failures(order), order.listed.message_number))
    return marked


def _plan_one(
    plan: Plan, message: Identified, known: KnownMessage | None, rules: PlanRules, now: float
) -> None:
    if known is None:
        _plan_new(plan, message, rules)
        return
    match known.message.state:
        case MessageState.DEFERRED:
            _plan_deferred(plan, message, known, rules, now)
        case MessageState.ACCEPTED | MessageState.DELETE_PENDING:
            _plan_accepted(plan, message, known, rules, now)
        case MessageState.SKIPPED:
            _plan_skipped(plan, message, known, rules, now)
        case MessageState.REJECTED:
            _plan_rejected(plan, message, known, rules, now)
        case MessageState.MISSING:  # the guard has said what it is now that it is listed again
            plan.waiting += 1
        case MessageState.GONE:  # the ledger does not list these
            _plan_new(plan, message, rules)


def _plan_new(plan: Plan, message: Identified, rules: PlanRules) -> None:
    plan.waiting += 1
    too_large = _is_too_large(message.listed, rules)
    if too_large and rules.oversize is Oversize.SKIP:
        plan.skip.append(message)
        return
    targets = _open_destinations(rules)
    if targets:
        plan.fetch.append(FetchOrder(message.listed, message.uidl, targets, header_only=too_large))


def _plan_deferred(
    plan: Plan, message: Identified, known: KnownMessage, rules: PlanRules, now: float
) -> None:
    if not unsettled_destinations(known.deliveries, rules.destinations):
        plan.waiting += 1
        plan.settle.append(known)
        return
    _plan_due(plan, message, known, rules, now)


def _plan_due(plan: Plan, message: Identified, known: KnownMessage, rules: PlanRules, now: float) -> None:
    """Order what is due. A message above a limit that was lowered meanwhile waits."""
    plan.waiting += 1
    too_large = _is_too_large(message.listed, rules)
    waits = not is_due(known.message.next_fetch_at, now, FETCH_BACKOFF)
    if waits or (too_large and rules.oversize is Oversize.SKIP):
        return
    targets = due_destinations(known.deliveries, _open_destinations(rules), now)
    if targets:
        plan.fetch.append(FetchOrder(message.listed, message.uidl, targets, known, too_large))


def _plan_rejected(
    plan: Plan, message: Identified, known: KnownMessage, rules: PlanRules, now: float
) -> None:
    """Leave it, or fetch it for no destination: such an order is for the quarantine."""
    plan.waiting += 1
    due = is_due(known.message.next_fetch_at, now, FETCH_BACKOFF)
    if rules.quarantine and due and not _is_too_large(message.listed, rules):
        plan.fetch.append(FetchOrder(message.listed, message.uidl, (), known))


def _plan_accepted(
    plan: Plan, message: Identified, known: KnownMessage, rules: PlanRules, now: float
) -> None:
    accepted_at = known.message.accepted_at or known.message.updated_at
    if rules.retention.is_over(accepted_at, now):
        plan.delete.append(DeleteOrder(message.listed, known))


def _plan_skipped(plan: Plan, message: Identified, known: KnownMessage, rules: PlanRules, now: float) -> None:
    if _is_too_large(message.listed, rules):
        _plan_due(plan, message, known, rules, now)  # its header, where that is not relayed yet
        return
    plan.waiting += 1
    targets = _open_destinations(rules)
    if targets and is_due(known.message.next_fetch_at, now, FETCH_BACKOFF):
        known = reopened(known, now)
        plan.reopen.append(known)
        plan.fetch.append(FetchOrder(message.listed, message.uidl, targets, known))


def reopened(known: KnownMessage, now: float) -> KnownMessage:
    """Return a skipped message as one that no destination has.

    What was delivered before was a note about its size: a row that says `accepted`
    must not stand for the message itself, or it would be deleted undelivered.
    """
    message = replace(known.message, state=MessageState.DEFERRED, reason="", updated_at=now, accepted_at=None)
    deliveries = tuple(
        DeliveryRecord(d.message_id, d.destination, DeliveryState.DEFERRED, 0, 0.0, now)
        for d in known.deliveries
    )
    return KnownMessage(message, deliveries)


def _plan_unidentified(plan: Plan, listed: ListedMessage, rules: PlanRules) -> None:
    plan.waiting += 1
    targets = _open_destinations(rules)
    if _is_too_large(listed, rules):
        plan.skip_unidentified.append(listed)
    elif targets:
        plan.fetch.append(FetchOrder(listed, None, targets))


def unsettled_destinations(
    deliveries: Sequence[DeliveryRecord], destinations: Sequence[DestinationName]
) -> tuple[DestinationName, ...]:
    """Return the destinations that have neither accepted nor refused for good."""
    settled = {
        delivery.destination
        for delivery in deliveries
        if delivery.state in (DeliveryState.ACCEPTED, DeliveryState.REJECTED)
    }
    return tuple(name for name in destinations if name not in settled)


def due_destinations(
    deliveries: Sequence[DeliveryRecord], destinations: Sequence[DestinationName], now: float
) -> tuple[DestinationName, ...]:
    """Return the unsettled destinations whose next attempt may be made now."""
    due_at = {delivery.destination: delivery.next_attempt_at for delivery in deliveries}
    unsettled = unsettled_destinations(deliveries, destinations)
    return tuple(name for name in unsettled if is_due(due_at.get(name, 0.0), now, MESSAGE_BACKOFF))


def settled_state(
    deliveries: Sequence[DeliveryRecord],
    destinations: Sequence[DestinationName],
    retention: Retention,
) -> MessageState:
    """Return where a message stands, given what its destinations did."""
    if unsettled_destinations(deliveries, destinations):
        return MessageState.DEFERRED
    refused = {d.destination for d in deliveries if d.state is DeliveryState.REJECTED}
    if refused.intersection(destinations):
        return MessageState.REJECTED
    return MessageState.DELETE_PENDING if retention.deletes_at_once else MessageState.ACCEPTED


def _open_destinations(rules: PlanRules) -> tuple[DestinationName, ...]:
    return tuple(name for name in rules.destinations if name in rules.available)


def _is_too_large(listed: ListedMessage, rules: PlanRules) -> bool:
    return 0 < rules.max_size_octets < listed.size_octets


def _failures(known: KnownMessage | None) -> int:
    if known is None:
        return 0
    return known.message.fetch_attempts + sum(d.attempts for d in known.deliveries if d.error)


def _broke_a_session(known: KnownMessage | None) -> bool:
    """Whether a message may have ended a session, or fails so often that it comes to the same."""
    if known is None:
        return False
    return known.message.fetch_attempts > 0 or any(
        delivery.state is DeliveryState.IN_DOUBT
        or (delivery.state is DeliveryState.DEFERRED and delivery.attempts >= REPEATED_FAILURES)
        for delivery in known.deliveries
    )
