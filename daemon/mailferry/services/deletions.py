"""DELE, and what it takes to be allowed to send it.

A message is marked only when a synced row says that every destination has it. A
row that was pending before may speak of an earlier message with the same UIDL, so
that one is compared first; what cannot be compared now is left alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from mailferry.model import MessageRecord, MessageState
from mailferry.policy.plan import DeleteOrder
from mailferry.ports import Clock, Ledger, MaildropSession
from mailferry.services.identity import HEADERLESS, has_same_header


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

    async def carry_out(self, orders: Sequence[DeleteOrder]) -> list[DeleteOrder]:
        """Mark what earlier polls left to delete; return the orders whose message is another one.

        Raises:
            StoreError: a row could not be written, so nothing was marked.
        """
        fit, changed = await self._compare(orders)
        now = self._clock()
        pending = [
            replace(order.known.message, state=MessageState.DELETE_PENDING, updated_at=now) for order in fit
        ]
        fresh = [
            record
            for record, order in zip(pending, fit, strict=True)
            if order.known.message.state is not MessageState.DELETE_PENDING
        ]
        if fresh:
            await self._ledger.save(fresh)
        for record, order in zip(pending, fit, strict=True):
            self.mark(record, order.listed.message_number, lambda: None)
        return changed

    async def _compare(self, orders: Sequence[DeleteOrder]) -> tuple[list[DeleteOrder], list[DeleteOrder]]:
        same = await asyncio.gather(*(self._is_same(order) for order in orders))
        fit = [order for order, is_same in zip(orders, same, strict=True) if is_same]
        changed = [order for order, is_same in zip(orders, same, strict=True) if is_same is False]
        return fit, changed

    async def _is_same(self, order: DeleteOrder) -> bool | None:
        """Whether the message is still the one of the row; None when that cannot be told now."""
        known = order.known.message
        if not order.verify:
            return True
        if known.header_digest and known.header_digest != HEADERLESS and self._session.traits.has_top:
            return await has_same_header(self._session, order.listed, known.header_digest)
        return order.listed.size_octets == known.size_octets
