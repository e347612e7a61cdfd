"""Dot-stuffing: what the server unstuffs is what we had, and no content can end itself."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from mailferry.protocol.smtp import dot_stuff

# Any content with CRLF line ends only, with dots where they hurt.
LINES = st.lists(
    st.one_of(
        st.sampled_from([b"", b".", b"..", b".a", b"a.", b"...a"]),
        st.binary(max_size=20).map(lambda line: line.replace(b"\r", b"").replace(b"\n", b"")),
    ),
    max_size=12,
)


def cut(content: bytes, places: list[int]) -> list[bytes]:
    borders = [0, *sorted(min(place, len(content)) for place in places), len(content)]
    return [content[start:end] for start, end in pairwise(borders)]


def unstuff(wire: bytes) -> bytes:
    """Do what a server does (RFC 5321 s.4.5.2), line by line."""
    lines = wire.split(b"\r\n")
    return b"\r\n".join(line.removeprefix(b".") for line in lines)


@settings(max_examples=150, deadline=None)
@given(LINES, st.lists(st.integers(0, 120), max_size=8))
def test_round_trip_in_any_chunking(lines: list[bytes], places: list[int]) -> None:
    content = b"".join(line + b"\r\n" for line in lines)

    wire = b"".join(dot_stuff(cut(content, places)))

    assert unstuff(wire) == content
    assert wire == b"".join(dot_stuff([content]))


@settings(max_examples=150, deadline=None)
@given(LINES, st.lists(st.integers(0, 120), max_size=8))
def test_the_end_comes_once(lines: list[bytes], places: list[int]) -> None:
    content = b"".join(line + b"\r\n" for line in lines)

    # The CRLF before is that of DATA's own line: content may begin with a dot.
    wire = b"\r\n" + b"".join([*dot_stuff(cut(content, places)), b".\r\n"])

    assert wire.find(b"\r\n.\r\n") == len(wire) - 5
