"""DELE, and what it takes to be allowed to send it.

A message is marked only when a synced row says that every destination has it. That the
row speaks of this message, and not of an earlier one with its UIDL, the UIDL guard has
found out before.

Where the server pipelines nobody waits for the answer: QUIT follows in the same group, and
by the time it is answered all of them are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from mailferry.model import MessageRecord, MessageState
from mailferry.policy.plan import DeleteOrder
from mailferry.ports import Clock, Ledger, MaildropSession


class Deletions:
    """Marks messages in one session and knows which became marked."""

    def __init__(self, session: MaildropSession, ledger: Ledger, clock: Clock) -> None:
        self.marked: list[MessageRecord] = []
        """Gone once the session's QUIT is confirmed."""
        self._session = session
        self._ledger = ledger
        self._clock = clock
        self._closed = False
        self.asked = 0
        """How many messages the server was asked to mark; with none QUIT has nothing to confirm."""
        self.unanswered = 0
        """How many of those it has not answered."""

    @property
    def _waits_for_answers(self) -> bool:
        # What was fetched and is not marked must be known before QUIT where the server deletes
        # what was fetched (RFC 2449 s.6.7, EXPIRE 0).
        traits = self._session.traits
        return not traits.pipelining or traits.expire_days == 0

    def mark(self, record: MessageRecord, message_number: int, done: Callable[[], None]) -> None:
        """Send DELE for a message whose row is synced; `done` when QUIT may follow."""
        if self._closed:
            done()
            return
        self.asked += 1
        self.unanswered += 1
        waits = self._waits_for_answers

        def answered(ok: bool, _text: str) -> None:
            self.unanswered -= self._session.failure is None
            if ok:
                self.marked.append(record)
            if waits:
                done()

        self._session.delete(message_number, answered)
        if not waits:
            done()

    def close(self) -> None:
        """Mark nothing more: QUIT is about to be sent, the rest is for the next poll."""
        self._closed = True

    async def carry_out(self, orders: Sequence[DeleteOrder]) -> None:
        """Mark what earlier polls left to delete.

        Raises:
            StoreError: a row could not be written, so nothing was marked.
        """
        now = self._clock()
        fresh = [
            replace(order.known.message, state=MessageState.DELETE_PENDING, updated_at=now)
            for order in orders
            if order.known.message.state is not MessageState.DELETE_PENDING
        ]
        if fresh:
            await self._ledger.save(fresh)
        for order in orders:
            pending = replace(order.known.message, state=MessageState.DELETE_PENDING, updated_at=now)
            self.mark(pending, order.listed.message_number, lambda: None)
