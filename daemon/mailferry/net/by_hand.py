"""What came of one command that a person asked for, POP3 and SMTP alike."""

from __future__ import annotations

from dataclasses import dataclass

HELD_OCTETS = 2**20
"""How much of a body is kept for who asked by hand: more than anybody reads on a terminal."""


@dataclass(frozen=True, slots=True)
class HandAnswer:
    """The answer to one command.

    Attributes:
        line: the command as it was sent.
        verb: its verb, in capitals.
        ok: +OK, or 2yz.
        reply: the status line, or the reply, in one line.
        body: what followed it, at most `HELD_OCTETS` of it; None where nothing does.
        octets: how long the body is.
    """

    line: str
    verb: str
    ok: bool
    reply: str
    body: bytes | None = None
    octets: int = 0
