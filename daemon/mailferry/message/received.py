"""The one field that mailferry adds to a message: Received (RFC 5321 s.3.7.2, s.4.4).

A gateway from another protocol prepends a Received field and touches none of the
others. Whatever goes into it is cleaned first: no host name, recipient or
protocol can add a line or another clause.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from mailferry.message.address import is_sane_address

_LINE_OCTETS = 78
"""RFC 5322 s.2.1.1: lines SHOULD be no longer."""

_HOST_LIMIT = 255
_NOT_HOST = re.compile(r"[^A-Za-z0-9._:\[\]-]")
_NOT_ATOM = re.compile(r"[^A-Za-z0-9-]")
_NAMED_ADDRESS = re.compile(r"(.*) \(\[([0-9A-Za-z.:%]+)\]\)", re.DOTALL)
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def received_field(
    *, from_host: str, with_protocol: str, by_host: str, message_id: int, recipient: str | None, at: float
) -> bytes:
    """Return a Received field, folded, with its CRLF.

    Args:
        from_host: the POP3 server, a name or an address; of mail that came by SMTP, the name that
            the client gave itself and its address, as `mx.example.org ([192.0.2.1])`.
        with_protocol: `POP3` or `POP3S`; `ESMTP` and its kin (RFC 3848).
        by_host: this machine's name.
        message_id: our own number for the message, written in base 36.
        recipient: the address for the `for` clause. RFC 5321 s.4.4 wants the clause
            only if there is a single recipient; it is also left out if the address
            is not ASCII, or no address.
        at: seconds since the epoch.
    """
    clauses = [
        f"from {_source(from_host)}",
        f"by {_host(by_host)}",
        f"with {_NOT_ATOM.sub('', with_protocol)[:20] or 'POP3'}",
        f"id {message_name(message_id)}",
    ]
    if recipient and recipient.isascii() and is_sane_address(recipient):
        clauses.append(f"for <{recipient}>")
    clauses[-1] += ";"
    clauses.append(_date_time(int(at)))
    return _fold("Received:", clauses).encode("ascii")


@lru_cache(maxsize=2)
def _date_time(at: int) -> str:
    return format_datetime(datetime.fromtimestamp(at, UTC))


def _fold(line: str, words: list[str]) -> str:
    lines = []
    for word in words:
        if len(line) + 1 + len(word) > _LINE_OCTETS:
            lines.append(line)
            line = "\t" + word
        else:
            line += " " + word
    return "\r\n".join([*lines, line, ""])


def _source(from_host: str) -> str:
    """Return what stands behind `from`: RFC 5321 s.4.4, Extended-Domain."""
    match = _NAMED_ADDRESS.fullmatch(from_host)
    return _host(from_host) if match is None else f"{_host(match[1])} ({_host(match[2])})"


@lru_cache(maxsize=4096)  # a server's name, and our own, come with every message
def _host(name: str) -> str:
    """Return a name as a domain or an address literal (RFC 5321 s.4.1.3)."""
    name = name.strip()[:_HOST_LIMIT]
    try:
        # A zone (fe80::1%eth0) means nothing to others, and may hold any character.
        address = ip_address(name.partition("%")[0])
    except ValueError:
        return _NOT_HOST.sub("", _ascii_name(name)) or "unknown"
    return f"[IPv6:{address}]" if isinstance(address, IPv6Address) else f"[{address}]"


def _ascii_name(name: str) -> str:
    if name.isascii():
        return name
    try:
        return name.encode("idna").decode("ascii")
    except UnicodeError:
        return name.encode("ascii", "ignore").decode("ascii")


@lru_cache(maxsize=256)  # asked for by the field, and again by the log line
def message_name(number: int) -> str:
    """Return our own number for a message as it is written for people, in base 36."""
    digits = []
    number = abs(number)
    while number:
        number, digit = divmod(number, 36)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits)) or "0"


_MESSAGE_NAME = re.compile(r"[0-9a-z]{1,13}", re.ASCII)


def message_number(name: str) -> int | None:
    """Return the number that `message_name` has written; None for what is none."""
    number = int(name, 36) if _MESSAGE_NAME.fullmatch(name) else None
    return number if number is not None and number < 1 << 63 else None
