"""The states of an SMTP session and every legal move between them, in one table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from mailferry.protocol.smtp_commands import (
    Atrn,
    Auth,
    AuthCancel,
    AuthResponse,
    Command,
    Ehlo,
    Etrn,
    Expn,
    Helo,
    Help,
    Lhlo,
    Noop,
    Quit,
    Rset,
    StartTls,
    Verb,
    Vrfy,
)


class SmtpState(Enum):
    """Where a session stands; `smtp` has the picture."""

    GREETING = auto()
    CONNECTED = auto()
    READY = auto()
    AUTHENTICATING = auto()
    TLS = auto()
    TURNING = auto()
    TURNED = auto()
    QUITTING = auto()
    CLOSED = auto()


@dataclass(frozen=True, slots=True)
class Move:
    """When a command is legal and where it leads; None stays."""

    legal: frozenset[SmtpState]
    unanswered: SmtpState | None = None
    granted: SmtpState | None = None
    refused: SmtpState | None = None


_ANY = frozenset({SmtpState.CONNECTED, SmtpState.READY})
_READY = frozenset({SmtpState.READY})
_IN_AUTH = frozenset({SmtpState.AUTHENTICATING})
MOVES: Mapping[type[Command], Move] = {
    #                     legal in  until the reply           after 2yz        after 4yz, 5yz
    Ehlo: Move(_ANY, None, SmtpState.READY, None),
    Helo: Move(_ANY, None, SmtpState.READY, None),
    Lhlo: Move(_ANY, None, SmtpState.READY, None),
    StartTls: Move(_READY, None, SmtpState.TLS, None),
    Auth: Move(_READY, SmtpState.AUTHENTICATING, SmtpState.READY, SmtpState.READY),
    AuthResponse: Move(_IN_AUTH, None, SmtpState.READY, SmtpState.READY),
    AuthCancel: Move(_IN_AUTH, None, SmtpState.READY, SmtpState.READY),
    Quit: Move(_ANY, SmtpState.QUITTING, SmtpState.CLOSED, SmtpState.CLOSED),
    Etrn: Move(_READY),
    Atrn: Move(_READY, SmtpState.TURNING, SmtpState.TURNED, SmtpState.READY),
    Rset: Move(_ANY),
    Noop: Move(_ANY),
    Vrfy: Move(_ANY),
    Expn: Move(_ANY),
    Help: Move(_ANY),
    Verb: Move(_ANY),
}
