"""SMTP replies: what they are and how octets become them.

A reply is one or more lines with the same three digits (RFC 5321 s.4.2.1). The
parser splits whatever arrives into lines at once and bounds both the length of
a line and the number of lines, so a peer that never ends a reply costs a known
amount of memory. Everything that is not a reply ends the session.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from mailferry.errors import RemoteProtocolError

_MAX_SHOWN = 500
# RFC 3463 s.2: class "." subject "." detail, each number without leading zeros in practice.
_ENHANCED = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:[ \t]+|\Z)")
# RFC 5321 s.4.2: the first digit is 2 to 5; a table is faster than int() and checks at once.
_CODES = {b"%d" % code: code for code in range(200, 600)}
_MARKS = (b" ", b"-")


@dataclass(frozen=True, slots=True)
class SmtpLimits:
    """Bounds on what a peer can make us hold, and on what we send unasked.

    Attributes:
        reply_line_octets: the longest reply line, CRLF included (RFC 5321 s.4.5.3.1.5 asks for 512).
        reply_lines: the most lines in one reply.
        grouped_bdat_octets: content up to this size is sent before MAIL and RCPT are answered.
    """

    reply_line_octets: int = 4096
    reply_lines: int = 256
    grouped_bdat_octets: int = 65536


@dataclass(frozen=True, slots=True)
class SmtpReply:
    """One reply. `lines` are the texts, without reply code and enhanced status.

    `enhanced_status` is kept only when its class agrees with the reply code's
    first digit: where the two disagree the reply code is believed, and the
    status stays in the text.
    """

    code: int
    enhanced_status: str | None
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """The lines as one, safe to print: control and format characters become `?`."""
        return _printable(" / ".join(self.lines))

    @property
    def positive(self) -> bool:
        """2yz: done."""
        return 200 <= self.code < 300

    @property
    def intermediate(self) -> bool:
        """3yz: go on."""
        return 300 <= self.code < 400

    @property
    def transient(self) -> bool:
        """4yz: not now."""
        return 400 <= self.code < 500

    @property
    def permanent(self) -> bool:
        """5yz: no."""
        return 500 <= self.code < 600

    def __str__(self) -> str:
        """Format as `250 2.0.0 Ok: queued as X`, at most some 500 characters."""
        parts = (str(self.code), self.enhanced_status or "", self.text)
        shown = " ".join(part for part in parts if part)
        return shown if len(shown) <= _MAX_SHOWN else shown[: _MAX_SHOWN - 3] + "..."


class ReplyParser:
    """Octets in, replies out, however the octets were cut."""

    __slots__ = ("_code", "_limits", "_octets", "_partial", "_texts")

    def __init__(self, limits: SmtpLimits) -> None:
        self._limits = limits
        self._partial = b""
        self._code = 0
        self._texts: list[str] = []
        self._octets = 0

    @property
    def receiving_octets(self) -> int:
        """How much of an unfinished reply has arrived; 0 between replies."""
        return self._octets + len(self._partial)

    def feed(self, data: bytes) -> Iterator[SmtpReply]:
        """Yield the replies that `data` completes; to be exhausted before the next call.

        Raises:
            RemoteProtocolError: this is not SMTP, or a bound was passed.
        """
        pieces = (self._partial + data).split(b"\n")
        self._partial = pieces.pop()
        for piece in pieces:
            reply = self._line(piece)
            if reply is not None:
                yield reply
        self._check_partial()

    def _line(self, line: bytes) -> SmtpReply | None:
        """Take one line that lacks only its LF; return the reply that it ends."""
        code, mark = _CODES.get(line[:3]), line[3:4]
        # A line is at least "250 CR"; "250 CR" without the space is seen in the wild and RFC 5321 s.4.2.1 allows it.
        if code is None or line[-1:] != b"\r" or (mark not in _MARKS and len(line) != 4):
            raise RemoteProtocolError("not an SMTP reply", line)
        if len(line) >= self._limits.reply_line_octets:
            raise RemoteProtocolError(
                f"a reply line of more than {self._limits.reply_line_octets} octets", line
            )
        if mark != b"-" and not self._texts:
            return _short_reply(code, line)
        self._collect(code, _text(line), line)
        return self._whole() if mark != b"-" else None

    def _collect(self, code: int, text: str, line: bytes) -> None:
        """Add a line to a reply of several."""
        if self._texts and code != self._code:
            raise RemoteProtocolError(f"a reply that began with {self._code} went on with another code", line)
        if len(self._texts) >= self._limits.reply_lines:
            raise RemoteProtocolError(f"a reply of more than {self._limits.reply_lines} lines", line)
        self._code = code
        self._texts.append(text)
        self._octets += len(line) + 1

    def _whole(self) -> SmtpReply:
        reply = make_reply(self._code, tuple(self._texts))
        self._texts = []
        self._octets = 0
        return reply

    def _check_partial(self) -> None:
        """Refuse an unfinished line as soon as it cannot become a good one."""
        partial = self._partial
        if len(partial) >= self._limits.reply_line_octets:
            raise RemoteProtocolError(
                f"a reply line of more than {self._limits.reply_line_octets} octets", partial
            )
        if len(partial) < 4:
            return
        # What a TLS or POP3 server says first is seen here at once, not at the deadline.
        if partial[:3] not in _CODES or (partial[3:4] not in _MARKS and partial[3:] != b"\r"):
            raise RemoteProtocolError("not an SMTP reply", partial)


def _text(line: bytes) -> str:
    return line[4:-1].decode("utf-8", "replace")


@lru_cache(maxsize=256)  # the replies to MAIL, RCPT and DATA are the same in thousands of transactions
def _short_reply(code: int, line: bytes) -> SmtpReply:
    """Build a reply of one line."""
    return make_reply(code, (_text(line),))


def make_reply(code: int, texts: Sequence[str]) -> SmtpReply:
    """Build a reply, with the enhanced status (RFC 2034 s.4) taken off each line."""
    first = texts[0]
    if first[1:2] != "." or (found := _ENHANCED.match(first)) is None or first[0] != str(code)[0]:
        return SmtpReply(code, None, tuple(texts))
    status = found[1]
    if len(texts) == 1:
        return SmtpReply(code, status, (first[found.end() :],))
    return SmtpReply(code, status, tuple(_without(status, text) for text in texts))


def _without(status: str, text: str) -> str:
    found = _ENHANCED.match(text)
    return text[found.end() :] if found is not None and found[1] == status else text


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "?" for character in text)
