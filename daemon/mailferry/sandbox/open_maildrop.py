"""The TRANSACTION state of POP3 (RFC 1939 s.5): one session's view of a maildrop.

No I/O: a command's argument goes in, the whole reply comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

from mailferry.sandbox.maildrop import SandboxFeatures, SandboxMaildrop, StoredMessage, multi_line, top_of

_MAX_NUMBER_DIGITS = 9


class Refusal(Exception):  # noqa: N818 - it is an answer, not an error
    """A command is answered with -ERR; the text may begin with a response code."""


class OpenMaildrop:
    """A maildrop as one session sees it: fixed at login, minus what it marked.

    Whoever makes one holds the maildrop's lock until `unlock`.
    """

    def __init__(self, maildrop: SandboxMaildrop, features: SandboxFeatures) -> None:
        maildrop.locked = True
        self._maildrop = maildrop
        self._features = features
        self._messages = maildrop.snapshot()
        self._marked: set[int] = set()

    def __len__(self) -> int:
        return len(self._messages)

    def run(self, verb: bytes, argument: bytes) -> bytes:
        """Run one command and return its reply.

        Raises:
            Refusal: the command is unknown, or wrong, or names no message.
        """
        command = self._COMMANDS.get(verb)
        if command is None:
            raise Refusal("unknown command, or not now")
        return command(self, argument)

    def update(self) -> int:
        """Remove what is marked (the UPDATE state, RFC 1939 s.6); return how many."""
        self._maildrop.remove([self._messages[number - 1] for number in self._marked])
        return len(self._marked)

    def unlock(self) -> None:
        """Give the maildrop back."""
        self._maildrop.locked = False

    def _visible(self) -> list[tuple[int, StoredMessage]]:
        return [(n, each) for n, each in enumerate(self._messages, 1) if n not in self._marked]

    def _number(self, argument: bytes) -> int:
        if not argument.isdigit() or len(argument) > _MAX_NUMBER_DIGITS:
            raise Refusal("a message number is needed")
        number = int(argument)
        if not 1 <= number <= len(self._messages):
            raise Refusal("no such message")
        if number in self._marked:
            raise Refusal("message is deleted")
        return number

    def _listed_size(self, message: StoredMessage) -> int:
        return max(0, message.size_octets + self._features.size_error_octets)

    def _listed_uidl(self, message: StoredMessage) -> bytes:
        if self._features.duplicate_uidls:
            return b"000000.same-for-all"
        return message.uidl.ljust(100, b"x") if self._features.overlong_uidls else message.uidl

    def _stat(self, _argument: bytes) -> bytes:
        sizes = [self._listed_size(message) for _, message in self._visible()]
        return b"+OK %d %d\r\n" % (len(sizes), sum(sizes))

    def _list(self, argument: bytes) -> bytes:
        return self._scan_listing(argument, lambda message: b"%d" % self._listed_size(message))

    def _uidl(self, argument: bytes) -> bytes:
        if not self._features.has_uidl:
            raise Refusal("unknown command")
        return self._scan_listing(argument, self._listed_uidl)

    def _scan_listing(self, argument: bytes, shown: Callable[[StoredMessage], bytes]) -> bytes:
        if argument:
            number = self._number(argument)
            return b"+OK %d %s\r\n" % (number, shown(self._messages[number - 1]))
        lines = [b"%d %s\r\n" % (number, shown(message)) for number, message in self._visible()]
        return b"+OK listing follows\r\n" + b"".join(lines) + b".\r\n"

    def _retr(self, argument: bytes) -> bytes:
        message = self._messages[self._number(argument) - 1]
        return b"+OK %d octets\r\n" % message.size_octets + multi_line(message.content)

    def _top(self, argument: bytes) -> bytes:
        if not self._features.has_top:
            raise Refusal("unknown command")
        number, _, lines = argument.partition(b" ")
        message = self._messages[self._number(number) - 1]
        if not lines.isdigit() or len(lines) > _MAX_NUMBER_DIGITS:
            raise Refusal("TOP needs a number of lines")
        return b"+OK top follows\r\n" + multi_line(top_of(message.content, int(lines)))

    def _dele(self, argument: bytes) -> bytes:
        self._marked.add(self._number(argument))
        return b"+OK marked\r\n"

    def _rset(self, _argument: bytes) -> bytes:
        self._marked.clear()
        return b"+OK\r\n"

    def _noop(self, _argument: bytes) -> bytes:
        return b"+OK\r\n"

    _COMMANDS: ClassVar[Mapping[bytes, Callable[[OpenMaildrop, bytes], bytes]]] = {
        b"DELE": _dele,
        b"LIST": _list,
        b"NOOP": _noop,
        b"RETR": _retr,
        b"RSET": _rset,
        b"STAT": _stat,
        b"TOP": _top,
        b"UIDL": _uidl,
    }
