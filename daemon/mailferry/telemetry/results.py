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
