"""What every poll shares, and what one maildrop wants: handed in by the composition root."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mailferry.model import DestinationName, MaildropName, MessageId
from mailferry.policy.plan import Oversize, Rejected, Retention
from mailferry.ports import Clock, Destination, Emit, Ledger, Quarantine
from mailferry.services.budget import MemoryBudget


class MessageIds:
    """Numbers for messages: rising with time, unlike those of another process.

    Microseconds since the epoch in the upper 52 bits, chance in the lower 11, so
    that they fit the 63 bits of an SQL BIGINT until the year 2112.
    """

    def __init__(self) -> None:
        self._last = 0

    def __call__(self) -> MessageId:
        """Return a number that was not returned before."""
        number = (time.time_ns() // 1000) << 11 | random.getrandbits(11)
        self._last = max(self._last + 1, number)
        return MessageId(self._last)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The ports and the shared bounds.

    Attributes:
        destinations: all configured ones, by name.
        chance: returns a number in [0, 1), for jitter.
        ages_count: whether something may be deleted because it seems old; not for a
            while after the clock was set forward. Speaks for times read before the call.
        held: whether somebody has paused a target, as `maildrop.alice`, by hand.
    """

    ledger: Ledger
    destinations: Mapping[DestinationName, Destination]
    budget: MemoryBudget
    emit: Emit
    clock: Clock
    quarantine: Quarantine | None = None
    chance: Callable[[], float] = random.random
    new_message_id: Callable[[], MessageId] = field(default_factory=MessageIds)
    ages_count: Callable[[], bool] = lambda: True
    held: Callable[[str], bool] = lambda _target: False

    def in_force(self, retention: Retention) -> Retention:
        """Return how long messages are kept, at this moment."""
        return retention if self.ages_count() else retention.without_ages()


@dataclass(frozen=True, slots=True)
class MaildropPolicy:
    """How one maildrop is handled.

    Attributes:
        server: the POP3 server's name, for the Received field.
        destinations: where each message goes, in the configuration's order.
        prefetch: messages fetched or being fetched that are not settled yet.
        max_size_octets: 0 for no limit.
    """

    maildrop: MaildropName
    server: str
    destinations: tuple[DestinationName, ...]
    retention: Retention = field(default_factory=Retention)
    prefetch: int = 128
    max_size_octets: int = 0
    oversize: Oversize = Oversize.SKIP
    rejected: Rejected = Rejected.KEEP
    max_hops: int = 100
    by_host: str = ""
    """Our own name in Received fields, by which a loop is seen."""
