"""How long to wait before the next attempt.

Exponential, with a limit and with jitter: many maildrops that failed together
(a provider's outage) must not all come back in the same second.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """A schedule of pauses, all in seconds.

    Attributes:
        first_seconds: the pause after the first failure.
        limit_seconds: no pause is longer than this, before jitter.
        jitter: the part of the pause that chance decides, 0 to 1.
    """

    first_seconds: float
    limit_seconds: float
    factor: float = 2.0
    jitter: float = 0.25

    def pause_seconds(self, failures: int, chance: float) -> float:
        """Return the pause after `failures` failures in a row (1 is the first).

        `chance` in [0, 1) spreads the pause over `1 - jitter` to `1 + jitter` of
        its length.
        """
        doublings = min(max(failures, 1) - 1, 64)  # beyond that the limit rules anyway
        pause = min(self.first_seconds * self.factor**doublings, self.limit_seconds)
        return pause * (1 - self.jitter + 2 * self.jitter * chance)

    @property
    def longest_seconds(self) -> float:
        """No pause is longer than this, jitter included."""
        return self.limit_seconds * (1 + self.jitter)


def is_due(at: float, now: float, backoff: Backoff) -> bool:
    """Tell whether a pause that was to last until `at` is over.

    It also is when more of it is left than the longest pause has: then the clock has
    been set back since, and nobody should wait until it has caught up.
    """
    return at <= now or at - now > backoff.longest_seconds


MESSAGE_BACKOFF = Backoff(first_seconds=60, limit_seconds=4 * 3600)
"""One message at one destination. RFC 5321 s.4.5.4.1 wants growing gaps of 30 minutes
and more between attempts; greylisting wants a quick second one."""

FETCH_BACKOFF = Backoff(first_seconds=60, limit_seconds=4 * 3600)
"""One message that the POP3 server did not hand over."""

ROUTE_BACKOFF = Backoff(first_seconds=15, limit_seconds=15 * 60)
"""A next hop that takes no mail at all: short at first, it is usually a restart."""

MAILDROP_BACKOFF = Backoff(first_seconds=30, limit_seconds=30 * 60)
"""A maildrop that cannot be polled."""

AUTH_BACKOFF = Backoff(first_seconds=10 * 60, limit_seconds=6 * 3600)
"""A refused password: providers lock accounts that hammer."""

BUSY_BACKOFF = Backoff(first_seconds=30, limit_seconds=5 * 60)
"""A maildrop that another session holds: it is let go sooner or later, and nobody is to blame."""

FAULT_BACKOFF = Backoff(first_seconds=10 * 60, limit_seconds=6 * 3600)
"""A server that waits for a person (`[SYS/PERM]`): to ask more often only fills its log."""

ROUTE_AUTH_BACKOFF = Backoff(first_seconds=10 * 60, limit_seconds=3600)
"""A next hop that refused our credentials: it may lock them, and mail waits for it."""
