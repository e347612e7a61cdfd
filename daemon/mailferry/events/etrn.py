"""Asking servers for queued mail, and taking in what they send."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mailferry.events.base import Event, Level


@dataclass(frozen=True, slots=True)
class EtrnAnswered(Event):
    """A server answered an ETRN request, whatever it said."""

    name: ClassVar[str] = "etrn.answered"
    etrn: str
    node: str
    result: str
    """See `EtrnResult`."""
    reply: str
    pending: int = 0
    """Messages that the server said it would send; 0 when it told no number."""


@dataclass(frozen=True, slots=True)
class EtrnMailTaken(Event):
    """A connection that had turned round (ATRN) has ended; how many messages came over it."""

    name: ClassVar[str] = "etrn.mail_taken"
    etrn: str
    nodes: tuple[str, ...]
    accepted: int
    """Messages that every destination has."""
    deferred: int
    """Messages that the provider was asked to keep, and to send again."""
    rejected: int
    """Messages that were refused for good."""
    refusals: int
    """Commands and recipients that were refused, as for domains that nobody asked for."""
    seconds: float
    error: str = ""
    """Why it ended before the provider said that it had no more; empty when it did say so."""


@dataclass(frozen=True, slots=True)
class EtrnUnanswered(Event):
    """A node was due and got no answer; why is told once, by `etrn.failed` and its like."""

    name: ClassVar[str] = "etrn.unanswered"
    level: ClassVar[Level] = "debug"
    etrn: str
    node: str
    result: str


@dataclass(frozen=True, slots=True)
class EtrnDelayed(Event):
    """A server does not take requests for a node now; told once, until it takes one or says something else."""

    name: ClassVar[str] = "etrn.delayed"
    level: ClassVar[Level] = "warning"
    etrn: str
    node: str
    result: str
    reply: str
    failures: int
    not_before: float


@dataclass(frozen=True, slots=True)
class EtrnRefused(Event):
    """A server does not serve a node: a person must act. Told once, as `etrn.delayed`."""

    name: ClassVar[str] = "etrn.refused"
    level: ClassVar[Level] = "error"
    etrn: str
    node: str
    result: str
    reply: str
    advice: str
    failures: int
    not_before: float


@dataclass(frozen=True, slots=True)
class EtrnRecovered(Event):
    """A server takes requests for a node again."""

    name: ClassVar[str] = "etrn.recovered"
    etrn: str
    node: str
    failures: int


@dataclass(frozen=True, slots=True)
class EtrnPostponed(Event):
    """Nobody listens where the mail would come in, so nothing is asked; told once, until somebody does."""

    name: ClassVar[str] = "etrn.postponed"
    level: ClassVar[Level] = "warning"
    etrn: str
    reason: str
    not_before: float


@dataclass(frozen=True, slots=True)
class EtrnFailed(Event):
    """A session with a server failed before all nodes were asked; told once for each way of failing."""

    name: ClassVar[str] = "etrn.failed"
    level: ClassVar[Level] = "warning"
    etrn: str
    result: str
    error: str
    failures: int
    not_before: float


@dataclass(frozen=True, slots=True)
class EtrnUnusable(Event):
    """A server cannot be asked at all until a person acts: login refused, ETRN not offered, settings."""

    name: ClassVar[str] = "etrn.unusable"
    level: ClassVar[Level] = "error"
    etrn: str
    result: str
    error: str
    failures: int
    not_before: float


@dataclass(frozen=True, slots=True)
class EtrnResumed(Event):
    """A server, or our own listener, that was away is there again: nodes are asked."""

    name: ClassVar[str] = "etrn.resumed"
    etrn: str
    failures: int


@dataclass(frozen=True, slots=True)
class EtrnAcceptedButSilent(Event):
    """A request was accepted and no mail came since; many servers accept with an empty queue, too."""

    name: ClassVar[str] = "etrn.accepted_but_silent"
    etrn: str
    node: str
    accepted_at: float
    silent_seconds: float


@dataclass(frozen=True, slots=True)
class EtrnPendingButSilent(Event):
    """A server said that messages were waiting and would be sent (252, 253), and none came."""

    name: ClassVar[str] = "etrn.pending_but_silent"
    level: ClassVar[Level] = "warning"
    etrn: str
    node: str
    accepted_at: float
    silent_seconds: float
    pending: int = 0
    """How many, when the server told a number."""


@dataclass(frozen=True, slots=True)
class EtrnMailCame(Event):
    """Mail came for a node that had been silent."""

    name: ClassVar[str] = "etrn.mail_came"
    etrn: str
    node: str


@dataclass(frozen=True, slots=True)
class ReceiverStarted(Event):
    """The embedded SMTP server listens."""

    name: ClassVar[str] = "receiver.started"
    address: str
    port: int
    domains: int


@dataclass(frozen=True, slots=True)
class ReceiverStopped(Event):
    """The embedded SMTP server has stopped; `clean` when every session could be finished."""

    name: ClassVar[str] = "receiver.stopped"
    clean: bool


@dataclass(frozen=True, slots=True)
class ReceiverMessageReceived(Event):
    """A message came in by SMTP and was answered with `reply`."""

    name: ClassVar[str] = "receiver.message_received"
    session_id: str
    client: str
    size_octets: int
    recipients: int
    result: str
    """`accepted`, `known` (accepted before), `deferred` or `rejected`."""
    reply: str
    duration_seconds: float


@dataclass(frozen=True, slots=True)
class ReceiverRefused(Event):
    """A client was refused a session, an address or a command; at most 60 lines a minute for each client."""

    name: ClassVar[str] = "receiver.refused"
    origin: str
    """`receiver`, or the name in `[etrn]` of the server whose connection turned round."""
    session_id: str
    client: str
    what: str
    """`session`, `sender`, `recipient`, `content`, `syntax` or `silent`."""
    reply: str
