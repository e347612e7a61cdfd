"""A maildrop in memory: messages with stable unique-ids and one exclusive lock.

What a session sees is fixed at login and what it marks is removed only by
`remove` (RFC 1939 s.3 and s.6); a session that breaks off changes nothing.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

CRLF = b"\r\n"
_HEADER_END = re.compile(rb"(?:\A|\r?\n)\r?\n")


@dataclass(frozen=True, slots=True)
class SandboxFeatures:
    """What a sandbox POP3 server can do, and which known oddities it shows.

    Attributes:
        has_capa: False answers CAPA with -ERR, as servers before RFC 2449 do.
        has_apop: False leaves the timestamp out of the greeting.
        pipelining: False also throws away input that was sent before the last
            reply, as servers that flush their buffers do.
        cleartext_login: False refuses every login without TLS.
        duplicate_uidls: every message has the same unique-id.
        overlong_uidls: unique-ids of 100 octets; RFC 1939 s.7 allows 70.
        size_error_octets: added to every size in STAT and LIST.
        login_delay_seconds: least time between two logins (RFC 2449 s.6.5); 0 is none.
        expire_days: what EXPIRE says (RFC 2449 s.6.7); None leaves it out.
    """

    has_capa: bool = True
    has_uidl: bool = True
    has_top: bool = True
    has_apop: bool = True
    pipelining: bool = True
    resp_codes: bool = True
    sasl_mechanisms: tuple[str, ...] = ("PLAIN", "CRAM-MD5")
    cleartext_login: bool = True
    duplicate_uidls: bool = False
    overlong_uidls: bool = False
    size_error_octets: int = 0
    login_delay_seconds: float = 0.0
    expire_days: int | None = None
    implementation: str = "mailferry-sandbox"


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One message: `content` goes over the wire octet for octet, dots stuffed."""

    uidl: bytes
    content: bytes

    @property
    def size_octets(self) -> int:
        """Octets that a client has after RETR: a missing final CRLF is added on the way."""
        return len(self.content) + (0 if self.content.endswith(CRLF) else len(CRLF))


class SandboxMaildrop:
    """One user's mail.

    Unique-ids follow from arrival number and content, so a server that is
    started again with the same messages lists the same unique-ids.
    """

    def __init__(self, password: str, messages: Iterable[bytes] = ()) -> None:
        self.password = password
        self.locked = False
        self.last_login: float | None = None
        """Event loop time of the last login, for LOGIN-DELAY."""
        self._arrivals = itertools.count(1)
        self._stored: list[StoredMessage] = []
        for content in messages:
            self.append(content)

    @property
    def messages(self) -> list[bytes]:
        """The contents that are there now, in order."""
        return [message.content for message in self._stored]

    @property
    def uidls(self) -> list[bytes]:
        """The unique-ids that are there now, in order."""
        return [message.uidl for message in self._stored]

    def snapshot(self) -> tuple[StoredMessage, ...]:
        """What a session that logs in now will see."""
        return tuple(self._stored)

    def append(self, content: bytes, uidl: bytes | None = None) -> bytes:
        """Let a message arrive; return its unique-id."""
        number = next(self._arrivals)
        digest = hashlib.sha256(content).hexdigest()[:16]
        message = StoredMessage(uidl or b"%06d.%s" % (number, digest.encode("ascii")), content)
        self._stored.append(message)
        return message.uidl

    def remove(self, messages: Collection[StoredMessage]) -> None:
        """Delete messages for good: the UPDATE state (RFC 1939 s.6)."""
        gone = {id(message) for message in messages}
        self._stored = [message for message in self._stored if id(message) not in gone]

    def renew_uidls(self, prefix: bytes) -> None:
        """Give every message another unique-id, as a server that was migrated does."""
        self._stored = [StoredMessage(prefix + each.uidl, each.content) for each in self._stored]


def multi_line(content: bytes) -> bytes:
    """Return content as the body of a multi-line response (RFC 1939 s.3).

    Only CRLF is a line end here: bare CR and LF pass through untouched, and a
    dot after one of them is not stuffed.
    """
    stuffed = content.replace(b"\r\n.", b"\r\n..")
    if stuffed.startswith(b"."):
        stuffed = b"." + stuffed
    if not stuffed.endswith(CRLF):
        stuffed += CRLF
    return stuffed + b".\r\n"


def top_of(content: bytes, line_count: int) -> bytes:
    """Return the header, the empty line and the first lines of the body (RFC 1939 s.7, TOP)."""
    match = _HEADER_END.search(content)
    if match is None:
        return content
    lines = content[match.end() :].split(CRLF, line_count)
    if len(lines) <= line_count:
        return content
    return content[: match.end()] + b"".join(line + CRLF for line in lines[:line_count])
