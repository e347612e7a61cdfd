"""The words that metric labels may hold: closed sets, so that no peer can add a series."""

from __future__ import annotations

from enum import StrEnum


class PollResult(StrEnum):
    """How one poll of one maildrop ended (`PollFinished.result`)."""

    OK = "ok"
    CONNECT_FAILED = "connect_failed"
    TLS_FAILED = "tls_failed"
    TIMEOUT = "timeout"
    AUTH_REJECTED = "auth_rejected"
    BUSY = "busy"
    """Another session holds the maildrop (`[IN-USE]`)."""
    LOGIN_DELAYED = "login_delayed"
    """The server wants a pause between logins (`[LOGIN-DELAY]`)."""
    UNAVAILABLE = "unavailable"
    """The server refused for a reason of its own (`[SYS/TEMP]`, `[SYS/PERM]`, other -ERR)."""
    PROTOCOL_ERROR = "protocol_error"
    CONNECTION_LOST = "connection_lost"
    STORE_FAILED = "store_failed"
    """The ledger could not be read or written."""
    STOPPED = "stopped"
    """The daemon was told to stop; neither a success nor a failure."""
    CONFIG_ERROR = "config_error"
    """A secret could not be read, or the settings forbid the link."""
    INTERNAL_ERROR = "internal_error"
    """A fault of ours, and every word that is not in this list."""


class MessageOutcome(StrEnum):
    """What became of a message in one attempt."""

    RELAYED = "relayed"
    DEFERRED = "deferred"
    REJECTED = "rejected"
    SKIPPED = "skipped"
    IN_DOUBT = "in_doubt"
    FETCH_FAILED = "fetch_failed"
    RECOGNISED = "recognised"


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
