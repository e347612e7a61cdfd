"""Destinations, sessions, certificates and tokens; the summary for the operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mailferry.events.base import Event, Level


@dataclass(frozen=True, slots=True)
class RoutePaused(Event):
    """A next hop does not take mail at all; nothing is fetched for it until `not_before`."""

    name: ClassVar[str] = "route.paused"
    level: ClassVar[Level] = "warning"
    destination: str
    reason: str
    failures: int
    not_before: float


@dataclass(frozen=True, slots=True)
class RouteProbeFailed(Event):
    """A paused next hop was tried with one message and still takes none; the pause goes on until `not_before`."""

    name: ClassVar[str] = "route.probe_failed"
    alike: ClassVar[tuple[str, ...]] = ("destination", "reason")
    destination: str
    reason: str
    failures: int
    not_before: float


@dataclass(frozen=True, slots=True)
class RouteAuthRejected(Event):
    """A next hop refused user name or password: a person must act."""

    name: ClassVar[str] = "route.auth_rejected"
    level: ClassVar[Level] = "error"
    alike: ClassVar[tuple[str, ...]] = ("destination", "error")
    destination: str
    error: str
    failures: int


@dataclass(frozen=True, slots=True)
class RouteResumed(Event):
    """A paused next hop takes mail again."""

    name: ClassVar[str] = "route.resumed"
    destination: str
    failures: int


@dataclass(frozen=True, slots=True)
class SessionFailed(Event):
    """A session with a next hop could not be had; what that means for its route is told by `route.*`."""

    name: ClassVar[str] = "session.failed"
    level: ClassVar[Level] = "debug"
    destination: str
    result: str
    """See `SessionFailure`."""
    error: str


@dataclass(frozen=True, slots=True)
class CertificateSeen(Event):
    """A peer showed its certificates; told for each session under TLS."""

    name: ClassVar[str] = "certificate.seen"
    level: ClassVar[Level] = "debug"
    peer: str
    """`maildrop`, `destination`, `etrn`, or `receiver` for our own."""
    peer_name: str
    expires_at: float
    """When the first certificate of the chain ends, as the peer sent it."""


@dataclass(frozen=True, slots=True)
class TokenRead(Event):
    """An OAuth 2.0 access token was read for a login; only its end is told, where it tells one (a JWT's `exp`)."""

    name: ClassVar[str] = "token.read"
    level: ClassVar[Level] = "debug"
    peer: str
    """`maildrop`, `destination` or `etrn`."""
    peer_name: str
    expires_at: float
    """0 when the token does not say."""


@dataclass(frozen=True, slots=True)
class NoticeSent(Event):
    """The summary for the operator was accepted by its next hop."""

    name: ClassVar[str] = "notice.sent"
    recipient: str
    items: int
    receipt: str


@dataclass(frozen=True, slots=True)
class NoticeFailed(Event):
    """The summary for the operator could not be handed over; it is tried again."""

    name: ClassVar[str] = "notice.failed"
    level: ClassVar[Level] = "warning"
    alike: ClassVar[tuple[str, ...]] = ("error",)
    recipient: str
    error: str
