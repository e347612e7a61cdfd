"""Messages that were refused for good leave their server for the quarantine, if the maildrop says so.

The order is that of every delivery: stored and synced, then the row, then DELE. A crash
in between repeats the storing, which is the same entry once more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

from mailferry.errors import QuarantineError
from mailferry.events import QuarantineFailed
from mailferry.model import DeliveryState, MessageRecord, MessageState
from mailferry.policy.backoff import FETCH_BACKOFF
from mailferry.policy.plan import Rejected
from mailferry.services.context import MaildropPolicy, Surroundings
from mailferry.services.parcel import Parcel
from mailferry.services.story import readable

_bugs = logging.getLogger("mailferry.bugs")


class Quarantining:
    """Puts the refused messages of one poll into the quarantine."""

    def __init__(self, policy: MaildropPolicy, surroundings: Surroundings, poll_id: str) -> None:
        self._policy = policy
        self._around = surroundings
        self._poll_id = poll_id
        self._tasks: set[asyncio.Task[None]] = set()

    def wants(self, record: MessageRecord) -> bool:
        """Whether a message that stands like this is to be moved."""
        return (
            record.state is MessageState.REJECTED
            and self._policy.rejected is Rejected.QUARANTINE
            and self._around.quarantine is not None
        )

    def begin(self, parcel: Parcel, done: Callable[[MessageRecord, str], None]) -> None:
        """Store a parcel; `done` gets the row to be written and the entry's name, "" if it failed."""
        task = asyncio.get_running_loop().create_task(self._put(parcel, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _put(self, parcel: Parcel, done: Callable[[MessageRecord, str], None]) -> None:
        quarantine = self._around.quarantine
        assert quarantine is not None  # `wants` was asked
        try:
            name = await quarantine.put(parcel.message, parcel.record, parcel.deliveries)
        except QuarantineError as error:
            self._tell(parcel, str(error))
            done(self._put_off(parcel.record), "")
        except Exception as error:  # noqa: BLE001  whatever it is, the message stays where it is
            _bugs.exception("quarantine of message %s", parcel.record.message_id)
            self._tell(parcel, f"internal error: {error!r}")
            done(self._put_off(parcel.record), "")
        else:
            done(self._moved(parcel, name), name)

    def _tell(self, parcel: Parcel, error: str) -> None:
        uidl = readable(parcel.record.uidl)
        self._around.emit(QuarantineFailed(self._policy.maildrop, self._poll_id, uidl, error))

    def _moved(self, parcel: Parcel, name: str) -> MessageRecord:
        """Return the row of a message that the quarantine answers for, as a destination would."""
        now = self._around.clock()
        pending = self._policy.retention.deletes_at_once
        return replace(
            parcel.record,
            state=MessageState.DELETE_PENDING if pending else MessageState.ACCEPTED,
            updated_at=now,
            accepted_at=now,
            reason=f"quarantined as {name}: {refusals(parcel)}"[:1000],
        )

    def _put_off(self, record: MessageRecord) -> MessageRecord:
        """Return the row of a message that stays refused on the server for now."""
        now = self._around.clock()
        attempts = record.fetch_attempts + 1
        pause = FETCH_BACKOFF.pause_seconds(attempts, self._around.chance())
        return replace(record, fetch_attempts=attempts, next_fetch_at=now + pause, updated_at=now)


def refusals(parcel: Parcel) -> str:
    """Say why a parcel was refused."""
    refused = [d.error for d in parcel.deliveries if d.state is DeliveryState.REJECTED and d.error]
    return "; ".join(refused) or parcel.record.reason
