"""What metrics want to know of links, told by whoever opens them."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass


def _nothing(*_: object) -> None:
    """Take note of nothing."""


@dataclass(frozen=True, slots=True)
class LinkWatch:
    """Whom a connector tells of its sessions; all are called on the event loop and must not raise.

    Attributes:
        certificate: when the first certificate of the peer's chain ends, once per handshake.
        token: when the access token ends that was read for a login; 0 when it does not say.
        failed: why a session could not be had.
        opened: a session is ready; `closed` follows when it ends.
        reply: the code of each SMTP reply.
    """

    certificate: Callable[[float], None] = _nothing
    token: Callable[[float], None] = _nothing
    failed: Callable[[Exception], None] = _nothing
    opened: Callable[[], None] = _nothing
    closed: Callable[[], None] = _nothing
    reply: Callable[[int], None] = _nothing

    def handshake(self, tls: ssl.SSLObject) -> None:
        """Tell of the certificates of a connection."""
        expires_at = first_expiry(tls)
        if expires_at is not None:
            self.certificate(expires_at)


UNWATCHED = LinkWatch()
"""Tells nobody."""


def first_expiry(tls: ssl.SSLObject) -> float | None:
    """Return when the first certificate of the chain ends, in seconds since the epoch; None if nothing says.

    The chain is as the peer sent it: of one that is pinned by its fingerprint nothing
    was verified, and it ends all the same.
    """
    shown = getattr(getattr(tls, "_sslobj", None), "get_unverified_chain", None)  # as in `net.certificates`
    chain = shown() if shown is not None else None
    ends = [_end(each.get_info) for each in chain or ()] or [_end(lambda: tls.getpeercert() or {})]
    return min((end for end in ends if end is not None), default=None)


def _end(read: Callable[[], Mapping[str, object]]) -> float | None:
    try:
        return float(ssl.cert_time_to_seconds(str(read()["notAfter"])))
    except (KeyError, ValueError, ssl.SSLError):  # a certificate that Python cannot read ends when it likes
        return None
