"""Messages that wait or were refused and are still on their server: let them be tried again.

The ledger is changed beside whoever has it open, so that a command does the same with a
daemon and without one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mailferry.ledger.writer import open_writer


@dataclass(frozen=True, slots=True)
class Retried:
    """How many messages will be tried again at the next poll.

    Attributes:
        refused: those that had been refused for good.
        postponed: those that waited for their next attempt.
    """

    refused: int
    postponed: int


def retry_messages(ledger_url: str, maildrop: str | None, uidl: str | None) -> Retried:
    """Let them be due at once; what is left out of the choice does not restrict it. Blocks.

    Raises:
        StoreError: the ledger is not there, or cannot be written.
    """
    octets = uidl_octets(uidl) if uidl is not None else None
    with open_writer(ledger_url) as ledger:
        # Refused ones first: they are then due, and not counted again.
        refused = ledger.retry_rejected(maildrop, octets)
        return Retried(refused, ledger.hurry_postponed(maildrop, octets))


def uidl_octets(shown: str) -> bytes:
    r"""Return a unique-id from what `history` shows: ASCII, other octets as `\xNN`."""
    octets = shown.encode("utf-8", "surrogateescape")
    return re.sub(rb"\\x([89a-f][0-9a-f])", lambda match: bytes.fromhex(match[1].decode()), octets)
