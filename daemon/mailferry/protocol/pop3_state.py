"""The POP3 session as one table of legal moves.

    GREETING ──+OK──► AUTHORIZATION ──PASS, APOP, RPOP +OK──► TRANSACTION ──QUIT──► UPDATE
        │                │  ▲   │ ▲                               ▲                   │
      -ERR          STLS │  │   │ ╰─────────-ERR──────╮           │             any reply
        │            +OK │  │  AUTH                   │           │                   │
        ▼                ▼  │   ╰────────► AUTHENTICATING ──+OK───╯                   ▼
      CLOSED            TLS─╯ tls_established()                                     CLOSED

A session begins in GREETING, where only the server speaks (RFC 1939 s.3). In
AUTHORIZATION (s.4) one command is under way at a time: what follows depends on
its reply, and a server may close after any failure. Only where the server pipelines
may PASS follow USER at once, and what belongs to TRANSACTION follow the login. STLS leads through TLS, in
which neither side may say anything in POP3 (RFC 2595 s.4). AUTH leads through
AUTHENTICATING, in which each challenge is answered by exactly one line (RFC 5034
s.4). In TRANSACTION (RFC 1939 s.5) commands may be pipelined (RFC 2449 s.6.6);
whether the server can take that is the caller's business. LANG is legal in both
(RFC 6856 s.3); UTF8 only before login, and after it STLS no more (s.2.1). QUIT ends the session
whatever its reply; sent in TRANSACTION it first enters UPDATE (RFC 1939 s.6),
where the replies to what was pipelined before it still come in. Everything else
that goes wrong ends in CLOSED, which nothing leaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from mailferry.protocol.pop3_commands import (
    Apop,
    Auth,
    AuthCancel,
    AuthResponse,
    Capa,
    Command,
    Dele,
    Lang,
    List_,
    Noop,
    Pass,
    Quit,
    Retr,
    Rpop,
    Rset,
    Stat,
    Stls,
    Top,
    UidlCommand,
    User,
    Utf8,
    Verb,
)


class Pop3State(Enum):
    """Where a session stands; the picture is in the module's docstring."""

    GREETING = "greeting"
    AUTHORIZATION = "authorization"
    AUTHENTICATING = "authenticating"
    TLS = "tls"
    TRANSACTION = "transaction"
    UPDATE = "update"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Move:
    """What a command does to the session; None leaves the state as it is.

    Attributes:
        sent: the state from the moment the command is sent.
        ok: the state after +OK.
        err: the state after -ERR.
        pipelined: whether it may be sent while other replies are still due.
        answers: whether it answers a challenge and so has no reply of its own.
        after_user: whether it is legal only right after a successful USER.
        not_in_utf8: whether it is illegal once UTF8 has been accepted.
        in_login_group: whether it may be sent while other replies are due, where a login may be
            sent as a group (RFC 2449 s.6.6 names USER and PASS).
    """

    sent: Pop3State | None = None
    ok: Pop3State | None = None
    err: Pop3State | None = None
    pipelined: bool = False
    answers: bool = False
    after_user: bool = False
    not_in_utf8: bool = False
    in_login_group: bool = False


_ONE = Move()
_LOGIN = Move(ok=Pop3State.TRANSACTION)
_LOGIN_AFTER_USER = Move(ok=Pop3State.TRANSACTION, after_user=True)
_PASS = Move(ok=Pop3State.TRANSACTION, after_user=True, in_login_group=True)
_ANSWER = Move(answers=True)
_PIPELINED = Move(pipelined=True)

MOVES: Mapping[Pop3State, Mapping[type[Command], Move]] = {
    Pop3State.GREETING: {},
    Pop3State.AUTHORIZATION: {
        Capa: _ONE,
        Stls: Move(ok=Pop3State.TLS, not_in_utf8=True),  # RFC 6856 s.2.1
        User: _ONE,
        Pass: _PASS,  # RFC 1939 s.7
        Rpop: _LOGIN_AFTER_USER,  # RFC 1081: in the place of PASS
        Apop: _LOGIN,
        Auth: Move(sent=Pop3State.AUTHENTICATING, ok=Pop3State.TRANSACTION, err=Pop3State.AUTHORIZATION),
        Lang: _ONE,
        Utf8: _ONE,
        Verb: _ONE,
        Quit: Move(ok=Pop3State.CLOSED, err=Pop3State.CLOSED),
    },
    Pop3State.AUTHENTICATING: {
        AuthResponse: _ANSWER,
        AuthCancel: _ANSWER,
    },
    Pop3State.TLS: {},
    Pop3State.TRANSACTION: {
        Capa: _PIPELINED,
        Stat: _PIPELINED,
        List_: _PIPELINED,
        UidlCommand: _PIPELINED,
        Top: _PIPELINED,
        Retr: _PIPELINED,
        Dele: _PIPELINED,
        Rset: _PIPELINED,
        Noop: _PIPELINED,
        Lang: _PIPELINED,
        Verb: _ONE,
        Quit: Move(sent=Pop3State.UPDATE, ok=Pop3State.CLOSED, err=Pop3State.CLOSED, pipelined=True),
    },
    Pop3State.UPDATE: {},
    Pop3State.CLOSED: {},
}
"""The only place that says what may be sent when, and where it leads."""
