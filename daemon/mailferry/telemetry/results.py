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


class MaildropState(StrEnum):
    """How a maildrop fares, by the end of its last poll."""

    OK = "ok"
    FAILING = "failing"
    """It is tried again, and may mend itself."""
    REFUSED = "refused"
    """User name or password refused, `[SYS/PERM]`, or our own settings: a person must act."""
    PAUSED = "paused"
    """By hand."""
    UNPOLLED = "unpolled"


class SessionFailure(StrEnum):
    """Why a session with a next hop could not be had; the words are those of polls and ETRN."""

    CONNECT_FAILED = "connect_failed"
    TLS_FAILED = "tls_failed"
    TIMEOUT = "timeout"
    AUTH_REJECTED = "auth_rejected"
    UNAVAILABLE = "unavailable"
    CONNECTION_LOST = "connection_lost"
    PROTOCOL_ERROR = "protocol_error"
    CONFIG_ERROR = "config_error"
    INTERNAL_ERROR = "internal_error"
    """A fault of ours, and every word that is not in this list."""


class ReplyClass(StrEnum):
    """The first digit of an SMTP reply (RFC 5321 s.4.2.1)."""

    DONE = "2xx"
    MORE = "3xx"
    LATER = "4xx"
    NEVER = "5xx"


class Reception(StrEnum):
    """What became of a message that came in by SMTP."""

    ACCEPTED = "accepted"
    KNOWN = "known"
    """It had been accepted before."""
    DEFERRED = "deferred"
    REJECTED = "rejected"


class Refusal(StrEnum):
    """What a client of the embedded SMTP server was refused."""

    SESSION = "session"
    SENDER = "sender"
    RECIPIENT = "recipient"
    CONTENT = "content"
    SYNTAX = "syntax"
    SILENT = "silent"


class Peer(StrEnum):
    """What a certificate or token belongs to."""

    MAILDROP = "maildrop"
    DESTINATION = "destination"
    ETRN = "etrn"
    RECEIVER = "receiver"
    """Our own certificate, shown to those who bring mail."""
