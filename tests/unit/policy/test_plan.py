from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from mailferry.model import (
    DeliveryRecord,
    DeliveryState,
    DestinationName,
    KnownMessage,
    ListedMessage,
    MaildropName,
    MessageId,
    MessageRecord,
    MessageState,
    Uidl,
)
from mailferry.policy.plan import (
    Identified,
    Oversize,
    Plan,
    PlanRules,
    Retention,
    due_destinations,
    identity_from_digest,
    make_plan,
    reopened,
    settled_state,
    unsettled_destinations,
)

NOW = 10_000.0
A, B = DestinationName("a"), DestinationName("b")
U = Uidl(b"u1")
DELETE, FOR_EVER, AGE = Retention(0.0), Retention(None), Retention(600.0)
RULES = PlanRules((A, B), frozenset((A, B)), DELETE)
ACCEPTED, DEFERRED = DeliveryState.ACCEPTED, DeliveryState.DEFERRED
IN_DOUBT, REJECTED = DeliveryState.IN_DOUBT, DeliveryState.REJECTED


def listed(number: int = 1, uidl: bytes | None = b"u1", size: int = 100) -> ListedMessage:
    return ListedMessage(number, size, Uidl(uidl) if uidl is not None else None)


def identified(number: int = 1, uidl: bytes = b"u1", size: int = 100) -> Identified:
    return Identified(listed(number, uidl, size), Uidl(uidl))


def delivery(
    name: DestinationName, state: DeliveryState, due: float = 0.0, attempts: int = 1
) -> DeliveryRecord:
    error = "" if state is ACCEPTED else "said no"
    return DeliveryRecord(MessageId(1), name, state, attempts, due, NOW - 100, error=error)


def known(
    state: MessageState,
    *deliveries: DeliveryRecord,
    uidl: bytes = b"u1",
    accepted_at: float | None = None,
    fetch_attempts: int = 0,
    next_fetch_at: float = 0.0,
) -> KnownMessage:
    record = MessageRecord(
        MessageId(1), MaildropName("alice"), Uidl(uidl), state, 100, NOW - 1000, NOW - 700,
        fetch_attempts=fetch_attempts, next_fetch_at=next_fetch_at, accepted_at=accepted_at,
    )  # fmt: skip
    return KnownMessage(record, tuple(deliveries))


def plan_for(entry: KnownMessage | None, rules: PlanRules = RULES, size: int = 100) -> Plan:
    ledger = {entry.message.uidl: entry} if entry is not None else {}
    return make_plan([identified(size=size)], [], ledger, rules, NOW)


def does(plan: Plan) -> str:
    """Put a plan for one message into words."""
    words = [
        *(f"{'top' if o.header_only else 'fetch'} {'+'.join(o.destinations)}" for o in plan.fetch),
        *("delete" for _ in plan.delete),
        *("skip" for _ in plan.skip),
        *("settle" for _ in plan.settle),
    ]
    return ", ".join(words) or "nothing"


# -- every state ---------------------------------------------------------------


@pytest.mark.parametrize("retention", [DELETE, FOR_EVER, AGE], ids=["delete", "for ever", "age"])
@pytest.mark.parametrize(
    ("entry", "what"),
    [
        (None, "fetch a+b"),
        (known(MessageState.DEFERRED), "fetch a+b"),
        (known(MessageState.DEFERRED, delivery(A, ACCEPTED)), "fetch b"),
        (known(MessageState.DEFERRED, delivery(A, ACCEPTED), delivery(B, DEFERRED)), "fetch b"),
        (known(MessageState.DEFERRED, delivery(A, ACCEPTED), delivery(B, IN_DOUBT)), "fetch b"),
        (known(MessageState.DEFERRED, delivery(A, REJECTED), delivery(B, DEFERRED)), "fetch b"),
        (known(MessageState.DEFERRED, delivery(B, DEFERRED, due=NOW)), "fetch a+b"),
        (known(MessageState.DEFERRED, delivery(B, DEFERRED, due=NOW + 1)), "fetch a"),
        (known(MessageState.DEFERRED, delivery(A, ACCEPTED), delivery(B, DEFERRED, due=NOW + 1)), "nothing"),
        (known(MessageState.DEFERRED, next_fetch_at=NOW + 1), "nothing"),
        (known(MessageState.DEFERRED, next_fetch_at=NOW), "fetch a+b"),
        (known(MessageState.DEFERRED, delivery(A, ACCEPTED), delivery(B, ACCEPTED)), "settle"),
        (known(MessageState.DEFERRED, delivery(A, ACCEPTED), delivery(B, REJECTED)), "settle"),
        (known(MessageState.SKIPPED), "fetch a+b"),
        (known(MessageState.REJECTED, delivery(A, REJECTED)), "nothing"),
        (known(MessageState.GONE), "fetch a+b"),
    ],
)
def test_what_is_not_accepted_is_never_deleted(
    entry: KnownMessage | None, what: str, retention: Retention
) -> None:
    plan = plan_for(entry, replace(RULES, retention=retention))
    assert does(plan) == what
    assert plan.waiting == 1


FAR = 10**7
"""Further away than any pause can be: the clock was set back."""


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        (known(MessageState.DEFERRED, next_fetch_at=NOW + FAR), "fetch a+b"),
        (
            known(
                MessageState.DEFERRED, delivery(A, DeliveryState.DEFERRED, NOW + FAR), delivery(B, ACCEPTED)
            ),
            "fetch a",
        ),
        (known(MessageState.SKIPPED, next_fetch_at=NOW + FAR), "fetch a+b"),
    ],
)
def test_a_pause_that_no_pause_can_be_is_void(entry: KnownMessage, what: str) -> None:
    assert does(plan_for(entry)) == what


@pytest.mark.parametrize(
    ("retention", "accepted_at", "deletes"),
    [
        (DELETE, NOW, True),
        (DELETE, NOW + 10**8, True),  # the clock was set back; not the age is the reason here
        (AGE, NOW + 10**8, False),
        (DELETE.without_ages(), NOW, True),
        (AGE.without_ages(), 0.0, False),
        (FOR_EVER.without_ages(), 0.0, False),
        (FOR_EVER, 0.0, False),
        (AGE, NOW - 599, False),
        (AGE, NOW - 600, True),
        (AGE, None, True),  # an older row without the time: its last change counts
        (Retention(701.0), None, False),
    ],
)
@pytest.mark.parametrize("state", [MessageState.ACCEPTED, MessageState.DELETE_PENDING])
def test_accepted_messages_go_when_their_time_is_over(
    state: MessageState, retention: Retention, accepted_at: float | None, *, deletes: bool
) -> None:
    entry = known(state, delivery(A, ACCEPTED), delivery(B, ACCEPTED), accepted_at=accepted_at)
    plan = plan_for(entry, replace(RULES, retention=retention))
    assert does(plan) == ("delete" if deletes else "nothing")
    assert plan.waiting == 0


# -- routes that are down ------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        (None, "fetch b"),
        (known(MessageState.DEFERRED), "fetch b"),
        (known(MessageState.DEFERRED, delivery(B, ACCEPTED)), "nothing"),
        (known(MessageState.SKIPPED), "fetch b"),
    ],
)
def test_nothing_is_fetched_for_a_route_that_is_down(entry: KnownMessage | None, what: str) -> None:
    assert does(plan_for(entry, replace(RULES, available=frozenset({B})))) == what


@pytest.mark.parametrize(
    "entry", [None, known(MessageState.DEFERRED), known(MessageState.SKIPPED), known(MessageState.REJECTED)]
)
def test_nothing_is_fetched_when_all_routes_are_down(entry: KnownMessage | None) -> None:
    plan = plan_for(entry, replace(RULES, available=frozenset()))
    assert does(plan) == "nothing"
    assert plan.waiting == 1
    assert plan.reopen == []


def test_a_route_that_is_down_keeps_no_accepted_message_from_being_deleted() -> None:
    entry = known(MessageState.ACCEPTED, accepted_at=NOW)
    assert does(plan_for(entry, replace(RULES, available=frozenset()))) == "delete"


def test_an_unavailable_route_that_is_not_configured_is_no_target() -> None:
    rules = PlanRules((A,), frozenset((A, B)), DELETE)
    assert does(plan_for(None, rules)) == "fetch a"


# -- sizes ---------------------------------------------------------------------

SKIP = replace(RULES, max_size_octets=100)
HEADERS = replace(SKIP, oversize=Oversize.HEADERS)


@pytest.mark.parametrize(
    ("rules", "size", "what"),
    [
        (SKIP, 100, "fetch a+b"),
        (SKIP, 101, "skip"),
        (HEADERS, 100, "fetch a+b"),
        (HEADERS, 101, "top a+b"),
        (RULES, 10**12, "fetch a+b"),
    ],
)
def test_a_new_message_above_the_limit(rules: PlanRules, size: int, what: str) -> None:
    assert does(plan_for(None, rules, size)) == what


def test_a_new_message_above_the_limit_is_skipped_though_all_routes_are_down() -> None:
    assert does(plan_for(None, replace(SKIP, available=frozenset()), 101)) == "skip"


@pytest.mark.parametrize(
    ("deliveries", "what"),
    [
        ((), "top a+b"),
        ((delivery(A, ACCEPTED),), "top b"),
        ((delivery(A, ACCEPTED), delivery(B, DEFERRED, due=NOW + 5)), "nothing"),
        ((delivery(A, ACCEPTED), delivery(B, DEFERRED, due=NOW)), "top b"),
        ((delivery(A, ACCEPTED), delivery(B, ACCEPTED)), "nothing"),
        ((delivery(A, REJECTED), delivery(B, ACCEPTED)), "nothing"),
    ],
)
def test_a_header_is_relayed_once_to_each_destination(
    deliveries: tuple[DeliveryRecord, ...], what: str
) -> None:
    plan = plan_for(known(MessageState.SKIPPED, *deliveries), HEADERS, 101)
    assert does(plan) == what
    assert (plan.waiting, plan.reopen) == (1, [])


def test_a_skipped_message_stays_skipped_without_a_second_row() -> None:
    plan = plan_for(known(MessageState.SKIPPED), SKIP, 101)
    assert does(plan) == "nothing"


def test_a_header_that_the_server_refused_waits_for_its_time() -> None:
    assert does(plan_for(known(MessageState.SKIPPED, next_fetch_at=NOW + 1), HEADERS, 101)) == "nothing"
    assert does(plan_for(known(MessageState.SKIPPED, next_fetch_at=NOW + 1), HEADERS, 100)) == "nothing"


def test_a_deferred_message_above_a_lowered_limit_is_not_fetched_whole() -> None:
    entry = known(MessageState.DEFERRED, delivery(A, ACCEPTED))
    assert does(plan_for(entry, SKIP, 101)) == "nothing"
    assert does(plan_for(entry, HEADERS, 101)) == "top b"


def test_after_the_limit_was_raised_the_note_counts_for_nothing() -> None:
    entry = known(MessageState.SKIPPED, delivery(A, ACCEPTED), delivery(B, REJECTED, attempts=7))
    plan = plan_for(entry, RULES)
    assert does(plan) == "fetch a+b"
    assert plan.reopen == [plan.fetch[0].known] == [reopened(entry, NOW)]
    fresh = reopened(entry, NOW)
    assert fresh.message.state is MessageState.DEFERRED
    assert fresh.message.message_id == entry.message.message_id
    assert unsettled_destinations(fresh.deliveries, (A, B)) == (A, B)
    assert [(d.attempts, d.receipt, d.error) for d in fresh.deliveries] == [(0, "", "")] * 2


def test_a_deferred_message_settles_whatever_its_size() -> None:
    entry = known(MessageState.DEFERRED, delivery(A, ACCEPTED), delivery(B, ACCEPTED))
    assert does(plan_for(entry, SKIP, 101)) == "settle"


# -- identity ------------------------------------------------------------------


def test_a_made_identity_cannot_be_one_of_a_server() -> None:
    first, second = identity_from_digest(b"\x01\xff", 1), identity_from_digest(b"\x01\xff", 2)
    assert first == b" 01ff.1"
    assert second != first
    assert first.startswith(b" ")  # RFC 1939 s.7: 0x21 to 0x7E


def test_unidentified_messages_are_fetched_to_learn_which_they_are() -> None:
    plan = make_plan([], [listed(1, None), listed(2, None, size=101)], {}, SKIP, NOW)
    assert [(o.listed.message_number, o.uidl, o.destinations) for o in plan.fetch] == [(1, None, (A, B))]
    assert (plan.waiting, plan.skip) == (2, [])


def test_unidentified_messages_wait_while_all_routes_are_down() -> None:
    plan = make_plan([], [listed(1, None)], {}, replace(RULES, available=frozenset()), NOW)
    assert (does(plan), plan.waiting) == ("nothing", 1)


def test_a_missing_message_is_left_alone_until_the_guard_has_said_what_it_is() -> None:
    plan = plan_for(known(MessageState.MISSING, delivery(A, ACCEPTED)))
    assert (does(plan), plan.waiting) == ("nothing", 1)


# -- order ---------------------------------------------------------------------


def test_what_failed_before_comes_last_and_the_worst_at_the_very_end() -> None:
    ledger = {
        entry.message.uidl: entry
        for entry in (
            known(MessageState.DEFERRED, uidl=b"u1", fetch_attempts=3),
            known(MessageState.DEFERRED, delivery(A, DEFERRED, attempts=1), uidl=b"u2"),
            known(MessageState.DEFERRED, delivery(A, ACCEPTED, attempts=9), uidl=b"u4"),
        )
    }
    messages = [identified(n, b"u%d" % n) for n in (1, 2, 3, 4, 5)]
    plan = make_plan(messages, [listed(6, None)], ledger, RULES, NOW)
    assert [order.listed.message_number for order in plan.fetch] == [3, 4, 5, 6, 2, 1]


@pytest.mark.parametrize(
    ("entry", "alone"),
    [
        (None, False),
        (known(MessageState.DEFERRED, fetch_attempts=1), True),
        (known(MessageState.DEFERRED, delivery(A, DEFERRED, attempts=3)), False),
        (known(MessageState.DEFERRED, delivery(A, DEFERRED, attempts=4)), True),
        (known(MessageState.DEFERRED, delivery(A, ACCEPTED, attempts=9)), False),
        (known(MessageState.DEFERRED, delivery(A, IN_DOUBT)), True),
    ],
)
def test_what_may_take_others_with_it_goes_alone(entry: KnownMessage | None, *, alone: bool) -> None:
    assert [order.alone for order in plan_for(entry).fetch] == [alone]


def test_what_the_process_alone_remembers_comes_last_too() -> None:
    messages = [listed(n, None) for n in (1, 2, 3)]
    plan = make_plan([], messages, {}, RULES, NOW, {1: 2, 2: 1})
    assert [(o.listed.message_number, o.alone) for o in plan.fetch] == [(3, False), (2, True), (1, True)]


# -- what deliveries make of a message -----------------------------------------


@pytest.mark.parametrize(
    ("deliveries", "retention", "state"),
    [
        ([], DELETE, MessageState.DEFERRED),
        ([delivery(A, ACCEPTED)], DELETE, MessageState.DEFERRED),
        ([delivery(A, ACCEPTED), delivery(B, DEFERRED)], DELETE, MessageState.DEFERRED),
        ([delivery(A, ACCEPTED), delivery(B, IN_DOUBT)], DELETE, MessageState.DEFERRED),
        ([delivery(A, REJECTED), delivery(B, DEFERRED)], DELETE, MessageState.DEFERRED),
        ([delivery(A, ACCEPTED), delivery(B, REJECTED)], DELETE, MessageState.REJECTED),
        ([delivery(A, ACCEPTED), delivery(B, ACCEPTED)], DELETE, MessageState.DELETE_PENDING),
        ([delivery(A, ACCEPTED), delivery(B, ACCEPTED)], AGE, MessageState.ACCEPTED),
        ([delivery(A, ACCEPTED), delivery(B, ACCEPTED)], FOR_EVER, MessageState.ACCEPTED),
    ],
)
def test_settled_state(
    deliveries: Sequence[DeliveryRecord], retention: Retention, state: MessageState
) -> None:
    assert settled_state(deliveries, (A, B), retention) is state


def test_a_destination_that_was_taken_out_of_the_settings_counts_no_more() -> None:
    gone = delivery(DestinationName("former"), REJECTED)
    assert settled_state([gone, delivery(A, ACCEPTED)], (A,), DELETE) is MessageState.DELETE_PENDING


def test_due_destinations() -> None:
    rows = [delivery(A, DEFERRED, due=NOW + 1), delivery(B, ACCEPTED)]
    assert due_destinations(rows, (A, B), NOW) == ()
    assert due_destinations(rows, (A, B), NOW + 1) == (A,)
    assert due_destinations([], (B, A), NOW) == (B, A)


def test_retention() -> None:
    assert (DELETE.deletes_at_once, AGE.deletes_at_once, FOR_EVER.deletes_at_once) == (True, False, False)
    assert not FOR_EVER.is_over(0.0, 1e12)
