"""Whatever a server does with its unique-ids, the guard swallows no new mail and doubles no old."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Collection, Generator
from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

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
from mailferry.policy.fingerprint import Fingerprint
from mailferry.policy.plan import FetchOrder, identity_from_digest
from mailferry.policy.uidl_guard import Abilities, Look, Seen, UidlGuard, Verdict
from mailferry.policy.vanishing import Circumstances

NOW = 1_000_000.0
OFFICE = DestinationName("office")
CIRCUMSTANCES = Circumstances((OFFICE,), NOW)


@dataclass(frozen=True)
class Mail:
    """A message as it is: two are the same if header and body are."""

    header: int
    body: int
    traced: bool

    @property
    def size(self) -> int:
        return 10 + 8 * self.header + 2 * self.body + self.traced  # an honest size tells all apart

    def fingerprint(self, *, whole: bool) -> Fingerprint:
        header = b"h%d%d" % (self.header, self.traced)
        return Fingerprint(header, self.traced, header + b"b%d" % self.body if whole else b"")


@st.composite
def mail(draw: st.DrawFn) -> Mail:
    traced = draw(st.booleans())
    header = draw(st.integers(0, 4))
    # What has a Received field has a header of its own: one body belongs to it.
    return Mail(header, header if traced else draw(st.integers(0, 3)), traced)


@dataclass(frozen=True)
class World:
    there: list[Mail]
    listed: list[ListedMessage]
    known: dict[Uidl, KnownMessage]
    originals: dict[MessageId, Mail]
    abilities: Abilities

    def mail_of(self, message: ListedMessage) -> Mail:
        return self.there[message.message_number - 1]


STATES = [state for state in MessageState if state not in (MessageState.GONE, MessageState.SKIPPED)]
UIDLS = [Uidl(b"u%d" % n) for n in range(8)]


def row(number: int, uidl: Uidl, original: Mail, state: MessageState) -> KnownMessage:
    seen = original.fingerprint(whole=True)
    record = MessageRecord(
        MessageId(number), MaildropName("m"), uidl, state, original.size, 0.0, NOW - 60,
        header_digest=seen.header, content_digest=seen.content, accepted_at=NOW - 60,
    )  # fmt: skip
    delivery = DeliveryRecord(MessageId(number), OFFICE, DeliveryState.ACCEPTED, 1, 0.0, NOW - 60)
    return KnownMessage(record, (delivery,))


@st.composite
def worlds(draw: st.DrawFn, *, lies: bool = False) -> World:
    """Some mail that was delivered before, and a maildrop that has some of it, and new mail."""
    old = draw(st.lists(mail(), max_size=7))
    names = draw(st.permutations(UIDLS))
    known: dict[Uidl, KnownMessage] = {}
    for number, original in enumerate(old):
        made = draw(st.booleans()) and draw(st.booleans())
        seen = original.fingerprint(whole=True)
        uidl = identity_from_digest(seen.header, 100 + number) if made else names[number]
        known[uidl] = row(number, uidl, original, draw(st.sampled_from(STATES)))
    kept = [m for m in old if draw(st.booleans())]
    there = draw(st.permutations([*kept, *draw(st.lists(mail(), max_size=4))]))
    uidls: list[Uidl | None] = draw(
        st.lists(st.none() | st.sampled_from(UIDLS), min_size=len(there), max_size=len(there))
    )
    if draw(st.booleans()):  # most servers are not that bad
        some: list[Uidl | None] = [*UIDLS, *(Uidl(b"n%d" % n) for n in range(8))]
        uidls = draw(st.permutations(some))[: len(there)]
    listed = [
        ListedMessage(n, draw(st.integers(10, 16)) if lies else m.size, uidl)
        for n, (m, uidl) in enumerate(zip(there, uidls, strict=True), 1)
    ]
    avoid = draw(st.sets(st.integers(1, len(there) + 1))) if lies else set()
    limit = draw(st.sampled_from([0, 13])) if lies else 0
    originals = {MessageId(number): original for number, original in enumerate(old)}
    return World(there, listed, known, originals, Abilities(draw(st.booleans()), limit, avoid))


def run(world: World, failing: Collection[int] = ()) -> tuple[UidlGuard, Verdict, list[Look]]:
    guard = UidlGuard(world.listed, world.known, world.abilities)
    asked: list[Look] = []

    def answers(steps: Generator[list[Look], Seen, None]) -> None:
        seen: Seen | None = None
        while True:
            looks = next(steps) if seen is None else steps.send(seen)
            asked.extend(looks)
            seen = {
                look.listed.message_number: world.mail_of(look.listed).fingerprint(whole=look.whole)
                for look in looks
                if look.listed.message_number not in failing
            }

    with contextlib.suppress(StopIteration):
        answers(guard.judge())
    return guard, guard.verdict(CIRCUMSTANCES), asked


def found(world: World, verdict: Verdict) -> list[tuple[ListedMessage, KnownMessage]]:
    """Listed messages that are taken for known ones."""
    return [(m.listed, verdict.known[m.uidl]) for m in verdict.identified if m.uidl in verdict.known]


@given(worlds(lies=True), st.sets(st.integers(1, 12)))
@settings(max_examples=80, deadline=None)
def test_nothing_is_decided_twice_whatever_is_listed_or_fails(world: World, failing: set[int]) -> None:
    _, verdict, _ = run(world, failing)
    numbers = [m.listed.message_number for m in verdict.identified]
    numbers += [m.message_number for m in (*verdict.unidentified, *verdict.held)]
    assert sorted(numbers) == [m.message_number for m in world.listed], "a message lost, or in two places"
    assert len({m.uidl for m in verdict.identified}) == len(verdict.identified), "an identity given twice"
    rows = [entry.message.message_id for _, entry in found(world, verdict)]
    assert len(set(rows)) == len(rows), "a row claimed twice"
    written = [record.message_id for record in (*verdict.adopted, *verdict.vanished)]
    assert len(set(written)) == len(written), "a row written twice"


@given(worlds(lies=True), st.sets(st.integers(1, 12)))
@settings(max_examples=80, deadline=None)
def test_the_rows_fit_into_the_ledger(world: World, failing: set[int]) -> None:
    """Once the adopted rows are written, no two that live have one unique-id, nor one of a new message."""
    _, verdict, _ = run(world, failing)
    rows = {entry.message.message_id: entry.message for entry in world.known.values()}
    rows |= {record.message_id: record for record in verdict.adopted}
    live = {number: record for number, record in rows.items() if record.state is not MessageState.GONE}
    assert len({record.uidl for record in live.values()}) == len(live)
    placed = {entry.message.uidl: entry.message for _, entry in found(world, verdict)}
    for message in verdict.identified:
        holder = next((record for record in live.values() if record.uidl == message.uidl), None)
        assert holder == placed.get(message.uidl), "a new message has the unique-id of a row that lives"


@given(worlds(lies=True), st.sets(st.integers(1, 12)))
@settings(max_examples=80, deadline=None)
def test_new_mail_is_never_swallowed(world: World, failing: set[int]) -> None:
    """Who is taken for a known message is that message, or has its unique-id and its size."""
    _, verdict, asked = run(world, failing)
    looked_at = {look.listed.message_number for look in asked}
    for listed, entry in found(world, verdict):
        if world.originals[entry.message.message_id] == world.mail_of(listed):
            continue
        former = world.known.get(listed.uidl) if listed.uidl is not None else None
        assert former is not None
        assert former.message.message_id == entry.message.message_id
        assert former.message.size_octets == listed.size_octets
        # Looked at all the same, its header was equal: only then does the size have to do.
        if listed.message_number in looked_at - failing:
            mine, its = world.mail_of(listed), world.originals[entry.message.message_id]
            assert (mine.header, mine.traced) == (its.header, its.traced)


@given(worlds())
@settings(max_examples=150, deadline=None)
def test_old_mail_is_never_doubled_when_all_can_be_seen(world: World) -> None:
    """With honest sizes and a server that answers, exactly the difference is new."""
    _, verdict, _ = run(world)
    assert verdict.held == []
    known_numbers = {listed.message_number for listed, _ in found(world, verdict)}
    new = Counter(world.mail_of(m) for m in world.listed if m.message_number not in known_numbers)
    difference = Counter(world.there) - Counter(world.originals.values())
    assert new == difference


@given(worlds(lies=True), st.sets(st.integers(1, 12)))
@settings(max_examples=60, deadline=None)
def test_on_arrival_the_content_tells_what_is_left(world: World, failing: set[int]) -> None:
    """Of what nobody has looked at, the pipeline finds each row at most once, and only a true one."""
    guard, verdict, _ = run(world, failing)
    taken = [entry.message.message_id for _, entry in found(world, verdict)]
    names = [m.uidl for m in verdict.identified]
    orders = [FetchOrder(m, None, (OFFICE,)) for m in verdict.unidentified]
    orders += [
        FetchOrder(m.listed, m.uidl, (OFFICE,)) for m in verdict.identified if m.uidl not in verdict.known
    ]
    for order in orders:
        mine = world.mail_of(order.listed)
        given_, former = guard.recognise(order, mine.fingerprint(whole=True), CIRCUMSTANCES)
        assert given_.uidl is not None
        if order.uidl is None:
            names.append(given_.uidl)
        if former is not None:
            assert given_.known is not None
            taken.append(given_.known.message.message_id)
            assert world.originals[taken[-1]] == mine
            assert given_.known.message.uidl == given_.uidl
    assert len(set(taken)) == len(taken)
    assert len(set(names)) == len(names)


@given(worlds())
@settings(max_examples=60, deadline=None)
def test_what_was_judged_once_needs_no_second_look(world: World) -> None:
    """The next poll of an unchanged maildrop with usable unique-ids asks for nothing, and changes nothing."""
    _, verdict, _ = run(world)
    uidls = [m.uidl for m in world.listed]
    if None in uidls or len(set(uidls)) < len(uidls):
        return
    rows = {entry.message.message_id: entry for entry in world.known.values()}
    for record in (*verdict.adopted, *verdict.vanished):
        rows[record.message_id] = replace(rows[record.message_id], message=record)
    settled = (MessageState.DELETE_PENDING, MessageState.GONE)
    known = {e.message.uidl: e for e in rows.values() if e.message.state not in settled}
    first_new = len(world.known)
    for number, message in enumerate(verdict.identified, first_new):
        if message.uidl not in known:
            known[message.uidl] = row(
                number, message.uidl, world.mail_of(message.listed), MessageState.ACCEPTED
            )
    made = any(uidl.startswith(b" ") for uidl in known)
    again = replace(world, known=known)
    _, second, asked = run(again)
    assert second.adopted == second.vanished == []
    if not made:
        assert asked == []
