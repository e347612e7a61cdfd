"""What the end of a poll is called, and how long its maildrop rests after a failure.

The words are label values of metrics and stand in logs and tables: stable.
"""

from __future__ import annotations

from enum import StrEnum

from mailferry.errors import (
    AuthenticationRejectedError,
    CleartextRefusedError,
    ConnectError,
    ConnectionLostError,
    ConnectTimeoutError,
    LocalProtocolError,
    LoginDelayedError,
    MaildropBusyError,
    MaildropError,
    ProtocolError,
    ReadTimeoutError,
    SecretError,
    StoreError,
    TlsError,
    TransportError,
)
from mailferry.policy.backoff import AUTH_BACKOFF, MAILDROP_BACKOFF, Backoff


class PollResult(StrEnum):
    """How one poll of one maildrop ended (`PollFinished.result`)."""

    OK = "ok"
    CONNECT_FAILED = "connect_failed"
    TLS_FAILED = "tls_failed"
    TIMEOUT = "timeout"
    AUTH_REJECTED = "auth_rejected"
    BUSY = "busy"
    """Another session holds the maildrop (`[IN-USE]`)."""
    LOGIN_DELAYED = "login_delayed"
    """The server wants a pause between logins (`[LOGIN-DELAY]`)."""
    UNAVAILABLE = "unavailable"
    """The server refused for a reason of its own (`[SYS/TEMP]`, `[SYS/PERM]`, other -ERR)."""
    PROTOCOL_ERROR = "protocol_error"
    CONNECTION_LOST = "connection_lost"
    STORE_FAILED = "store_failed"
    """The ledger could not be read or written."""
    STOPPED = "stopped"
    """The daemon was told to stop; neither a success nor a failure."""
    CONFIG_ERROR = "config_error"
    """A secret could not be read, or the settings forbid the link."""
    INTERNAL_ERROR = "internal_error"
    """A fault of ours, and every word that is not in this list."""


# Order matters: the first class that fits gives the word.
_WORDS: tuple[tuple[type[Exception], PollResult], ...] = (
    (AuthenticationRejectedError, PollResult.AUTH_REJECTED),
    (MaildropBusyError, PollResult.BUSY),
    (LoginDelayedError, PollResult.LOGIN_DELAYED),
    (CleartextRefusedError, PollResult.CONFIG_ERROR),
    (SecretError, PollResult.CONFIG_ERROR),
    (LocalProtocolError, PollResult.CONFIG_ERROR),
    (MaildropError, PollResult.UNAVAILABLE),
    (ReadTimeoutError, PollResult.TIMEOUT),
    (ConnectTimeoutError, PollResult.TIMEOUT),
    (ConnectError, PollResult.CONNECT_FAILED),
    (TlsError, PollResult.TLS_FAILED),
    (ConnectionLostError, PollResult.CONNECTION_LOST),
    (TransportError, PollResult.CONNECTION_LOST),
    (ProtocolError, PollResult.PROTOCOL_ERROR),
    (StoreError, PollResult.STORE_FAILED),
    (OSError, PollResult.CONNECTION_LOST),
)


def poll_result(failure: Exception | None) -> PollResult:
    """Name the end of a poll."""
    if failure is None:
        return PollResult.OK
    for kind, word in _WORDS:
        if isinstance(failure, kind):
            return word
    return PollResult.INTERNAL_ERROR


def backoff_after(result: PollResult) -> Backoff:
    """Return how a maildrop's pauses grow after this kind of failure."""
    return AUTH_BACKOFF if result is PollResult.AUTH_REJECTED else MAILDROP_BACKOFF
