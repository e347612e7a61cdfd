"""What every ledger must do, whatever engine keeps it.

A test module makes a class of `LedgerContract` and gives it a fixture `ledger`:
an open, empty `SqlLedger`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from mailferry.errors import StoreError
from mailferry.ledger import HistoryFilter, SqlLedger
from mailferry.model import (
    RECEIVER,
    DeliveryRecord,
    DeliveryState,
    DestinationName,
    KnownMessage,
    LedgerRecord,
    MaildropName,
    MessageId,
    MessageRecord,
    MessageState,
    StandingKind,
    StandingRecord,
    Uidl,
)

ALICE = MaildropName("alice")
BOB = MaildropName("bob")


def message(
    number: int,
    uidl: bytes | None = None,
    *,
    maildrop: MaildropName = ALICE,
    state: MessageState = MessageState.ACCEPTED,
    updated_at: float = 1000.0,
) -> MessageRecord:
    """Return a message record with every field set to something."""
    return MessageRecord(
        message_id=MessageId(number),
        maildrop=maildrop,
        uidl=Uidl(b"uidl-%d" % number if uidl is None else uidl),
        state=state,
        size_octets=4711,
        first_seen_at=900.5,
        updated_at=updated_at,
        header_digest=bytes(range(32)),
        content_digest=bytes(range(255, 223, -1)),
        sender="Алиса <alice@example.org>",
        recipient="bob@example.net",
        subject="Привет, Bob",
        reason="",
        fetch_attempts=2,
        next_fetch_at=0.25,
        accepted_at=999.125,
    )


def delivery(number: int, destination: str = "office", *, updated_at: float = 1000.0) -> DeliveryRecord:
    """Return a delivery record with every field set to something."""
    return DeliveryRecord(
        message_id=MessageId(number),
        destination=DestinationName(destination),
        state=DeliveryState.ACCEPTED,
        attempts=3,
        next_attempt_at=0.5,
        updated_at=updated_at,
        receipt=f"2.0.0 Ok: queued as 4X{number}",
        error="450 4.2.1 later",
        accepted_recipients=("a@example.org", "ü@example.org"),
        refused_recipients=("c,d@example.org",),
    )


def standing(name: str = "alice", *, last_success_at: float | None = 10.0) -> StandingRecord:
    """Return a standing record with every field set to something."""
    return StandingRecord(StandingKind.MAILDROP, name, last_success_at, 9.5, "-ERR no", 4, 11.5, 60.0)


async def outcomes(ledger: SqlLedger, orders: Sequence[Sequence[LedgerRecord]]) -> list[Exception | None]:
    """Give all orders at once and return what each `done` was called with."""
    futures = [asyncio.get_running_loop().create_future() for _ in orders]
    for order, future in zip(orders, futures, strict=True):
        ledger.commit(order, future.set_result)
    return [await future for future in futures]


def numbers(found: Sequence[KnownMessage]) -> list[int]:
    return [known.message.message_id for known in found]


class LedgerContract:
    """The tests; every name says what is promised."""

    async def test_adopted_rows_may_exchange_their_uidls(self, ledger: SqlLedger) -> None:
        first, second = message(1, b"one"), message(2, b"two")
        await ledger.save([first, second, delivery(1)])
        await ledger.adopt(
            [replace(first, uidl=Uidl(b"two"), updated_at=2000.0), replace(second, uidl=Uidl(b"one"))]
        )
        known = await ledger.known_messages(ALICE)
        assert {uidl: entry.message.message_id for uidl, entry in known.items()} == {b"two": 1, b"one": 2}
        assert known[Uidl(b"two")].deliveries == (delivery(1),)

    async def test_an_adoption_that_contradicts_the_ledger_changes_nothing(self, ledger: SqlLedger) -> None:
        rows = [message(1, b"one"), message(2, b"two"), message(3, b"three")]
        await ledger.save(rows)
        with pytest.raises(StoreError):
            await ledger.adopt([replace(rows[0], uidl=Uidl(b"new")), replace(rows[1], uidl=Uidl(b"three"))])
        assert set(await ledger.known_messages(ALICE)) == {b"one", b"two", b"three"}

    async def test_rows_come_back_as_they_were_given(self, ledger: SqlLedger) -> None:
        given = (
            message(2**62 + 1, b"\xff\x00 \x80"),
            delivery(2**62 + 1, "office"),
            delivery(2**62 + 1, "vault"),
        )
        await ledger.save(given)
        known = await ledger.known_messages(ALICE)
        assert known == {b"\xff\x00 \x80": KnownMessage(given[0], given[1:])}

    async def test_every_state_can_be_stored(self, ledger: SqlLedger) -> None:
        messages = [message(number, state=state) for number, state in enumerate(MessageState)]
        deliveries = [
            replace(delivery(0, f"d{number}"), state=state) for number, state in enumerate(DeliveryState)
        ]
        await ledger.save([*messages, *deliveries])
        found = await ledger.history(HistoryFilter())
        assert {known.message for known in found} == set(messages)
        assert found[-1].deliveries == tuple(deliveries)

    async def test_absent_values_stay_absent(self, ledger: SqlLedger) -> None:
        bare = MessageRecord(MessageId(1), ALICE, Uidl(b"u"), MessageState.DEFERRED, 0, 1.0, 1.0)
        never = StandingRecord(StandingKind.ETRN, "node", not_before=float("inf"))
        await ledger.save([bare, never])
        assert (await ledger.known_messages(ALICE))[Uidl(b"u")] == KnownMessage(bare)
        assert await ledger.standings() == {(StandingKind.ETRN, "node"): never}

    async def test_a_row_is_written_whole_by_its_key(self, ledger: SqlLedger) -> None:
        await ledger.save([message(1), delivery(1), standing()])
        bare = MessageRecord(MessageId(1), BOB, Uidl(b"other"), MessageState.SKIPPED, 1, 2.0, 3.0)
        fresh = DeliveryRecord(MessageId(1), DestinationName("office"), DeliveryState.DEFERRED, 0, 0.0, 3.0)
        calm = StandingRecord(StandingKind.MAILDROP, "alice")
        await ledger.save([bare, fresh, calm])
        assert await ledger.known_messages(ALICE) == {}
        assert await ledger.known_messages(BOB) == {b"other": KnownMessage(bare, (fresh,))}
        assert await ledger.standings() == {(StandingKind.MAILDROP, "alice"): calm}

    async def test_the_last_of_several_versions_wins(self, ledger: SqlLedger) -> None:
        versions = [replace(message(1), size_octets=size) for size in range(5)]
        assert await outcomes(ledger, [versions[:3], versions[3:4], versions[4:]]) == [None] * 3
        assert (await ledger.known_messages(ALICE))[Uidl(b"uidl-1")].message == versions[-1]

    async def test_the_order_of_orders_counts_and_not_their_times(self, ledger: SqlLedger) -> None:
        await ledger.save([message(1, updated_at=9e9)])
        back = message(1, state=MessageState.SKIPPED, updated_at=10.0)
        await ledger.save([back])
        assert (await ledger.known_messages(ALICE))[Uidl(b"uidl-1")].message == back

    async def test_only_messages_that_are_still_there_are_known(self, ledger: SqlLedger) -> None:
        await ledger.save([message(1), message(2, state=MessageState.GONE), message(3, maildrop=BOB)])
        assert set(await ledger.known_messages(ALICE)) == {b"uidl-1"}
        assert await ledger.known_messages(MaildropName("nobody")) == {}

    async def test_a_uidl_may_come_again_when_its_message_is_gone(self, ledger: SqlLedger) -> None:
        await ledger.save([message(1, b"same"), delivery(1)])
        # One order, the new message first: the order of rows must not matter.
        await ledger.save([message(2, b"same"), message(1, b"same", state=MessageState.GONE)])
        assert await ledger.known_messages(ALICE) == {b"same": KnownMessage(message(2, b"same"))}
        await ledger.save([message(2, b"same", state=MessageState.GONE), message(3, b"same")])
        assert sorted(numbers(await ledger.history(HistoryFilter()))) == [1, 2, 3]

    async def test_what_came_by_smtp_is_found_by_its_identity_also_when_it_is_gone(
        self, ledger: SqlLedger
    ) -> None:
        def received(number: int, uidl: bytes, **changes: Any) -> MessageRecord:
            return replace(message(number, uidl, maildrop=RECEIVER), **changes)

        gone = MessageState.GONE
        rows = [
            received(1, b"old", state=gone, updated_at=10.0),
            received(2, b"again", state=gone, updated_at=90.0),
            received(3, b"again", state=gone, updated_at=100.0),
            received(4, b"live", state=gone, updated_at=300.0),
            received(5, b"live", state=MessageState.DEFERRED, updated_at=20.0),
            received(6, b"other", updated_at=100.0),
            message(7, b"again", maildrop=ALICE),
        ]
        await ledger.save([*rows, delivery(3), delivery(5)])
        asked = [Uidl(each) for each in (b"old", b"again", b"live", b"never")]
        assert await ledger.received_messages(asked, 50.0) == {
            b"again": KnownMessage(rows[2], (delivery(3),)),
            b"live": KnownMessage(rows[4], (delivery(5),)),
        }
        assert set(await ledger.received_messages(asked, 10.0)) == {b"old", b"again", b"live"}

    async def test_a_uidl_is_unique_among_those_that_are_there(self, ledger: SqlLedger) -> None:
        await ledger.save([message(1, b"same"), message(2, b"same", maildrop=BOB)])
        with pytest.raises(StoreError, match="refused"):
            await ledger.save([message(3, b"same")])
        assert (await ledger.known_messages(ALICE))[Uidl(b"same")].message.message_id == 1

    async def test_a_bad_order_does_not_fail_its_neighbours(self, ledger: SqlLedger) -> None:
        orphan, clash = [delivery(99)], [message(5, b"uidl-1")]
        orders: list[Sequence[LedgerRecord]] = [
            [message(1)],
            orphan,
            [message(2), delivery(2)],
            clash,
            [message(3)],
        ]
        results = await outcomes(ledger, orders)
        assert [(result is None) for result in results] == [True, False, True, False, True]
        assert all(isinstance(result, StoreError) for result in (results[1], results[3]))
        assert set(await ledger.known_messages(ALICE)) == {b"uidl-1", b"uidl-2", b"uidl-3"}

    async def test_an_order_is_written_whole_or_not_at_all(self, ledger: SqlLedger) -> None:
        with pytest.raises(StoreError):
            await ledger.save([message(1), standing(), delivery(99)])
        assert await ledger.known_messages(ALICE) == {}
        assert await ledger.standings() == {}

    async def test_done_comes_once_on_the_loops_thread(self, ledger: SqlLedger) -> None:
        calls: list[tuple[int, int, Exception | None]] = []

        def order(number: int) -> None:
            ledger.commit(
                [message(number)], lambda error: calls.append((number, threading.get_ident(), error))
            )

        for number in range(1, 1500):  # more than one transaction takes
            order(number)
        await ledger.save([])
        assert calls == [(number, threading.get_ident(), None) for number in range(1, 1500)]

    async def test_a_question_sees_what_was_ordered_before_it(self, ledger: SqlLedger) -> None:
        done: list[Exception | None] = []
        ledger.commit([message(1)], done.append)
        question = asyncio.ensure_future(ledger.known_messages(ALICE))
        await asyncio.sleep(0)
        ledger.commit([message(1, state=MessageState.GONE)], done.append)
        assert set(await question) == {b"uidl-1"}
        assert await ledger.known_messages(ALICE) == {}
        assert done == [None, None]

    async def test_a_done_that_raises_stops_no_other(self, ledger: SqlLedger) -> None:
        raised: list[object] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: raised.append(context["exception"]))
        done: list[Exception | None] = []
        failure = ValueError("a bug of the caller's")

        def broken(error: Exception | None) -> None:
            raise failure

        ledger.commit([message(1)], broken)
        ledger.commit([message(2)], done.append)
        await ledger.save([])
        assert done == [None]
        assert raised == [failure]

    async def test_a_cancelled_save_is_written_all_the_same(self, ledger: SqlLedger) -> None:
        task = asyncio.ensure_future(ledger.save([message(1)]))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert set(await ledger.known_messages(ALICE)) == {b"uidl-1"}

    @pytest.mark.parametrize("text", ["a\0b", "\ud800 and \udfff", "я" * 10_000, "x" * 10_000, "\U0001f4ee"])
    async def test_any_text_a_peer_sent_can_be_stored(self, ledger: SqlLedger, text: str) -> None:
        await ledger.save([replace(message(1), subject=text), replace(delivery(1), receipt=text)])
        (known,) = (await ledger.known_messages(ALICE)).values()
        expected = text[:4096].replace("\0", "\ufffd").replace("\ud800", "\ufffd").replace("\udfff", "\ufffd")
        assert known.message.subject == known.deliveries[0].receipt == expected

    async def test_standings_survive_by_kind_and_name(self, ledger: SqlLedger) -> None:
        other = replace(standing(), kind=StandingKind.DESTINATION)
        await ledger.save([standing(), other, standing("bob")])
        assert await ledger.standings() == {
            (StandingKind.MAILDROP, "alice"): standing(),
            (StandingKind.DESTINATION, "alice"): other,
            (StandingKind.MAILDROP, "bob"): standing("bob"),
        }

    async def test_counts_are_by_maildrop_and_state(self, ledger: SqlLedger) -> None:
        assert await ledger.counts() == {}
        gone = [message(number, state=MessageState.GONE) for number in (1, 2)]
        await ledger.save([*gone, message(3), message(4, maildrop=BOB)])
        assert await ledger.counts() == {
            (ALICE, MessageState.GONE): 2,
            (ALICE, MessageState.ACCEPTED): 1,
            (BOB, MessageState.ACCEPTED): 1,
        }

    async def test_history_is_newest_first_and_bounded(self, ledger: SqlLedger) -> None:
        await ledger.save([message(number, updated_at=float(number % 7)) for number in range(1, 21)])
        found = await ledger.history(HistoryFilter(limit=4))
        assert numbers(found) == [20, 13, 6, 19]
        assert await ledger.history(HistoryFilter(limit=0)) == []
        assert len(await ledger.history(HistoryFilter(limit=10**9))) == 20

    async def test_history_shows_the_deliveries(self, ledger: SqlLedger) -> None:
        await ledger.save([message(1), delivery(1, "vault"), delivery(1, "office"), message(2)])
        found = await ledger.history(HistoryFilter())
        assert found == [
            KnownMessage(message(2)),
            KnownMessage(message(1), (delivery(1, "office"), delivery(1, "vault"))),
        ]

    async def test_history_by_maildrop_state_and_time(self, ledger: SqlLedger) -> None:
        await ledger.save(
            [
                message(1, updated_at=10.0),
                message(2, updated_at=20.0, state=MessageState.GONE),
                message(3, updated_at=30.0, maildrop=BOB),
            ]
        )
        assert numbers(await ledger.history(HistoryFilter(maildrop="alice"))) == [2, 1]
        assert numbers(await ledger.history(HistoryFilter(state=MessageState.GONE))) == [2]
        assert numbers(await ledger.history(HistoryFilter(since=20.0))) == [3, 2]
        assert numbers(await ledger.history(HistoryFilter(maildrop="alice", since=15.0))) == [2]

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("CAROL@", [2]),  # sender
            ("dave@example", [2]),  # recipient
            ("ПРИВЕТ", [1]),  # subject, in any script
            ("100%_sure", [2]),  # no character has a special meaning
            ("%", [2]),
            ("queued as 4x1", [1]),  # receipt
            ("idl-2", [2]),  # UIDL
            ("nowhere", []),
        ],
    )
    async def test_history_by_text(self, ledger: SqlLedger, text: str, expected: list[int]) -> None:
        other = replace(
            message(2), sender="carol@example.org", recipient="Dave@Example.net", subject="100%_Sure"
        )
        await ledger.save([message(1), delivery(1), other, delivery(2, "vault")])
        assert numbers(await ledger.history(HistoryFilter(text=text))) == expected

    async def test_prune_forgets_old_gone_messages_and_nothing_else(self, ledger: SqlLedger) -> None:
        old = [message(number, state=MessageState.GONE, updated_at=10.0) for number in range(1, 2502)]
        kept = [message(9001, state=MessageState.GONE, updated_at=20.0), message(9002, updated_at=10.0)]
        await ledger.save([*old, *kept, delivery(1), delivery(9001), delivery(9002)])
        assert await ledger.prune(20.0) == 2501
        assert await ledger.history(HistoryFilter(limit=9999)) == [
            KnownMessage(kept[0], (delivery(9001),)),
            KnownMessage(kept[1], (delivery(9002),)),
        ]
        with pytest.raises(StoreError):
            await ledger.save([delivery(1)])  # its message is no more
        assert await ledger.prune(20.0) == 0

    async def test_a_closed_ledger_says_so(self, ledger: SqlLedger) -> None:
        await ledger.close()
        await ledger.close()
        (error,) = await outcomes(ledger, [[message(1)]])
        assert isinstance(error, StoreError)
        with pytest.raises(StoreError):
            ledger.note([message(1)])
        with pytest.raises(StoreError):
            await ledger.save([message(1)])
        with pytest.raises(StoreError):
            await ledger.known_messages(ALICE)

    async def test_close_finishes_what_was_ordered(self, ledger: SqlLedger) -> None:
        done: list[Exception | None] = []
        for number in range(1, 100):
            ledger.commit([message(number)], done.append)
        await ledger.close()
        assert done == [None] * 99
        await ledger.open()
        assert len(await ledger.known_messages(ALICE)) == 99

    async def test_noted_records_may_be_committed_later_or_twice(self, ledger: SqlLedger) -> None:
        ledger.note([message(1), delivery(1)])
        ledger.note([delivery(1)])
        assert await outcomes(ledger, [[message(1), delivery(1)], [delivery(1)]]) == [None, None]
        (known,) = (await ledger.known_messages(ALICE)).values()
        assert known == KnownMessage(message(1), (delivery(1),))
