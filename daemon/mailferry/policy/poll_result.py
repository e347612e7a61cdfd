"""What the end of a poll is called, and how long its maildrop rests after a failure.

The words are label values of metrics and stand in logs and tables: stable.
"""

from __future__ import annotations

from collections import Counter
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
    MaildropFaultError,
    ProtocolError,
    ReadTimeoutError,
    SecretError,
    StoreError,
    TlsError,
    TransportError,
)
from mailferry.policy.backoff import AUTH_BACKOFF, BUSY_BACKOFF, FAULT_BACKOFF, MAILDROP_BACKOFF, Backoff


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
    """The server refused for a reason of its own that may pass (`[SYS/TEMP]`, other -ERR)."""
    SERVER_FAULT = "server_fault"
    """The server's trouble lasts until a person mends it (`[SYS/PERM]`)."""
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
    (MaildropFaultError, PollResult.SERVER_FAULT),
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


_STANDING_CHARACTERS = 1000

_BACKOFFS = {
    PollResult.AUTH_REJECTED: AUTH_BACKOFF,
    PollResult.BUSY: BUSY_BACKOFF,
    PollResult.SERVER_FAULT: FAULT_BACKOFF,
}


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
    return _BACKOFFS.get(result, MAILDROP_BACKOFF)


class Pauses:
    """How long a maildrop rests, by what has gone wrong since it last went well.

    Each way to back off has a count of its own: a password that is refused for the
    first time, after a long outage, is not put off for hours, and one that is refused
    again and again is tried ever more rarely, whatever else fails in between.

    Args:
        last_error: of the maildrop's standing, which begins with the word for it.
        failures: in a row, by the same standing.
    """

    def __init__(self, last_error: str = "", failures: int = 0) -> None:
        self._counts: Counter[Backoff] = Counter()
        if failures:  # before a restart: they all count as the last one, which is at most too careful
            self._counts[backoff_after(result_of(last_error))] = failures

    def next_seconds(self, result: PollResult, chance: float) -> float:
        """Count a failure and return the pause after it; `chance` is in [0, 1)."""
        backoff = backoff_after(result)
        self._counts[backoff] += 1
        return backoff.pause_seconds(self._counts[backoff], chance)

    def reset(self) -> None:
        """Forget all failures: it went well."""
        self._counts.clear()


def standing_text(result: PollResult, failure: Exception | None) -> str:
    """Return what a standing keeps of a failure: its word, and what was said."""
    return f"{result}: {failure}"[:_STANDING_CHARACTERS]


def result_of(standing_error: str) -> PollResult:
    """Return the word with which a text of `standing_text` begins."""
    word = standing_error.partition(":")[0]
    return PollResult(word) if word in set(PollResult) else PollResult.INTERNAL_ERROR
