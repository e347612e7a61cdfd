"""Line ends are made CRLF before a message goes anywhere.

RFC 5321 s.2.3.8 forbids bare CR and bare LF on the wire, and a server that takes
one of them for a line end can be made to see the end of the message where there
is none (SMTP smuggling). So each is made a CRLF of its own, and this happens
before dots are stuffed.
"""

from __future__ import annotations


def normalise_line_ends(content: bytes) -> bytes:
    r"""Return the message with every line, the last one too, ended by CRLF.

    A bare CR and a bare LF count as line ends each: `\r\r\n` becomes two CRLF. An
    empty message becomes one empty line, since DATA cannot carry less
    (RFC 5321 s.4.1.1.4). A clean message is returned as the same object.
    """
    pairs = content.count(b"\r\n")
    if not (pairs == content.count(b"\n") == content.count(b"\r")):
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    return content if content.endswith(b"\r\n") else content + b"\r\n"
