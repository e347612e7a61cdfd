"""What becomes of messages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from mailferry.events.base import Event, Level


@dataclass(frozen=True, slots=True)
class MessageEvent(Event):
    """The fields that every event about one message has."""

    maildrop: str
    poll_id: str
    uidl: str
    size_octets: int
    sender: str
    recipient: str
    subject: str
    message_id: str = field(default="", kw_only=True)
    """Our own name for the message, the same in all its events and behind `id` in the Received field that we add."""


@dataclass(frozen=True, slots=True)
class MessageRelayed(MessageEvent):
    """A destination accepted the message and the row that says so is synced."""

    name: ClassVar[str] = "message.relayed"
    destination: str
    attempt: int
    receipt: str
    age_seconds: float
    """From the fetch to the acceptance."""
    known_seconds: float = 0.0
    """From the first attempt at the message to the acceptance."""


@dataclass(frozen=True, slots=True)
class MessageDeferred(MessageEvent):
    """A destination did not take the message now; it stays on the server."""

    name: ClassVar[str] = "message.deferred"
    level: ClassVar[Level] = "warning"
    alike: ClassVar[tuple[str, ...]] = ("maildrop", "destination", "reason")
    destination: str
    attempt: int
    reason: str
    next_attempt_at: float


@dataclass(frozen=True, slots=True)
class MessageInDoubt(MessageEvent):
    """The link broke between the final dot and its reply: the next attempt may double it."""

    name: ClassVar[str] = "message.in_doubt"
    level: ClassVar[Level] = "warning"
    destination: str
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class MessageRejected(MessageEvent):
    """A destination refused the message for good; it is kept on the server."""

    name: ClassVar[str] = "message.rejected"
    level: ClassVar[Level] = "error"
    destination: str
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class MessageQuarantined(MessageEvent):
    """A message that was refused for good lies in the quarantine, synced to disk."""

    name: ClassVar[str] = "message.quarantined"
    level: ClassVar[Level] = "error"
    entry: str
    """Its name for `mailferry quarantine show`."""
    reason: str


@dataclass(frozen=True, slots=True)
class QuarantineFailed(Event):
    """A refused message could not be put into the quarantine; it stays on the server."""

    name: ClassVar[str] = "quarantine.failed"
    level: ClassVar[Level] = "error"
    alike: ClassVar[tuple[str, ...]] = ("maildrop", "error")
    maildrop: str
    poll_id: str
    uidl: str
    error: str


@dataclass(frozen=True, slots=True)
class MessageFetchFailed(Event):
    """The server listed a message but did not hand it over."""

    name: ClassVar[str] = "message.fetch_failed"
    level: ClassVar[Level] = "warning"
    alike: ClassVar[tuple[str, ...]] = ("maildrop", "reason")
    maildrop: str
    poll_id: str
    uidl: str
    attempt: int
    reason: str
    next_attempt_at: float


@dataclass(frozen=True, slots=True)
class MessageSkipped(Event):
    """A message is left on the server on purpose."""

    name: ClassVar[str] = "message.skipped"
    level: ClassVar[Level] = "warning"
    alike: ClassVar[tuple[str, ...]] = ("maildrop", "uidl", "reason")
    maildrop: str
    poll_id: str
    uidl: str
    size_octets: int
    reason: str


@dataclass(frozen=True, slots=True)
class MessageRecognised(Event):
    """A message that its unique-id did not tell turned out to be one that we had."""

    name: ClassVar[str] = "message.recognised"
    maildrop: str
    poll_id: str
    uidl: str
    known_as: str = ""
    """The unique-id that it had before, if it had one."""
