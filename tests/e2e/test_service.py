"""What the daemon tells a service manager and a container's health check; `test_systemd.py` has the real one."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from support.configs import ConfigFolder
from support.daemon import DaemonProcess

from .conftest import Program

WATCHDOG_SECONDS = 1.0


class Manager:
    """Listens as systemd does, and keeps each datagram with its time."""

    def __init__(self, address: str) -> None:
        self.heard: list[tuple[float, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1))
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while words := self._socket.recv(4096).decode():
            self.heard.append((time.monotonic(), words))

    def words(self, since: int = 0) -> list[str]:
        return [words.partition("\n")[0] for _, words in self.heard[since:]]

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"", self._socket.getsockname())
        self._thread.join(5)
        self._socket.close()


@contextmanager
def manager(address: str) -> Iterator[Manager]:
    listening = Manager(address)
    try:
        yield listening
    finally:
        listening.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def until(daemon: DaemonProcess, condition: Callable[[], object], what: str) -> None:
    daemon.wait_for(lambda: bool(condition()), what)


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_the_service_manager_hears_the_whole_life(kind: str, tmp_path: Path) -> None:
    address = str(tmp_path / "notify") if kind == "path" else f"@{tmp_path}"
    folder = ConfigFolder(tmp_path)
    tables = {"maildrop.ann": folder.maildrop(1, "ann", every="1h"), "destination.hop": folder.smtp(1)}
    config = folder.write(tables, log_format="json")
    environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": str(round(WATCHDOG_SECONDS * 1e6))}
    with manager(address) as told, DaemonProcess(config, environ=environ) as daemon:
        until(daemon, lambda: "READY=1" in told.words(), "READY")
        until(daemon, lambda: daemon.named("daemon.started"), "the word that the configuration is in force")
        assert any("of 1 maildrop" in words for _, words in told.heard)
        until(daemon, lambda: told.words().count("WATCHDOG=1") >= 3, "pings")

        daemon.process.send_signal(signal.SIGSTOP)
        time.sleep(0.1)  # what was under way
        stopped_at = len(told.heard)
        time.sleep(WATCHDOG_SECONDS * 1.2)
        assert told.words(stopped_at) == [], "a process that does nothing is silent"
        daemon.process.send_signal(signal.SIGCONT)
        until(daemon, lambda: "WATCHDOG=1" in told.words(stopped_at), "pings again")

        for text, ending in (("x = ", "config.reload_failed"), (config.read_text(), "config.unchanged")):
            config.write_text(text)
            before = len(told.heard)
            daemon.process.send_signal(signal.SIGHUP)
            until(daemon, lambda before=before: "READY=1" in told.words(before), "READY after the reload")  # type: ignore[misc]
            words = [each for each in told.words(before) if each in {"RELOADING=1", "READY=1"}]
            assert words == ["RELOADING=1", "READY=1"], "also after a refusal: it is as ready as before"
            until(daemon, lambda ending=ending: bool(daemon.named(ending)), ending)  # type: ignore[misc]
        assert daemon.stop() == 0
        assert "STOPPING=1" in told.words()


async def test_the_health_check_asks_the_port_the_socket_and_despite_a_bad_file(
    tmp_path: Path, program: Program
) -> None:
    folder = ConfigFolder(tmp_path)
    tables = {"maildrop.ann": folder.maildrop(1, "ann", every="1h"), "destination.hop": folder.smtp(1)}

    async def check(config: Path, *arguments: str) -> tuple[int, str]:
        done = await asyncio.to_thread(program, "healthcheck", "-c", config, *arguments)
        return done.code, done.out

    for http_port, arguments in ((free_port(), ("--ready",)), (None, ())):
        control_socket = str(tmp_path / "c.sock")
        config = folder.write(tables, http_port=http_port, log_format="json", control_socket=control_socket)
        assert await check(config) == (1, ""), "nobody runs"
        with DaemonProcess(config) as daemon:
            await asyncio.to_thread(until, daemon, partial(daemon.named, "daemon.started"), "start")
            config.write_text(config.read_text() + "[maildrop.bob]\nevery = 'soon'\n")
            assert await check(config, *arguments) == (0, "ok\n")
            assert await asyncio.to_thread(daemon.stop) == 0
