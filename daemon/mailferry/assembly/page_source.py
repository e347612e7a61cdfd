"""What the status page shows, gathered from the running daemon, the ledger and the quarantine.

The event loop only takes a picture of what is in memory. Judging, sorting and reading happens in
the page's own threads. A picture serves every viewer for a while that grows with what it cost, so
that many viewers of many maildrops take no more than a tenth of one processor.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import TypeVar

from mailferry import __version__
from mailferry.assembly.control import ControlParts
from mailferry.assembly.page_rows import Seen
from mailferry.assembly.snapshot import Life, Snapshots
from mailferry.config.models import Settings
from mailferry.errors import MailferryError, QuarantineError, StoreError
from mailferry.ledger.browsing import LedgerBrowser, open_browser
from mailferry.ledger.queries import HistoryFilter
from mailferry.model import RECEIVER, KnownMessage, MessageId
from mailferry.quarantine.naming import is_name
from mailferry.quarantine.reader import StoredMessage
from mailferry.quarantine.store import quarantine_in
from mailferry.telemetry.daybook import ALL, HOUR_SECONDS, HOURS, DayBook
from mailferry.web.page.model import (
    ROWS,
    DaemonFacts,
    Day,
    FoundMessages,
    MaildropRow,
    MessageQuery,
    Picture,
    Quarantined,
    QuarantinedMessage,
    ReceiverFacts,
    Wanted,
)
from mailferry.web.page.threads import PageThreads

LEAST_SECONDS = 1.0
MOST_SECONDS = 60.0
COST_FACTOR = 10.0
"""A picture is good for so many times the time that it took."""
_COUNT_SECONDS = 5.0
_DOMAINS = 20

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Taken:
    seen: Seen
    problems: tuple[str, ...]
    good_until: float


class DaemonSource:
    """Implements `web.page.model.PageSource` for the daemon around it."""

    def __init__(self, parts: ControlParts, threads: PageThreads, book: DayBook, hostname: str) -> None:
        clock = parts.around.clock
        self._parts = parts
        self._threads = threads
        self._book = book
        self._hostname = hostname
        self._snapshots = Snapshots(parts.supervisor.fleet, parts.schedule, parts.holds, parts.traces, clock)
        self._taking = asyncio.Lock()
        self._taken: _Taken | None = None
        self._forgetting: asyncio.TimerHandle | None = None
        self._started_at = clock()
        self._seeded = False

    # -- everything at a glance

    async def picture(self, wanted: Wanted) -> Picture:
        """See `PageSource`."""
        taken = await self._take()
        seen = taken.seen
        chosen, matching, page = await self._threads.run(seen.choose, wanted)
        verdict, tone = seen.verdict()
        receiver = seen.settings.receiver
        return Picture(
            taken_at=seen.life.at,
            daemon=self._facts(),
            verdict=verdict,
            tone=tone,
            totals=seen.totals,
            maildrops=[seen.maildrop_row(each, self._day(each.standing.name)) for each in chosen],
            matching=matching,
            page=page,
            pages=ceil(matching / ROWS),
            destinations=seen.destination_rows(),
            destinations_left_out=max(len(seen.destinations) - ROWS, 0),
            etrn=seen.etrn_rows(),
            etrn_left_out=max(len(seen.etrn) - ROWS, 0),
            receiver=ReceiverFacts(
                receiver.listen, receiver.domains[:_DOMAINS], receiver.deliver, self._day(RECEIVER)
            )
            if receiver.listen
            else None,
            day=self._day(ALL),
            problems=taken.problems,
        )

    async def maildrop(self, name: str) -> MaildropRow | None:
        """See `PageSource`."""
        seen = (await self._take()).seen
        found = await self._threads.run(seen.find, name)
        return seen.maildrop_row(found, self._day(name)) if found is not None else None

    def forget(self) -> None:
        """See `PageSource`."""
        self._taken = None

    def close(self) -> None:
        """Let go of the timer."""
        if self._forgetting is not None:
            self._forgetting.cancel()

    async def _take(self) -> _Taken:
        async with self._taking:  # who comes meanwhile gets the same picture
            await self._seed()
            if self._taken is None or time.monotonic() > self._taken.good_until:
                self._taken = await self._look()
                self._book.keep_only(self._taken.seen.settings.maildrop)
            taken = self._taken
        self._forget_later()
        return taken

    async def _look(self) -> _Taken:
        began = time.monotonic()
        settings, life = self._parts.settings(), self._snapshots.take()
        seen, problems = await self._threads.run(_judge, settings, life)
        ended = time.monotonic()
        good_for = min(max(COST_FACTOR * (ended - began), LEAST_SECONDS), MOST_SECONDS)
        return _Taken(seen, problems, ended + good_for)

    def _forget_later(self) -> None:
        """Hold no picture of ten thousand maildrops for a viewer who has left."""
        if self._forgetting is not None:
            self._forgetting.cancel()
        self._forgetting = asyncio.get_running_loop().call_later(2 * MOST_SECONDS, self.forget)

    def _facts(self) -> DaemonFacts:
        parts = self._parts
        return DaemonFacts(
            version=__version__,
            hostname=self._hostname,
            started_at=self._started_at,
            stopping=parts.supervisor.stopping,
            pop3_sessions=parts.caps.in_use,
            polls_waiting=parts.caps.waiting,
            mail_octets=parts.around.budget.in_use_octets,
        )

    # -- the last day

    def _day(self, name: str) -> Day:
        row = self._book.day(name)
        return Day(row.relayed, row.failures, self._book.hour_began_at, self._book.since)

    async def _seed(self) -> None:
        """Add to the day what the ledger knows of the hours before the start; once, when somebody looks."""
        if self._seeded:
            return
        self._seeded = True
        since = self._book.since
        try:
            earlier = await self._ask(
                lambda browser: browser.relayed_by_hour(since - (HOURS + 1) * HOUR_SECONDS, since)
            )
        except MailferryError:
            return  # the picture begins at the start then, and the other parts of the page tell why
        self._book.add_earlier(earlier)

    # -- messages

    async def messages(self, query: MessageQuery) -> FoundMessages:
        """See `PageSource`."""
        wanted = HistoryFilter(
            maildrop=query.maildrop or None, text=query.text or None, state=query.state, limit=query.limit
        )
        found = await self._ask(lambda browser: browser.search(wanted, query.before))
        return FoundMessages(found.messages, found.more, found.searched_to)

    async def message(self, number: MessageId) -> KnownMessage | None:
        """See `PageSource`."""
        return await self._ask(lambda browser: browser.message(number))

    async def _ask(self, question: Callable[[LedgerBrowser], T]) -> T:
        url = self._parts.settings().ledger_url
        return await self._threads.run(_asked, url, question)

    # -- the quarantine

    async def quarantine(self, page: int) -> Quarantined:
        """See `PageSource`."""
        store = quarantine_in(self._parts.settings().daemon.state_dir)
        stored, total = await self._threads.run(store.newest, (page - 1) * ROWS, ROWS)
        return Quarantined([_quarantined(each) for each in stored], total)

    async def quarantined(self, name: str) -> QuarantinedMessage | None:
        """See `PageSource`."""
        if not is_name(name):
            return None
        store = quarantine_in(self._parts.settings().daemon.state_dir)
        stored = await self._threads.run(store.get, name)
        return None if stored.entry is None and stored.path is None else _quarantined(stored)


def _judge(settings: Settings, life: Life) -> tuple[Seen, tuple[str, ...]]:
    problems = []
    counts = quarantined = None
    try:
        with open_browser(settings.ledger_url, _COUNT_SECONDS) as browser:
            counts = browser.counts()
    except StoreError as error:
        problems.append(str(error))
    try:
        quarantined = quarantine_in(settings.daemon.state_dir).count()
    except QuarantineError as error:
        problems.append(str(error))
    return Seen(settings, life, counts, quarantined), tuple(problems)


def _asked(url: str, question: Callable[[LedgerBrowser], T]) -> T:
    with open_browser(url) as browser:
        return question(browser)


def _quarantined(stored: StoredMessage) -> QuarantinedMessage:
    return QuarantinedMessage(stored.name, stored.entry, stored.problem, stored.size_octets, stored.since)
