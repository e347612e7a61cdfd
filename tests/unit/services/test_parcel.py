from __future__ import annotations

from dataclasses import replace

import pytest

from mailferry.model import (
    Deferred,
    Delivered,
    DeliveryRecord,
    DeliveryReport,
    DeliveryState,
    DestinationName,
    FetchedMessage,
    KnownMessage,
    ListedMessage,
    MaildropName,
    MessageId,
    MessageRecord,
    MessageState,
    PermanentFailure,
    Scope,
    Summary,
    Uidl,
)
from mailferry.policy.backoff import MESSAGE_BACKOFF
from mailferry.policy.plan import FetchOrder, Retention
from mailferry.services.context import MaildropPolicy
from mailferry.services.parcel import Parcel

NOW = 5000.0
MIDDLE = 0.5
A, B = DestinationName("a"), DestinationName("b")
UIDL = Uidl(b"u1")
POLICY = MaildropPolicy(MaildropName("alice"), "pop.example.net", (A, B))
LISTED = ListedMessage(1, 100, UIDL)
RECORD = MessageRecord(MessageId(7), POLICY.maildrop, UIDL, MessageState.DEFERRED, 100, 0.0, 0.0)
MESSAGE = FetchedMessage(
    POLICY.maildrop, MessageId(7), UIDL, b"x", b"h", b"c", "", Summary(), NOW, "pop.example.net", "POP3S"
)
OK = DeliveryReport(Delivered("250 queued"))
LATER = DeliveryReport(Deferred(Scope.MESSAGE, "451 later"))
NEVER = DeliveryReport(PermanentFailure(Scope.MESSAGE, "554 no"))
LOST = DeliveryReport(Deferred(Scope.MESSAGE, "lost", in_doubt=True))


def parcel(*earlier: DeliveryRecord, header_only: bool = False) -> Parcel:
    known = KnownMessage(RECORD, earlier) if earlier else None
    return Parcel(FetchOrder(LISTED, UIDL, (A, B), known, header_only), MESSAGE, RECORD)


def earlier(name: DestinationName, **fields: object) -> DeliveryRecord:
    row = DeliveryRecord(MessageId(7), name, DeliveryState.DEFERRED, 3, 0.0, 0.0, error="451 before")
    return replace(row, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("report", "state"),
    [
        (OK, DeliveryState.ACCEPTED),
        (LATER, DeliveryState.DEFERRED),
        (LOST, DeliveryState.IN_DOUBT),
        (DeliveryReport(Deferred(Scope.NEXT_HOP, "lost", in_doubt=True)), DeliveryState.IN_DOUBT),
        (NEVER, DeliveryState.REJECTED),
    ],
)
def test_an_attempt_makes_a_row(report: DeliveryReport, state: DeliveryState) -> None:
    row = parcel().take_report(A, report, NOW, MIDDLE)
    assert row is not None
    assert (row.message_id, row.destination, row.state, row.attempts) == (7, A, state, 1)
    assert row.updated_at == NOW
    assert row.receipt == ("250 queued" if state is DeliveryState.ACCEPTED else "")
    waits = state in (DeliveryState.DEFERRED, DeliveryState.IN_DOUBT)
    pause = MESSAGE_BACKOFF.pause_seconds(1, MIDDLE)
    assert row.next_attempt_at == (NOW + pause if waits else 0.0)


@pytest.mark.parametrize(
    "report",
    [
        DeliveryReport(Deferred(Scope.NEXT_HOP, "421")),
        DeliveryReport(Deferred(Scope.NEXT_HOP, "paused", attempted=False)),
        DeliveryReport(Deferred(Scope.MESSAGE, "stopping", attempted=False)),
    ],
)
def test_a_failure_of_the_route_leaves_no_trace(report: DeliveryReport) -> None:
    one = parcel(earlier(A))
    assert one.take_report(A, report, NOW, MIDDLE) is None
    assert one.attempt_at(A) == 3
    assert one.under_way == {B}


def test_a_lost_link_after_some_recipients_were_settled_does_leave_a_trace() -> None:
    report = DeliveryReport(Deferred(Scope.NEXT_HOP, "421"), refused_recipients=("x@example.org",))
    row = parcel().take_report(A, report, NOW, MIDDLE)
    assert row is not None
    assert (row.state, row.refused_recipients) == (DeliveryState.DEFERRED, ("x@example.org",))


def test_attempts_count_on_and_pauses_grow() -> None:
    row = parcel(earlier(A)).take_report(A, LATER, NOW, MIDDLE)
    assert row is not None
    assert row.attempts == 4
    assert row.next_attempt_at == NOW + MESSAGE_BACKOFF.pause_seconds(4, MIDDLE)
    assert row.next_attempt_at > NOW + MESSAGE_BACKOFF.pause_seconds(1, MIDDLE)


def test_the_order_says_who_has_answered_before_and_which_attempt_it_is() -> None:
    one = parcel(earlier(A, accepted_recipients=("1@x",), refused_recipients=("2@x",)))
    order = one.delivery_for(A, lambda _: None)
    assert (order.settled_recipients, order.attempt) == (frozenset({"1@x", "2@x"}), 4)
    first = one.delivery_for(B, lambda _: None)
    assert (first.settled_recipients, first.attempt) == (frozenset(), 1)


def test_recipients_of_several_attempts_are_put_together_without_repeats() -> None:
    one = parcel(earlier(A, accepted_recipients=("1@x", "2@x"), refused_recipients=("3@x",)))
    report = DeliveryReport(Deferred(Scope.RECIPIENT, "450"), ("2@x", "4@x"), ("5@x",))
    row = one.take_report(A, report, NOW, MIDDLE)
    assert row is not None
    assert row.accepted_recipients == ("1@x", "2@x", "4@x")
    assert row.refused_recipients == ("3@x", "5@x")
    assert row.state is DeliveryState.DEFERRED


def test_a_delivery_to_the_rest_is_a_refusal_when_some_were_refused_before() -> None:
    row = parcel(earlier(A, refused_recipients=("3@x",))).take_report(A, OK, NOW, MIDDLE)
    assert row is not None
    assert row.state is DeliveryState.REJECTED
    assert row.receipt == "250 queued"
    assert row.error == "refused earlier for 3@x"


@pytest.mark.parametrize(
    ("reports", "state", "reason"),
    [
        ({A: OK}, MessageState.DEFERRED, ""),
        ({A: OK, B: LATER}, MessageState.DEFERRED, "451 later"),
        ({A: NEVER, B: LATER}, MessageState.DEFERRED, "554 no; 451 later"),
        ({A: OK, B: NEVER}, MessageState.REJECTED, "554 no"),
        ({A: OK, B: OK}, MessageState.DELETE_PENDING, ""),
    ],
)
def test_where_the_message_stands(
    reports: dict[DestinationName, DeliveryReport], state: MessageState, reason: str
) -> None:
    one = parcel()
    for name, report in reports.items():
        one.take_report(name, report, NOW, MIDDLE)
    record = one.settle(POLICY, NOW)
    assert (record.state, record.reason, record.updated_at) == (state, reason, NOW)
    assert record.accepted_at == (NOW if state is MessageState.DELETE_PENDING else None)
    assert one.record is record


def test_what_is_kept_is_accepted_and_not_to_be_deleted() -> None:
    one = parcel()
    one.take_report(A, OK, NOW, MIDDLE)
    one.take_report(B, OK, NOW, MIDDLE)
    record = one.settle(replace(POLICY, retention=Retention(60.0)), NOW)
    assert (record.state, record.accepted_at) == (MessageState.ACCEPTED, NOW)


def test_the_earlier_acceptance_of_the_other_destination_counts() -> None:
    one = Parcel(
        FetchOrder(
            LISTED, UIDL, (B,), KnownMessage(RECORD, (earlier(A, state=DeliveryState.ACCEPTED, error=""),))
        ),
        MESSAGE,
        RECORD,
    )
    one.take_report(B, OK, NOW, MIDDLE)
    assert one.settle(POLICY, NOW).state is MessageState.DELETE_PENDING


@pytest.mark.parametrize(
    ("report", "reason"),
    [(OK, "too large: 100 octets; header relayed"), (LATER, "too large: 100 octets; 451 later; 451 later")],
)
def test_a_header_alone_leaves_the_message_skipped(report: DeliveryReport, reason: str) -> None:
    one = parcel(header_only=True)
    one.take_report(A, report, NOW, MIDDLE)
    one.take_report(B, report, NOW, MIDDLE)
    record = one.settle(POLICY, NOW)
    assert (record.state, record.accepted_at, record.reason) == (MessageState.SKIPPED, None, reason)


def test_a_long_reason_is_cut() -> None:
    one = parcel()
    one.take_report(A, DeliveryReport(Deferred(Scope.MESSAGE, "x" * 5000)), NOW, MIDDLE)
    assert len(one.settle(POLICY, NOW).reason) == 1000
