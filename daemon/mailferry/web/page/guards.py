"""What keeps strangers' pages away: whom a request names, where a form comes from, what headers answers have.

A browser sends requests to this machine for any page that somebody visits. A page of another
origin can neither read the answers nor forge a form here: names that only seem to be ours are
refused (DNS rebinding), and a form must come from this origin, by its Origin field and by a token.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from types import MappingProxyType
from urllib.parse import parse_qsl, urlsplit

from aiohttp import web

MAX_FORM_OCTETS = 8_192
MAX_FORM_FIELDS = 12
FORM_SECONDS = 10.0

PAGE_HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Content-Security-Policy": (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
            "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        ),
        "X-Frame-Options": "DENY",
        # Not "no-referrer": browsers would send forms with `Origin: null` (Fetch, "append a request Origin header").
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
)

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def allowed_hosts(
    listening_on: str | None, *, is_loopback: bool, configured: Iterable[str]
) -> frozenset[str] | None:
    """Return the names under which the page may be asked for; None for any.

    Args:
        listening_on: the address; None for a Unix socket, which no browser reaches by itself.
        is_loopback: whether that is an address of loopback.
        configured: further names.
    """
    names = frozenset(configured)
    if listening_on is not None and is_loopback:
        return names | {listening_on, *_LOOPBACK_NAMES}
    return (names | ({listening_on} if listening_on else set())) if names else None


def host_named(request: web.Request) -> str:
    """Return the host in the Host field, lower case and without port and brackets; empty when there is none."""
    return _split(f"//{request.headers.get('Host', '')}")[0]


def is_allowed(host: str, allowed: frozenset[str] | None) -> bool:
    """Tell whether a request may name this host."""
    if allowed is None:
        return True
    return host in allowed or ("localhost" in allowed and host.endswith(".localhost"))


def comes_from_here(request: web.Request, proxies: frozenset[str]) -> bool:
    """Tell whether a form was sent by a page of this origin (RFC 6454 s.7).

    Every browser sends Origin with a form. A proxy that speaks TLS changes the scheme.

    Args:
        request: with the form.
        proxies: names that stand for this page under https and its own port, where a proxy changes Host.
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if origin is None or (site is not None and site != "same-origin"):
        return False
    scheme = origin.partition("://")[0]
    host, port = _split(origin)
    if scheme not in _DEFAULT_PORTS or not host:
        return False
    named, named_port = _split(f"//{request.headers.get('Host', '')}")
    default = _DEFAULT_PORTS[scheme]
    same = (host, port or default) == (named, named_port or default)
    return same or (scheme == "https" and port is None and host in proxies)


def is_secure(request: web.Request) -> bool:
    """Tell whether the browser speaks TLS, with a proxy between: its Origin says so."""
    return request.headers.get("Origin", "").startswith("https://")


def _split(url: str) -> tuple[str, int | None]:
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return "", None
    try:
        return str(ip_address(host)), port  # ::1 may be written in many ways
    except ValueError:
        return host, port


async def read_form(request: web.Request) -> Mapping[str, str]:
    """Return the fields of a form; a name that comes twice has its last value.

    Raises:
        web.HTTPException: it is none, too large, or does not come to its end.
    """
    if request.content_type != "application/x-www-form-urlencoded":
        raise web.HTTPUnsupportedMediaType(text="a form is wanted")
    try:
        async with asyncio.timeout(FORM_SECONDS):
            body = await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout(text="the form did not come to its end") from None
    try:
        text = body.decode("ascii")
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS, errors="strict"))
    except ValueError:
        raise web.HTTPBadRequest(text="the form makes no sense") from None
