"""Who looks, and what they may see and do."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from aiohttp import web

from mailferry.web.page.sessions import Session, Sessions

COOKIE = "mailferry"
SECURE_COOKIE = "__Host-mailferry"
"""The name that browsers guard, where TLS is spoken (RFC 6265bis s.4.1.3.2)."""
LIVE_FIELD = "X-Mailferry-Live"
"""In requests with which a page renews itself."""


@dataclass(frozen=True, slots=True)
class Viewer:
    """What the templates know of who looks.

    Attributes:
        page: the path of the page; `here` is the whole address, to come back to.
        csrf: what forms must hold; empty for who has not logged in.
        notice: what came of the last thing that was done.
    """

    hostname: str
    version: str
    page: str
    here: str
    csrf: str = ""
    sees_mail: bool = False
    may_log_in: bool = False
    notice: str = ""
    went_wrong: bool = False


def session_number(request: web.Request) -> str | None:
    """Return what the cookie holds."""
    return request.cookies.get(SECURE_COOKIE) or request.cookies.get(COOKIE)


def session_of(request: web.Request, sessions: Sessions) -> Session | None:
    """Return the session of a request."""
    return sessions.find(session_number(request), by_person=LIVE_FIELD not in request.headers)


def client_of(request: web.Request) -> str:
    """Return who asks: an address, or over a Unix socket the user, who may be a proxy."""
    connection = request.transport.get_extra_info("socket") if request.transport is not None else None
    if connection is not None and connection.family == socket.AF_UNIX and hasattr(socket, "SO_PEERCRED"):
        # unix(7): pid, uid, gid
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return f"uid {struct.unpack('3i', credentials)[1]}"
    return request.remote or "unknown"
