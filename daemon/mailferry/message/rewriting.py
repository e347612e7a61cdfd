"""What a large message needs before SMTP can carry it, done as a whole and in a thread.

Most large messages go to the next hop as they lie in their file. Two kinds cannot:
those with line ends that SMTP forbids, and 8-bit ones for a next hop without
8BITMIME. They are written anew into another file, in the form that
`lineends`, `headers` and `eightbit` would give them in memory.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from itertools import chain

from mailferry.message.content import Rest
from mailferry.message.eightbit import downgrade
from mailferry.message.headers import drop_return_path, head_of
from mailferry.message.lineends import normalise_line_ends, normalised_pieces
from mailferry.message.spool import PIECE_OCTETS, Spool
from mailferry.model import Content, StoredContent

DOWNGRADE_LIMIT_OCTETS = 32 * 2**20
"""The largest 8-bit message that is put into 7 bits: at the worst that takes ten times its size in memory."""


def rewritten(content: Content, spool: Spool | None, *, seven_bit: bool) -> Content:
    """Return the message without Return-Path, with CRLF line ends, and in ASCII if asked for.

    Blocking: for a thread. What lay in a file comes back in a file.

    Raises:
        OSError: a file cannot be read or written.
    """
    if isinstance(content, bytes):
        octets = normalise_line_ends(drop_return_path(content))
        return downgrade(octets) if seven_bit else octets
    pieces: Iterable[bytes] = normalised_pieces(_without_return_path(content))
    if seven_bit:
        pieces = _cut(downgrade(b"".join(pieces)))
    return _spooled(pieces, spool)


def _without_return_path(content: StoredContent) -> Iterator[bytes]:
    head = head_of(content)
    return chain((drop_return_path(head),), Rest(content, len(head)).pieces())


def _cut(octets: bytes) -> Iterator[bytes]:
    for start in range(0, len(octets), PIECE_OCTETS):
        yield octets[start : start + PIECE_OCTETS]


def _spooled(pieces: Iterable[bytes], spool: Spool | None) -> Content:
    if spool is None:
        return b"".join(pieces)
    file = spool.new_file()
    for piece in pieces:
        file.write(piece)
        if file.failure:  # no need to read on
            break
    content = file.content()
    if content is None:
        raise OSError(errno.EIO, file.failure)
    return content
