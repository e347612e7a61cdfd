"""What a failed session means: where it failed, what to do about it, and the exit code."""

from __future__ import annotations

from mailferry.cli.exit_codes import ExitCode
from mailferry.cli.once_report import TEMPORARY
from mailferry.errors import (
    AuthenticationRejectedError,
    CleartextRefusedError,
    ConnectionLostError,
    ConnectTimeoutError,
    GreetingRefusedError,
    HopAuthenticationError,
    HopClosedError,
    HopGreetingRefusedError,
    HopLoginUnavailableError,
    LoginDelayedError,
    LoginUnavailableError,
    MaildropBusyError,
    MaildropFaultError,
    MailferryError,
    ReadTimeoutError,
    RemoteProtocolError,
    SecretError,
    SmtpRefusedError,
)
from mailferry.net.opening import Stage
from mailferry.policy.poll_result import poll_result

STAGES = {
    Stage.CONNECT: "connecting",
    Stage.TLS: "TLS",
    Stage.GREETING: "the greeting",
    Stage.CAPABILITIES: "asking what the server can",
    Stage.LOGIN: "the login",
    Stage.READY: "the dialogue",
}

# Errors that are not here say themselves what to do. The first class that fits counts.
_ADVICE: tuple[tuple[type[MailferryError], str], ...] = (
    (
        MaildropBusyError,
        "A session locks its maildrop, and the daemon's polls are sessions: try again in a moment.",
    ),
    (
        LoginDelayedError,
        "The server counts the daemon's logins, too: wait, or give the maildrop a longer every.",
    ),
    (
        AuthenticationRejectedError,
        "Only one way to log in was tried, so that no lock-out comes of it; auth names another.",
    ),
    (
        HopAuthenticationError,
        "Only one way to log in was tried, so that no lock-out comes of it; auth names another.",
    ),
    (CleartextRefusedError, "--no-login looks at the server without sending a password."),
    (MaildropFaultError, "Whoever runs the server can see the reason in its log."),
    (
        LoginUnavailableError,
        "--no-login shows what the server offers; auth in the configuration chooses from it.",
    ),
    (
        HopLoginUnavailableError,
        "--no-login shows what the server offers; auth in the configuration chooses from it.",
    ),
    (
        GreetingRefusedError,
        "The server is there and takes no sessions; its words above say why, if anything does.",
    ),
    (HopGreetingRefusedError, "The server is there and takes no mail from this address now."),
    (HopClosedError, "The server ends sessions like this one; some do so after a number of commands."),
    (
        ConnectTimeoutError,
        "Nothing answered, not even with a refusal: a firewall on the way, or the wrong host or port.",
    ),
    (
        ReadTimeoutError,
        "The connection stood, and the server said nothing more: it is overloaded, or expects TLS.",
    ),
    (
        ConnectionLostError,
        "The server, or something in between, closed the connection: check that port and tls agree.",
    ),
    (
        RemoteProtocolError,
        "What answers there speaks another protocol, or speaks it wrongly: check host and port.",
    ),
    (SecretError, "--no-login looks at the server without a password."),
)


def advice_on(error: Exception) -> str:
    """Return what to do about a failure; empty where its own text says it."""
    return next((words for kind, words in _ADVICE if isinstance(error, kind)), "")


def exit_code_of(error: Exception) -> ExitCode:
    """Return what a script should know of a failure."""
    if isinstance(error, AuthenticationRejectedError | HopAuthenticationError):
        return ExitCode.NO_PERMISSION
    if isinstance(error, SecretError):
        return ExitCode.CONFIG
    if isinstance(error, SmtpRefusedError):
        refused = error.refused
        return ExitCode.TEMPORARY if refused is not None and refused.code < 500 else ExitCode.FAILED
    return ExitCode.TEMPORARY if poll_result(error) in TEMPORARY else ExitCode.FAILED


def refusal_document(error: Exception) -> dict[str, object] | None:
    """Return what the server said when it refused, for `--json`; None when it said nothing."""
    said = getattr(error, "refused", None)
    if said is None:
        return None
    names = ("verb", "code", "enhanced_status", "response_code", "text")
    return {name: getattr(said, name) for name in names if hasattr(said, name)}
