"""Whatever is listed, known and configured, a plan keeps the promises that lose no mail."""

from __future__ import annotations

from dataclasses import dataclass

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
from mailferry.policy.plan import (
    Identified,
    Oversize,
    Plan,
    PlanRules,
    Retention,
    make_plan,
    settled_state,
)

NOW = 1000.0
NAMES = tuple(DestinationName(name) for name in "abc")
UIDLS = tuple(Uidl(b"u%d" % n) for n in range(6))
times = st.sampled_from([0.0, NOW - 50, NOW, NOW + 50])
retentions = st.sampled_from([Retention(0.0), Retention(None), Retention(40.0), Retention(200.0)])


@dataclass(frozen=True)
class World:
    messages: list[ListedMessage]
    known: dict[Uidl, KnownMessage]
    rules: PlanRules

    @property
    def clear(self) -> list[Identified]:
        """Those with a unique-id of their own."""
        uidls = [message.uidl for message in self.messages]
        return [Identified(m, m.uidl) for m in self.messages if m.uidl and uidls.count(m.uidl) == 1]

    def plan(self) -> Plan:
        clear = self.clear
        numbers = {message.listed.message_number for message in clear}
        unclear = [message for message in self.messages if message.message_number not in numbers]
        return make_plan(clear, unclear, self.known, self.rules, NOW)


@st.composite
def deliveries(draw: st.DrawFn, number: int) -> tuple[DeliveryRecord, ...]:
    names = draw(st.sets(st.sampled_from(NAMES)))
    return tuple(
        DeliveryRecord(
            MessageId(number), name, draw(st.sampled_from(list(DeliveryState))), 1, draw(times), NOW
        )
        for name in sorted(names)
    )


@st.composite
def knowns(draw: st.DrawFn, number: int, rules: PlanRules) -> KnownMessage:
    """A row as the program writes them: the state follows from the deliveries, or is a special one."""
    rows = draw(deliveries(number))
    state = settled_state(rows, rules.destinations, draw(retentions))
    if draw(st.booleans()):
        state = draw(st.sampled_from([MessageState.SKIPPED, MessageState.REJECTED, MessageState.DEFERRED]))
    record = MessageRecord(
        MessageId(number), MaildropName("m"), UIDLS[number], state, 5, 0.0, NOW - 60,
        next_fetch_at=draw(times), accepted_at=draw(st.none() | times),
    )  # fmt: skip
    return KnownMessage(record, rows)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    names = tuple(sorted(draw(st.sets(st.sampled_from(NAMES), min_size=1))))
    rules = PlanRules(
        destinations=names,
        available=frozenset(draw(st.sets(st.sampled_from(names)))),
        retention=draw(retentions),
        max_size_octets=draw(st.sampled_from([0, 10])),
        oversize=draw(st.sampled_from(list(Oversize))),
    )
    sizes = st.sampled_from([1, 10, 11])
    uidls = draw(st.lists(st.none() | st.sampled_from(UIDLS), max_size=8))
    messages = [ListedMessage(n, draw(sizes), uidl) for n, uidl in enumerate(uidls, 1)]
    there = draw(st.sets(st.integers(0, len(UIDLS) - 1)))
    return World(messages, {UIDLS[n]: draw(knowns(n, rules)) for n in sorted(there)}, rules)


@given(worlds())
@settings(max_examples=120, deadline=None)
def test_a_plan_keeps_the_promises(world: World) -> None:
    plan = world.plan()
    rules = world.rules
    for order in plan.delete:
        rows = {d.destination: d.state for d in order.known.deliveries}
        assert all(rows.get(name) is DeliveryState.ACCEPTED for name in rules.destinations)
        assert order.known.message.state in (MessageState.ACCEPTED, MessageState.DELETE_PENDING)
        assert rules.retention.keep_seconds is not None
    fetched = [order.listed.message_number for order in plan.fetch]
    deleted = [order.listed.message_number for order in plan.delete]
    skipped = [message.listed.message_number for message in plan.skip]
    touched = fetched + deleted + skipped
    assert len(set(touched)) == len(touched), "a message is in two orders"
    for fetch in plan.fetch:
        assert fetch.destinations
        assert set(fetch.destinations) <= rules.available & set(rules.destinations)
        too_large = 0 < rules.max_size_octets < fetch.listed.size_octets
        assert fetch.header_only == too_large
        assert not (too_large and rules.oversize is Oversize.SKIP)
        if fetch.known is not None and not fetch.header_only:
            accepted = {d.destination for d in fetch.known.deliveries if d.state is DeliveryState.ACCEPTED}
            assert not accepted.intersection(fetch.destinations), "delivered to one who has it"


@given(worlds())
@settings(max_examples=60, deadline=None)
def test_every_listed_message_is_in_one_order_or_waits_or_is_kept(world: World) -> None:
    plan = world.plan()
    done = (MessageState.ACCEPTED, MessageState.DELETE_PENDING)
    at_goal = sum(
        1 for m in world.clear if m.uidl in world.known and world.known[m.uidl].message.state in done
    )
    assert plan.waiting == len(world.messages) - at_goal
