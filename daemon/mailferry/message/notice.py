"""The operator's summary as a message (RFC 5322), plain text, the most important first.

It is no answer to anything, and nothing shall answer it: RFC 3834 s.5's Auto-Submitted
says so, and the null reverse-path (RFC 5321 s.4.5.5). Precedence is left out: RFC 2076
calls it non-standard, and filters take "bulk" for a reason to hide a message.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime

from mailferry.message.notice_items import Matter, NoticeItem, moment

ITEMS_SHOWN = 50
"""The rest is counted: a mail that nobody can read to its end tells nothing."""

_LITERAL = re.compile(r"\[[0-9A-Za-z.:]{1,60}\]")
_NOT_NAME = re.compile(r"[^A-Za-z0-9.-]")

# Seven bits whatever the words are: then every next hop takes it as it is.
_ASCII_ADDRESSES = SMTP.clone(cte_type="7bit")
_ANY_ADDRESSES = SMTPUTF8.clone(cte_type="7bit")

_WORDS = {
    Matter.LEDGER_FAILED: ("the ledger cannot be written", ""),
    Matter.LEDGER_RESTORED: ("the ledger was restored from its copy", ""),
    Matter.QUARANTINE_FAILED: (
        "1 message could not be put into the quarantine",
        "{} messages could not be put into the quarantine",
    ),
    Matter.LOGIN_REFUSED: ("1 maildrop refuses the login", "{} maildrops refuse the login"),
    Matter.REFUSED: ("1 message was refused for good", "{} messages were refused for good"),
    Matter.QUARANTINED: ("1 message was put into the quarantine", "{} messages were put into the quarantine"),
    Matter.ROUTE_PAUSED: ("1 destination takes no mail", "{} destinations take no mail"),
    Matter.NOT_POLLED: ("1 maildrop cannot be polled", "{} maildrops cannot be polled"),
    Matter.IN_DOUBT: ("1 message may arrive twice", "{} messages may arrive twice"),
    Matter.CLOCK_SET: ("the clock was set", "the clock was set {} times"),
    Matter.UIDLS_CHANGED: ("1 server gave new UIDLs", "{} servers gave new UIDLs"),
    Matter.RECOVERED: ("1 trouble is over", "{} troubles are over"),
}
_TITLES = {
    Matter.LEDGER_FAILED: "The ledger cannot be written",
    Matter.LEDGER_RESTORED: "The ledger was restored from its copy",
    Matter.QUARANTINE_FAILED: "Could not be put into the quarantine",
    Matter.LOGIN_REFUSED: "Login refused",
    Matter.REFUSED: "Refused for good",
    Matter.QUARANTINED: "Put into the quarantine",
    Matter.ROUTE_PAUSED: "Takes no mail",
    Matter.NOT_POLLED: "Cannot be polled",
    Matter.IN_DOUBT: "May arrive twice",
    Matter.CLOCK_SET: "The clock was set",
    Matter.UIDLS_CHANGED: "New UIDLs",
    Matter.RECOVERED: "Well again",
}
_HEADLINE_PARTS = 3


@dataclass(frozen=True, slots=True)
class NoticeEnvelope:
    """Who writes to whom.

    Attributes:
        host: our own name, as in EHLO.
        recipient: the operator's address.
    """

    host: str
    recipient: str

    @property
    def domain(self) -> str:
        """What stands behind the @ in addresses of ours."""
        if _LITERAL.fullmatch(self.host):
            return self.host
        return _NOT_NAME.sub("", self.host)[:255].strip(".-") or "localhost"

    @property
    def sender(self) -> str:
        """Our own address."""
        return f"mailferry@{self.domain}"

    @property
    def subject_mark(self) -> str:
        """What every subject begins with."""
        return f"[mailferry {self.domain}] "

    def is_own(self, sender: str, subject: str) -> bool:
        """Tell whether a message with this From and Subject, decoded, is a summary of ours."""
        return sender.endswith(f"<{self.sender}>") and subject.startswith(self.subject_mark.strip())


def compose_notice(
    envelope: NoticeEnvelope, items: Sequence[NoticeItem], more: int, *, number: int, now: float
) -> bytes:
    """Return the summary with CRLF line ends.

    Args:
        envelope: who writes to whom.
        items: what is told; those beyond `ITEMS_SHOWN` are counted, the newest are shown.
        more: how many happened that nothing else is known of any more.
        number: makes the Message-ID unique.
        now: seconds since the epoch.
    """
    message = EmailMessage(policy=_ASCII_ADDRESSES if envelope.recipient.isascii() else _ANY_ADDRESSES)
    headline = headline_of(items)
    message["From"] = f"mailferry <{envelope.sender}>"
    message["To"] = envelope.recipient
    message["Subject"] = envelope.subject_mark + headline
    message["Date"] = format_datetime(datetime.fromtimestamp(int(now), UTC))
    message["Message-ID"] = f"<notice.{number:x}@{envelope.domain}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(_text(envelope, headline, items, more, now))
    return bytes(message)


def headline_of(items: Sequence[NoticeItem]) -> str:
    """Say in one line what there is, the most important first."""
    counts = Counter(item.matter for item in items)
    parts = [_counted(matter, counts[matter]) for matter in sorted(counts)]
    if len(parts) > _HEADLINE_PARTS:
        parts[_HEADLINE_PARTS - 1 :] = [parts[_HEADLINE_PARTS - 1] + ", and more"]
    return ", ".join(parts)


def _counted(matter: Matter, number: int) -> str:
    one, many = _WORDS[matter]
    return one if number == 1 or not many else many.format(number)


def _text(envelope: NoticeEnvelope, headline: str, items: Sequence[NoticeItem], more: int, now: float) -> str:
    shown = sorted(items, key=lambda item: item.at)[-ITEMS_SHOWN:]
    shown.sort(key=lambda item: (item.matter, item.at))
    more += len(items) - len(shown)
    lines = [
        headline[:1].upper() + headline[1:] + ".",
        f"Told by mailferry on {envelope.domain}, {moment(now)}.",
    ]
    for number, item in enumerate(shown, 1):
        lines += ["", *_item_lines(number, item)]
    if more:
        lines += ["", f"And {more} more; the log and `mailferry history` have them."]
    return "\n".join([*lines, ""])


def _item_lines(number: int, item: NoticeItem) -> list[str]:
    again = f", {item.times} times" if item.times > 1 else ""
    facts = [("When", moment(item.at)), *item.facts]
    width = max(len(name) for name, _ in facts) + 2
    return [
        f"{number}. {_TITLES[item.matter]}{again}",
        *(f"   {name + ':':<{width}}{value}" for name, value in facts if value),
        *(f"   {line}" for line in item.advice),
    ]
