"""Commands as people write them, for a session that is driven by hand.

Nothing that logs in, protects or ends a session is read here: what leads there
changes the dialogue itself and belongs to its driver.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from mailferry.errors import LocalProtocolError
from mailferry.protocol.pop3_commands import (
    Capa,
    Command,
    Dele,
    Lang,
    List_,
    Noop,
    Retr,
    Rset,
    Stat,
    Top,
    UidlCommand,
    Verb,
)

BODY_MARK = "..."
"""Stands after a line whose reply has a body, where only who writes it can know that."""

_NUMBERED: Mapping[str, tuple[Callable[..., Command], tuple[int, ...]]] = MappingProxyType(
    {
        "CAPA": (Capa, (0,)),
        "STAT": (Stat, (0,)),
        "LIST": (List_, (0, 1)),
        "UIDL": (UidlCommand, (0, 1)),
        "TOP": (Top, (2,)),
        "RETR": (Retr, (1,)),
        "DELE": (Dele, (1,)),
        "RSET": (Rset, (0,)),
        "NOOP": (Noop, (0,)),
    }
)
"""Verb: how its command is made, and how many numbers may follow it."""


def command_by_hand(line: str) -> Command:
    """Return the command that a line asks for.

    A verb that is not known is sent as it stands; its reply has a body if the line
    ends with `...`, which is not sent.

    Raises:
        LocalProtocolError: the line is empty, its arguments are wrong, or its verb is
            one of those that log in, protect or end a session.
    """
    verb, *arguments = line.split() or [""]
    verb = verb.upper()
    if verb == "LANG":
        if len(arguments) > 1:
            raise LocalProtocolError("LANG: at most one language tag follows it")
        command: Command = Lang(*arguments)
    elif verb in _NUMBERED:
        command = _numbered(verb, arguments)
    else:
        text = line.strip()
        body = text.endswith(BODY_MARK)
        command = Verb(text.removesuffix(BODY_MARK).rstrip() if body else text, body=body)
    command.encode()  # what cannot be sent is told now, not when the session is open
    return command


def _numbered(verb: str, arguments: list[str]) -> Command:
    make, counts = _NUMBERED[verb]
    if len(arguments) not in counts or not all(each.isascii() and each.isdecimal() for each in arguments):
        allowed = " or ".join(str(count) for count in counts)
        raise LocalProtocolError(f"{verb}: {allowed} numbers follow it")
    if any(len(each) > 10 for each in arguments):
        raise LocalProtocolError(f"{verb}: a number is too large")
    return make(*(int(each) for each in arguments))
