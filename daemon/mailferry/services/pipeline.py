"""Messages on their way from one POP3 session to their destinations.

Per message: RETR -> destinations -> row synced -> DELE. Several messages are on
the way at once, so that delivery of one overlaps the download of the next; how
many is bounded by `prefetch` and by the memory budget that all maildrops share.

It works by callbacks rather than a task per message: what one chunk of the peer
brought is handled in one go, and rows share a commit.

The order that must never change (RFC 1939 s.6, RFC 5321 s.6.1, RFC 1047):
`Ledger.note` directly after the acceptance, so that the death of the process
cannot forget it; DELE only once the ledger has synced that every destination
accepted; `gone` only after QUIT was answered with +OK.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from mailferry.errors import StoreError
from mailferry.model import (
    Content,
    Deferred,
    DeliveryRecord,
    DeliveryReport,
    DestinationName,
    LedgerRecord,
    MessageId,
    MessageRecord,
    MessageState,
    PermanentFailure,
    Scope,
    Uidl,
)
from mailferry.policy.plan import FetchOrder, due_destinations
from mailferry.ports import MaildropSession
from mailferry.services.arrival import failed_record, make_parcel
from mailferry.services.context import MaildropPolicy, Surroundings
from mailferry.services.deletions import Deletions
from mailferry.services.handover import hand_over
from mailferry.services.parcel import Parcel
from mailferry.services.quarantine import Quarantining, refusals
from mailferry.services.recognition import Recognition
from mailferry.services.story import Story

_bugs = logging.getLogger("mailferry.bugs")

_BROKEN_OFF = DeliveryReport(Deferred(Scope.NEXT_HOP, "the ledger cannot be written", attempted=False))

_DONE = (MessageState.ACCEPTED, MessageState.DELETE_PENDING)


@dataclass(slots=True)
class Tally:
    """What one poll did, counted in messages.

    Attributes:
        relayed: every destination has accepted.
        deferred: some destination has not, or was not reached.
        rejected: some destination refused for good.
        recognised: fetched, and found to have been accepted everywhere before.
        renamed: fetched, and found to be known under another unique-id.
        quarantined: of the rejected ones, those that lie in the quarantine now.
        settled: messages that wait no more.
        deferred_since: of those that still wait, when each was first tried.
    """

    relayed: int = 0
    deferred: int = 0
    rejected: int = 0
    recognised: int = 0
    renamed: int = 0
    quarantined: int = 0
    settled: set[MessageId] = field(default_factory=set)
    deferred_since: dict[MessageId, float] = field(default_factory=dict)


class Pipeline:
    """Carries out the fetch orders of one poll."""

    def __init__(
        self,
        policy: MaildropPolicy,
        surroundings: Surroundings,
        session: MaildropSession,
        deletions: Deletions,
        story: Story,
    ) -> None:
        self.tally = Tally()
        self.failure: Exception | None = None
        """Why nothing more may be relayed: a row could not be written."""
        self._policy = policy
        self._around = surroundings
        self._session = session
        self._deletions = deletions
        self._story = story
        self._quarantining = Quarantining(policy, surroundings, story.poll_id)
        self._recognition: Recognition | None = None
        # Asked for one by one, each message costs a write, a reading and an answer of the server's own:
        # a sixth of all CPU time of a drain. A little of the prefetch is given for that.
        self._asked_at_once = max(1, policy.prefetch // 8)
        self._orders: deque[FetchOrder] = deque()
        self._asked_budget_for: FetchOrder | None = None
        self._in_flight = 0
        self._fetching = 0
        self._open_steps = 0
        self._blamed = False
        self._stopped = False
        self._moved_at = 0.0
        self._finished = asyncio.Event()

    @property
    def finished(self) -> bool:
        """Whether every order has come to its end."""
        return self._finished.is_set()

    @property
    def waits_for_others(self) -> bool:
        """Whether the POP3 session has nothing to do until a destination or the ledger answers."""
        return not self._fetching and self._asked_budget_for is None

    @property
    def moved_at(self) -> float:
        """When something last happened to a message (the loop's clock)."""
        return self._moved_at

    def start(self, orders: Sequence[FetchOrder], recognition: Recognition) -> None:
        """Begin; `recognition` knows messages by their content."""
        self._recognition = recognition
        if not self._stopped:
            self._orders.extend(orders)
        self._moved()
        self._pump()
        self._check_finished()

    def stop(self) -> None:
        """Fetch nothing more; what is on its way is finished."""
        self._stopped = True
        self._fetch_no_more()
        self._check_finished()

    async def wait_finished(self) -> None:
        """Wait until every order has come to its end, well or not."""
        await self._finished.wait()

    # Fetching

    def _pump(self) -> None:
        if self._session.failure is not None:
            self._fetch_no_more()
        if self._policy.prefetch - self._in_flight < self._asked_at_once:
            return  # more places come free: ask for several at once
        while self._orders and self._asked_budget_for is None and self._has_place_for(self._orders[0]):
            order = self._orders.popleft()
            if not self._has_open_way(order):
                continue  # its routes went down meanwhile: leave it on the server
            if self._around.budget.take(self._share_of(order), self._granted):
                self._fetch(order)
            else:
                self._asked_budget_for = order

    def _has_place_for(self, order: FetchOrder) -> bool:
        """Whether it may be fetched beside what is in flight; those that go alone come last."""
        alone = order.alone or self._is_probe(order)
        return self._in_flight < (1 if alone else self._policy.prefetch)

    def _is_probe(self, order: FetchOrder) -> bool:
        """Whether every way for it took no mail lately: then one message must do to see."""
        destinations = self._around.destinations
        return bool(order.destinations) and all(destinations[name].half_open for name in order.destinations)

    def _has_open_way(self, order: FetchOrder) -> bool:
        """Whether a destination can take it now; the quarantine always can."""
        destinations = self._around.destinations
        return not order.destinations or any(destinations[name].available for name in order.destinations)

    def _granted(self) -> None:
        order, self._asked_budget_for = self._asked_budget_for, None
        assert order is not None  # who loses interest withdraws the demand
        self._fetch(order)
        self._pump()

    def _fetch_no_more(self) -> None:
        self._orders.clear()
        if self._asked_budget_for is not None:
            self._asked_budget_for = None
            self._around.budget.withdraw(self._granted)

    def _fetch(self, order: FetchOrder) -> None:
        self._in_flight += 1
        if self._session.failure is not None:  # it died while nothing was asked of it: nobody is to blame
            self._release(order)
            self._check_finished()
            return
        self._fetching += 1
        self._open_steps += 1
        ask = self._session.top if order.header_only else self._session.retrieve
        ask(order.listed, partial(self._fetched, order))

    def _fetched(self, order: FetchOrder, octets: Content | None, why: str) -> None:
        self._fetching -= 1
        self._moved()
        if octets == b"" and order.listed.size_octets > 0:
            # To relay that, and delete the message, would be to lose it.
            octets, why = None, f"handed over empty, though listed with {order.listed.size_octets} octets"
        if octets is None:
            self._not_fetched(order, why)
        elif self.failure is not None:
            self._release(order)  # its receipt could not be kept
        else:
            self._arrived(order, octets)
        self._step_done()

    def _arrived(self, order: FetchOrder, octets: Content) -> None:
        parcel: Parcel | None = None
        try:
            wanted = self._recognise(order, octets)
            if wanted is not None and wanted.uidl is not None:
                order = wanted
                protected = self._session.traits.protected
                parcel = make_parcel(
                    order, wanted.uidl, octets, self._policy, self._around, protected=protected
                )
        except OSError as error:  # of the file that it lies in
            self._put_off(order, f"cannot be read from the spool: {error.strerror or error}")
        except Exception as error:  # noqa: BLE001  one message that trips a bug must not hold up the others
            _bugs.exception("message %d of %s", order.listed.message_number, self._policy.maildrop)
            self._put_off(order, f"internal error: {error!r}")
        if parcel is None:
            self._release(order)
        else:
            self._send_on(parcel, order)

    def _recognise(self, order: FetchOrder, octets: Content) -> FetchOrder | None:
        """Return the order with what the content tells of it; None if there is nothing to deliver."""
        recognition = self._recognition
        assert recognition is not None  # nothing is fetched before the start
        if not recognition.concerns(order):
            return order
        found, former = recognition.recognise(order, octets)
        known = found.known
        if former is None or known is None:
            return found
        rows = [known.message]
        if order.known is not None:  # a row that only counts failures to fetch it under this unique-id
            updated_at = known.message.updated_at
            rows.append(replace(order.known.message, state=MessageState.GONE, updated_at=updated_at))
        self._commit(rows, partial(self._recognised, found, known.message, former))
        self.tally.renamed += order.uidl is not None
        self.tally.recognised += known.message.state in _DONE
        if known.message.state is not MessageState.DEFERRED:
            return None
        due = due_destinations(known.deliveries, order.destinations, self._around.clock())
        return replace(found, destinations=due) if due else None

    def _recognised(self, order: FetchOrder, message: MessageRecord, former: Uidl) -> None:
        self._story.recognised(message.uidl, former)
        accepted_at = message.accepted_at or message.updated_at
        now = self._around.clock()
        retention = self._around.in_force(self._policy.retention)
        if message.state in _DONE and self.failure is None and retention.is_over(accepted_at, now):
            self._open_steps += 1
            self._deletions.mark(message, order.listed.message_number, self._step_done)

    def _not_fetched(self, order: FetchOrder, why: str) -> None:
        """The server refused, or the session died: blame the message that was being handed over."""
        if why:
            self._put_off(order, why)
        else:
            self._fetch_no_more()
            if not self._blamed and not self._stopped:
                self._blamed = True
                self._put_off(order, str(self._session.failure or "the session ended"))
        self._release(order)

    def _put_off(self, order: FetchOrder, why: str) -> None:
        """Write down that a message could not be had; it comes last, and after a pause."""
        if order.uidl is None:  # no row without an identity
            assert self._recognition is not None  # nothing is fetched before the start
            trouble = self._recognition.blame(order.listed)
            self._story.fetch_failed_unidentified(order.listed, why, trouble)
            return
        record = failed_record(order, order.uidl, why, self._policy, self._around)
        self._commit([record], lambda: self._story.fetch_failed(record))

    # Delivering

    def _send_on(self, parcel: Parcel, order: FetchOrder) -> None:
        # The list may have lied about the size: the budget counts what there is.
        parcel.budget_octets = self._around.budget.share_of_content(parcel.message.content)
        self._around.budget.give_back(self._share_of(order) - parcel.budget_octets)
        for name in order.destinations:
            self._open_steps += 1
            reported = partial(self._reported, parcel, name)
            if self.failure is not None:
                reported(_BROKEN_OFF)
            elif parcel.loop is not None:
                reported(DeliveryReport(PermanentFailure(Scope.MESSAGE, parcel.loop)))
            else:
                hand_over(self._around.destinations[name], parcel.delivery_for(name, reported))
        if not order.destinations:
            self._finish_parcel(parcel)

    def _reported(self, parcel: Parcel, name: DestinationName, report: DeliveryReport) -> None:
        self._moved()
        try:
            self._write_down(parcel, name, report)
        except Exception as error:  # noqa: BLE001  the caller is another room's machine, and not to blame
            _bugs.exception("report of %s on message %s", name, parcel.message.message_id)
            self._break_off(error)
        self._finish_parcel(parcel)
        self._step_done()

    def _write_down(self, parcel: Parcel, name: DestinationName, report: DeliveryReport) -> None:
        now = self._around.clock()
        delivery = parcel.take_report(name, report, now, self._around.chance())
        if delivery is None:
            return
        record = parcel.settle(self._policy, now)
        rows: list[LedgerRecord] = [record, delivery]
        try:
            self._around.ledger.note(rows)
        except StoreError as error:
            self._break_off(error)  # the commit below is still tried
        self._commit(rows, partial(self._recorded, parcel, record, delivery))

    def _recorded(self, parcel: Parcel, record: MessageRecord, delivery: DeliveryRecord) -> None:
        self._story.delivery(parcel.message, delivery, record.first_seen_at)
        # `record` is the row that has been synced; the parcel may be ahead of it. After
        # a failure nothing is marked: another destination's row may be the missing one.
        if record.state is MessageState.DELETE_PENDING and self.failure is None:
            self._open_steps += 1
            self._deletions.mark(record, parcel.listed.message_number, self._step_done)

    def _finish_parcel(self, parcel: Parcel) -> None:
        if parcel.under_way:
            return
        if self.failure is None and self._quarantining.wants(parcel.record):
            self._open_steps += 1
            self._quarantining.begin(parcel, partial(self._confined, parcel))
        else:
            self._let_go(parcel)

    def _confined(self, parcel: Parcel, record: MessageRecord, entry: str) -> None:
        """The quarantine has it, or could not take it: write that down."""
        self._moved()
        parcel.record = record
        self._commit([record], partial(self._confinement_recorded, parcel, record, entry))
        self._let_go(parcel)
        self._step_done()

    def _confinement_recorded(self, parcel: Parcel, record: MessageRecord, entry: str) -> None:
        if not entry:
            return
        self.tally.quarantined += 1
        self._story.quarantined(parcel.message, entry, refusals(parcel))
        if record.state is MessageState.DELETE_PENDING and self.failure is None:
            self._open_steps += 1
            self._deletions.mark(record, parcel.listed.message_number, self._step_done)

    def _let_go(self, parcel: Parcel) -> None:
        self._count(parcel)
        self._in_flight -= 1
        self._around.budget.give_back(parcel.budget_octets)
        self._pump()

    def _count(self, parcel: Parcel) -> None:
        state = parcel.record.state
        if state is MessageState.DEFERRED:
            self.tally.deferred += 1
            self.tally.deferred_since[parcel.record.message_id] = parcel.record.first_seen_at
            return
        self.tally.settled.add(parcel.record.message_id)
        if state is MessageState.REJECTED or (state in _DONE and parcel.refused):
            self.tally.rejected += 1
        elif state in _DONE:
            self.tally.relayed += 1

    # Rows

    def _commit(self, rows: Sequence[LedgerRecord], then: Callable[[], None]) -> None:
        self._open_steps += 1

        def done(error: Exception | None) -> None:
            if error is None:
                then()
            else:
                self._break_off(error)
            self._step_done()

        try:
            self._around.ledger.commit(rows, done)
        except StoreError as error:
            done(error)

    def _break_off(self, error: Exception) -> None:
        if self.failure is None:
            self.failure = error
        self._fetch_no_more()

    # The end

    def _release(self, order: FetchOrder) -> None:
        self._in_flight -= 1
        self._around.budget.give_back(self._share_of(order))
        self._pump()

    def _share_of(self, order: FetchOrder) -> int:
        """Return what an order takes of the budget while nothing but the list tells its size."""
        return (
            16 * 1024 if order.header_only else self._around.budget.share_of(max(order.listed.size_octets, 1))
        )

    def _moved(self) -> None:
        self._moved_at = asyncio.get_running_loop().time()

    def _step_done(self) -> None:
        self._open_steps -= 1
        self._check_finished()

    def _check_finished(self) -> None:
        if self._open_steps == 0 and not self._orders and self._asked_budget_for is None:
            self._finished.set()
