"""One bad thing stays one bad thing: two hundred maildrops, a dead server and a dripping one."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Mapping
from pathlib import Path

import pytest

from mailferry.app import Application
from mailferry.config.loading import load_settings
from mailferry.model import MaildropName
from mailferry.policy.poll_result import PollResult, poll_result
from mailferry.sandbox.maildrop import SandboxMaildrop
from mailferry.sandbox.pop3_server import SandboxPop3Server
from mailferry.sandbox.smtp_sink import SmtpSink
from mailferry.services.poll import PollReport
from support.configs import PASSWORD, ConfigFolder, Value
from support.faults import GREETING, Drip, Fault, Stall
from support.mailset import make_messages
from support.scripted_pop3 import ScriptedPop3Server

MAILDROPS = 200
MESSAGES_EACH = 2
DEAD, DRIPPING = "127.0.0.2", "127.0.0.3"


@pytest.mark.timeout(60)
async def test_the_others_are_served_while_one_server_is_dead_and_one_drips(tmp_path: Path) -> None:
    names = [f"drop-{number:03}" for number in range(MAILDROPS)]
    mail = make_messages(MAILDROPS * MESSAGES_EACH, seed=7, sizes=(300, 2000))
    boxes = {
        name: SandboxMaildrop(PASSWORD, mail[number * MESSAGES_EACH : (number + 1) * MESSAGES_EACH])
        for number, name in enumerate(names)
    }
    dead, dripping, *healthy = names
    healthy_names = {MaildropName(name) for name in healthy}
    servers = {
        "127.0.0.1": SandboxPop3Server(boxes),
        DEAD: ScriptedPop3Server(boxes, Fault(GREETING, Stall())),
        DRIPPING: ScriptedPop3Server(boxes, Fault(b"UIDL", Drip(2.0))),
    }
    for host, server in servers.items():
        await server.start(host)
    sink = SmtpSink()
    await sink.start()

    folder = ConfigFolder(tmp_path)
    tables: dict[str, Mapping[str, Value]] = {"destination.hop": folder.smtp(sink.port)}
    for name in names:
        host = {dead: DEAD, dripping: DRIPPING}.get(name, "127.0.0.1")
        tables[f"maildrop.{name}"] = folder.maildrop(servers[host].port, name, host=host, timeout="60s")
    settings = load_settings(folder.write(tables, log_level="error", stop_timeout="1s"), environ={})

    ended: dict[MaildropName, PollReport | None] = {}
    healthy_done = asyncio.Event()

    def on_end(name: MaildropName, report: PollReport | None) -> None:
        ended[name] = report
        if healthy_names <= set(ended):
            healthy_done.set()

    async with Application(settings, log_stream=io.StringIO()).opened() as supervisor:
        every = [MaildropName(name) for name in names]
        polls = asyncio.create_task(supervisor.run_once(every, on_end))
        await healthy_done.wait()
        # The bad ones have a minute to answer, so they cannot have ended on their own.
        assert set(ended) == healthy_names
        supervisor.ask_to_stop("the test has seen enough")
        await polls
    for server in servers.values():
        await server.stop()
    await sink.stop()

    results = {poll_result(report.failure) for name, report in ended.items() if name in healthy and report}
    assert results == {PollResult.OK}
    assert ended[MaildropName(dead)] is None, "cancelled while it waited"
    assert ended[MaildropName(dripping)] is None
    assert len(sink.received) == len(healthy) * MESSAGES_EACH
