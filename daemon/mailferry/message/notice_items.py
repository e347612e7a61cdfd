"""What the operator is told by mail: events put into words, with what can be done.

Everything that a stranger may have written (addresses, subjects, unique-ids, replies)
is made printable, and quoted where it stands in a command that a person may paste
into a shell.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum

from mailferry.events import (
    ClockJumped,
    LedgerFailed,
    LedgerRestored,
    MaildropAuthRejected,
    MaildropFaultReported,
    MaildropRecovered,
    MessageEvent,
    MessageInDoubt,
    MessageQuarantined,
    MessageRejected,
    PollFailed,
    QuarantineFailed,
    RoutePaused,
    RouteResumed,
    UidlsChanged,
)
from mailferry.message.summary import readable


class Matter(IntEnum):
    """What an item is about; the most important comes first."""

    LEDGER_FAILED = 1
    LEDGER_RESTORED = 2
    QUARANTINE_FAILED = 3
    LOGIN_REFUSED = 4
    REFUSED = 5
    QUARANTINED = 6
    ROUTE_PAUSED = 7
    NOT_POLLED = 8
    IN_DOUBT = 9
    CLOCK_SET = 10
    UIDLS_CHANGED = 11
    RECOVERED = 12


@dataclass(frozen=True, slots=True)
class NoticeItem:
    """One thing to tell.

    Attributes:
        at: when it happened, or happened last; seconds since the epoch.
        facts: name and value of each line; both printable, empty values are left out.
        advice: what a person can do, one line per element.
        times: how often it happened.
    """

    matter: Matter
    at: float
    facts: tuple[tuple[str, str], ...]
    advice: tuple[str, ...] = ()
    times: int = 1


_UIDL_IN_COMMAND = 64
"""Longer ones are no pleasure to paste, and would be cut."""


def refused(event: MessageRejected, at: float) -> NoticeItem:
    """A destination refused a message for good."""
    again = f"mailferry retry {_choice(event)}"
    advice = ("It stays on its server. Once the cause is mended, to try again:", f"  {again}")
    facts = (*_message(event), ("Destination", event.destination), ("Reason", readable(event.reason)))
    return NoticeItem(Matter.REFUSED, at, facts, advice)


def quarantined(event: MessageQuarantined, at: float) -> NoticeItem:
    """A message that was refused lies in the quarantine."""
    entry = shlex.quote(readable(event.entry))
    advice = (
        "It was taken off its server. To look at it, to try again, to throw it away:",
        f"  mailferry quarantine show {entry}",
        f"  mailferry quarantine retry {entry}",
        f"  mailferry quarantine drop {entry}",
    )
    return NoticeItem(Matter.QUARANTINED, at, (*_message(event), ("Reason", readable(event.reason))), advice)


def in_doubt(event: MessageInDoubt, at: float) -> NoticeItem:
    """A message may come twice."""
    facts = (*_message(event), ("Destination", event.destination), ("Reason", readable(event.reason)))
    return NoticeItem(Matter.IN_DOUBT, at, facts, ("It is sent again and may arrive twice. Nothing to do.",))


def quarantine_failed(event: QuarantineFailed, at: float) -> NoticeItem:
    """The quarantine cannot be written."""
    facts = (("Maildrop", event.maildrop), ("UIDL", readable(event.uidl)), ("Error", readable(event.error)))
    advice = ("The message stays on its server. Look at the disk and the rights of the state directory.",)
    return NoticeItem(Matter.QUARANTINE_FAILED, at, facts, advice)


def login_refused(event: MaildropAuthRejected | MaildropFaultReported, at: float) -> NoticeItem:
    """A maildrop's server refuses our user name or password, or says that it is out of order."""
    facts = (("Maildrop", event.maildrop), ("Error", readable(event.error)))
    cure = "Mend username or password"
    if isinstance(event, MaildropFaultReported):
        cure = "Its server needs somebody to mend it, or the account to be changed"
    advice = (f"Its mail is not fetched. {cure}; it is tried again, ever more rarely.",)
    return NoticeItem(Matter.LOGIN_REFUSED, at, facts, advice, event.failures)


def not_polled(event: PollFailed, at: float, since: float) -> NoticeItem:
    """A maildrop has not been reached for long."""
    facts = (
        ("Maildrop", event.maildrop),
        ("Since", moment(since)),
        ("Error", readable(f"{event.result}: {event.error}")),
    )
    advice = ("Its mail is not fetched; it is tried again and again.",)
    return NoticeItem(Matter.NOT_POLLED, at, facts, advice, event.failures)


def route_paused(event: RoutePaused, at: float, since: float) -> NoticeItem:
    """A destination has not taken mail for long."""
    facts = (
        ("Destination", event.destination),
        ("Since", moment(since)),
        ("Reason", readable(event.reason)),
    )
    advice = ("Mail for it waits on the servers that it lies on; it is tried again and again.",)
    return NoticeItem(Matter.ROUTE_PAUSED, at, facts, advice, event.failures)


def ledger_restored(event: LedgerRestored, at: float) -> NoticeItem:
    """The ledger was put together again."""
    facts = (
        ("Reason", readable(event.reason)),
        ("Copy of", moment(event.copied_at) if event.copied_at else ""),
        ("Newer rows", str(event.records)),
    )
    advice = ("Look at the disk. To check what there is now:", "  mailferry ledger check")
    return NoticeItem(Matter.LEDGER_RESTORED, at, facts, advice)


def ledger_failed(event: LedgerFailed, at: float) -> NoticeItem:
    """The ledger cannot be written."""
    advice = ("Nothing is relayed until it can be. Look at the disk: is it full?",)
    return NoticeItem(Matter.LEDGER_FAILED, at, (("Error", readable(event.error)),), advice)


def clock_set(event: ClockJumped, at: float) -> NoticeItem:
    """The system's clock was set."""
    way = "forward" if event.jump_seconds > 0 else "back"
    facts = (("Set", f"{way} by {abs(event.jump_seconds):.0f} seconds"),)
    advice = ("If the time is wrong now, set it right: ages and pauses are told by it.",)
    return NoticeItem(Matter.CLOCK_SET, at, facts, advice)


def uidls_changed(event: UidlsChanged, at: float) -> NoticeItem:
    """A server has renumbered its messages."""
    facts = (
        ("Maildrop", event.maildrop),
        ("Recognised", f"{event.recognised} messages, which are not relayed again"),
        ("Not found", f"{event.unrecognised} messages that were there before"),
    )
    return NoticeItem(Matter.UIDLS_CHANGED, at, facts, ("Look whether messages came twice.",))


def recovered(event: MaildropRecovered | RouteResumed, at: float) -> NoticeItem:
    """What was told to be in trouble is well again."""
    if isinstance(event, MaildropRecovered):
        return NoticeItem(Matter.RECOVERED, at, (("Maildrop", event.maildrop),))
    return NoticeItem(Matter.RECOVERED, at, (("Destination", event.destination),))


def moment(at: float) -> str:
    """Write a time so that everybody reads it the same way."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _message(event: MessageEvent) -> tuple[tuple[str, str], ...]:
    return (
        ("Maildrop", event.maildrop),
        ("From", readable(event.sender)),
        ("To", readable(event.recipient)),
        ("Subject", readable(event.subject)),
        ("Size", f"{event.size_octets} octets"),
        ("UIDL", readable(event.uidl)),
    )


def _choice(event: MessageEvent) -> str:
    """Return the options that name a message, or at least its maildrop, safe to paste."""
    maildrop = f"--maildrop {shlex.quote(event.maildrop)}"
    uidl = event.uidl
    if readable(uidl) != uidl or len(uidl) > _UIDL_IN_COMMAND:
        return maildrop
    return f"{maildrop} --uidl={shlex.quote(uidl)}"
