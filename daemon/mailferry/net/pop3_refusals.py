"""What a -ERR is called: one class for each way of failing, with what the server said."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from mailferry.errors import (
    AuthenticationRejectedError,
    CapaRefusedError,
    CommandRefusedError,
    DeleRefusedError,
    GreetingRefusedError,
    LangRefusedError,
    ListRefusedError,
    LoginDelayedError,
    LoginUnavailableError,
    MaildropBusyError,
    MaildropError,
    MaildropFaultError,
    NoopRefusedError,
    QuitRefusedError,
    RefusedCommand,
    RetrRefusedError,
    RsetRefusedError,
    StatRefusedError,
    TopRefusedError,
    UidlRefusedError,
    Utf8RefusedError,
)
from mailferry.policy.login import LoginRefusal
from mailferry.protocol.pop3 import Greeting, Reply

_BY_VERB: Mapping[str, type[CommandRefusedError]] = MappingProxyType(
    {
        "STAT": StatRefusedError,
        "LIST": ListRefusedError,
        "UIDL": UidlRefusedError,
        "TOP": TopRefusedError,
        "RETR": RetrRefusedError,
        "DELE": DeleRefusedError,
        "RSET": RsetRefusedError,
        "NOOP": NoopRefusedError,
        "QUIT": QuitRefusedError,
        "CAPA": CapaRefusedError,
        "LANG": LangRefusedError,
        "UTF8": Utf8RefusedError,
    }
)


def refused(reply: Reply | Greeting) -> RefusedCommand:
    """Return what a server refused, and in which words."""
    verb = reply.command.verb if isinstance(reply, Reply) else ""
    return RefusedCommand(verb, reply.response_code, reply.text)


def command_refused(reply: Reply) -> CommandRefusedError:
    """Return the error for a refused command, not raised."""
    kind = _BY_VERB.get(reply.command.verb, CommandRefusedError)
    return kind(f"{reply.command.verb} refused: {reply.line}", refused=refused(reply))


def session_refused(
    refusal: LoginRefusal, text: str, said: RefusedCommand, login_delay_seconds: float
) -> MaildropError:
    """Return the error for a refused greeting or login, not raised.

    Args:
        refusal: why.
        text: where and in which words.
        said: the server's reply.
        login_delay_seconds: the pause if the server wants one.
    """
    match refusal:
        case LoginRefusal.CREDENTIALS:
            return AuthenticationRejectedError(f"{text}. Check username and password", refused=said)
        case LoginRefusal.BUSY:
            return MaildropBusyError(f"{text}. Another session holds the maildrop", refused=said)
        case LoginRefusal.DELAYED:
            return LoginDelayedError(text, login_delay_seconds, refused=said)
        case LoginRefusal.FAULT:
            return MaildropFaultError(
                f"{text}. Only a person can mend it: ask the server's operator", refused=said
            )
        case LoginRefusal.UNAVAILABLE:
            kind = LoginUnavailableError if said.verb else GreetingRefusedError
            return kind(text, refused=said)
