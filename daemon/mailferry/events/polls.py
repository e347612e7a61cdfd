"""Polls of maildrops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mailferry.events.base import Event, Level


@dataclass(frozen=True, slots=True)
class PollStarted(Event):
    """A maildrop's turn has come and it got its place under the caps."""

    name: ClassVar[str] = "poll.started"
    level: ClassVar[Level] = "debug"
    maildrop: str
    poll_id: str


@dataclass(frozen=True, slots=True)
class PollFinished(Event):
    """One poll of one maildrop came to its end, well or not."""

    name: ClassVar[str] = "poll.finished"
    maildrop: str
    poll_id: str
    result: str
    """`ok`, or a word for what failed: see `PollResult`."""
    duration_seconds: float
    listed: int = 0
    relayed: int = 0
    deferred: int = 0
    rejected: int = 0
    skipped: int = 0
    deleted: int = 0
    waiting: int = 0
    """Messages on the server that still have a destination to reach."""
    maildrop_octets: int = 0
    oldest_waiting_at: float = 0.0
    """When the first of them was first tried that still waits; 0 when none that was tried does."""
    login_delay_seconds: float = 0.0
    """The pause that the server wants between logins (LOGIN-DELAY, RFC 2449 s.6.5)."""


@dataclass(frozen=True, slots=True)
class PollFailed(Event):
    """A poll ended early; the maildrop is tried again at `not_before`."""

    name: ClassVar[str] = "poll.failed"
    level: ClassVar[Level] = "warning"
    alike: ClassVar[tuple[str, ...]] = ("maildrop", "result", "error")
    maildrop: str
    poll_id: str
    result: str
    error: str
    failures: int
    not_before: float


@dataclass(frozen=True, slots=True)
class MaildropAuthRejected(Event):
    """The server refused user name or password: a person must act."""

    name: ClassVar[str] = "maildrop.auth_rejected"
    level: ClassVar[Level] = "error"
    alike: ClassVar[tuple[str, ...]] = ("maildrop", "error")
    maildrop: str
    error: str
    failures: int


@dataclass(frozen=True, slots=True)
class MaildropFaultReported(Event):
    """The server said `[SYS/PERM]`: its trouble lasts until a person mends it, there or here."""

    name: ClassVar[str] = "maildrop.fault_reported"
    level: ClassVar[Level] = "error"
    alike: ClassVar[tuple[str, ...]] = ("maildrop", "error")
    maildrop: str
    error: str
    failures: int


@dataclass(frozen=True, slots=True)
class MaildropRecovered(Event):
    """A maildrop that failed before answers again."""

    name: ClassVar[str] = "maildrop.recovered"
    maildrop: str
    failures: int


@dataclass(frozen=True, slots=True)
class QuitUnconfirmed(Event):
    """QUIT was not answered with +OK: the deletions may not have happened."""

    name: ClassVar[str] = "maildrop.quit_unconfirmed"
    level: ClassVar[Level] = "warning"
    alike: ClassVar[tuple[str, ...]] = ("maildrop",)
    maildrop: str
    poll_id: str
    pending: int


@dataclass(frozen=True, slots=True)
class MaildropExpiryShort(Event):
    """The server deletes mail sooner than `keep` wants it kept (EXPIRE, RFC 2449 s.6.7); told once."""

    name: ClassVar[str] = "maildrop.expiry_short"
    level: ClassVar[Level] = "warning"
    maildrop: str
    poll_id: str
    expire_days: int
    """0: the server wants no mail left at all, and may delete what was fetched."""
    keep_seconds: float
    """What `keep` wants; -1 for ever."""


@dataclass(frozen=True, slots=True)
class UidlsChanged(Event):
    """The server has given new unique-ids: old messages were recognised, none of them is relayed again."""

    name: ClassVar[str] = "maildrop.uidls_changed"
    level: ClassVar[Level] = "warning"
    maildrop: str
    poll_id: str
    recognised: int
    unrecognised: int
    """Messages that the ledger knew and that are no longer listed, under whatever unique-id."""
