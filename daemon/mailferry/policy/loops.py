"""Whether a message runs in a circle: decided before it is relayed once more.

A relayer that fetches mail and sends it on closes a circle as soon as somebody
forwards its destination back to the maildrop. Three signs, each of which no sound
way through the mail system shows:

- As many Received fields as nobody needs (RFC 5321 s.6.3: "normally at least 100").
- Several of them are ours: the message has come by here again and again.
- One is ours and an address stands twice in Delivered-To: it was put into the same
  mailbox before and after it came by here.

A Delivered-To alone proves nothing. A provider's maildrop for alice@example.org that
is relayed to alice@example.org at the office is what this program is made for, and
every message in it carries that address once (RFC 9228).
"""

from __future__ import annotations

from dataclasses import dataclass

from mailferry.model import TraceFacts


@dataclass(frozen=True, slots=True)
class LoopLimits:
    """From how many on a message is refused.

    Attributes:
        max_hops: Received fields in all.
        max_own: Received fields of ours. One is in order where a maildrop is filled
            by mail that we relayed from another, and so are two.
    """

    max_hops: int = 100
    max_own: int = 3


def find_loop(trace: TraceFacts, limits: LoopLimits) -> str | None:
    """Return why the message is taken to run in a loop, or None if it is not."""
    if trace.received >= limits.max_hops:
        return f"mail loop: {trace.received} Received fields, max_hops is {limits.max_hops}"
    if trace.received_by_us >= limits.max_own:
        return f"mail loop: came by here {trace.received_by_us} times before"
    if trace.received_by_us and trace.repeated_delivered_to:
        return f"mail loop: came by here before and reached {trace.repeated_delivered_to[0]} twice"
    return None
