"""What the status page shows and asks for: plain values, and the two ports behind it.

Text in them may come from strangers (subjects, replies); it is cleaned and escaped where it
is rendered, all of it, by `rendering.Renderer`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from mailferry.model import KnownMessage, MessageId, MessageState, QuarantineEntry

ROWS = 50
"""Rows of a table, at most; the rest is on further pages."""


class Tone(StrEnum):
    """What a state asks of a person; the page says it in words and by a shape, too."""

    BAD = "bad"
    WARN = "warn"
    GOOD = "good"
    QUIET = "quiet"


@dataclass(frozen=True, slots=True)
class Day:
    """The last 24 hours, hour by hour, the one that is under way last.

    Attributes:
        hour_began_at: when that one began; seconds since the epoch, as all times here.
        failures_since: since when failures are known: the daemon's start.
    """

    relayed: tuple[int, ...]
    failures: tuple[int, ...]
    hour_began_at: float
    failures_since: float


@dataclass(frozen=True, slots=True)
class Fares:
    """How something of the configuration fares, and what somebody has done to it by hand.

    Attributes:
        target: as commands name it, `maildrop.alice`.
        pause_ends_at: of a pause by hand; 0 when it does not end by itself.
    """

    target: str
    name: str
    state: str
    tone: Tone
    last_success_at: float | None
    error: str
    error_at: float | None
    failures: int
    not_before: float
    paused_by_hand: bool = False
    pause_ends_at: float = 0.0
    traced: bool = False

    @property
    def has_trouble(self) -> bool:
        """Whether the last error is one that still matters."""
        return bool(self.error) and self.failures > 0


@dataclass(frozen=True, slots=True)
class MaildropRow(Fares):
    """A maildrop.

    Attributes:
        waiting: messages on the server with a destination to reach, by the last good poll; None before one.
        details: settings as words, for the maildrop's own page.
    """

    where: str = ""
    last_poll_at: float | None = None
    next_poll_at: float | None = None
    polling: bool = False
    waiting: int | None = None
    deferred: int = 0
    rejected: int = 0
    skipped: int = 0
    kept: int = 0
    day: Day | None = None
    details: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class DestinationRow(Fares):
    """A destination; `kind` is its type in the configuration."""

    kind: str = ""
    where: str = ""


@dataclass(frozen=True, slots=True)
class EtrnRow(Fares):
    """A node of a server that is asked for mail; `target` is the server's."""

    server: str = ""
    node: str = ""
    asking: bool = False
    last_attempt_at: float | None = None
    due_at: float | None = None
    last_reply: str = ""


@dataclass(frozen=True, slots=True)
class ReceiverFacts:
    """The SMTP server that takes mail."""

    listen: str
    domains: Sequence[str]
    destinations: Sequence[str]
    day: Day


@dataclass(frozen=True, slots=True)
class DaemonFacts:
    """The process."""

    version: str
    hostname: str
    started_at: float
    stopping: bool
    pop3_sessions: int
    polls_waiting: int
    mail_octets: int


@dataclass(frozen=True, slots=True)
class Totals:
    """Numbers over everything; None where the ledger or the quarantine did not tell."""

    maildrops: int
    maildrops_ill: int
    destinations_ill: int
    etrn_ill: int
    paused_by_hand: int
    waiting: int
    deferred: int | None
    rejected: int | None
    quarantined: int | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which maildrops are wanted: `text` occurs in name, state or error; pages count from 1."""

    text: str = ""
    ill_only: bool = False
    page: int = 1


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything at a glance.

    Attributes:
        maildrops: one page of those that are wanted, trouble first.
        matching: how many are wanted; `page` of `pages` is shown.
        destinations_left_out: those that fare well, beyond `ROWS`; nodes alike.
        problems: why something could not be told.
    """

    taken_at: float
    daemon: DaemonFacts
    verdict: str
    tone: Tone
    totals: Totals
    maildrops: Sequence[MaildropRow]
    matching: int
    page: int
    pages: int
    destinations: Sequence[DestinationRow]
    destinations_left_out: int
    etrn: Sequence[EtrnRow]
    etrn_left_out: int
    receiver: ReceiverFacts | None
    day: Day
    problems: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class MessageQuery:
    """Which messages are wanted; `before` is the last change and number of the one behind which to begin."""

    text: str = ""
    maildrop: str = ""
    state: MessageState | None = None
    before: tuple[float, int] | None = None
    limit: int = ROWS


@dataclass(frozen=True, slots=True)
class FoundMessages:
    """Messages, the newest change first; `searched_to` says where a search gave up, None when it looked at all."""

    messages: Sequence[KnownMessage]
    more: bool = False
    searched_to: tuple[float, int] | None = None


@dataclass(frozen=True, slots=True)
class QuarantinedMessage:
    """What lies in the quarantine under one name; `entry` is None, and `problem` says why, for a damaged one."""

    name: str
    entry: QuarantineEntry | None
    problem: str
    size_octets: int
    since: float


@dataclass(frozen=True, slots=True)
class Quarantined:
    """The newest messages of the quarantine, and how many lie there."""

    messages: Sequence[QuarantinedMessage] = ()
    total: int = 0


class PageSource(Protocol):
    """Tells what the page shows. Called on the event loop's thread, which it never holds up.

    Every method may raise `MailferryError`, whose text is shown.
    """

    async def picture(self, wanted: Wanted) -> Picture:
        """Return everything at a glance."""

    async def maildrop(self, name: str) -> MaildropRow | None:
        """Return one maildrop of the configuration in force."""

    async def messages(self, query: MessageQuery) -> FoundMessages:
        """Return messages that the ledger knows."""

    async def message(self, number: MessageId) -> KnownMessage | None:
        """Return one message."""

    async def quarantine(self, page: int) -> Quarantined:
        """Return one page of the quarantine, the newest first."""

    async def quarantined(self, name: str) -> QuarantinedMessage | None:
        """Return what lies in the quarantine under a whole name."""

    def forget(self) -> None:
        """Take a new picture the next time: something was changed."""


class PageOperations(Protocol):
    """What the page can have done; see `web.control.ControlOperations` for the first four.

    Every method may raise `ControlError`, and has done nothing then.
    """

    async def poll(self, names: Sequence[str] | None, *, wait_seconds: float) -> Mapping[str, Any]:
        """Poll maildrops now."""

    async def pause(self, names: Sequence[str] | None, *, seconds: float | None) -> Mapping[str, Any]:
        """Pause targets."""

    async def resume(self, names: Sequence[str] | None) -> Mapping[str, Any]:
        """End pauses."""

    async def retry(self, maildrop: str | None, *, uidl: str | None) -> Mapping[str, Any]:
        """Let messages be tried again."""

    async def release(self, name: str) -> str:
        """Deliver a message of the quarantine to those who have not accepted it; return in words what came of it."""


@dataclass(frozen=True, slots=True)
class PageSettings:
    """How the page is served.

    Attributes:
        messages_shown: who sees senders and subjects: `always`, `login` or `never`.
        hosts: names under which it may be asked for; None for any.
        proxies: those that are configured, and may be a proxy's.
    """

    messages_shown: str = "always"
    hosts: frozenset[str] | None = None
    proxies: frozenset[str] = frozenset()
