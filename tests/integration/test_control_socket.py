"""The control socket as a file: who may use it, who may take its place, and what comes over it."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from mailferry.errors import ControlSocketError
from mailferry.events import ControlUsed, Event
from mailferry.web.control import MAX_BODY_OCTETS, MAX_CONNECTIONS, ControlServer
from mailferry.web.unix_socket import LONGEST_PATH_OCTETS, UnixSocket


class Operations:
    """Says yes to everything; nothing is done."""

    def __init__(self) -> None:
        self.fails = False

    async def _yes(self, *_: object, **__: object) -> dict[str, object]:
        if self.fails:
            raise ValueError("a secret: hunter2")
        return {"ok": True}

    status = poll = pause = resume = retry = reload = traces = trace = _yes


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name: that of a test's own may be too long for a socket."""
    with TemporaryDirectory(prefix="mf-") as name:
        yield Path(name)


async def ask(path: Path, request: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    await writer.wait_closed()
    return answer


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()


def post(path: str, body: bytes, octets: int | None = None) -> bytes:
    length = len(body) if octets is None else octets
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    return head.encode() + body


async def started(place: UnixSocket) -> tuple[ControlServer, Operations, list[Event]]:
    told: list[Event] = []
    operations = Operations()
    server = ControlServer(place, operations, told.append)
    await server.start()
    return server, operations, told


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
async def test_only_the_owner_may_connect_whatever_the_umask(folder: Path, umask: int) -> None:
    path = folder / "control.sock"
    before = os.umask(umask)
    try:
        server, _, _ = await started(UnixSocket(path))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await server.stop()
    assert not path.exists()


async def test_requests_are_answered_and_their_sender_is_told(folder: Path) -> None:
    path = folder / "control.sock"
    server, operations, told = await started(UnixSocket(path))
    assert (await ask(path, get("/v1/status"))).endswith(b'{"ok": true}')
    assert (await ask(path, post("/v1/reload", b""))).startswith(b"HTTP/1.1 200 ")
    assert told == [ControlUsed("reload", "", f"uid {os.getuid()}")]
    assert (await ask(path, get("/"))).startswith(b"HTTP/1.1 404 ")
    assert (await ask(path, post("/v1/poll", b"x" * (MAX_BODY_OCTETS + 1)))).startswith(b"HTTP/1.1 413 ")
    operations.fails = True
    answer = await ask(path, get("/v1/status"))
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"hunter2" not in answer
    await server.stop()


async def test_connections_are_bounded(folder: Path) -> None:
    path = folder / "control.sock"
    server, _, _ = await started(UnixSocket(path))
    links = [await asyncio.open_unix_connection(path) for _ in range(MAX_CONNECTIONS)]
    await asyncio.sleep(0.05)
    reader, writer = await asyncio.open_unix_connection(path)
    assert await asyncio.wait_for(reader.read(), 10) == b""
    for _, each in [*links, (reader, writer)]:
        each.close()
    await server.stop()


async def test_the_socket_of_a_daemon_that_died_is_replaced_and_that_of_a_live_one_is_not(
    folder: Path,
) -> None:
    path = folder / "control.sock"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(os.fspath(path))
    dead.close()
    server, _, _ = await started(UnixSocket(path))
    with pytest.raises(ControlSocketError, match="another mailferry answers there"):
        UnixSocket(path).open()
    assert (await ask(path, get("/v1/status"))).startswith(b"HTTP/1.1 200 ")
    await server.stop()


async def test_the_end_leaves_the_socket_of_a_successor_alone(folder: Path) -> None:
    path = folder / "control.sock"
    server, _, _ = await started(UnixSocket(path))
    path.unlink()
    successor, _, _ = await started(UnixSocket(path))
    await server.stop()
    assert (await ask(path, get("/v1/status"))).startswith(b"HTTP/1.1 200 ")
    await successor.stop()


async def test_a_link_leads_to_a_socket_that_lies_elsewhere(folder: Path) -> None:
    run, state = folder / "run", folder / "state"
    run.mkdir()
    state.mkdir()
    pointer = state / "control.sock"
    pointer.symlink_to(folder / "gone.sock")  # of an earlier life
    server, _, _ = await started(UnixSocket(run / "control.sock", pointer))
    assert (await ask(pointer, get("/v1/status"))).startswith(b"HTTP/1.1 200 ")
    with pytest.raises(ControlSocketError, match="another mailferry answers there"):
        UnixSocket(folder / "third.sock", pointer).open()
    assert not (folder / "third.sock").exists()
    await server.stop()
    assert (list(run.iterdir()), list(state.iterdir())) == ([], [])


def test_what_cannot_be_a_socket_is_refused_in_words(folder: Path) -> None:
    with pytest.raises(ControlSocketError, match="too long for a Unix socket"):
        UnixSocket(folder / ("x" * LONGEST_PATH_OCTETS)).open()
    occupied = folder / "control.sock"
    occupied.write_text("a file")
    with pytest.raises(ControlSocketError, match="is there, and is no socket"):
        UnixSocket(occupied).open()
    assert occupied.read_text() == "a file"
    with pytest.raises(ControlSocketError, match="No such file or directory"):
        UnixSocket(folder / "nowhere" / "control.sock").open()
