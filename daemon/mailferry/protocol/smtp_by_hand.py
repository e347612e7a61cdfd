"""SMTP commands as people write them, for a session that is driven by hand.

Whatever a server may know can be asked: MAIL and RCPT too, which tell whether it would
take a recipient and deliver nothing. What carries a message, protects, logs in or ends
the session is told in words why it is not for hands: it changes the dialogue itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from mailferry.errors import LocalProtocolError
from mailferry.protocol.smtp_commands import (
    Command,
    Ehlo,
    Etrn,
    Expn,
    Helo,
    Help,
    Lhlo,
    Noop,
    Rset,
    Verb,
    Vrfy,
)

_CARRIES = "carries a message, and messages are delivered by destinations, never by hand"
_TURNS = "turns the roles round, which only ODMR does"
NOT_BY_HAND: Mapping[str, str] = MappingProxyType(
    {
        "DATA": _CARRIES,
        "BDAT": _CARRIES,
        "BURL": _CARRIES,  # RFC 4468
        "STARTTLS": "is done while the session is opened, as `tls` says",
        "AUTH": "is done while the session is opened, with the configured user name",
        "TURN": _TURNS,
        "ATRN": _TURNS,
        "QUIT": "ends the session, which is done when nothing more is asked",
    }
)
"""Verb: why it is not sent by hand."""

_PLAIN: Mapping[str, Callable[[], Command]] = MappingProxyType({"RSET": Rset, "NOOP": Noop})
_WITH_WORD: Mapping[str, Callable[[str], Command]] = MappingProxyType(
    {"EHLO": Ehlo, "HELO": Helo, "LHLO": Lhlo, "ETRN": Etrn}
)
_WITH_TEXT: Mapping[str, Callable[[str], Command]] = MappingProxyType(
    {"VRFY": Vrfy, "EXPN": Expn, "HELP": Help}
)


def command_by_hand(line: str) -> Command:
    """Return the command that a line asks for; a verb that is not known is sent as it stands.

    Raises:
        LocalProtocolError: the line is empty, cannot be sent as it is (a control character,
            too long), or its verb is not for hands. The text does not repeat what follows the verb.
    """
    text = line.strip(" \t")
    words = text.split(maxsplit=1)
    verb = words[0].upper() if words else ""
    argument = words[1].rstrip(" \t") if len(words) > 1 else ""
    if verb in NOT_BY_HAND:
        raise LocalProtocolError(f"{verb} {NOT_BY_HAND[verb]}")
    command = _make(verb, argument, text)
    command.encode()  # what cannot be sent is told now, not when the session is open
    return command


def _make(verb: str, argument: str, text: str) -> Command:
    if verb in _WITH_WORD:
        return _WITH_WORD[verb](argument)
    if verb in _WITH_TEXT:
        return _WITH_TEXT[verb](argument)
    return _PLAIN[verb]() if verb in _PLAIN and not argument else Verb(text)
