"""What is asked of whom, what is written down before anything is removed, and that nothing is doubled."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Sequence
from dataclasses import replace

import pytest

from mailferry.errors import QuarantineError
from mailferry.message.content import pieces_of
from mailferry.model import (
    Deferred,
    Delivered,
    DeliveryReport,
    DeliveryState,
    DestinationName,
    PermanentFailure,
    Scope,
)
from mailferry.quarantine.reader import StoredMessage
from mailferry.quarantine.redelivery import Answer, Redelivery, Retried
from mailferry.quarantine.store import QuarantineStore
from support.dying_system import Killed, System
from support.fakes import FakeDestination
from support.quarantined import CONTENT, REFUSAL, delivery, refused

LATER = 1_790_000_000.0
OK = DeliveryReport(Delivered("250 queued"))
NO = DeliveryReport(PermanentFailure(Scope.MESSAGE, "end of data: 554 5.7.1 still not"))
NOT_NOW = DeliveryReport(Deferred(Scope.MESSAGE, "end of data: 451 4.3.0 later"))
DOWN = DeliveryReport(Deferred(Scope.NEXT_HOP, "cannot connect"))
DOUBT = DeliveryReport(Deferred(Scope.MESSAGE, "the connection ended", in_doubt=True))


class Place:
    """A quarantine with messages, and the destinations that they are for."""

    def __init__(self, store: QuarantineStore, *hops: str) -> None:
        self.store = store
        self.effects: list[str] = []
        self.to = {DestinationName(hop): FakeDestination(hop, self.effects) for hop in hops}

    def put(self, *, number: int = 1, hops: Sequence[str] = ("hop",)) -> StoredMessage:
        given = refused(number=number, hops=tuple(hops))
        return self.store.get(self.store._put(given.message, given.record, given.deliveries))

    def says(self, hop: str, *reports: DeliveryReport, number: int = 1) -> None:
        self.to[DestinationName(hop)].script[b"uid-%d" % number] = list(reports)

    def redelivery(self, memory_octets: int = 1 << 20) -> Redelivery:
        return Redelivery(self.store, self.to, memory_octets=memory_octets, clock=lambda: LATER)

    async def retry(self, stored: StoredMessage, only: str | None = None) -> Retried:
        return await self.redelivery().retry(stored, DestinationName(only) if only else None)

    def asked(self) -> list[str]:
        return [effect for effect in self.effects if effect.startswith("submit")]


def answers(retried: Retried) -> dict[str, Answer]:
    return {each.destination: each.answer for each in retried.answers}


def states(stored: StoredMessage) -> dict[str, DeliveryState]:
    assert stored.entry is not None
    return {each.destination: each.state for each in stored.entry.deliveries}


# --- asking -------------------------------------------------------------------------


async def test_what_is_accepted_leaves_the_quarantine(store: QuarantineStore) -> None:
    place = Place(store, "hop")
    stored = place.put()
    place.says("hop", OK)
    retried = await place.retry(stored)
    assert retried.removed
    assert answers(retried) == {"hop": Answer.ACCEPTED}
    (row,) = retried.accepted
    assert (row.state, row.receipt, row.error, row.attempts, row.updated_at) == (
        DeliveryState.ACCEPTED, "250 queued", "", 2, LATER,
    )  # fmt: skip
    assert store.all() == []


@pytest.mark.parametrize("memory_octets", [1 << 20, 10])
async def test_the_message_is_given_as_it_was_fetched(store: QuarantineStore, memory_octets: int) -> None:
    place = Place(store, "hop")
    stored = place.put()
    await place.redelivery(memory_octets).retry(stored)
    (order,) = place.to[DestinationName("hop")].submitted
    given = refused().message
    assert b"".join(pieces_of(order.message.content)) == CONTENT
    assert isinstance(order.message.content, bytes) == (memory_octets > 10)
    assert replace(order.message, content=b"") == replace(given, content=b"")
    assert order.attempt == 2
    assert list((store.path / "tmp").iterdir()) == []


async def test_a_message_that_came_by_smtp_keeps_its_envelope_recipients(store: QuarantineStore) -> None:
    place = Place(store, "hop")
    given = refused()
    message = replace(given.message, envelope_recipients=("a@x", "b@x"))
    name = store._put(message, given.record, given.deliveries)
    place.says("hop", OK)
    assert (await place.retry(store.get(name))).removed
    (order,) = place.to[DestinationName("hop")].submitted
    assert order.message.envelope_recipients == ("a@x", "b@x")


async def test_who_has_accepted_is_not_asked_again(store: QuarantineStore) -> None:
    place = Place(store, "hop", "vault")
    stored = place.put(hops=("hop", "vault"))
    place.says("hop", OK, NO)
    place.says("vault", NO, OK)
    retried = await place.retry(stored)
    assert (retried.removed, answers(retried)) == (False, {"hop": Answer.ACCEPTED, "vault": Answer.REFUSED})
    assert [row.destination for row in retried.accepted] == ["hop"]
    stored = store.get(stored.name)
    assert states(stored) == {"hop": DeliveryState.ACCEPTED, "vault": DeliveryState.REJECTED}
    retried = await place.retry(stored)
    assert (retried.removed, answers(retried)) == (True, {"vault": Answer.ACCEPTED})
    assert [row.destination for row in retried.accepted] == ["hop", "vault"]
    assert place.asked() == ["submit hop uid-1", "submit vault uid-1", "submit vault uid-1"]


async def test_recipients_who_have_accepted_are_not_asked_again(store: QuarantineStore) -> None:
    place = Place(store, "hop")
    given = refused()
    some = delivery(accepted_recipients=("a@x",), refused_recipients=("b@x",))
    name = store._put(given.message, given.record, (some,))
    partly = DeliveryReport(Deferred(Scope.RECIPIENT, "RCPT <c@x>: 450"), ("b@x",), ("d@x",))
    place.says("hop", partly, OK)
    assert answers(await place.retry(store.get(name))) == {"hop": Answer.DEFERRED}
    entry = store.get(name).entry
    assert entry is not None
    (row,) = entry.deliveries
    assert (row.state, row.accepted_recipients, row.refused_recipients) == (
        DeliveryState.DEFERRED, ("a@x", "b@x"), ("d@x",),
    )  # fmt: skip
    assert (await place.retry(store.get(name))).removed
    settled = [order.settled_recipients for order in place.to[DestinationName("hop")].submitted]
    assert settled == [{"a@x"}, {"a@x", "b@x"}]


async def test_one_destination_alone(store: QuarantineStore) -> None:
    place = Place(store, "hop", "vault")
    stored = place.put(hops=("hop", "vault"))
    retried = await place.retry(stored, "vault")
    assert (retried.removed, answers(retried)) == (False, {"vault": Answer.ACCEPTED})
    stored = store.get(stored.name)
    assert states(stored) == {"hop": DeliveryState.REJECTED, "vault": DeliveryState.ACCEPTED}
    assert (await place.retry(stored, "vault")).problem == "vault has accepted it"
    assert (await place.retry(stored, "office")).problem == "it was never meant for office"
    assert (await place.retry(stored, "hop")).removed


async def test_a_refusal_is_written_down(store: QuarantineStore) -> None:
    place = Place(store, "hop")
    stored = place.put()
    place.says("hop", NO)
    retried = await place.retry(stored)
    assert (retried.removed, retried.accepted) == (False, ())
    entry = store.get(stored.name).entry
    assert entry is not None
    assert (entry.deliveries[0].error, entry.deliveries[0].attempts) == (
        "end of data: 554 5.7.1 still not",
        2,
    )


async def test_a_failure_of_the_route_touches_no_message_and_is_met_once(store: QuarantineStore) -> None:
    place = Place(store, "hop")
    first, second = place.put(), place.put(number=2)
    place.says("hop", DOWN)
    redelivery = place.redelivery()
    retried = [await redelivery.retry(stored) for stored in (first, second)]
    assert [answers(each) for each in retried] == [{"hop": Answer.NOT_REACHED}] * 2
    assert "cannot connect" in retried[1].answers[0].words
    assert place.asked() == ["submit hop uid-1"]
    assert store.get(first.name) == first
    assert store.get(second.name) == second


@pytest.mark.parametrize("failure", ["in doubt", "in its transaction"])
async def test_one_at_which_the_next_hop_hangs_up_does_not_hold_up_the_others(
    store: QuarantineStore, failure: str
) -> None:
    hung_up = DOUBT
    if failure != "in doubt":
        hung_up = DeliveryReport(Deferred(Scope.NEXT_HOP, "MAIL: 421 4.7.1 no", in_transaction=True))
    place = Place(store, "hop")
    stored = [place.put(number=number) for number in range(1, 6)]
    for number in (1, 3, 4):
        place.says("hop", hung_up, number=number)
    redelivery = place.redelivery()
    removed = [(await redelivery.retry(each)).removed for each in stored]
    assert removed == [False, True, False, False, False]
    assert len(place.asked()) == 4, "after two in a row the next hop is left alone"


async def test_a_message_in_doubt_is_marked(store: QuarantineStore) -> None:
    place = Place(store, "hop")
    stored = place.put()
    place.says("hop", DOUBT)
    assert answers(await place.retry(stored)) == {"hop": Answer.IN_DOUBT}
    assert states(store.get(stored.name)) == {"hop": DeliveryState.IN_DOUBT}
    assert (await place.retry(store.get(stored.name))).removed


async def test_a_temporary_refusal_keeps_the_message(store: QuarantineStore) -> None:
    place = Place(store, "hop")
    stored = place.put()
    place.says("hop", NOT_NOW)
    assert answers(await place.retry(stored)) == {"hop": Answer.DEFERRED}
    assert states(store.get(stored.name)) == {"hop": DeliveryState.DEFERRED}


async def test_a_destination_that_is_configured_no_more_is_told(store: QuarantineStore) -> None:
    place = Place(store, "hop")
    stored = place.put(hops=("old", "hop"))
    retried = await place.retry(stored)
    assert (retried.removed, answers(retried)) == (False, {"old": Answer.UNKNOWN, "hop": Answer.ACCEPTED})


# --- what cannot be delivered ---------------------------------------------------------------


async def test_octets_that_somebody_has_changed_are_not_delivered(store: QuarantineStore) -> None:
    place = Place(store, "hop")
    stored = place.put()
    assert stored.path is not None
    stored.path.write_bytes(CONTENT[:-1])
    assert "not those that were fetched" in (await place.retry(store.get(stored.name))).problem
    stored.path.unlink()
    assert "gone" in (await place.retry(store.get(stored.name))).problem
    assert "not there any more" in (await place.retry(stored)).problem  # taken away since it was listed
    assert place.asked() == []


async def test_without_its_reason_nothing_is_delivered_or_removed(store: QuarantineStore) -> None:
    place = Place(store, "hop")
    stored = place.put()
    (store.path / "reasons" / f"{stored.name}.json").write_bytes(b"{}")
    assert "damaged" in (await place.retry(store.get(stored.name))).problem
    given = refused(number=2)
    none = store.get(store._put(given.message, given.record, ()))
    assert (await place.retry(none)).problem == "no destination is named in its reason"
    assert place.asked() == []
    assert store.count() == 2


async def until_asked(hop: FakeDestination) -> None:
    for _ in range(5000):
        if hop.held:
            return
        await asyncio.sleep(0.001)
    raise AssertionError("nothing was asked")


# --- crashes --------------------------------------------------------------------------------


async def test_the_acceptance_is_synced_before_anything_else_happens(store: QuarantineStore) -> None:
    """At the very return of the callback that brings it."""
    place = Place(store, "hop", "vault")
    stored = place.put(hops=("hop", "vault"))
    hop = place.to[DestinationName("hop")]
    hop.when = "held"
    retrying = asyncio.create_task(place.retry(stored))
    await until_asked(hop)
    hop.answer(OK)
    assert states(store.get(stored.name)) == {"hop": DeliveryState.ACCEPTED, "vault": DeliveryState.REJECTED}
    await retrying


async def test_an_answer_after_an_interruption_is_written_down_too(store: QuarantineStore) -> None:
    place = Place(store, "hop")
    stored = place.put()
    hop = place.to[DestinationName("hop")]
    hop.when = "held"
    retrying = asyncio.create_task(place.retry(stored))
    await until_asked(hop)
    retrying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await retrying
    hop.answer(OK)  # while the destinations finish their work
    assert states(store.get(stored.name)) == {"hop": DeliveryState.ACCEPTED}
    hop.when = "soon"
    retried = await place.retry(store.get(stored.name))
    assert (retried.removed, retried.answers) == (True, ())
    assert [row.destination for row in retried.accepted] == ["hop"]  # the ledger may not know yet
    assert place.asked() == ["submit hop uid-1"]


def test_killed_at_any_step_it_doubles_nothing_but_in_the_one_gap(store: QuarantineStore) -> None:
    """The gap: from the 250 to the end of the write that notes it."""
    doubled = []
    for step in range(1, 100):
        place = Place(store, "hop", "vault")
        stored = place.put(hops=("hop", "vault"))
        with pytest.MonkeyPatch.context() as patch:
            system = System(patch)
            system.die_at = step
            alive = survived(place, stored)
        for left in store.all():
            if left.path is None:  # died between the two removals: nothing to deliver any more
                store.remove(left)
            else:
                assert asyncio.run(place.retry(left)).removed
        asked = place.asked()
        assert {"submit hop uid-1", "submit vault uid-1"} == set(asked)
        doubled.append(len(asked) - 2)
        assert store.all() == []
        if alive:
            break
    assert step > 15
    assert max(doubled) == 1
    # Two destinations, one write of a few calls for each: open, write, fsync, rename of the file.
    assert sum(doubled) <= 2 * 5


def survived(place: Place, stored: StoredMessage) -> bool:
    try:
        asyncio.run(place.retry(stored))
    except Killed:
        return False
    return True


async def test_what_cannot_be_written_down_ends_the_command(
    store: QuarantineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(store, "hop", "vault")
    stored = place.put(hops=("hop", "vault"))
    monkeypatch.setattr(store, "save_reason", full)
    with pytest.raises(QuarantineError, match=r"hop has accepted .*would double it there: .*No space"):
        await place.retry(stored)
    assert place.asked() == ["submit hop uid-1"]  # not one destination more
    assert store.get(stored.name).path is not None


async def test_a_full_disk_does_not_double_what_everybody_has(
    store: QuarantineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(store, "hop")
    stored = place.put()
    monkeypatch.setattr(store, "save_reason", full)
    assert (await place.retry(stored)).removed  # to delete needs no room
    assert store.all() == []


def full(entry: object) -> None:
    raise QuarantineError(os.strerror(errno.ENOSPC))


async def test_what_cannot_be_removed_is_told_and_not_delivered_again(
    store: QuarantineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(store, "hop")
    stored = place.put()

    def stuck(_stored: object) -> None:
        raise QuarantineError("cannot be removed")

    with monkeypatch.context() as patch:
        patch.setattr(store, "remove", stuck)
        with pytest.raises(QuarantineError, match="cannot be removed"):
            await place.retry(stored)
    assert (await place.retry(store.get(stored.name))).removed
    assert place.asked() == ["submit hop uid-1"]
    assert REFUSAL not in [each.error for each in (await place.retry(stored)).accepted]
