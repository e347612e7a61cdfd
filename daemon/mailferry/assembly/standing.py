"""From the ledger's standings and counts to one word per maildrop, destination and ETRN node.

Pure, and the only place that decides what is called well: `mailferry status` asks it, and so
does the daemon when it is asked how it fares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mailferry.config import EtrnSettings, MaildropSettings, Settings
from mailferry.model import RECEIVER, MaildropName, MessageState, StandingKind, StandingRecord
from mailferry.policy.etrn import EtrnResult, is_silent, result_of, standing_name
from mailferry.telemetry.redaction import clean_text
from mailferry.telemetry.rendering import iso_time

Standings = Mapping[tuple[StandingKind, str], StandingRecord]
Counts = Mapping[tuple[MaildropName, MessageState], int]

LATE_INTERVALS = 3
LATE_LEAST_SECONDS = 300.0
"""A maildrop is late after three of its intervals, and not before five minutes: a
restart or a long drain is no news."""

_WELL = frozenset({"ok", "open", "untried", "disabled", "silent"})
_TIMES = ("last_success_at", "last_error_at", "not_before", "last_attempt_at", "due_at")


@dataclass(frozen=True, slots=True)
class Standing:
    """What maildrops and destinations have in common.

    `state` of a maildrop: `ok`, `failing`, `late`, `never polled`, `disabled`; of a
    destination: `open`, `paused`, `probing` (its pause is over, nothing accepted
    yet), `untried`, `disabled`; of an ETRN node: `ok`, `silent` (accepted, and no mail came;
    no trouble by itself), `failing`, `postponed` (nobody listens for the mail), `late`,
    `never asked`, `disabled`.
    """

    name: str
    state: str
    last_success_at: float | None
    last_error_at: float | None
    last_error: str
    failures: int
    not_before: float

    @property
    def well(self) -> bool:
        """Whether nobody has to look."""
        return self.state in _WELL


@dataclass(frozen=True, slots=True)
class DestinationStanding(Standing):
    """One destination's route."""


@dataclass(frozen=True, slots=True)
class MaildropStanding(Standing):
    """One maildrop, with its messages that are still on the server."""

    deferred: int
    rejected: int
    skipped: int
    kept: int


@dataclass(frozen=True, slots=True)
class EtrnStanding(Standing):
    """One node at one server; `name` is both, with a slash between them.

    Attributes:
        due_at: when it is asked for next at the earliest; None where a cron expression decides.
    """

    etrn: str
    node: str
    last_attempt_at: float | None
    last_reply: str
    due_at: float | None


@dataclass(frozen=True, slots=True)
class ReceivedStanding:
    """Mail that came by SMTP and is not at its goal: its senders keep it, or were told."""

    deferred: int = 0
    rejected: int = 0


@dataclass(frozen=True, slots=True)
class Overview:
    """All that is configured, and how many messages lie in the quarantine (None: it cannot be read)."""

    maildrops: tuple[MaildropStanding, ...]
    destinations: tuple[DestinationStanding, ...]
    quarantined: int | None
    etrn: tuple[EtrnStanding, ...] = ()
    received: ReceivedStanding = ReceivedStanding()

    @property
    def well(self) -> bool:
        """Whether everything is."""
        return all(each.well for each in (*self.maildrops, *self.destinations, *self.etrn))

    def document(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "ok": self.well,
            "maildrops": [_as_json(each) for each in self.maildrops],
            "destinations": [_as_json(each) for each in self.destinations],
            "etrn": [_as_json(each) for each in self.etrn],
            "received": asdict(self.received),
            "quarantined": self.quarantined,
        }


def overview(
    settings: Settings, standings: Standings, counts: Counts, now: float, *, quarantined: int | None = 0
) -> Overview:
    """Judge everything that is configured; what is not configured any more is left out."""
    maildrops = (
        _maildrop(name, drop, standings.get((StandingKind.MAILDROP, name)), counts, now)
        for name, drop in settings.maildrop.items()
    )
    destinations = (
        _destination(name, place.enabled, standings.get((StandingKind.DESTINATION, name)), now)
        for name, place in settings.destination.items()
    )
    nodes = (
        _etrn_node(name, node, etrn, standings, now)
        for name, etrn in settings.etrn.items()
        for node in etrn.nodes
    )
    received = ReceivedStanding(
        *(counts.get((RECEIVER, state), 0) for state in (MessageState.DEFERRED, MessageState.REJECTED))
    )
    return Overview(tuple(maildrops), tuple(destinations), quarantined, tuple(nodes), received)


def _maildrop(
    name: str, settings: MaildropSettings, found: StandingRecord | None, counts: Counts, now: float
) -> MaildropStanding:
    record = found or StandingRecord(StandingKind.MAILDROP, name)

    def count(*states: MessageState) -> int:
        return sum(counts.get((MaildropName(name), state), 0) for state in states)

    return MaildropStanding(
        *_common(record, _maildrop_state(settings, record, now)),
        deferred=count(MessageState.DEFERRED),
        rejected=count(MessageState.REJECTED),
        skipped=count(MessageState.SKIPPED),
        kept=count(MessageState.ACCEPTED, MessageState.DELETE_PENDING),
    )


def _maildrop_state(settings: MaildropSettings, record: StandingRecord, now: float) -> str:
    if not settings.enabled:
        return "disabled"
    if record.consecutive_failures:
        return "failing"
    if record.last_success_at is None:
        return "never polled"
    return "late" if _is_late(settings, record, now) else "ok"


def _is_late(settings: MaildropSettings, record: StandingRecord, now: float) -> bool:
    if settings.cron:
        return False  # its times are the scheduler's business
    interval = max(settings.every, record.login_delay_seconds)
    limit = max(LATE_INTERVALS * interval, LATE_LEAST_SECONDS)
    return now - (record.last_success_at or 0.0) > limit


def _destination(name: str, enabled: bool, found: StandingRecord | None, now: float) -> DestinationStanding:
    record = found or StandingRecord(StandingKind.DESTINATION, name)
    return DestinationStanding(*_common(record, _route_state(enabled, record, now)))


def _route_state(enabled: bool, record: StandingRecord, now: float) -> str:
    if not enabled:
        return "disabled"
    if record.consecutive_failures:
        return "paused" if record.not_before > now else "probing"
    return "open" if record.last_success_at else "untried"


def _etrn_node(
    etrn: str, node: str, settings: EtrnSettings, standings: Standings, now: float
) -> EtrnStanding:
    name = standing_name(etrn, node)
    record = standings.get((StandingKind.ETRN, name)) or StandingRecord(StandingKind.ETRN, name)
    server = standings.get((StandingKind.ETRN, etrn)) or StandingRecord(StandingKind.ETRN, etrn)
    state = _etrn_state(settings, record, server, now)
    # What ails the server ails the node, unless the node has a trouble of its own.
    told = server if server.consecutive_failures and not record.consecutive_failures else record
    _, _, _, error_at, error, failures, not_before = _common(told, state)
    return EtrnStanding(
        name,
        state,
        record.last_success_at,
        error_at,
        error,
        failures,
        max(not_before, record.not_before),
        etrn=etrn,
        node=node,
        last_attempt_at=record.last_attempt_at,
        last_reply=clean_text(record.last_reply),
        due_at=_etrn_due_at(settings, record, server),
    )


def _etrn_state(settings: EtrnSettings, record: StandingRecord, server: StandingRecord, now: float) -> str:
    if not settings.enabled:
        return "disabled"
    if server.consecutive_failures and result_of(server.last_error) is EtrnResult.POSTPONED:
        return "postponed"
    if record.consecutive_failures or server.consecutive_failures:
        return "failing"
    if record.last_attempt_at is None:
        return "never asked"
    if not settings.cron:
        limit = max(LATE_INTERVALS * max(settings.every, settings.min_gap), LATE_LEAST_SECONDS)
        if now - record.last_attempt_at > limit:
            return "late"
    return "silent" if is_silent(record.last_error) else "ok"


def _etrn_due_at(settings: EtrnSettings, record: StandingRecord, server: StandingRecord) -> float | None:
    if record.consecutive_failures or server.consecutive_failures:
        return max(record.not_before, server.not_before)
    if settings.cron or record.last_attempt_at is None:
        return None
    return max(record.not_before, record.last_attempt_at + settings.every)


def _common(
    record: StandingRecord, state: str
) -> tuple[str, str, float | None, float | None, str, int, float]:
    return (
        record.name,
        state,
        record.last_success_at,
        record.last_error_at,
        clean_text(record.last_error),
        record.consecutive_failures,
        record.not_before,
    )


def _as_json(each: Standing) -> dict[str, object]:
    document = {**asdict(each), "well": each.well}
    for name in _TIMES:
        if name in document:
            document[name] = iso_time(document[name]) if document[name] else None
    return document
