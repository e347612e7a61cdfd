"""What entries and their files are called.

An entry's name follows from the maildrop, the unique-id and the octets: a repeat
after a crash is the same entry, even when the machine died and the ledger gave
the message a new number. Sixteen hexadecimal digits; who makes two messages of
his own with one name has them both kept, the second as `NAME-2`.

A message's file in the Maildir is `NAME.mailferry,S=<octets>`; what a mail
reader appends to it (`:2,S`, `,W=…`) is passed over.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Final

from mailferry.model import FetchedMessage

NAME_DIGITS: Final = 16

_NAME = re.compile(r"[0-9a-f]{16}(?:-[0-9]{1,9})?", re.ASCII)
_MESSAGE_FILE = re.compile(r"([0-9a-f]{16}(?:-[0-9]{1,9})?)\.mailferry(?:[,:].*)?", re.DOTALL)
_REASON_FILE = re.compile(r"([0-9a-f]{16}(?:-[0-9]{1,9})?)\.json")


def names_for(message: FetchedMessage) -> Iterator[str]:
    """Yield the name of a message's entry, then those to take when other octets stand under it."""
    facts = (message.maildrop.encode(), message.uidl, message.content_digest)
    # Lengths before the values, so that no two triples are written alike.
    written = b"".join(b"%d:%s" % (len(fact), fact) for fact in facts)
    name = hashlib.sha256(written).hexdigest()[:NAME_DIGITS]
    yield name
    for number in range(2, 1000):
        yield f"{name}-{number}"


def message_file(name: str, size_octets: int) -> str:
    """Return the name of an entry's file in the Maildir; `S=` is Dovecot's size hint."""
    return f"{name}.mailferry,S={size_octets}"


def reason_file(name: str) -> str:
    """Return the name of an entry's file in `reasons`."""
    return f"{name}.json"


def entry_of_message_file(file_name: str) -> str | None:
    """Return the entry that a file in the Maildir belongs to, None for a file of somebody else's."""
    match = _MESSAGE_FILE.fullmatch(file_name)
    return match[1] if match else None


def entry_of_reason_file(file_name: str) -> str | None:
    """Return the entry that a file in `reasons` belongs to, None for any other file."""
    match = _REASON_FILE.fullmatch(file_name)
    return match[1] if match else None


def is_name(text: str) -> bool:
    """Tell whether an entry could be called so; what strangers ask for must not become a path before."""
    return _NAME.fullmatch(text) is not None


def matching(names: Iterable[str], wanted: str) -> list[str]:
    """Return the names that a name or its beginning can mean; a whole name means itself alone."""
    found = sorted(name for name in names if name.startswith(wanted)) if wanted else []
    return [wanted] if wanted in found else found
