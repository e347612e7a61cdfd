"""DELE, and what it takes to be allowed to send it.

A message is marked only when a synced row says that every destination has it. That the
row speaks of this message, and not of an earlier one with its UIDL, the UIDL guard has
found out before.
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

    def mark(self, record: MessageRecord, message_number: int, done: Callable[[], None]) -> None:
        """Send DELE for a message whose row is synced; `done` when it was answered."""
        if self._closed:
            done()
            return

        def answered(ok: bool, _text: str) -> None:
            if ok:
                self.marked.append(record)
            done()

        self._session.delete(message_number, answered)

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
