"""What the trace fields say of the way that a message has taken (RFC 5321 s.4.4).

Everybody on the way may have written them, so they are read with bounds: a header
full of nothing but Received costs one pass over it, and nothing here raises for any
octets.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache

from mailferry.message.headers import unfold
from mailferry.message.received import received_field
from mailferry.message.summary import readable
from mailferry.model import TraceFacts

_FIELDS_READ = 2000
"""Fields that are looked at; twice what the highest limit on hops can ask for."""
_VALUE_OCTETS = 1000
"""What of a value is looked at: our own Received field is shorter, and so is an address."""

_FIELD = re.compile(rb"[\r\n](?:(received)|delivered-to)[ \t]*:", re.IGNORECASE)
_FIELD_END = re.compile(rb"\n(?![ \t])|\r(?![\n \t])")
# The forms that `received_field` writes. Others that fetch from POP3 write no id there; others that take
# mail by SMTP add words of their own, for the program or the client's name in the DNS.
_OWN = re.compile(
    rb"\s*from\s+\S+\s+(?:by\s+(\S+)\s+with\s+POP3S?|\(\[[^\s\]]+\]\)\s+by\s+(\S+)\s+with\s+(?:UTF8|E)?SMTPS?)"
    rb"\s+id\s+[0-9a-z]+(?:;|\s)",
    re.IGNORECASE,
)


def trace_facts(header: bytes, by_host: str) -> TraceFacts:
    """Count the trace fields of a header section.

    Args:
        header: as fetched, in any state.
        by_host: our own name, as it is given to `received_field`.
    """
    own_name = _own_name(by_host)
    received = received_by_us = 0
    addresses: Counter[bytes] = Counter()
    octets = b"\n" + header
    for number, match in enumerate(_FIELD.finditer(octets)):
        if number == _FIELDS_READ:
            break
        value = _value(octets, match.end())
        if match[1]:
            received += 1
            received_by_us += _by_host(value) == own_name
        else:
            addresses[_address(value)] += 1
    repeated = (readable(address.decode("utf-8", "replace")) for address, n in addresses.items() if n > 1)
    return TraceFacts(received, received_by_us, tuple(address for address in repeated if address))


def _value(octets: bytes, start: int) -> bytes:
    value = octets[start : start + _VALUE_OCTETS]
    end = _FIELD_END.search(value)
    return unfold(value[: end.start()] if end else value)


def _by_host(value: bytes) -> bytes | None:
    """Return the host that wrote a Received field of our form, in small letters."""
    own = _OWN.match(value)
    return (own[1] or own[2]).lower() if own else None


def _address(value: bytes) -> bytes:
    """Return what two Delivered-To fields are compared by; Postfix, too, leaves case out."""
    return b" ".join(value.split()).strip(b"<>").lower()


@lru_cache(maxsize=16)
def _own_name(by_host: str) -> bytes | None:
    """Return our name as it stands in the fields that we write: the writer itself is asked."""
    field = received_field(
        from_host="x", with_protocol="POP3", by_host=by_host, message_id=0, recipient=None, at=0.0
    )
    return _by_host(unfold(field.partition(b":")[2]))
