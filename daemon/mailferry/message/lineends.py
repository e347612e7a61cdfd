"""Line ends are made CRLF before a message goes anywhere.

RFC 5321 s.2.3.8 forbids bare CR and bare LF on the wire, and a server that takes
one of them for a line end can be made to see the end of the message where there
is none (SMTP smuggling). So each is made a CRLF of its own, and this happens
before dots are stuffed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def normalise_line_ends(content: bytes) -> bytes:
    r"""Return the message with every line, the last one too, ended by CRLF.

    A bare CR and a bare LF count as line ends each: `\r\r\n` becomes two CRLF. An
    empty message becomes one empty line, since DATA cannot carry less
    (RFC 5321 s.4.1.1.4). A clean message is returned as the same object.
    """
    content = _with_crlf(content)
    return content if content.endswith(b"\r\n") else content + b"\r\n"


def normalised_pieces(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield, cut in some way, what `normalise_line_ends` would make of the pieces joined."""
    held = last_two = b""
    for piece in pieces:
        octets = held + piece
        held = b"\r" if octets.endswith(b"\r") else b""  # it waits for what follows: LF or not
        if octets := _with_crlf(octets[: len(octets) - len(held)]):
            last_two = (last_two + octets[-2:])[-2:]
            yield octets
    if held or last_two != b"\r\n":
        yield b"\r\n"


def has_only_crlf(content: bytes) -> bool:
    """Tell whether no CR and no LF stands alone."""
    return content.count(b"\r\n") == content.count(b"\n") == content.count(b"\r")


def _with_crlf(content: bytes) -> bytes:
    if has_only_crlf(content):
        return content
    return content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
