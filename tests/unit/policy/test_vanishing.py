from __future__ import annotations

from dataclasses import replace

import pytest

from mailferry.model import (
    DeliveryRecord,
    DeliveryState,
    DestinationName,
    KnownMessage,
    MaildropName,
    MessageId,
    MessageRecord,
    MessageState,
    Uidl,
)
from mailferry.policy.vanishing import (
    MISSING_SECONDS,
    UNCONFIRMED_SECONDS,
    Circumstances,
    after_vanishing,
    in_sight_again,
    was_delivered,
)

NOW = 1e9
A, B = DestinationName("a"), DestinationName("b")
HERE = Circumstances((A, B), NOW)
S = MessageState


def delivery(name: DestinationName, state: DeliveryState, *, some: bool = False) -> DeliveryRecord:
    return DeliveryRecord(
        MessageId(1), name, state, 1, 0.0, NOW - 5, accepted_recipients=("x@example.org",) if some else ()
    )


def entry(
    state: MessageState, *deliveries: DeliveryRecord, accepted_at: float | None = None, age: float = 60.0
) -> KnownMessage:
    record = MessageRecord(
        MessageId(1), MaildropName("m"), Uidl(b"u"), state, 5, 0.0, NOW - age,
        header_digest=b"h", content_digest=b"c", accepted_at=accepted_at,
    )  # fmt: skip
    return KnownMessage(record, deliveries)


ACCEPTED_BY_A = delivery(A, DeliveryState.ACCEPTED)


@pytest.mark.parametrize(
    ("known", "delivered"),
    [
        (entry(S.DEFERRED), False),
        (entry(S.DEFERRED, delivery(A, DeliveryState.DEFERRED)), False),
        (entry(S.DEFERRED, delivery(A, DeliveryState.IN_DOUBT)), False),
        (entry(S.REJECTED, delivery(A, DeliveryState.REJECTED)), False),
        (entry(S.REJECTED, delivery(A, DeliveryState.REJECTED, some=True)), True),
        (entry(S.DEFERRED, ACCEPTED_BY_A, delivery(B, DeliveryState.DEFERRED)), True),
        (entry(S.ACCEPTED, accepted_at=NOW), True),
    ],
)
def test_delivered_is_what_would_be_doubled(known: KnownMessage, *, delivered: bool) -> None:
    assert was_delivered(known) is delivered
    expected = S.MISSING if delivered else S.GONE
    assert after_vanishing(known, HERE, deletion_certain=True).state is expected


@pytest.mark.parametrize(
    ("age", "certain", "state"),
    [
        (60.0, True, S.GONE),
        (60.0, False, S.DELETE_PENDING),
        (UNCONFIRMED_SECONDS + 1, False, S.GONE),
        (-100.0, False, S.DELETE_PENDING),  # the clock was set back
    ],
)
def test_a_deletion_is_believed_when_it_is_proven_or_old(
    age: float, state: MessageState, *, certain: bool
) -> None:
    known = entry(S.DELETE_PENDING, ACCEPTED_BY_A, accepted_at=NOW, age=age)
    assert after_vanishing(known, HERE, deletion_certain=certain).state is state


def test_a_missing_message_is_forgotten_after_its_time_and_untouched_until_then() -> None:
    known = entry(S.MISSING, ACCEPTED_BY_A, age=MISSING_SECONDS - 1)
    assert after_vanishing(known, HERE, deletion_certain=True) is known.message
    known = entry(S.MISSING, ACCEPTED_BY_A, age=MISSING_SECONDS + 1)
    assert after_vanishing(known, HERE, deletion_certain=True).state is S.GONE
    in_doubt = replace(HERE, ages_count=lambda: False)
    assert after_vanishing(known, in_doubt, deletion_certain=True) is known.message


def test_whether_ages_count_is_asked_only_when_one_seems_to_be_over() -> None:
    def asked() -> bool:
        raise AssertionError

    known = entry(S.MISSING, ACCEPTED_BY_A)
    assert after_vanishing(known, replace(HERE, ages_count=asked), deletion_certain=True) is known.message


@pytest.mark.parametrize("state", [S.DEFERRED, S.ACCEPTED, S.DELETE_PENDING, S.REJECTED, S.SKIPPED])
def test_in_sight_as_before_changes_nothing(state: MessageState) -> None:
    known = entry(state, ACCEPTED_BY_A)
    assert in_sight_again(known, Uidl(b"u"), 5, HERE) is known


@pytest.mark.parametrize("state", [S.DEFERRED, S.ACCEPTED, S.DELETE_PENDING, S.REJECTED, S.SKIPPED])
def test_another_name_and_size_leave_the_rest_as_it_was(state: MessageState) -> None:
    known = entry(state, ACCEPTED_BY_A, accepted_at=NOW - 60)
    row = in_sight_again(known, Uidl(b"n"), 6, HERE).message
    assert row == replace(known.message, uidl=Uidl(b"n"), size_octets=6, updated_at=NOW)


REJECTED_BY_B = delivery(B, DeliveryState.REJECTED)


@pytest.mark.parametrize(
    ("known", "state", "accepted_at"),
    [
        (entry(S.MISSING, ACCEPTED_BY_A, accepted_at=NOW - 99), S.ACCEPTED, NOW - 99),
        (entry(S.MISSING, ACCEPTED_BY_A), S.DEFERRED, None),
        (entry(S.MISSING, ACCEPTED_BY_A, REJECTED_BY_B), S.REJECTED, None),
        (entry(S.MISSING, ACCEPTED_BY_A, delivery(B, DeliveryState.ACCEPTED)), S.ACCEPTED, NOW - 60),
    ],
)
def test_a_missing_message_stands_again_where_it_stood(
    known: KnownMessage, state: MessageState, accepted_at: float | None
) -> None:
    row = in_sight_again(known, Uidl(b"u"), 5, HERE).message
    assert (row.state, row.accepted_at, row.updated_at) == (state, accepted_at, NOW)


def test_a_skipped_message_is_skipped_again_after_it_was_missing() -> None:
    known = entry(S.SKIPPED, ACCEPTED_BY_A, delivery(B, DeliveryState.ACCEPTED))
    missing = replace(known, message=after_vanishing(known, HERE, deletion_certain=True))
    assert missing.message.state is S.MISSING
    back = in_sight_again(missing, Uidl(b"n"), 5, HERE)
    assert (back.message.state, back.message.accepted_at) == (S.SKIPPED, None)
