"""The note that stands for a message too large to be relayed.

The original header is kept, so that sender, subject, date and threading are seen,
except for the fields that describe the body: it is another one now.
"""

from __future__ import annotations

from mailferry.message.headers import iter_fields, split_header

_BODY_FIELDS = (b"content-", b"mime-version", b"lines", b"dkim-signature")


def header_only_notice(header_section: bytes, *, size_octets: int, limit_octets: int, server: str) -> bytes:
    """Return a message with the original header and a text that says what is missing.

    Args:
        header_section: what TOP n 0 brought.
        size_octets: the whole message's size as the server lists it.
        limit_octets: the configured limit.
        server: the POP3 server's name.
    """
    header, _ = split_header(header_section)
    kept = [
        name + b":" + value
        for name, value in iter_fields(header)
        if not name.lower().startswith(_BODY_FIELDS)
    ]
    text = (
        f"This message has {_readable(size_octets)} ({size_octets} octets), more than the limit of\r\n"
        f"{_readable(limit_octets)} that is set for this maildrop. Only its header was relayed.\r\n"
        f"The message itself is still on {server}.\r\n"
    )
    notice = [
        *(line if line.endswith(b"\n") else line + b"\r\n" for line in kept),
        b"X-Mailferry-Oversize: %d\r\n" % size_octets,
        b"MIME-Version: 1.0\r\n",
        b"Content-Type: text/plain; charset=us-ascii\r\n",
        b"\r\n",
        text.encode("ascii", "replace"),
    ]
    return b"".join(notice)


def _readable(octets: int) -> str:
    return f"{octets / 1048576:.1f} MiB" if octets >= 1048576 else f"{octets / 1024:.0f} KiB"
