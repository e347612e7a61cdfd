"""The control channel: JSON over HTTP/1.1, for commands over a Unix socket of the daemon's own.

`ControlApi` is nothing but routes, so that a page with a login of its own can offer the same
operations. What a request may grow is bounded: its octets, the names in it, how long it waits.
Everything that changes something is told as `control.used`, with who asked for it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mailferry.errors import ControlSocketError, MailferryError, UnknownTargetError
from mailferry.events import ControlUsed
from mailferry.ports import Emit
from mailferry.web.client_faults import ClientFault, library_logger
from mailferry.web.unix_socket import UnixSocket

PREFIX = "/v1"
MAX_BODY_OCTETS = 64 * 1024
MAX_NAMES = 500
MAX_CONNECTIONS = 32
MAX_WAIT_SECONDS = 3600.0
_MAX_SECONDS = 366 * 86_400.0
_SILENCE_SECONDS = 10.0
_KEEPALIVE_SECONDS = 75.0
_STOP_SECONDS = 2.0
_SHOWN_CHARACTERS = 200

_log = logging.getLogger(__name__)

Document = Mapping[str, Any]
"""What JSON can hold."""
M = TypeVar("M", bound=BaseModel)
Work = Callable[[], Awaitable[Document]]


class ControlOperations(Protocol):
    """What can be asked of the daemon. Called on the event loop's thread.

    Names are those of the configuration, `alice` or `maildrop.alice`; None is all of them.
    Every method may raise `ControlError`; an `UnknownTargetError` says that a name is wrong.
    """

    async def status(self) -> Document:
        """Tell how everything fares."""

    async def poll(self, names: Sequence[str] | None, *, wait_seconds: float) -> Document:
        """Poll maildrops now, and wait for them as long as that."""

    async def pause(self, names: Sequence[str] | None, *, seconds: float | None) -> Document:
        """Pause maildrops, destinations and ETRN servers, for a time or until they are resumed."""

    async def resume(self, names: Sequence[str] | None) -> Document:
        """End pauses."""

    async def retry(self, maildrop: str | None, *, uidl: str | None) -> Document:
        """Let messages that wait or were refused be tried at once."""

    async def ask(self, name: str, nodes: Sequence[str], *, force: bool, insist: bool) -> Document:
        """Ask a server of `[etrn]` for the mail of some nodes, all without any, and take in what comes."""

    async def reload(self) -> Document:
        """Read the configuration anew."""

    async def traces(self) -> Document:
        """Tell whose sessions are traced."""

    async def trace(self, name: str, *, on: bool, seconds: float | None) -> Document:
        """Switch the trace of somebody's sessions on for a while, or off."""


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class _Names(_Request):
    names: list[str] = Field([], max_length=MAX_NAMES)
    all: bool = False

    @model_validator(mode="after")
    def _one_of_them(self) -> _Names:
        if self.all == bool(self.names):
            raise ValueError('give either "names" or "all": true')
        return self

    @property
    def chosen(self) -> list[str] | None:
        """The names, None for all."""
        return None if self.all else self.names


class _Poll(_Names):
    wait_seconds: float = Field(0.0, ge=0, le=MAX_WAIT_SECONDS)


class _Pause(_Names):
    seconds: float | None = Field(None, gt=0, le=_MAX_SECONDS)


class _Retry(_Request):
    maildrop: str | None = None
    uidl: str | None = Field(None, max_length=1000)


class _Ask(_Request):
    name: str
    nodes: list[str] = Field([], max_length=MAX_NAMES)
    force: bool = False
    insist: bool = False


class _Trace(_Request):
    name: str
    on: bool
    seconds: float | None = Field(None, gt=0, le=_MAX_SECONDS)


class ControlApi:
    """The routes; `asked_by` says of a request who sent it."""

    def __init__(
        self, operations: ControlOperations, emit: Emit, asked_by: Callable[[web.Request], str]
    ) -> None:
        self._operations = operations
        self._emit = emit
        self._asked_by = asked_by

    def routes(self) -> list[web.RouteDef]:
        """Return them, for the router of an application."""
        return [
            web.get(f"{PREFIX}/status", self._status),
            web.get(f"{PREFIX}/trace", self._traces),
            web.post(f"{PREFIX}/poll", self._poll),
            web.post(f"{PREFIX}/pause", self._pause),
            web.post(f"{PREFIX}/resume", self._resume),
            web.post(f"{PREFIX}/retry", self._retry),
            web.post(f"{PREFIX}/ask", self._ask),
            web.post(f"{PREFIX}/reload", self._reload),
            web.post(f"{PREFIX}/trace", self._trace),
        ]

    async def _status(self, _request: web.Request) -> web.Response:
        return await _answer(self._operations.status)

    async def _traces(self, _request: web.Request) -> web.Response:
        return await _answer(self._operations.traces)

    async def _poll(self, request: web.Request) -> web.Response:
        asked = await _read(request, _Poll)
        self._used(request, "poll", asked.chosen)
        return await _answer(lambda: self._operations.poll(asked.chosen, wait_seconds=asked.wait_seconds))

    async def _pause(self, request: web.Request) -> web.Response:
        asked = await _read(request, _Pause)
        self._used(request, "pause", asked.chosen)
        return await _answer(lambda: self._operations.pause(asked.chosen, seconds=asked.seconds))

    async def _resume(self, request: web.Request) -> web.Response:
        asked = await _read(request, _Names)
        self._used(request, "resume", asked.chosen)
        return await _answer(lambda: self._operations.resume(asked.chosen))

    async def _retry(self, request: web.Request) -> web.Response:
        asked = await _read(request, _Retry)
        self._used(request, "retry", [asked.maildrop] if asked.maildrop is not None else None)
        return await _answer(lambda: self._operations.retry(asked.maildrop, uidl=asked.uidl))

    async def _ask(self, request: web.Request) -> web.Response:
        asked = await _read(request, _Ask)
        self._used(request, "ask", [asked.name, *asked.nodes])
        return await _answer(
            lambda: self._operations.ask(asked.name, asked.nodes, force=asked.force, insist=asked.insist)
        )

    async def _reload(self, request: web.Request) -> web.Response:
        self._used(request, "reload", [])
        return await _answer(self._operations.reload)

    async def _trace(self, request: web.Request) -> web.Response:
        asked = await _read(request, _Trace)
        self._used(request, "trace", [asked.name, "on" if asked.on else "off"])
        return await _answer(lambda: self._operations.trace(asked.name, on=asked.on, seconds=asked.seconds))

    def _used(self, request: web.Request, operation: str, names: Sequence[str] | None) -> None:
        targets = "all" if names is None else " ".join(names)
        if len(targets) > _SHOWN_CHARACTERS:
            targets = targets[:_SHOWN_CHARACTERS] + "..."
        self._emit(ControlUsed(operation, targets, self._asked_by(request)))


async def _read(request: web.Request, kind: type[M]) -> M:
    """Return what a request says.

    Raises:
        web.HTTPException: it makes no sense, is too large, or does not come to its end.
    """
    try:
        async with asyncio.timeout(_SILENCE_SECONDS):
            body = await request.read()
        return kind.model_validate_json(body or b"{}")
    except TimeoutError:
        raise web.HTTPRequestTimeout(text="the request did not come to its end") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise web.HTTPBadRequest(text=f"{where}: {first['msg']}".removeprefix(": ")) from None


async def _answer(work: Work) -> web.Response:
    try:
        return web.json_response(await work())
    except UnknownTargetError as error:
        return web.json_response({"error": str(error)}, status=404)
    except MailferryError as error:
        return web.json_response({"error": str(error)}, status=409)


class ControlServer:
    """Serves the routes over a Unix socket. Start and stop it on the daemon's event loop."""

    def __init__(self, place: UnixSocket, operations: ControlOperations, emit: Emit) -> None:
        self._place = place
        self._api = ControlApi(operations, emit, _peer)
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None
        self._unheard: dict[asyncio.BaseProtocol, asyncio.TimerHandle] = {}

    async def start(self) -> None:
        """Listen.

        Raises:
            ControlSocketError: the socket cannot be had.
        """
        application = web.Application(middlewares=[self._guard], client_max_size=MAX_BODY_OCTETS)
        application.router.add_routes(self._api.routes())
        runner = web.AppRunner(
            application,
            access_log=None,
            logger=library_logger(__name__),
            keepalive_timeout=_KEEPALIVE_SECONDS,
            shutdown_timeout=_STOP_SECONDS,
            lingering_time=_STOP_SECONDS,
        )
        await runner.setup()
        try:
            self._listener = await self._listen(runner)
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner

    async def stop(self) -> None:
        """Close the socket, give requests a moment, then take its name away. Safe to call twice."""
        listener, self._listener = self._listener, None
        runner, self._runner = self._runner, None
        for timer in self._unheard.values():
            timer.cancel()
        self._unheard.clear()
        if listener is not None:
            listener.close()
            self._place.remove()
        if runner is not None:
            await runner.cleanup()

    async def _listen(self, runner: web.AppRunner) -> asyncio.Server:
        server = runner.server
        if server is None:  # setup() has made it
            raise ControlSocketError("the control side was not set up")
        loop = asyncio.get_running_loop()

        def accept() -> asyncio.BaseProtocol:
            if len(server.connections) >= MAX_CONNECTIONS:
                return _Refusal()
            connection = server()
            self._unheard[connection] = loop.call_later(_SILENCE_SECONDS, self._drop_unheard, connection)
            return connection

        bound = self._place.open()
        try:
            return await loop.create_unix_server(accept, sock=bound, backlog=MAX_CONNECTIONS)
        except BaseException:
            bound.close()
            self._place.remove()
            raise

    def _drop_unheard(self, connection: web.RequestHandler) -> None:
        """Close a connection that has not brought one whole request in time."""
        self._unheard.pop(connection, None)
        connection.force_close()

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Note that the connection has spoken; give every refusal the same form, and faults of ours no text."""
        timer = self._unheard.pop(request.protocol, None)
        if timer is not None:
            timer.cancel()
        try:
            return await handler(request)
        except web.HTTPException as refusal:
            return web.json_response({"error": refusal.text or refusal.reason}, status=refusal.status)
        except ClientFault:
            return web.json_response({"error": "the request cannot be read"}, status=400)
        except Exception:  # noqa: BLE001 (whatever it is, the client gets no text of it)
            _log.exception("a control request failed")
            return web.json_response({"error": "internal error: the daemon's log has more"}, status=500)


def _peer(request: web.Request) -> str:
    """Tell who is at the other end, as the system says."""
    connection = request.transport.get_extra_info("socket") if request.transport is not None else None
    if connection is None or not hasattr(socket, "SO_PEERCRED"):
        return "unknown"
    # unix(7): pid, uid, gid
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return f"uid {struct.unpack('3i', credentials)[1]}"


class _Refusal(asyncio.Protocol):
    """One connection too many: closed at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close it."""
        transport.close()
