"""The HTTP side, asked over loopback: a mocked request would skip the limits that are tested here."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge

from mailferry.errors import MailferryError
from mailferry.web import server as module
from mailferry.web.server import WebError, WebServer


@dataclass
class Probe:
    alive: tuple[bool, dict[str, Any]] = (True, {"uptime_seconds": 5})
    prepared: tuple[bool, dict[str, Any]] = (False, {"ledger": "closed"})

    def live(self) -> tuple[bool, dict[str, Any]]:
        return self.alive

    def ready(self) -> tuple[bool, dict[str, Any]]:
        return self.prepared


class BrokenProbe(Probe):
    def live(self) -> tuple[bool, dict[str, Any]]:
        raise RuntimeError("hunter2")


@pytest.fixture
def registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("mailferry_polls_total", "Polls.", ["maildrop"], registry=registry).labels("alice").inc()
    return registry


def server_on(registry: CollectorRegistry, probe: Probe | None = None) -> WebServer:
    return WebServer(host="127.0.0.1", port=0, registry=registry, health=probe or Probe())


@pytest.fixture
async def server(registry: CollectorRegistry) -> AsyncIterator[WebServer]:
    server = server_on(registry)
    await server.start()
    yield server
    await server.stop()


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes = field(repr=False)


async def ask(server: WebServer, path: str, method: str = "GET", **headers: str) -> Answer:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"http://127.0.0.1:{server.port}{path}", headers=headers) as response,
    ):
        return Answer(
            response.status, {k.lower(): v for k, v in response.headers.items()}, await response.read()
        )


async def raw(server: WebServer, octets: bytes) -> bytes:
    """Send octets as they are; return all that comes until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(octets)
        return await asyncio.wait_for(reader.read(), 5)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def test_metrics_in_the_format_that_is_asked_for(server: WebServer) -> None:
    plain = await ask(server, "/metrics")
    assert plain.status == 200
    assert plain.headers["content-type"].startswith("text/plain; version=")
    assert b'mailferry_polls_total{maildrop="alice"} 1.0' in plain.body
    modern = await ask(server, "/metrics", Accept="application/openmetrics-text;version=1.0.0")
    assert modern.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert modern.body.endswith(b"# EOF\n")


async def test_metrics_are_made_beside_the_event_loop_and_one_at_a_time(
    server: WebServer, registry: CollectorRegistry
) -> None:
    threads: list[threading.Thread] = []
    inside = 0
    most = 0

    def reading() -> float:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        threads.append(threading.current_thread())
        threading.Event().wait(0.01)
        inside -= 1
        return 1.0

    Gauge("mailferry_probe", "A gauge.", registry=registry).set_function(reading)
    await asyncio.gather(*(ask(server, "/metrics") for _ in range(4)))
    assert len(threads) == 4
    assert threading.main_thread() not in threads
    assert most == 1


async def test_health(server: WebServer) -> None:
    live = await ask(server, "/healthz")
    assert (live.status, json.loads(live.body)) == (200, {"status": "ok", "uptime_seconds": 5})
    ready = await ask(server, "/readyz")
    assert (ready.status, json.loads(ready.body)) == (503, {"status": "failing", "ledger": "closed"})
    assert ready.headers["content-type"].startswith("application/json")


async def test_health_is_asked_anew_each_time(registry: CollectorRegistry) -> None:
    probe = Probe()
    server = server_on(registry, probe)
    await server.start()
    try:
        probe.alive, probe.prepared = (False, {}), (True, {})
        assert (await ask(server, "/healthz")).status == 503
        assert (await ask(server, "/readyz")).status == 200
    finally:
        await server.stop()


async def test_a_fault_of_ours_is_told_to_the_log_and_not_to_the_client(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    server = server_on(registry, BrokenProbe())
    await server.start()
    try:
        answer = await ask(server, "/healthz", Accept="text/html")
    finally:
        await server.stop()
    assert answer.status == 500
    assert b"hunter2" not in answer.body
    assert b"Traceback" not in answer.body
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_the_index_lists_the_three_links(server: WebServer) -> None:
    index = await ask(server, "/")
    assert index.status == 200
    for path in (b"/metrics", b"/healthz", b"/readyz"):
        assert b'href="%s"' % path in index.body


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/readyz"])
async def test_head_has_no_body(server: WebServer, path: str) -> None:
    whole, head = await ask(server, path), await ask(server, path, "HEAD")
    assert (head.status, head.body) == (whole.status, b"")
    assert head.headers["content-type"] == whole.headers["content-type"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
async def test_other_methods_are_refused(server: WebServer, method: str) -> None:
    answer = await ask(server, "/metrics", method)
    assert answer.status == 405
    assert sorted(answer.headers["allow"].split(",")) == ["GET", "HEAD"]


@pytest.mark.parametrize("path", ["/nothing", "/metrics/", "/../etc/passwd", "/%3Cscript%3E"])
async def test_what_is_not_there_is_told_in_plain_text(server: WebServer, path: str) -> None:
    answer = await ask(server, path, Accept="text/html")
    assert (answer.status, answer.body) == (404, b"404: Not Found")
    assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/readyz", "/nothing"])
async def test_every_answer_has_the_security_headers(server: WebServer, path: str) -> None:
    headers = (await ask(server, path)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["server"] == "mailferry"


@pytest.mark.parametrize(
    "request_octets",
    [
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST /none HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
    ],
    ids=["long line", "long field", "TLS", "two lengths", "no gzip"],
)
async def test_a_bad_request_ends_the_connection_and_is_not_in_the_log(
    server: WebServer, request_octets: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await raw(server, request_octets)
    assert answer == b"" or answer.startswith(b"HTTP/1.")
    assert b" 200 " not in answer.partition(b"\r\n")[0]
    assert not [record for record in caplog.records if record.name != "asyncio"]
    assert (await ask(server, "/healthz")).status == 200


async def test_requests_are_not_logged(server: WebServer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        await ask(server, "/healthz")
        await ask(server, "/nothing")
    assert not [record for record in caplog.records if record.name != "asyncio"]


async def test_one_connection_too_many_is_closed(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CONNECTIONS", 2)
    held = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
    await asyncio.sleep(0)
    try:
        assert await raw(server, b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") == b""
    finally:
        for _, writer in held:
            writer.close()
            await writer.wait_closed()
    async with asyncio.timeout(5):
        while not await raw(server, b"GET /healthz HTTP/1.0\r\n\r\n"):
            pass  # until the server has seen that the others are gone


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENCE_SECONDS", 0.05)


@pytest.mark.parametrize("octets", [b"", b"GET /healthz HTT"])
async def test_a_connection_without_a_whole_request_is_dropped(
    impatient: None, server: WebServer, octets: bytes
) -> None:
    assert await raw(server, octets) == b""
    assert not server._unheard


async def test_a_connection_that_has_asked_may_stay(impatient: None, server: WebServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        for _ in range(2):
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
            await asyncio.sleep(0.1)
    finally:
        writer.close()
        await writer.wait_closed()


async def test_the_port_is_the_bound_one_while_serving(registry: CollectorRegistry) -> None:
    server = server_on(registry)
    assert server.port == 0
    await server.start()
    assert server.port > 0
    await server.stop()
    assert server.port == 0


async def test_a_stopped_server_is_gone_and_may_start_again(registry: CollectorRegistry) -> None:
    server = server_on(registry)
    await server.stop()
    for _ in range(2):
        await server.start()
        port = server.port
        assert (await ask(server, "/healthz")).status == 200
        await server.stop()
        await server.stop()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)


async def test_stopping_does_not_wait_for_idle_connections(registry: CollectorRegistry) -> None:
    server = server_on(registry)
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(b"}")
    async with asyncio.timeout(1):
        await server.stop()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_a_port_in_use_is_told_with_what_to_do(registry: CollectorRegistry) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        server = WebServer(host="127.0.0.1", port=port, registry=registry, health=Probe())
        with pytest.raises(WebError) as caught:
            await server.start()
        await server.stop()
    assert str(caught.value) == (
        f"cannot serve HTTP on 127.0.0.1:{port}: another program listens there; "
        "stop it or choose another port in http.listen"
    )
    assert isinstance(caught.value, MailferryError)


async def test_an_unknown_host_is_told(registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nowhere(*_args: object, **_options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", nowhere)
    server = WebServer(host="no.such.host.invalid", port=0, registry=registry, health=Probe())
    with pytest.raises(WebError, match=r"on no\.such\.host\.invalid:0: the host name is unknown"):
        await server.start()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(13, "Permission denied"), r"\[::1\]:80: not permitted; choose a port above 1023"),
        (OSError(99, "Cannot assign"), "this machine does not have that address"),
        (OSError(24, "Too many open files"), "Too many open files"),
        (OSError("could not bind on any address"), "could not bind on any address"),
    ],
)
def test_other_refusals_are_told(registry: CollectorRegistry, error: OSError, words: str) -> None:
    server = WebServer(host="::1", port=80, registry=registry, health=Probe())
    with pytest.raises(WebError, match=words):
        raise WebError(server._explain(error))
