"""What the answer to an ETRN request means, and when to ask again (RFC 1985 s.5.3).

An answer is a promise at best: the mail comes later, on connections of the server's own,
or not at all. So three things are told apart: the server took the request; it does not
now; it never will until a person changes something, there or here. What no list names
goes by its first digit.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from mailferry.errors import (
    CleartextRefusedError,
    ConnectError,
    ConnectTimeoutError,
    EtrnNotOfferedError,
    HopAuthenticationError,
    HopError,
    LocalProtocolError,
    ProtocolError,
    ReadTimeoutError,
    SecretError,
    TlsError,
    TransportError,
)
from mailferry.policy.backoff import AUTH_BACKOFF, FAULT_BACKOFF, Backoff
from mailferry.protocol.smtp_replies import SmtpReply


class EtrnResult(StrEnum):
    """How one ETRN request ended; label values of metrics, and words in logs and tables: stable."""

    STARTED = "started"
    """250, 252, 253: the queue for the node is being run."""
    NOTHING_WAITING = "nothing_waiting"
    """251."""
    UNABLE = "unable"
    """458 and other 4yz: not now."""
    REFUSED = "refused"
    """459 and other 5yz: not for this node."""
    NOT_OFFERED = "not_offered"
    """The server does not offer ETRN and was not asked, or knows no such command (500, 502)."""
    NEEDS_TLS = "needs_tls"
    """530, 538 or 454 on an unprotected link."""
    NEEDS_AUTH = "needs_auth"
    """530 or 454 without a login."""
    POSTPONED = "postponed"
    """Not asked: nobody listens where the mail would come in."""
    UNAVAILABLE = "unavailable"
    """The server refused the session, or ended it (421) before it answered."""
    CONNECT_FAILED = "connect_failed"
    TLS_FAILED = "tls_failed"
    TIMEOUT = "timeout"
    AUTH_REJECTED = "auth_rejected"
    PROTOCOL_ERROR = "protocol_error"
    CONNECTION_LOST = "connection_lost"
    CONFIG_ERROR = "config_error"
    INTERNAL_ERROR = "internal_error"


ACCEPTED = frozenset({EtrnResult.STARTED, EtrnResult.NOTHING_WAITING})
"""The server runs the queue, or has nothing in it: both say that it serves the node."""

NEEDS_PERSON = frozenset(
    {
        EtrnResult.REFUSED,
        EtrnResult.NOT_OFFERED,
        EtrnResult.NEEDS_TLS,
        EtrnResult.NEEDS_AUTH,
        EtrnResult.AUTH_REJECTED,
        EtrnResult.CONFIG_ERROR,
    }
)
"""It goes on until somebody changes a setting: at the server, or here."""


@dataclass(frozen=True, slots=True)
class EtrnAnswer:
    """What a reply means.

    Attributes:
        pending: the number that a 253 told; None when none was.
        promised: the server said that messages were waiting (252, 253), which many never say.
        ends_session: the server will not answer another command of this session.
        advice: what to do about it; empty when there is nothing to do.
    """

    result: EtrnResult
    pending: int | None = None
    promised: bool = False
    ends_session: bool = False
    advice: str = ""


_NOT_SERVED = (
    "the server does not queue mail for this node, or not for us: ask its operator "
    "(Postfix: fast_flush_domains, smtpd_etrn_restrictions)"
)
_UNKNOWN_COMMAND = "the server has no ETRN, or has switched it off: ask its operator"
_UNKNOWN_FORM = "the server does not understand this node: check its spelling, and whether it takes the forms @domain and #queue"
_NEEDS_TLS = 'the server wants TLS first: set tls = "starttls" or "implicit"'
_NEEDS_AUTH = "the server wants a login first: set username and password"

# RFC 1985 s.5.3 and RFC 5321 s.4.2.2, where the code says more than its first digit.
_BY_CODE = {
    251: EtrnAnswer(EtrnResult.NOTHING_WAITING),
    252: EtrnAnswer(EtrnResult.STARTED, promised=True),
    459: EtrnAnswer(EtrnResult.REFUSED, advice=_NOT_SERVED),
    500: EtrnAnswer(EtrnResult.NOT_OFFERED, advice=_UNKNOWN_COMMAND),
    501: EtrnAnswer(EtrnResult.REFUSED, advice=_UNKNOWN_FORM),
    502: EtrnAnswer(EtrnResult.NOT_OFFERED, advice=_UNKNOWN_COMMAND),
    503: EtrnAnswer(
        EtrnResult.PROTOCOL_ERROR,
        advice="the server calls it the wrong moment: please report it, with a trace",
    ),
    504: EtrnAnswer(EtrnResult.REFUSED, advice=_UNKNOWN_FORM),
}
_BY_FIRST_DIGIT = {
    2: EtrnAnswer(EtrnResult.STARTED),
    4: EtrnAnswer(EtrnResult.UNABLE),
    5: EtrnAnswer(EtrnResult.REFUSED, advice=_NOT_SERVED),
}
# RFC 3207 s.4, RFC 4954 s.6: TLS or a login is wanted first, or cannot be had at the moment.
_WANTS_MORE = frozenset({454, 530, 538})

# "253 OK, 14 pending messages for node x.org started": servers change the words, so any number that
# stands by itself will do. Within a name such as 9.example.org it does not.
_PENDING = re.compile(r"(?<![\w.-])([0-9]{1,9})\s+pending\b", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.-])([0-9]{1,9})(?![-.]?\w)")


def judge(reply: SmtpReply, *, protected: bool, logged_in: bool) -> EtrnAnswer:
    """Say what a reply to ETRN means.

    Args:
        reply: the server's.
        protected: whether TLS was in force.
        logged_in: whether AUTH had succeeded.
    """
    if (missing := missing_first(reply, protected=protected, logged_in=logged_in)) is not None:
        return missing
    if reply.code == 253:  # RFC 1985 s.5.3: the only one that tells a number
        number = pending_messages(reply.text)
        return EtrnAnswer(EtrnResult.STARTED, pending=number, promised=number != 0)
    if reply.code == 421 or (reply.code == 554 and "too many" in reply.text.lower()):
        # Exim says 554 in place of 421 when a session has had ten commands that bring no mail, and hangs up.
        return EtrnAnswer(EtrnResult.UNAVAILABLE, ends_session=True)
    answer = _BY_CODE.get(reply.code) or _BY_FIRST_DIGIT.get(reply.code // 100)
    return answer or EtrnAnswer(EtrnResult.PROTOCOL_ERROR)


def missing_first(reply: SmtpReply, *, protected: bool, logged_in: bool) -> EtrnAnswer | None:
    """Tell which of TLS and login the server misses; None when we gave it both, or it misses neither."""
    if reply.code not in _WANTS_MORE:
        return None
    words = reply.text.upper()
    names_tls = reply.code == 538 or "TLS" in words or "ENCRYPT" in words
    if not protected and (names_tls or logged_in):
        return EtrnAnswer(EtrnResult.NEEDS_TLS, advice=_NEEDS_TLS)
    if not logged_in:
        return EtrnAnswer(EtrnResult.NEEDS_AUTH, advice=_NEEDS_AUTH)
    return None


def pending_messages(text: str) -> int | None:
    """Return the number of messages that the text of a 253 tells, None when it tells none."""
    found = _PENDING.search(text) or _NUMBER.search(text)
    return int(found[1]) if found else None


# Order matters: the first class that fits gives the word.
_FAILURES: tuple[tuple[type[Exception], EtrnResult], ...] = (
    (EtrnNotOfferedError, EtrnResult.NOT_OFFERED),
    (HopAuthenticationError, EtrnResult.AUTH_REJECTED),
    (HopError, EtrnResult.UNAVAILABLE),
    (CleartextRefusedError, EtrnResult.CONFIG_ERROR),
    (SecretError, EtrnResult.CONFIG_ERROR),
    (LocalProtocolError, EtrnResult.CONFIG_ERROR),
    (ReadTimeoutError, EtrnResult.TIMEOUT),
    (ConnectTimeoutError, EtrnResult.TIMEOUT),
    (ConnectError, EtrnResult.CONNECT_FAILED),
    (TlsError, EtrnResult.TLS_FAILED),
    (TransportError, EtrnResult.CONNECTION_LOST),
    (ProtocolError, EtrnResult.PROTOCOL_ERROR),
    (OSError, EtrnResult.CONNECTION_LOST),
)


def failure_result(failure: Exception) -> EtrnResult:
    """Name the end of a session that brought no answer."""
    for kind, word in _FAILURES:
        if isinstance(failure, kind):
            return word
    return EtrnResult.INTERNAL_ERROR


# -- when to ask again -----------------------------------------------------------

UNABLE_BACKOFF = Backoff(first_seconds=120, limit_seconds=3600)
"""458: the queue is being run already, or the server has trouble of its own."""

REFUSED_BACKOFF = Backoff(first_seconds=3600, limit_seconds=12 * 3600)
"""Nothing changes by itself, and each request is a line in the log of a server that is not ours."""

SERVER_BACKOFF = Backoff(first_seconds=60, limit_seconds=3600)
"""A server that cannot be reached, or ends its sessions."""

LISTENER_BACKOFF = Backoff(first_seconds=60, limit_seconds=60)
"""Our own server is usually being restarted, and to look for it costs nobody anything."""

LONGEST_PAUSE_SECONDS = REFUSED_BACKOFF.longest_seconds
"""No pause below is longer than this."""

_BACKOFFS = {
    EtrnResult.UNABLE: UNABLE_BACKOFF,
    EtrnResult.REFUSED: REFUSED_BACKOFF,
    EtrnResult.NOT_OFFERED: REFUSED_BACKOFF,
    EtrnResult.NEEDS_TLS: REFUSED_BACKOFF,
    EtrnResult.NEEDS_AUTH: REFUSED_BACKOFF,
    EtrnResult.POSTPONED: LISTENER_BACKOFF,
    EtrnResult.AUTH_REJECTED: AUTH_BACKOFF,
    EtrnResult.CONFIG_ERROR: FAULT_BACKOFF,
}


def backoff_after(result: EtrnResult) -> Backoff:
    """Return how pauses grow after this kind of failure."""
    return _BACKOFFS.get(result, SERVER_BACKOFF)


class Streak:
    """How long a node, or a server, rests: each way to back off has a count of its own.

    Args:
        last_error: of its standing, which begins with the word for it.
        failures: in a row, by the same standing.
    """

    def __init__(self, last_error: str = "", failures: int = 0) -> None:
        self._counts: Counter[Backoff] = Counter()
        if failures:
            self._counts[backoff_after(result_of(last_error))] = failures

    def next_seconds(self, result: EtrnResult, chance: float) -> float:
        """Count a failure and return the pause after it; `chance` is in [0, 1)."""
        backoff = backoff_after(result)
        self._counts[backoff] += 1
        return backoff.pause_seconds(self._counts[backoff], chance)

    def reset(self) -> None:
        """Forget all failures: it went well."""
        self._counts.clear()


# -- what the ledger keeps ---------------------------------------------------------

SILENT = "silent"
"""With this word begins the last error of a node whose request was accepted and after which nothing came."""

_TEXT_CHARACTERS = 1000
_WORDS = frozenset(EtrnResult)


def standing_name(etrn: str, node: str = "") -> str:
    """Return the name of a node's standing, or, without a node, of its server's.

    One node may be asked for at several servers. A configured name has no slash.
    """
    return f"{etrn}/{node}" if node else etrn


def standing_text(result: EtrnResult, said: str) -> str:
    """Return what a standing keeps of a failure: its word, and what was said."""
    return f"{result}: {said}"[:_TEXT_CHARACTERS]


def result_of(standing_error: str) -> EtrnResult:
    """Return the word with which a text of `standing_text` begins."""
    word = standing_error.partition(":")[0]
    return EtrnResult(word) if word in _WORDS else EtrnResult.INTERNAL_ERROR


def is_silent(standing_error: str) -> bool:
    """Tell whether a standing says that nothing came after an accepted request."""
    return standing_error.startswith(f"{SILENT}:")


# -- which mail a node stands for ------------------------------------------------


def releases(node: str, domain: str) -> bool:
    """Tell whether mail for a domain may be what a request for this node released.

    What a `#queue` holds is known to the server alone (RFC 1985 s.5.2.3).
    """
    node, domain = node.lower(), domain.lower()
    if node.startswith("#"):
        return False
    if node.startswith("@"):  # RFC 1985 s.5.2.2: the domain and its subdomains
        return domain == node[1:] or domain.endswith(f".{node[1:]}")
    return domain == node


def is_served(node: str, patterns: Collection[str]) -> bool:
    """Tell whether a receiver of these domains would see the mail of this node.

    Args:
        node: as in the configuration.
        patterns: domains; one that begins with a dot stands for the subdomains.
    """
    if node.startswith("#"):
        return False
    domain = node.removeprefix("@").lower()
    by_name = any(domain.endswith(p) if p.startswith(".") else domain == p for p in patterns)
    return by_name or (node.startswith("@") and f".{domain}" in patterns)
