"""What the page says in the place of words that are made for metrics and commands."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from mailferry.model import DeliveryState, MessageRecord, MessageState
from mailferry.web.page.model import Tone

_FAILURES: Mapping[str, str] = MappingProxyType(
    {
        "connect_failed": "No connection",
        "tls_failed": "No trusted TLS connection",
        "timeout": "The server did not answer in time",
        "auth_rejected": "Login refused",
        "busy": "Another session holds the maildrop",
        "login_delayed": "The server wants a pause between logins",
        "unavailable": "The server refused",
        "server_fault": "The server has a fault that a person must mend",
        "protocol_error": "The server broke the protocol",
        "connection_lost": "The connection broke",
        "store_failed": "The ledger could not be used",
        "config_error": "A setting or a secret is not usable",
        "internal_error": "A fault of mailferry's own",
        "postponed": "Nobody listens for the mail here",
        "not_offered": "The server does not offer it",
        "refused": "The server does not serve this node",
        "unable": "The server cannot do it now",
        "needs_tls": "The server wants TLS",
        "needs_auth": "The server wants a login",
    }
)
_STATES: Mapping[MessageState, tuple[str, str, Tone]] = MappingProxyType(
    {
        MessageState.DEFERRED: ("waiting", "tried again", Tone.WARN),
        MessageState.ACCEPTED: ("delivered", "kept on the server", Tone.GOOD),
        MessageState.DELETE_PENDING: ("delivered", "being deleted", Tone.GOOD),
        MessageState.REJECTED: ("refused", "kept on the server", Tone.BAD),
        MessageState.SKIPPED: ("skipped", "left on the server", Tone.QUIET),
        MessageState.MISSING: ("delivered", "not listed any more", Tone.GOOD),
        MessageState.GONE: ("delivered", "deleted", Tone.GOOD),
    }
)
_LEFT_UNDELIVERED: Mapping[MessageState, tuple[str, str, Tone]] = MappingProxyType(
    {
        MessageState.DELETE_PENDING: ("not delivered", "being deleted", Tone.WARN),
        MessageState.GONE: ("not delivered", "left the server", Tone.WARN),
    }
)
DELIVERY_TONES: Mapping[DeliveryState, Tone] = MappingProxyType(
    {
        DeliveryState.ACCEPTED: Tone.GOOD,
        DeliveryState.DEFERRED: Tone.WARN,
        DeliveryState.IN_DOUBT: Tone.WARN,
        DeliveryState.REJECTED: Tone.BAD,
    }
)


def error_words(error: str) -> tuple[str, str]:
    """Return what went wrong in words, and the rest of it: a standing's error begins with a word for metrics."""
    word, colon, rest = error.partition(":")
    if colon and word in _FAILURES:
        return _FAILURES[word], rest.strip()
    return "", error


def message_state(message: MessageRecord) -> tuple[str, str, Tone]:
    """Say what became of a message, where it is, and what that asks of a person.

    Some leave their server without being delivered: into the quarantine, or by another hand.
    """
    if message.accepted_at is None and message.state in _LEFT_UNDELIVERED:
        return _LEFT_UNDELIVERED[message.state]
    return _STATES[message.state]
