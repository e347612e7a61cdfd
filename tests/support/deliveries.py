"""Orders for destinations, and a record of what was said of them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable

from mailferry.model import (
    Delivery,
    DeliveryReport,
    FetchedMessage,
    MaildropName,
    MessageId,
    Outcome,
    Summary,
    Uidl,
)

CONTENT = b"Return-Path: <ann@example.org>\r\nSubject: hello\r\n\r\nhello\r\n.\r\n"


def fetched(
    content: bytes = CONTENT,
    *,
    number: int = 1,
    sender: str = "ann@example.org",
    recipients: tuple[str, ...] = (),
) -> FetchedMessage:
    """Return a message as a POP3 session would have brought it; with recipients as SMTP would."""
    return FetchedMessage(
        maildrop=MaildropName("ann"),
        message_id=MessageId(number),
        uidl=Uidl(b"uid-%d" % number),
        content=content,
        header_digest=b"",
        content_digest=hashlib.sha256(content).digest(),
        envelope_sender=sender,
        summary=Summary(),
        fetched_at=1_780_000_000.0,
        fetched_from="pop.example.org",
        fetched_with="POP3S" if not recipients else "ESMTP",
        envelope_recipients=recipients,
    )


class Reports:
    """Makes orders and keeps every report on them."""

    def __init__(self) -> None:
        self.by_name: dict[str, list[DeliveryReport]] = {}
        self._changed = asyncio.Event()

    def order(
        self,
        name: str = "one",
        content: bytes | None = None,
        *,
        sender: str = "ann@example.org",
        recipients: tuple[str, ...] = (),
        settled: Iterable[str] = (),
    ) -> Delivery:
        """Return an order whose reports are kept under this name, which is also its subject."""
        self.by_name.setdefault(name, [])

        def done(report: DeliveryReport) -> None:
            self.by_name[name].append(report)
            self._changed.set()

        octets = b"Subject: %s\r\n\r\nbody of %s\r\n" % (name.encode(), name.encode())
        message = fetched(
            octets if content is None else content,
            number=len(self.by_name),
            sender=sender,
            recipients=recipients,
        )
        return Delivery(message, done, frozenset(settled))

    def outcome(self, name: str = "one") -> Outcome:
        """Return the outcome of the only report on an order."""
        return self.report(name).outcome

    def report(self, name: str = "one") -> DeliveryReport:
        """Return the only report on an order."""
        (report,) = self.by_name[name]
        return report

    @property
    def open(self) -> set[str]:
        """The orders without a report."""
        return {name for name, reports in self.by_name.items() if not reports}

    async def all_done(self, seconds: float = 5.0) -> None:
        """Wait until every order has its report; TimeoutError if one has not."""
        async with asyncio.timeout(seconds):
            while self.open:
                self._changed.clear()
                await self._changed.wait()
