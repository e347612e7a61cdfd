"""The ledger, its copies and its recovery."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mailferry.events.base import Event, Level


@dataclass(frozen=True, slots=True)
class LedgerRecovered(Event):
    """The receipt journal or the log of changes held rows that a crash had kept from the ledger."""

    name: ClassVar[str] = "ledger.recovered"
    level: ClassVar[Level] = "warning"
    records: int


@dataclass(frozen=True, slots=True)
class LedgerRestored(Event):
    """The ledger was damaged or missing and was put together again from the copy beside it."""

    name: ClassVar[str] = "ledger.restored"
    level: ClassVar[Level] = "error"
    reason: str
    copied_at: float
    records: int
    """Rows that had changed since the copy and came from the log of changes."""


@dataclass(frozen=True, slots=True)
class LedgerCopied(Event):
    """A copy of the ledger was made, checked and synced."""

    name: ClassVar[str] = "ledger.copied"
    level: ClassVar[Level] = "debug"
    duration_seconds: float
    size_octets: int


@dataclass(frozen=True, slots=True)
class LedgerCopyFailed(Event):
    """No copy of the ledger could be made; the ledger is whole, and it is tried again later."""

    name: ClassVar[str] = "ledger.copy_failed"
    level: ClassVar[Level] = "warning"
    alike: ClassVar[tuple[str, ...]] = ("error",)
    error: str


@dataclass(frozen=True, slots=True)
class LedgerFailed(Event):
    """The ledger could not be written: nothing more is relayed until it can."""

    name: ClassVar[str] = "ledger.failed"
    level: ClassVar[Level] = "error"
    alike: ClassVar[tuple[str, ...]] = ("error",)
    error: str


@dataclass(frozen=True, slots=True)
class LedgerCommitted(Event):
    """One transaction of the ledger was synced."""

    name: ClassVar[str] = "ledger.committed"
    level: ClassVar[Level] = "debug"
    records: int
    duration_seconds: float
