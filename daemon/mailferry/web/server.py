"""The HTTP server for /metrics, /healthz, /readyz and the status page.

It serves on loopback unless told otherwise, or on a Unix socket. Metrics and health
answer GET and HEAD only, take no input, and show nothing of a message; the page is
`web.page`'s business. Whatever a client can grow is bounded: request line, header
fields and forms, connections, the time a connection may be silent, and scrapes,
which run one at a time. The text of a scrape is made in a thread: with 1,000
maildrops it takes 0.3 to 0.5 s, too long for the event loop.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from mailferry.errors import ControlSocketError, MailferryError
from mailferry.web.client_faults import ClientFault, library_logger
from mailferry.web.health import HealthProbe, health_response
from mailferry.web.page.page import StatusPage
from mailferry.web.unix_socket import UnixSocket

MAX_CONNECTIONS = 64
MAX_LINE_OCTETS = 4_096
MAX_FIELD_OCTETS = 4_096
MAX_BODY_OCTETS = 8_192
"""Of a form; nothing else has a body."""
SILENCE_SECONDS = 10.0
KEEPALIVE_SECONDS = 75.0
"""Longer than the usual scrape interval, so that Prometheus keeps its connection."""
STOP_SECONDS = 2.0

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Server": "mailferry",
}
_INDEX = """\
<!doctype html>
<html lang="en"><meta charset="utf-8"><title>mailferry</title>
<ul>
<li><a href="/metrics">/metrics</a></li>
<li><a href="/healthz">/healthz</a></li>
<li><a href="/readyz">/readyz</a></li>
</ul></html>
"""
_REMEDIES = {
    errno.EADDRINUSE: "another program listens there; stop it or choose another port in http.listen",
    errno.EACCES: "not permitted; choose a port above 1023 in http.listen",
    errno.EADDRNOTAVAIL: "this machine does not have that address; correct http.listen",
}

_log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class WebError(MailferryError):
    """The HTTP side could not start; the text says where and what to do."""


class WebServer:
    """Serves metrics and health. Start and stop it on the event loop that runs the daemon."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        registry: CollectorRegistry,
        health: HealthProbe,
        page: StatusPage | None = None,
        place: UnixSocket | None = None,
    ) -> None:
        """Take where to serve and what; `place` is a socket to serve on instead of host and port."""
        self._host = host
        self._port = port
        self._registry = registry
        self._health = health
        self._page = page
        self._place = place
        self._scraping = asyncio.Lock()
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None
        self._unheard: dict[asyncio.BaseProtocol, asyncio.TimerHandle] = {}

    @property
    def port(self) -> int:
        """The port in use: the bound one when 0 was asked for."""
        if self._place is None and self._listener is not None and self._listener.sockets:
            return int(self._listener.sockets[0].getsockname()[1])
        return self._port

    async def start(self) -> None:
        """Bind and serve.

        Raises:
            WebError: the address cannot be bound.
        """
        runner = web.AppRunner(
            self.application(),
            access_log=None,
            logger=library_logger(__name__),
            keepalive_timeout=KEEPALIVE_SECONDS,
            lingering_time=STOP_SECONDS,
            shutdown_timeout=STOP_SECONDS,
            max_line_size=MAX_LINE_OCTETS,
            max_field_size=MAX_FIELD_OCTETS,
        )
        await runner.setup()
        try:
            self._listener = await self._listen(runner)
        except OSError as error:
            await runner.cleanup()
            raise WebError(self._explain(error)) from error
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner

    async def stop(self) -> None:
        """Close the port, let requests end for a moment, then close all connections. Safe to call twice."""
        listener, self._listener = self._listener, None
        runner, self._runner = self._runner, None
        for timer in self._unheard.values():
            timer.cancel()
        self._unheard.clear()
        if listener is not None:
            listener.close()
            if self._place is not None:
                self._place.remove()
        if runner is not None:
            await runner.cleanup()

    def application(self) -> web.Application:
        """Build the routes; public so that tests can ask without a socket."""
        application = web.Application(middlewares=[self._guard], client_max_size=MAX_BODY_OCTETS)
        application.on_response_prepare.append(_add_headers)
        if self._page is not None:
            self._page.add_routes(application.router)
        else:
            application.router.add_get("/", self._index)
        application.router.add_get("/metrics", self._metrics)
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        return application

    # -- connections

    async def _listen(self, runner: web.AppRunner) -> asyncio.Server:
        server = runner.server
        if server is None:  # setup() has made it
            raise WebError("the HTTP side was not set up")
        loop = asyncio.get_running_loop()

        def accept() -> asyncio.BaseProtocol:
            if len(server.connections) >= MAX_CONNECTIONS:
                return _Refusal()
            connection = server()
            self._unheard[connection] = loop.call_later(SILENCE_SECONDS, self._drop_unheard, connection)
            return connection

        if self._place is None:
            return await loop.create_server(accept, self._host, self._port, backlog=MAX_CONNECTIONS)
        bound = self._open_socket(self._place)
        try:
            return await loop.create_unix_server(accept, sock=bound, backlog=MAX_CONNECTIONS)
        except BaseException:
            bound.close()
            self._place.remove()
            raise

    def _open_socket(self, place: UnixSocket) -> socket.socket:
        try:
            return place.open()
        except ControlSocketError as error:
            raise WebError(f"cannot serve HTTP: {error}") from error

    def _drop_unheard(self, connection: web.RequestHandler) -> None:
        """Close a connection that has not brought one whole request in time."""
        self._unheard.pop(connection, None)
        connection.force_close()

    def _explain(self, error: OSError) -> str:
        remedy = _REMEDIES.get(error.errno or 0, error.strerror or str(error))
        if isinstance(error, socket.gaierror):
            remedy = "the host name is unknown; correct http.listen"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"cannot serve HTTP on {host}:{self._port}: {remedy}"

    # -- requests

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Note that the connection has spoken; answer faults of ours without their text."""
        timer = self._unheard.pop(request.protocol, None)
        if timer is not None:
            timer.cancel()
        try:
            return await handler(request)
        except web.HTTPException:
            raise
        except ClientFault:
            return web.Response(status=400, text="400: Bad Request")
        except Exception:  # noqa: BLE001 (whatever it is, the client gets no text of it)
            _log.exception("an HTTP request failed")
            return web.Response(status=500, text="500: Internal Server Error")

    async def _index(self, _request: web.Request) -> web.Response:
        return web.Response(text=_INDEX, content_type="text/html")

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        async with self._scraping:
            body = await asyncio.to_thread(encode, self._registry)
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _healthz(self, _request: web.Request) -> web.Response:
        return health_response(self._health.live())

    async def _readyz(self, _request: web.Request) -> web.Response:
        return health_response(self._health.ready())


async def _add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Add what an answer has not said otherwise; aiohttp names itself before we are asked."""
    for name, value in _HEADERS.items():
        if name == "Server" or name not in response.headers:
            response.headers[name] = value


class _Refusal(asyncio.Protocol):
    """One connection too many: closed at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close it."""
        transport.close()
