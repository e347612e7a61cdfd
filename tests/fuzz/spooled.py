"""A message in a file instead of memory: whatever is done with it must come to the same.

Bounds of a megabyte are lowered for the time of an input, so that a few hundred
octets reach them.
"""

from __future__ import annotations

import atexit
import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from unittest import mock

from fuzz.harness import Harness, cut, cut_bytewise, dice_for
from fuzz.message import TOKENS
from mailferry.message import headers, rewriting, spool
from mailferry.message.content import Rest, pieces_of
from mailferry.message.eightbit import downgrade
from mailferry.message.headers import drop_return_path, head_of, header_of, split_header
from mailferry.message.lineends import has_only_crlf, normalise_line_ends, normalised_pieces
from mailferry.message.rewriting import rewritten
from mailferry.message.spool import Spool, SpooledContent


@cache
def _spool() -> Spool:
    """Make the spool, once a process."""
    folder = Path(tempfile.mkdtemp(prefix="mailferry-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    made = Spool(folder, 1, reserve_octets=0)
    made.prepare()
    return made


def check(data: bytes) -> None:
    pieces = cut(dice_for(data), data)
    for cuts in (pieces, cut_bytewise(data), [data]):
        assert b"".join(normalised_pieces(cuts)) == normalise_line_ends(data)
    with ExitStack() as lowered:
        lowered.enter_context(mock.patch.object(spool, "PIECE_OCTETS", 7))
        lowered.enter_context(mock.patch.object(rewriting, "PIECE_OCTETS", 5))
        _check_stored(data, pieces)
        lowered.enter_context(mock.patch.object(headers, "_SHORT_HEADER_OCTETS", 16))
        lowered.enter_context(mock.patch.object(headers, "HEADER_LIMIT_OCTETS", 64))
        _check_stored(data, pieces)


def _check_stored(data: bytes, pieces: list[bytes]) -> None:
    content = _stored(pieces)
    _check_facts(content, data)
    _check_header(content, data)
    for seven_bit in (False, True):
        octets = normalise_line_ends(drop_return_path(data))
        expected = downgrade(octets) if seven_bit else octets
        assert rewritten(data, None, seven_bit=seven_bit) == expected
        again = rewritten(content, _spool(), seven_bit=seven_bit)
        assert isinstance(again, SpooledContent)
        _check_facts(again, expected)


def _stored(pieces: list[bytes]) -> SpooledContent:
    file = _spool().new_file()
    for piece in pieces:
        file.write(piece)
    assert file.octets == sum(map(len, pieces))
    content = file.content()
    assert content is not None, file.failure
    return content


def _check_facts(content: SpooledContent, data: bytes) -> None:
    """What was learned while the octets passed is true of them."""
    assert b"".join(pieces_of(content)) == data
    assert len(content) == len(data)
    assert content.sha256 == hashlib.sha256(data).digest()
    assert content.is_ascii == data.isascii()
    assert content.is_crlf == (data.endswith(b"\r\n") and has_only_crlf(data))
    for octets in _places(data):
        assert content.head(octets) == data[:octets]
        rest = Rest(content, min(octets, len(data)))
        assert b"".join(rest.pieces()) == data[octets:]
        assert len(rest) == len(data[octets:])
        assert rest.ends_line == content.is_crlf


def _places(data: bytes) -> Iterator[int]:
    yield from (0, 1, len(data) // 2, len(data), len(data) + 1)


def _check_header(content: SpooledContent, data: bytes) -> None:
    header = split_header(data)[0]
    assert header_of(content) == header_of(data) == header
    head = head_of(content)
    assert data.startswith(head)
    assert split_header(head)[0] == header
    assert drop_return_path(head) + data[len(head) :] == drop_return_path(data)


HARNESSES = (
    Harness(
        name="spooled",
        check=check,
        tokens=TOKENS,
        max_octets=600,
        modules=("message/content.py", "message/rewriting.py", "message/spool.py", "message/lineends.py"),
    ),
)
