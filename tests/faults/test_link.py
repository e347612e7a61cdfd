"""Connecting over real sockets, and links that stall, drip and break."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from mailferry.errors import (
    ConnectError,
    ConnectionLostError,
    ConnectTimeoutError,
    ReadTimeoutError,
    TransportError,
)
from mailferry.net.endpoint import Endpoint, TlsMode
from mailferry.net.link import Link, connect
from support.processes import free_port
from support.raw_server import RawServer, saying

SECONDS = 0.3


def endpoint(port: int, host: str = "127.0.0.1", **more: Any) -> Endpoint:
    plain = Endpoint(host, port, TlsMode.NONE, connect_timeout_seconds=10.0, timeout_seconds=SECONDS)
    return replace(plain, **more)


class Owner:
    def __init__(self) -> None:
        self.heard = b""
        self.errors: list[TransportError] = []
        self.changed = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.heard += data
        self.changed.set()

    def link_lost(self, error: TransportError) -> None:
        self.errors.append(error)
        self.changed.set()

    async def wait_for(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


@contextlib.asynccontextmanager
async def linked(where: Endpoint) -> AsyncIterator[tuple[Link, Owner]]:
    link, owner = await connect(where), Owner()
    link.expect("the greeting")
    link.attach(owner)
    try:
        yield link, owner
    finally:
        link.close()


async def greeting_from(where: Endpoint) -> bytes:
    async with linked(where) as (_link, owner):
        await owner.wait_for(lambda: owner.heard or owner.errors)
        return owner.heard


async def test_what_the_peer_says_before_there_is_an_owner_is_kept() -> None:
    async with saying(b"+OK early\r\n").running() as server:
        link = await connect(endpoint(server.port))
        await asyncio.sleep(0.05)
        owner = Owner()
        link.attach(owner)
        await owner.wait_for(lambda: owner.heard)
        link.close()
    assert owner.heard == b"+OK early\r\n"


async def test_a_peer_that_closed_before_there_was_an_owner_is_told_as_lost() -> None:
    async with saying(b"", then_close=True).running() as server:
        link = await connect(endpoint(server.port))
        await asyncio.sleep(0.05)
        owner = Owner()
        link.attach(owner)
        await owner.wait_for(lambda: owner.errors)
        link.close()
        await asyncio.sleep(0.01)
    assert [type(error) for error in owner.errors] == [ConnectionLostError]


async def test_ipv6() -> None:
    async with saying(b"+OK six\r\n").running("::1") as server:
        assert await greeting_from(endpoint(server.port, "::1")) == b"+OK six\r\n"


async def test_the_source_address_is_used() -> None:
    server = RawServer()
    seen: list[str] = []

    def note(transport: asyncio.Transport) -> None:
        seen.append(transport.get_extra_info("peername")[0])
        transport.write(b"+OK\r\n")

    server.on_open = note
    async with server.running():
        await greeting_from(endpoint(server.port, source_address="127.0.0.9"))
    assert seen == ["127.0.0.9"]


async def test_a_source_address_of_another_family_cannot_connect() -> None:
    async with saying(b"+OK\r\n").running() as server:
        with pytest.raises(ConnectError, match="cannot connect"):
            await connect(endpoint(server.port, source_address="::1"))


async def test_a_source_address_that_is_not_ours_is_named() -> None:
    async with saying(b"+OK\r\n").running() as server:
        with pytest.raises(
            ConnectError, match=r"source_address 192\.0\.2\.1 is not an address of this machine"
        ):
            await connect(endpoint(server.port, source_address="192.0.2.1"))


async def test_nobody_listens() -> None:
    port = free_port()
    with pytest.raises(ConnectError, match=rf"127\.0\.0\.1:{port}: cannot connect: .*check host and port"):
        await connect(endpoint(port))


async def test_an_unknown_name() -> None:
    with pytest.raises(ConnectError, match=r"no-such-host\.invalid:110: cannot connect: .*\. Check host"):
        await connect(endpoint(110, "no-such-host.invalid", connect_timeout_seconds=20.0))


async def test_what_is_no_name_at_all() -> None:
    with pytest.raises(ConnectError, match="not a host name"):
        await connect(endpoint(110, "x" * 64 + ".example.org"))


@contextlib.contextmanager
def full_backlog() -> Any:
    """Give a port that takes no more connections: SYNs go unanswered."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            knocking = stack.enter_context(socket.socket())
            knocking.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                knocking.connect(listener.getsockname())
        yield listener.getsockname()[1]


async def test_a_connection_that_is_not_accepted_in_time() -> None:
    with full_backlog() as port, pytest.raises(ConnectTimeoutError, match=r"no connection within 0\.3 s"):
        await connect(endpoint(port, connect_timeout_seconds=0.3))


@pytest.mark.parametrize("delay", [0.0, 0.001, 0.05])
async def test_a_cancelled_connect_leaves_nothing_behind(delay: float) -> None:
    with full_backlog() as port:
        task = asyncio.create_task(connect(endpoint(port)))
        await asyncio.sleep(delay)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gc.collect()  # an unclosed socket would warn, and a warning is an error


async def test_connect_can_be_cancelled_at_every_turn_of_the_loop() -> None:
    async with saying(b"+OK\r\n").running() as server:
        for turns in range(12):
            task = asyncio.create_task(connect(endpoint(server.port)))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                (await task).close()
        del task
        gc.collect()
        await server.empty()


async def test_a_silent_peer() -> None:
    async with RawServer().running() as server, linked(endpoint(server.port)) as (_link, owner):
        await owner.wait_for(lambda: owner.errors)
        assert isinstance(owner.errors[0], ReadTimeoutError)
        await server.empty()  # the socket was closed, too


async def test_a_peer_that_drips_within_a_reply() -> None:
    server = RawServer()

    async def drip(transport: asyncio.Transport) -> None:
        for _ in range(200):
            transport.write(b"x")
            await asyncio.sleep(0.05)

    tasks: list[asyncio.Task[None]] = []
    server.on_open = lambda transport: tasks.append(asyncio.create_task(drip(transport)))
    async with server.running(), linked(endpoint(server.port)) as (link, owner):
        link.reply_octets = lambda: len(owner.heard)
        await owner.wait_for(lambda: owner.errors)
        assert "the reply was not complete" in str(owner.errors[0])
        assert 3 <= len(owner.heard) <= 60
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_long_reply_at_a_decent_rate_outlives_the_timeout() -> None:
    server = RawServer()

    async def stream(transport: asyncio.Transport) -> None:
        for _ in range(8):
            transport.write(b"x" * 1000)
            await asyncio.sleep(SECONDS / 4)

    tasks: list[asyncio.Task[None]] = []
    server.on_open = lambda transport: tasks.append(asyncio.create_task(stream(transport)))
    async with server.running(), linked(endpoint(server.port)) as (link, owner):
        link.reply_octets = lambda: len(owner.heard)
        await owner.wait_for(lambda: len(owner.heard) == 8_000 or owner.errors)
        assert not owner.errors
        await asyncio.gather(*tasks)


async def upload_to_a_reader(pauses: Callable[[asyncio.Transport], Coroutine[Any, Any, None]]) -> Owner:
    """Send far more than the kernel takes to a peer that reads as the coroutine lets it."""
    server = RawServer()
    tasks: list[asyncio.Task[None]] = []

    def shrink(transport: asyncio.Transport) -> None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        tasks.append(asyncio.create_task(pauses(transport)))

    server.on_open = shrink
    async with server.running(), linked(endpoint(server.port)) as (link, owner):
        link.write([b"x" * 8_000_000])
        link.expect("the reply to the end of the data")
        await owner.wait_for(lambda: owner.heard or owner.errors)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return owner


async def test_a_slow_reader_is_tolerated_while_it_moves() -> None:
    async def slowly(transport: asyncio.Transport) -> None:
        for _ in range(10):  # more than three timeouts
            transport.pause_reading()
            await asyncio.sleep(0.09)
            transport.resume_reading()
            await asyncio.sleep(0.01)
        transport.write(b"250 at last\r\n")

    owner = await upload_to_a_reader(slowly)
    assert owner.heard == b"250 at last\r\n"


async def test_a_reader_that_stops_is_given_up() -> None:
    async def not_at_all(transport: asyncio.Transport) -> None:
        transport.pause_reading()

    owner = await upload_to_a_reader(not_at_all)
    assert [type(error) for error in owner.errors] == [ReadTimeoutError]


def test_uvloop_keeps_the_greeting_too() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def work() -> bytes:
        async with saying(b"+OK early\r\n").running() as server:
            link = await connect(endpoint(server.port))
            await asyncio.sleep(0.05)
            owner = Owner()
            link.attach(owner)
            await owner.wait_for(lambda: owner.heard)
            link.close()
            return owner.heard

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(work()) == b"+OK early\r\n"
