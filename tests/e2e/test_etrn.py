"""`mailferry etrn` and the daemon beside each other, as processes, against a server that does as it is told."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from support.clients import running
from support.configs import ConfigFolder, Value
from support.daemon import DaemonProcess
from support.faults import GREETING, Fault, Stall
from support.processes import free_port
from support.scripted_smtp import ScriptedSmtpServer

A, B = "a.example.org", "b.example.org"
NOT_ALLOWED = Fault(b"ETRN", reply=b"459 Node b.example.org not allowed\r\n", argument=B.encode())


def config(folder: Path, port: int, http_port: int | None = None, **more: Value) -> Path:
    configs = ConfigFolder(folder)
    table: dict[str, Value] = {
        "host": "127.0.0.1",
        "port": port,
        "tls": "none",
        "nodes": [A, B],
        "every": "1h",
    }
    tables = {"destination.hop": configs.smtp(1), "etrn.office": table | more}
    return configs.write(tables, http_port=http_port, log_format="json")


def metrics(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text: str = answer.read().decode()
        return text


async def wait_for(daemon: DaemonProcess, name: str, count: int = 1) -> list[dict[str, Any]]:
    await asyncio.to_thread(daemon.wait_for, lambda: len(daemon.named(name)) >= count, name)
    return daemon.named(name)


async def test_a_command_alone_asks_and_ends_with_a_code(tmp_path: Path, program) -> None:
    server = ScriptedSmtpServer(NOT_ALLOWED)
    async with running(server):
        path = config(tmp_path, server.port)
        one = await asyncio.to_thread(program, "etrn", "office", A, "-c", path)
        both = await asyncio.to_thread(program, "etrn", "office", "--json", "-c", path)
    assert (one.code, one.err) == (0, "")
    assert "accepted: the server sends what it has" in one.out
    assert both.code == 1
    assert [(row["node"], row["result"]) for row in both.document["nodes"]] == [
        (A, "started"),
        (B, "refused"),
    ]


async def test_the_dialogue_is_shown_when_asked_for(tmp_path: Path, program) -> None:
    server = ScriptedSmtpServer()
    async with running(server):
        ended = await asyncio.to_thread(
            program, "etrn", "office", A, "--verbose", "-c", config(tmp_path, server.port)
        )
    assert "ETRN a.example.org" in ended.err
    assert "ETRN a.example.org" not in ended.out


async def test_daemon_and_command_respect_each_others_requests(tmp_path: Path, program) -> None:
    server = ScriptedSmtpServer(NOT_ALLOWED)
    http_port = free_port()
    async with running(server):
        path = config(tmp_path, server.port, http_port)
        with DaemonProcess(path) as daemon:
            await wait_for(daemon, "etrn.refused")
            status = await asyncio.to_thread(program, "status", "--json", "-c", path)
            early = await asyncio.to_thread(program, "etrn", "office", "-c", path)
            forced = await asyncio.to_thread(program, "etrn", "office", A, "--force", "--json", "-c", path)
            text = await asyncio.to_thread(metrics, http_port)
            assert await asyncio.to_thread(daemon.stop) == 0
    accepted, refused = status.document["etrn"]
    assert (accepted["state"], refused["state"]) == ("ok", "failing")
    assert refused["last_reply"] == "459 Node b.example.org not allowed"
    assert (early.code, early.out.count("not asked")) == (75, 2)
    assert (forced.code, forced.document["nodes"][0]["accepted"]) == (0, True)
    assert server.counts["ETRN"] == 3
    labels = 'etrn="office",node="{}",result="{}"'
    assert f"mailferry_etrn_requests_total{{{labels.format(A, 'started')}}} 1.0" in text
    assert f"mailferry_etrn_requests_total{{{labels.format(B, 'refused')}}} 1.0" in text


async def test_a_restart_remembers_when_it_asked(tmp_path: Path) -> None:
    server = ScriptedSmtpServer()
    http_port = free_port()
    async with running(server):
        path = config(tmp_path, server.port, http_port)
        with DaemonProcess(path) as daemon:
            await wait_for(daemon, "etrn.answered", 2)
            assert await asyncio.to_thread(daemon.stop) == 0
        with DaemonProcess(path) as daemon:
            await wait_for(daemon, "daemon.started")
            await asyncio.sleep(1.5)  # the first turn comes within a second, and finds that it is too early
            text = await asyncio.to_thread(metrics, http_port)
            assert await asyncio.to_thread(daemon.stop) == 0
    assert server.counts["ETRN"] == 2
    line = next(
        line for line in text.splitlines() if line.startswith("mailferry_last_successful_etrn") and A in line
    )
    assert abs(float(line.split()[-1]) - time.time()) < 60


async def test_on_start_false_waits_for_the_interval(tmp_path: Path) -> None:
    server = ScriptedSmtpServer()
    async with running(server):
        with DaemonProcess(config(tmp_path, server.port, every="3s", on_start=False)) as daemon:
            await wait_for(daemon, "daemon.started")
            await asyncio.sleep(1.5)
            assert server.counts["ETRN"] == 0
            await wait_for(daemon, "etrn.answered", 2)
            assert await asyncio.to_thread(daemon.stop) == 0


async def test_a_stalled_server_delays_neither_polls_nor_the_end(tmp_path: Path, sandbox) -> None:
    server = ScriptedSmtpServer(Fault(GREETING, Stall()))
    async with running(server):
        text = sandbox.config.read_text()
        table = {"host": "127.0.0.1", "port": server.port, "tls": "none", "nodes": [A]}
        lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in table.items())
        sandbox.config.write_text(f"{text}\n[etrn.office]\n{lines}\n")
        with DaemonProcess(sandbox.config) as daemon:
            await wait_for(daemon, "poll.finished", 3)
            assert server.counts["sessions"] == 1
            began = time.monotonic()
            assert await asyncio.to_thread(daemon.stop) == 0
            assert time.monotonic() - began < 10
    (stopped,) = daemon.named("daemon.stopped")
    assert stopped["clean"] is True


@pytest.mark.parametrize("count", [40])
async def test_a_crowd_of_servers_is_asked(tmp_path: Path, count: int) -> None:
    server = ScriptedSmtpServer()
    async with running(server):
        configs = ConfigFolder(tmp_path)
        table: dict[str, Value] = {"host": "127.0.0.1", "port": server.port, "tls": "none", "nodes": [A, B]}
        tables = {"destination.hop": configs.smtp(1), **{f"etrn.e{n}": table for n in range(count)}}
        with DaemonProcess(configs.write(tables, log_format="json")) as daemon:
            await wait_for(daemon, "etrn.answered", 2 * count)
            assert await asyncio.to_thread(daemon.stop) == 0
    assert server.counts["sessions"] == count
