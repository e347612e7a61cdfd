"""The words that metric labels may hold: closed sets, so that no peer can add a series."""

from __future__ import annotations

from enum import StrEnum


class MessageOutcome(StrEnum):
    """What became of a message in one attempt."""

    RELAYED = "relayed"
    DEFERRED = "deferred"
    REJECTED = "rejected"
    SKIPPED = "skipped"
    IN_DOUBT = "in_doubt"
    FETCH_FAILED = "fetch_failed"
    RECOGNISED = "recognised"
    QUARANTINED = "quarantined"


class DeliveryOutcome(StrEnum):
    """What one destination did with one message in one attempt."""

    ACCEPTED = "accepted"
    DEFERRED = "deferred"
    REJECTED = "rejected"
    IN_DOUBT = "in_doubt"


class EtrnResult(StrEnum):
    """How one ETRN request ended (RFC 1985 s.5.3)."""

    STARTED = "started"
    """250, 252, 253: the queue for the node is being run."""
    NOTHING_WAITING = "nothing_waiting"
    """251."""
    UNABLE = "unable"
    """458: not now."""
    REFUSED = "refused"
    """459 and other 5yz: not for this node."""
    CONNECT_FAILED = "connect_failed"
    TLS_FAILED = "tls_failed"
    TIMEOUT = "timeout"
    AUTH_REJECTED = "auth_rejected"
    PROTOCOL_ERROR = "protocol_error"
    CONNECTION_LOST = "connection_lost"
    CONFIG_ERROR = "config_error"
    INTERNAL_ERROR = "internal_error"
