"""A real Prometheus with our rules: it takes them, they fire when they should, and the dashboard shows something."""

from __future__ import annotations

import asyncio
import contextlib
import math
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mailferry.sandbox.maildrop import SandboxMaildrop
from support.certificates import LocalAuthority
from support.clients import running
from support.configs import PASSWORD, ConfigFolder
from support.daemon import DaemonProcess
from support.processes import free_port, require
from support.prometheus import RULE_TESTS, RULES, Prometheus, dashboard_queries, hurried_rules
from support.scripted_pop3 import ScriptedPop3Server
from support.scripted_smtp import ScriptedSmtpServer

pytestmark = pytest.mark.real_server

HURRY = 150.0
"""Ten minutes of the rules are four seconds here."""
MESSAGE = b"Subject: hello\r\n\r\nhello\r\n"


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run(
        [require("promtool"), *arguments],
        capture_output=True,
        timeout=50,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


def test_prometheus_takes_the_rules() -> None:
    promtool("check", "rules", RULES)


def test_each_alert_fires_when_it_should_and_not_before() -> None:
    promtool("test", "rules", RULE_TESTS)


@dataclass
class Site:
    """A daemon at work between servers of ours."""

    pop3: ScriptedPop3Server
    http_port: int
    boxes: dict[str, SandboxMaildrop] = field(default_factory=dict)


@contextlib.asynccontextmanager
async def site(folder: Path) -> AsyncIterator[Site]:
    """Run the daemon with two maildrops under TLS, a next hop, and a server that is asked with ETRN."""
    authority = LocalAuthority()
    config = ConfigFolder(folder)
    boxes = {name: SandboxMaildrop(PASSWORD, [MESSAGE]) for name in ("alice", "bob")}
    context = authority.good().server_context(folder)
    pop3 = ScriptedPop3Server(boxes, tls=context, implicit_tls=True)
    hop = ScriptedSmtpServer()
    http_port = free_port()
    async with running(pop3), running(hop):
        ca = authority.write_ca(folder)
        maildrop = {
            "tls": "implicit",
            "tls_ca_file": str(ca),
            "every": "1s",
            "jitter": "0s",
            "deliver": ["office"],
        }
        tables = {
            "maildrop.alice": config.maildrop(pop3.port, "alice", **maildrop),
            "maildrop.bob": config.maildrop(pop3.port, "bob", **maildrop),
            "destination.office": config.smtp(hop.port),
            "etrn.head": {
                "host": "127.0.0.1",
                "port": hop.port,
                "tls": "none",
                "nodes": ["example.org"],
            },
        }
        path = config.write(tables, http_port=http_port, log_format="json")
        with DaemonProcess(path) as daemon:
            relayed = lambda: len(daemon.named("message.relayed")) >= 2  # noqa: E731
            await asyncio.to_thread(daemon.wait_for, relayed, "both messages")
            yield Site(pop3, http_port, boxes)
            assert await asyncio.to_thread(daemon.stop) == 0


def wait_for(seconds: float, condition: Callable[[], object], what: Callable[[], str] = str) -> None:
    """Wait until a condition is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s {what()}"
        time.sleep(0.2)


def without_data(prometheus: Prometheus) -> list[str]:
    """The queries of the dashboard that show nothing."""
    return [
        f"{title}: {query}"
        for title, query in dashboard_queries()
        if not any(not math.isnan(float(each["value"][1])) for each in prometheus.query(query))
    ]


async def test_the_dashboard_shows_something_and_a_dead_server_fires_one_alert(tmp_path: Path) -> None:
    async with site(tmp_path / "site") as at:
        prometheus = Prometheus(tmp_path / "prometheus", at.http_port, hurried_rules(HURRY))
        await asyncio.to_thread(prometheus.start)
        try:
            await asyncio.to_thread(look_at, prometheus, at.boxes)
            await at.pop3.stop()
            await asyncio.to_thread(one_alert_fires, prometheus)
        finally:
            prometheus.stop()


def look_at(prometheus: Prometheus, boxes: dict[str, SandboxMaildrop]) -> None:
    """All is well, and every query of the dashboard shows something."""
    wait_for(10, lambda: prometheus.query("mailferry_build_info"))
    time.sleep(1.5)  # a second scrape, so that rates have two ends
    for box in boxes.values():
        box.append(MESSAGE)
    wait_for(15, lambda: not without_data(prometheus), lambda: str(without_data(prometheus)))
    assert prometheus.firing() == set()


def one_alert_fires(prometheus: Prometheus) -> None:
    """The server of both maildrops is gone: that alone is told, of each."""
    wait_for(20, prometheus.firing)
    time.sleep(3)  # time for others to follow, which should not
    silent = prometheus.query('ALERTS{alertstate="firing"}')
    assert {each["metric"]["alertname"] for each in silent} == {"MailferryMaildropSilent"}
    assert {each["metric"]["maildrop"] for each in silent} == {"alice", "bob"}
