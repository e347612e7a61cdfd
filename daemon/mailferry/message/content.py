"""A message's octets wherever they lie: in memory, or in a file when they are many."""

from __future__ import annotations

from collections.abc import Iterator

from mailferry.model import Content, StoredContent


def pieces_of(content: Content) -> Iterator[bytes]:
    """Yield all octets: those in memory as the one object that they are.

    Raises:
        OSError: the file cannot be read.
    """
    if isinstance(content, bytes):
        yield content
    else:
        yield from content.pieces()


class Rest:
    """All octets of a content from a place on; implements `smtp_transaction.ContentStream`."""

    __slots__ = ("_content", "_start")

    def __init__(self, content: StoredContent, start: int) -> None:
        self._content = content
        self._start = start

    def __len__(self) -> int:
        return len(self._content) - self._start

    @property
    def ends_line(self) -> bool:
        """Whether the last octets are CRLF."""
        return self._content.is_crlf

    def pieces(self) -> Iterator[bytes]:
        """Yield the octets; each call begins anew."""
        return self._content.pieces(self._start)
