"""What a destination needs of SMTP sessions, and of who opens them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from mailferry.errors import MailferryError
from mailferry.protocol.smtp_features import SmtpFeatures
from mailferry.protocol.smtp_transaction import Transaction, TransactionFinished


class Session(Protocol):
    """What the destination needs of an SMTP session."""

    on_change: Callable[[], None]
    window: int
    """How many messages may be on their way at once, their ends sent and not answered, where it takes BDAT."""

    @property
    def failure(self) -> MailferryError | None:
        """Why it died, or None."""

    @property
    def transactions(self) -> int:
        """How many were begun."""

    @property
    def features(self) -> SmtpFeatures:
        """What the next hop offers."""

    @property
    def round_trips(self) -> int:
        """How many replies were timed."""

    @property
    def round_trip_seconds(self) -> float:
        """The shortest time in which one of them came."""

    @property
    def can_begin(self) -> bool:
        """Whether a transaction can begin now."""

    @property
    def idle(self) -> bool:
        """Whether no transaction is under way."""

    def begin(self, transaction: Transaction, finished: Callable[[TransactionFinished], None]) -> None:
        """Begin a transaction; raises LocalProtocolError for an unusable address."""

    async def quit(self) -> None:
        """End the session; never raises."""

    def fail(self, error: MailferryError) -> None:
        """Drop the link; what is under way is told."""


class Connector(Protocol):
    """Opens sessions."""

    async def open(self) -> Session:
        """Raises MailferryError when there is none to be had."""
