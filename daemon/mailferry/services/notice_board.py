"""Collects what the operator has to know until it is told.

A sink of events. What happened once (a refused message) stays until it was told; the
oldest go first when there is no more room, and are counted. What lasts (a refused
login, a paused route) is only told when it does last, once a day while it goes on, and
once more when it is over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from mailferry import events
from mailferry.events import Event, MessageEvent
from mailferry.message import notice_items as words
from mailferry.message.notice import NoticeEnvelope
from mailferry.message.notice_items import Matter, NoticeItem
from mailferry.ports import Clock

ITEMS_KEPT = 200
"""What is beyond is counted."""
SOON_SECONDS = 60.0
"""A summary waits for this long after what it is due for, so that a burst becomes one mail."""
REMIND_SECONDS = 86_400.0
"""What goes on is told again after this time."""
LASTING_ROUTE_SECONDS = 300.0
"""A next hop that is away for less has probably been restarted."""
LASTING_MAILDROP_SECONDS = 3600.0
"""Nobody misses mail that comes an hour late; a refused login is told sooner."""

_OWN_KEPT = 1000

Key = tuple[str, ...]


@dataclass(slots=True)
class _Trouble:
    """Something that goes on.

    Attributes:
        since: by the wall clock; `tell_from` and `told_at` by the steady one.
    """

    item: NoticeItem
    since: float
    tell_from: float
    told_at: float | None = None

    def is_due(self, now: float) -> bool:
        return now >= self.tell_from and (self.told_at is None or now >= self.told_at + REMIND_SECONDS)


@dataclass(frozen=True, slots=True)
class Batch:
    """What one summary tells; `more` counts what there was no room for."""

    items: dict[Key, NoticeItem]
    troubles: dict[Key, NoticeItem]
    more: int

    @property
    def all(self) -> list[NoticeItem]:
        """Every item."""
        return [*self.troubles.values(), *self.items.values()]

    @property
    def count(self) -> int:
        """How many things are told or counted."""
        return len(self.items) + len(self.troubles) + self.more


class NoticeBoard:
    """Hears every event; gives away what a summary is to tell.

    `steady` counts seconds that no setting of the clock moves.
    """

    def __init__(self, envelope: NoticeEnvelope, clock: Clock, steady: Callable[[], float]) -> None:
        self._envelope = envelope
        self._clock = clock
        self._steady = steady
        self._items: dict[Key, NoticeItem] = {}
        self._more = 0
        self._waiting_since: float | None = None
        self._troubles: dict[Key, _Trouble] = {}
        self._own: dict[Key, None] = {}
        self._hear: dict[type[Event], Callable[[Any], None]] = {  # Any: each takes its own class
            events.MessageRejected: self._refused,
            events.MessageQuarantined: self._quarantined,
            events.MessageInDoubt: self._in_doubt,
            events.QuarantineFailed: self._quarantine_failed,
            events.LedgerRestored: lambda e: self._note(("restored",), words.ledger_restored(e, self._now)),
            events.LedgerFailed: lambda e: self._note(("ledger",), words.ledger_failed(e, self._now)),
            events.ClockJumped: lambda e: self._note(("clock", str(steady())), words.clock_set(e, self._now)),
            events.UidlsChanged: lambda e: self._note(
                ("uidls", e.maildrop), words.uidls_changed(e, self._now)
            ),
            events.MaildropAuthRejected: self._login_refused,
            events.MaildropFaultReported: self._login_refused,
            events.PollFailed: self._poll_failed,
            events.MaildropRecovered: lambda e: self._over(("maildrop", e.maildrop), e),
            events.RoutePaused: self._route_paused,
            events.RouteResumed: lambda e: self._over(("route", e.destination), e),
        }

    def __call__(self, event: Event) -> None:
        """Hear an event."""
        hear = self._hear.get(type(event))
        if hear is not None:
            hear(event)

    @property
    def untold(self) -> int:
        """How many things that happened, and will not happen again, have not been told."""
        return len(self._items) + self._more

    def is_due(self) -> bool:
        """Whether there is something to tell, and nothing more to be waited for."""
        now = self._steady()
        if self._waiting_since is not None and now >= self._waiting_since + SOON_SECONDS:
            return True
        return any(trouble.is_due(now - SOON_SECONDS) for trouble in self._troubles.values())

    def batch(self) -> Batch:
        """Return what there is to tell now; it stays here until `told`."""
        now = self._steady()
        troubles = {key: trouble.item for key, trouble in self._troubles.items() if trouble.is_due(now)}
        return Batch(dict(self._items), troubles, self._more)

    def told(self, batch: Batch) -> None:
        """Forget what has been told; what changed meanwhile is something new."""
        for key, item in batch.items.items():
            if self._items.get(key) is item:
                del self._items[key]
        self._more -= batch.more
        self._waiting_since = self._steady() if self.untold else None
        for key in batch.troubles:
            if key in self._troubles:
                self._troubles[key].told_at = self._steady()

    # Things that happen

    @property
    def _now(self) -> float:
        return self._clock()

    def _note(self, key: Key, item: NoticeItem) -> None:
        earlier = self._items.pop(key, None)
        if earlier is not None:
            item = replace(item, times=earlier.times + 1)
        if len(self._items) >= ITEMS_KEPT:
            del self._items[next(iter(self._items))]
            self._more += 1
        self._items[key] = item
        if self._waiting_since is None:
            self._waiting_since = self._steady()

    def _refused(self, event: events.MessageRejected) -> None:
        if not self._is_own(event):
            self._note(_message_key(event, event.destination), words.refused(event, self._now))

    def _quarantined(self, event: events.MessageQuarantined) -> None:
        if self._is_own(event):
            return
        about = _message_key(event)
        for key in [key for key in self._items if key[: len(about)] == about]:
            if self._items[key].matter is Matter.REFUSED:
                del self._items[key]  # this tells more of the same
        self._note((*about, "quarantine"), words.quarantined(event, self._now))

    def _in_doubt(self, event: events.MessageInDoubt) -> None:
        if not self._is_own(event):
            key = (*_message_key(event, event.destination), "in doubt")
            self._note(key, words.in_doubt(event, self._now))

    def _quarantine_failed(self, event: events.QuarantineFailed) -> None:
        key = ("message", event.maildrop, event.uidl)
        if key not in self._own:
            self._note((*key, "quarantine"), words.quarantine_failed(event, self._now))

    def _is_own(self, event: MessageEvent) -> bool:
        """Tell whether a message is a summary of ours, which came back by a maildrop.

        To tell of its troubles would make another one, which may come back as well.
        """
        key = _message_key(event)
        if self._envelope.is_own(event.sender, event.subject):
            self._own[key] = None
            if len(self._own) > _OWN_KEPT:
                del self._own[next(iter(self._own))]
        return key in self._own

    # Things that go on

    def _login_refused(self, event: events.MaildropAuthRejected | events.MaildropFaultReported) -> None:
        key = ("maildrop", event.maildrop)
        self._goes_on(key, lambda _: words.login_refused(event, self._now), 0.0)

    def _poll_failed(self, event: events.PollFailed) -> None:
        key = ("maildrop", event.maildrop)
        known = self._troubles.get(key)
        if known is not None and known.item.matter is Matter.LOGIN_REFUSED:
            return  # until it recovers, that is what there is to do
        self._goes_on(key, lambda since: words.not_polled(event, self._now, since), LASTING_MAILDROP_SECONDS)

    def _route_paused(self, event: events.RoutePaused) -> None:
        key = ("route", event.destination)
        self._goes_on(key, lambda since: words.route_paused(event, self._now, since), LASTING_ROUTE_SECONDS)

    def _goes_on(self, key: Key, item_since: Callable[[float], NoticeItem], patience_seconds: float) -> None:
        now, tell_from = self._now, self._steady() + patience_seconds
        trouble = self._troubles.get(key)
        if trouble is None:
            self._troubles[key] = _Trouble(item_since(now), now, tell_from)
            return
        item = item_since(trouble.since)
        if item.matter is not trouble.item.matter:
            trouble.told_at = None  # another trouble with the same thing
        trouble.item = item
        trouble.tell_from = min(trouble.tell_from, tell_from)

    def _over(self, key: Key, event: events.MaildropRecovered | events.RouteResumed) -> None:
        trouble = self._troubles.pop(key, None)
        if trouble is not None and trouble.told_at is not None:
            self._note((*key, "over"), words.recovered(event, self._now))


def _message_key(event: MessageEvent, *more: str) -> Key:
    return ("message", event.maildrop, event.uidl, *more)
