"""Fingerprints: how a message is known again when its unique-id is not.

Both are SHA-256 cut to 16 octets. Of hashlib's functions it is the fastest sound
one on processors with SHA instructions (measured: 1,370 MB/s at 4 KB and 1,780
at 5 MB, BLAKE2b 870 and 930); 128 bits leave no accidental equals, and a sender
who makes two messages with one digest needs 2**64 attempts and hurts only those
two.

The digests are stored. Whoever changes what goes into them makes all mail that is
known look new: change them only together with a migration of the ledger.
"""

from __future__ import annotations

import hashlib
import re

from mailferry.message.headers import split_header
from mailferry.model import Content

DIGEST_OCTETS = 16

# What servers and readers write into a stored message, and change from session to session.
_REWRITTEN = re.compile(
    rb"\n(?:status|x-status|x-uidl|x-uid|x-keywords|x-imap|x-imapbase|lines|content-length|x-mozilla-[!-9;-~]*)[ \t]*:"
    rb"[^\n]*(?:\n[ \t][^\n]*)*",
    re.IGNORECASE,
)


def header_digest(header: bytes) -> bytes:
    """Return 16 octets that stay the same for a message's header from session to session.

    The answer to `TOP n 0` and the header of RETR give the same digest. Left out
    are the fields that servers rewrite, the kind of the line ends, and everything
    from the first empty line on. Lines that are no fields count.

    An empty header has a digest too, and every message without a header shares it:
    it recognises nothing by itself.
    """
    header, _ = split_header(header)
    lines = b"\n" + header.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return _sha256(_REWRITTEN.sub(b"", lines).rstrip(b"\n"))


def content_digest(content: Content) -> bytes:
    """Return 16 octets for exactly these octets, line ends included."""
    return _sha256(content) if isinstance(content, bytes) else content.sha256[:DIGEST_OCTETS]


def _sha256(octets: bytes) -> bytes:
    return hashlib.sha256(octets).digest()[:DIGEST_OCTETS]
