"""One poll of one maildrop, from the connection to the confirmed QUIT."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mailferry.errors import MailferryError, StoreError
from mailferry.events import PollStarted, QuitUnconfirmed
from mailferry.model import KnownMessage, LedgerRecord, MessageId, MessageRecord, MessageState, Uidl
from mailferry.policy.expiry import expires_too_early
from mailferry.policy.plan import (
    Oversize,
    Plan,
    PlanRules,
    Rejected,
    make_plan,
    settled_state,
)
from mailferry.policy.uidl_guard import Verdict
from mailferry.ports import MaildropConnector, MaildropSession
from mailferry.protocol.tracing import poll_in_hand
from mailferry.services.arrival import skipped_record, too_large
from mailferry.services.context import MaildropPolicy, Surroundings
from mailferry.services.deletions import Deletions
from mailferry.services.memory import PollMemory, Troubles
from mailferry.services.pipeline import Pipeline, Tally
from mailferry.services.recognition import Recognition
from mailferry.services.story import Story

LINGER_SECONDS = 30.0
"""How long the POP3 session is held for destinations that say nothing: it locks the
maildrop for its owner. What they accept later is deleted in the next poll."""

QUIT_SECONDS = 2.0
"""How long the answer to a QUIT that confirms nothing is awaited: the place at the server is free by then."""

TOLD_AT_ONCE = 500
"""Recognised messages that are told of before others get their turn: there may be many thousands."""


@dataclass(slots=True)
class PollReport:
    """What a poll found and did, in messages; `failure` is why it ended early, if it did.

    `waiting` counts what is on the server and has not reached its goal; `oldest_waiting_at`
    is when the first of it was first tried, 0 when nothing of it was. `listed` and
    `octets` are of the first session, all else is of both (see `Poll`).
    """

    poll_id: str
    listed: int = 0
    relayed: int = 0
    deferred: int = 0
    rejected: int = 0
    skipped: int = 0
    deleted: int = 0
    waiting: int = 0
    oldest_waiting_at: float = 0.0
    octets: int = 0
    login_delay_seconds: float | None = None
    failure: Exception | None = None


class Poll:
    """One poll; make a new one for each turn.

    What may break its session gets a second one for itself, once the first has ended well:
    otherwise no QUIT would ever confirm the deletions of the others (RFC 1939 s.6).
    """

    def __init__(
        self,
        policy: MaildropPolicy,
        connector: MaildropConnector,
        surroundings: Surroundings,
        memory: PollMemory | None = None,
    ) -> None:
        """Make a poll; `memory` is what the polls of a maildrop share."""
        self.report = PollReport(poll_id=secrets.token_hex(4))
        self.on_session_end: Callable[[], None] = lambda: None
        """Called when the last POP3 session is over; deliveries may still be under way then."""
        self._policy = policy
        self._connector = connector
        self._around = surroundings
        self._story = Story(policy.maildrop, self.report.poll_id, surroundings.emit)
        self._pipeline: Pipeline | None = None
        self._memory = memory if memory is not None else PollMemory()
        self._tallies: list[Tally] = []
        self._renamed = self._unrecognised = 0
        self._waiting_since: dict[MessageId, float] = {}
        self._apart: frozenset[Uidl | None] = frozenset()
        self._comes_again = False
        self._stopping = False

    @property
    def has_mail_in_hand(self) -> bool:
        """Whether messages may be on their way, or marked for deletion."""
        return self._pipeline is not None

    async def run(self) -> PollReport:
        """Poll once. What went wrong is in the report, except for cancellation."""
        poll_in_hand.set(self.report.poll_id)  # of this task alone: each turn has one of its own
        self._around.emit(PollStarted(self._policy.maildrop, self.report.poll_id))
        try:
            await self._visit()
            if self._comes_again and not self._stopping:
                self._comes_again = False
                await self._visit()
        except (MailferryError, OSError) as error:
            self.report.failure = error
        finally:
            self._take_tally()
        return self.report

    def stop(self) -> None:
        """Fetch nothing more, finish what is under way, then quit."""
        self._stopping = True
        if self._pipeline is not None:
            self._pipeline.stop()

    async def _visit(self) -> None:
        """Hold one session, from the login to the end of what was fetched in it."""
        session = await self._connector.open()
        try:
            await self._use(session)
        finally:
            if self._pipeline is not None:
                self._pipeline.stop()  # so that no message is blamed for what follows
            session.abort()  # no more than closing the socket after a good QUIT
        self._pipeline = None  # nothing is in hand until the next one begins

    async def _use(self, session: MaildropSession) -> None:
        self.report.login_delay_seconds = session.traits.login_delay_seconds
        self._look_at_expiry(session.traits.expire_days)
        listing = await session.listing()
        if not self._apart:
            self.report.listed, self.report.octets = len(listing.messages), listing.octets
        known = await self._around.ledger.known_messages(self._policy.maildrop)
        recognition = Recognition(self._policy, self._around, session, self._memory, listing)
        verdict = await recognition.judge(known)
        await self._adopt(verdict)
        self._note_waiting(verdict)
        plan = self._share(self._plan(verdict, recognition.troubles, session), session)
        await self._write_first_rows(plan, verdict.vanished)
        deletions = Deletions(session, self._around.ledger, self._around.clock)
        pipeline = self._pipeline = Pipeline(self._policy, self._around, session, deletions, self._story)
        self._tallies.append(pipeline.tally)
        await deletions.carry_out(plan.delete)
        if self._stopping:
            pipeline.stop()
        pipeline.start(plan.fetch, recognition)
        await self._wait_for(pipeline)
        await self._end(session, deletions, pipeline)

    def _look_at_expiry(self, expire_days: int | None) -> None:
        """Tell, once, that the server deletes sooner than the configuration wants (RFC 2449 s.6.7)."""
        if expire_days is None or not expires_too_early(self._policy.retention, expire_days):
            self._memory.told_expire_days = None
        elif self._memory.told_expire_days != expire_days:
            self._memory.told_expire_days = expire_days
            self._story.expiry_short(expire_days, self._policy.retention)

    async def _adopt(self, verdict: Verdict) -> None:
        """Write down what is now known under which unique-id, before anything is done with it.

        Raises:
            StoreError: it could not be written; the poll ends, and nothing is relayed.
        """
        if verdict.adopted:
            await self._around.ledger.adopt(verdict.adopted)
        for number, (uidl, former) in enumerate(verdict.recognised, 1):
            self._story.recognised(uidl, former)
            if number % TOLD_AT_ONCE == 0:
                await asyncio.sleep(0)
        self._renamed, self._unrecognised = self._renamed + verdict.renamed, verdict.unrecognised

    def _note_waiting(self, verdict: Verdict) -> None:
        entries = (verdict.known.get(listed.uidl) for listed in verdict.identified)
        rows = (entry.message for entry in entries if entry is not None)
        self._waiting_since.update(
            (row.message_id, row.first_seen_at) for row in rows if row.state is MessageState.DEFERRED
        )

    def _plan(self, verdict: Verdict, troubles: Troubles, session: MaildropSession) -> Plan:
        now = self._around.clock()  # before the rules: they know whether to believe it
        rules = self._rules(session)
        not_due = troubles.not_due(now)
        unidentified = [m for m in verdict.unidentified if m.message_number not in not_due]
        plan = make_plan(verdict.identified, unidentified, verdict.known, rules, now, troubles.failures)
        plan.waiting += len(verdict.unidentified) - len(unidentified)
        return plan

    def _share(self, plan: Plan, session: MaildropSession) -> Plan:
        """Return this session's share of the plan: all of it, what is harmless, or what was set apart."""
        if self._apart:
            self._memory.left_out = False
            fetch = [order for order in plan.fetch if order.alone and order.uidl in self._apart]
            return Plan(fetch=fetch, reopen=plan.reopen)
        self._memory.left_out = self._is_to_be_split(plan, session)
        if self._memory.left_out:
            self._comes_again = not session.traits.login_delay_seconds
            self._apart = frozenset(order.uidl for order in plan.fetch if order.alone)
            plan.fetch = [order for order in plan.fetch if not order.alone]
        return plan

    def _is_to_be_split(self, plan: Plan, session: MaildropSession) -> bool:
        """Whether what may break the session is left out of this one for the sake of the others."""
        dangerous = sum(order.alone for order in plan.fetch)
        has_others = len(plan.fetch) > dangerous or bool(plan.delete)
        if not dangerous or not has_others or self._memory.left_out:  # once is enough: never for ever
            return False
        # A second login would come too early for a LOGIN-DELAY (RFC 2449 s.6.5), so there only
        # the poll that repeats unconfirmed deletions leaves it out; in the others it comes last.
        return not session.traits.login_delay_seconds or any(
            order.known.message.state is MessageState.DELETE_PENDING for order in plan.delete
        )

    def _rules(self, session: MaildropSession) -> PlanRules:
        destinations = self._around.destinations
        return PlanRules(
            destinations=self._policy.destinations,
            available=frozenset(name for name in self._policy.destinations if destinations[name].available),
            retention=self._around.in_force(self._policy.retention),
            max_size_octets=self._policy.max_size_octets,
            # A header alone cannot be had from a server without TOP.
            quarantine=self._policy.rejected is Rejected.QUARANTINE and self._around.quarantine is not None,
            oversize=self._policy.oversize if session.traits.has_top else Oversize.SKIP,
        )

    async def _write_first_rows(self, plan: Plan, vanished: Sequence[MessageRecord]) -> None:
        """Write what the plan itself decides, before mail is touched."""
        now = self._around.clock()
        rows: list[LedgerRecord] = [*vanished]
        rows += [self._settled(entry, now) for entry in plan.settle]
        for entry in plan.settle:
            self._waiting_since.pop(entry.message.message_id, None)
        for entry in plan.reopen:
            rows += [entry.message, *entry.deliveries]
        skipped = [skipped_record(message, self._policy, self._around) for message in plan.skip]
        rows += skipped
        if rows or plan.fetch:
            await self._around.ledger.save(rows)
        for record in skipped:
            self._story.skipped(record)
        for listed in plan.skip_unidentified:
            self._story.skipped_unidentified(listed, too_large(listed, self._policy))
        self.report.skipped += len(skipped) + len(plan.skip_unidentified)
        self.report.waiting += plan.waiting

    def _settled(self, entry: KnownMessage, now: float) -> MessageRecord:
        state = settled_state(entry.deliveries, self._policy.destinations, self._policy.retention)
        accepted_at = None if state is MessageState.REJECTED else now
        return replace(entry.message, state=state, updated_at=now, accepted_at=accepted_at)

    async def _wait_for(self, pipeline: Pipeline) -> None:
        """Wait for the pipeline's end, or until only silent destinations are left."""
        loop = asyncio.get_running_loop()
        while not pipeline.finished:
            try:
                async with asyncio.timeout(LINGER_SECONDS / 4):
                    await pipeline.wait_finished()
            except TimeoutError:
                if pipeline.waits_for_others and loop.time() - pipeline.moved_at > LINGER_SECONDS:
                    pipeline.stop()
                    return

    async def _end(self, session: MaildropSession, deletions: Deletions, pipeline: Pipeline) -> None:
        """Quit, then wait for what is still under way: the next poll must not deliver it again.

        Raises:
            Exception: why the ledger, or else the session, failed.
        """
        if not (deletions.asked or self._comes_again):
            # QUIT confirms nothing, and comes to the server a round trip before anybody who now connects.
            self.on_session_end()
        failure = await self._quit(session, deletions)
        if failure is not None or self._stopping or not self._comes_again:
            self.on_session_end()  # else the place at the server is kept for the second session
        await pipeline.wait_finished()
        failure = pipeline.failure or failure
        if failure is not None:
            raise failure

    async def _quit(self, session: MaildropSession, deletions: Deletions) -> Exception | None:
        deletions.close()
        if session.failure is not None:
            return session.failure
        if not await self._said_goodbye(session, deletions):
            self._comes_again = False  # it may hold the maildrop still
            pending = len(deletions.marked)
            self._around.emit(QuitUnconfirmed(self._policy.maildrop, self.report.poll_id, pending))
            return session.failure if deletions.unanswered else None
        self.report.deleted += len(deletions.marked)
        now = self._around.clock()
        gone = [replace(record, state=MessageState.GONE, updated_at=now) for record in deletions.marked]
        try:
            if gone:
                await self._around.ledger.save(gone)
        except StoreError as error:
            return error
        return None

    async def _said_goodbye(self, session: MaildropSession, deletions: Deletions) -> bool:
        if deletions.asked:
            return await session.quit()
        try:
            async with asyncio.timeout(QUIT_SECONDS):
                return await session.quit()
        except TimeoutError:
            return False

    def _take_tally(self) -> None:
        report, tallies = self.report, self._tallies
        renamed = self._renamed + sum(tally.renamed for tally in tallies)
        if renamed:
            self._story.uidls_changed(renamed, self._unrecognised)
        report.relayed = sum(tally.relayed for tally in tallies)
        report.deferred = sum(tally.deferred for tally in tallies)
        report.rejected = sum(tally.rejected for tally in tallies)
        report.oldest_waiting_at = self._oldest_waiting_at()
        at_goal = report.relayed + sum(tally.recognised + tally.quarantined for tally in tallies)
        report.waiting = max(report.waiting - at_goal, 0)

    def _oldest_waiting_at(self) -> float:
        since = dict(self._waiting_since)
        for tally in self._tallies:
            since.update(tally.deferred_since)
        for tally in self._tallies:
            for settled in tally.settled:
                since.pop(settled, None)
        return min(since.values(), default=0.0)
