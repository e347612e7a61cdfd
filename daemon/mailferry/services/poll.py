"""One poll of one maildrop, from the connection to the confirmed QUIT."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mailferry.errors import MailferryError, StoreError
from mailferry.events import PollStarted, QuitUnconfirmed
from mailferry.model import KnownMessage, LedgerRecord, MessageRecord, MessageState
from mailferry.policy.plan import (
    DeleteOrder,
    FetchOrder,
    Identified,
    Oversize,
    Plan,
    PlanRules,
    Rejected,
    make_plan,
    settled_state,
    split_by_identity,
)
from mailferry.ports import MaildropConnector, MaildropSession
from mailferry.services.arrival import skipped_record, too_large
from mailferry.services.context import MaildropPolicy, Surroundings
from mailferry.services.deletions import Deletions
from mailferry.services.identity import Identities, identify_by_header
from mailferry.services.pipeline import Pipeline
from mailferry.services.story import Story

LINGER_SECONDS = 30.0
"""How long the POP3 session is held for destinations that say nothing: it locks the
maildrop for its owner. What they accept later is deleted in the next poll."""


@dataclass(slots=True)
class PollReport:
    """What a poll found and did, in messages; `failure` is why it ended early, if it did.

    `waiting` counts what is on the server and has not reached its goal.
    """

    poll_id: str
    listed: int = 0
    relayed: int = 0
    deferred: int = 0
    rejected: int = 0
    skipped: int = 0
    deleted: int = 0
    waiting: int = 0
    octets: int = 0
    login_delay_seconds: float | None = None
    failure: Exception | None = None


class Poll:
    """One poll; make a new one for each turn."""

    def __init__(
        self, policy: MaildropPolicy, connector: MaildropConnector, surroundings: Surroundings
    ) -> None:
        self.report = PollReport(poll_id=secrets.token_hex(4))
        self.on_session_end: Callable[[], None] = lambda: None
        """Called when the POP3 session is over; deliveries may still be under way then."""
        self._policy = policy
        self._connector = connector
        self._around = surroundings
        self._story = Story(policy.maildrop, self.report.poll_id, surroundings.emit)
        self._pipeline: Pipeline | None = None
        self._stopping = False

    @property
    def has_mail_in_hand(self) -> bool:
        """Whether messages may be on their way, or marked for deletion."""
        return self._pipeline is not None

    async def run(self) -> PollReport:
        """Poll once. What went wrong is in the report, except for cancellation."""
        self._around.emit(PollStarted(self._policy.maildrop, self.report.poll_id))
        try:
            session = await self._connector.open()
            try:
                await self._use(session)
            finally:
                self.stop()  # so that no message is blamed for what follows
                session.abort()  # no more than closing the socket after a good QUIT
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

    async def _use(self, session: MaildropSession) -> None:
        self.report.login_delay_seconds = session.traits.login_delay_seconds
        listing = await session.listing()
        self.report.listed, self.report.octets = len(listing.messages), listing.octets
        known = await self._around.ledger.known_messages(self._policy.maildrop)
        clear, unclear = split_by_identity(listing.messages)
        identities = Identities(known, {message.uidl for message in clear})
        by_header, unidentified = await identify_by_header(session, unclear, identities)
        identified = sorted(clear + by_header, key=lambda message: message.listed.message_number)
        now = self._around.clock()  # before the rules: they know whether to believe it
        rules = self._rules(session)
        plan = make_plan(identified, unidentified, known, rules, now)
        if not listing.complete:
            plan.gone = []  # a cut listing is no proof that anything has gone
        await self._write_first_rows(plan)
        deletions = Deletions(session, self._around.ledger, self._around.clock)
        pipeline = self._pipeline = Pipeline(self._policy, self._around, session, deletions, self._story)
        changed = await deletions.carry_out(plan.delete)
        plan.fetch += await self._plan_changed(changed, rules)
        if self._stopping:
            pipeline.stop()
        pipeline.start(plan.fetch, known, identities)
        await self._wait_for(pipeline)
        await self._end(session, deletions, pipeline)

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

    async def _write_first_rows(self, plan: Plan) -> None:
        """Write what the plan itself decides, before mail is touched."""
        now = self._around.clock()
        rows: list[LedgerRecord] = [
            replace(entry.message, state=MessageState.GONE, updated_at=now) for entry in plan.gone
        ]
        rows += [self._settled(entry, now) for entry in plan.settle]
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

    async def _plan_changed(self, changed: Sequence[DeleteOrder], rules: PlanRules) -> list[FetchOrder]:
        """Plan for UIDLs that now stand for other messages: the old ones are gone, these are new."""
        if not changed:
            return []
        new = [Identified(order.listed, order.known.message.uidl) for order in changed]
        plan = make_plan(new, [], {}, rules, self._around.clock())
        plan.gone = [order.known for order in changed]
        await self._write_first_rows(plan)
        return plan.fetch

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
        failure = await self._quit(session, deletions)
        self.on_session_end()
        await pipeline.wait_finished()
        failure = pipeline.failure or failure
        if failure is not None:
            raise failure

    async def _quit(self, session: MaildropSession, deletions: Deletions) -> Exception | None:
        deletions.close()
        if session.failure is not None:
            return session.failure
        if not await session.quit():
            pending = len(deletions.marked)
            self._around.emit(QuitUnconfirmed(self._policy.maildrop, self.report.poll_id, pending))
            return None
        self.report.deleted = len(deletions.marked)
        now = self._around.clock()
        gone = [replace(record, state=MessageState.GONE, updated_at=now) for record in deletions.marked]
        try:
            if gone:
                await self._around.ledger.save(gone)
        except StoreError as error:
            return error
        return None

    def _take_tally(self) -> None:
        report = self.report
        if self._pipeline is not None:
            tally = self._pipeline.tally
            report.relayed, report.deferred, report.rejected = tally.relayed, tally.deferred, tally.rejected
            report.waiting = max(report.waiting - tally.relayed - tally.recognised - tally.quarantined, 0)
