"""How many sessions to a next hop pay.

One session carries one message per round trip, since the next content waits for the reply
to the one before. To a next hop nearby that is thousands a second, and one session is best:
each further one is a message more that the death of the process can double. Over a
distance it is tens a second, and only further sessions help.
"""

from __future__ import annotations

from dataclasses import dataclass

NEAR_SECONDS = 0.01
"""Up to this round trip a next hop is near: what makes it slow is work, and not the distance."""

ENOUGH_REPLIES = 2
"""One late reply may have been the work of a busy machine."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How a destination stands.

    Attributes:
        waiting: deliveries that no session has begun.
        replies: how many replies were timed.
        round_trip_seconds: the shortest time in which one of them came.
        opening_seconds: what it took to open a session, from the connection to the login.
    """

    waiting: int
    replies: int
    round_trip_seconds: float
    opening_seconds: float


def is_far(pace: Pace) -> bool:
    """Tell whether it is the distance that makes a session slow."""
    return pace.replies >= ENOUGH_REPLIES and pace.round_trip_seconds > NEAR_SECONDS


def sessions_that_pay(pace: Pace) -> int:
    """Return how many sessions are worth having, those that are open included; 0 for "no opinion".

    Another one pays while what waits takes longer, shared among those that there are, than it
    takes to open it.
    """
    if not is_far(pace):
        return 0
    trip = pace.round_trip_seconds
    return int(pace.waiting * trip / max(pace.opening_seconds, trip))
