"""A thousand maildrops, in one file and in a thousand drop-ins: the daemon starts and serves them."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import pytest

from mailferry.sandbox.maildrop import SandboxMaildrop
from mailferry.sandbox.pop3_server import SandboxPop3Server
from support.configs import PASSWORD, ConfigFolder, Value, toml
from support.daemon import DaemonProcess
from support.processes import free_port

MAILDROPS = 1000


@pytest.mark.parametrize("drop_ins", [False, True], ids=["one file", "drop-ins"])
async def test_a_thousand_maildrops(tmp_path: Path, drop_ins: bool) -> None:
    names = [f"drop-{number:04}" for number in range(MAILDROPS)]
    server = SandboxPop3Server({name: SandboxMaildrop(PASSWORD, []) for name in names})
    await server.start()
    folder = ConfigFolder(tmp_path)
    http_port = free_port()
    maildrops: dict[str, Mapping[str, Value]] = {
        f"maildrop.{name}": folder.maildrop(server.port, name, every="1h") for name in names
    }
    hop = {"destination.hop": folder.smtp(free_port())}
    tables = hop if drop_ins else hop | maildrops
    config = folder.write(
        tables, http_port=http_port, log_format="json", start_rate=500, max_sessions_per_host=32
    )
    if drop_ins:
        (tmp_path / "conf.d").mkdir()
        for table, keys in maildrops.items():
            (tmp_path / "conf.d" / f"{table}.toml").write_text(toml({table: keys}))

    with DaemonProcess(config) as daemon:
        await asyncio.to_thread(
            daemon.wait_for, lambda: len(daemon.named("poll.finished")) == MAILDROPS, "first poll of each", 45
        )
        page = await asyncio.to_thread(scrape, http_port)
        assert page.count('mailferry_polls_total{maildrop="drop-') >= MAILDROPS
        assert {event["result"] for event in daemon.named("poll.finished")} == {"ok"}
        assert await asyncio.to_thread(daemon.stop) == 0
    await server.stop()
    assert server.counts["logins"] == MAILDROPS


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as response:
        text: str = response.read().decode()
        return text
