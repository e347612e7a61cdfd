"""ODMR with the real daemon: a scripted provider on one side, a scripted next hop on the other."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from support.certificates import LocalAuthority
from support.clients import running
from support.configs import PASSWORD, ConfigFolder, Value
from support.daemon import DaemonProcess
from support.faults import Fault
from support.scripted_odmr import CREDENTIALS, Odd, ScriptedProvider, mail
from support.scripted_smtp import FINAL, ScriptedSmtpServer

DOMAIN = "example.org"
THREE = (mail(1), mail(2, "bob@example.org", "ann@example.org"), mail(3))

assert CREDENTIALS["customer"] == PASSWORD


def config(folder: Path, provider: ScriptedProvider, sink: ScriptedSmtpServer, **more: Value) -> Path:
    configs = ConfigFolder(folder)
    table: dict[str, Value] = {
        "mode": "odmr",
        "host": "127.0.0.1",
        "port": provider.port,
        "tls": "none",
        "username": "customer",
        "password": {"file": str(configs.secret)},
        "nodes": [DOMAIN],
        "deliver": ["hop"],
        "every": "1h",
        "min_gap": "0s",
    }
    hop = configs.smtp(sink.port, recipients="original")
    return configs.write({"destination.hop": hop, "etrn.home": table | more}, log_format="json")


async def wait_for(daemon: DaemonProcess, name: str, count: int = 1) -> list[dict[str, Any]]:
    await asyncio.to_thread(daemon.wait_for, lambda: len(daemon.named(name)) >= count, name)
    return daemon.named(name)


def body(content: bytes) -> bytes:
    """Return what is left of a message without the trace field that we put on top."""
    return content[content.index(b"From: ") :]


async def test_three_messages_come_each_once_also_when_a_250_was_lost(tmp_path: Path, program) -> None:
    authority = LocalAuthority()
    provider = ScriptedProvider(*THREE, tls=authority.good().server_context(tmp_path))
    provider.odd.append(Odd.LOSES_LAST_250)
    sink = ScriptedSmtpServer()
    async with running(provider), running(sink):
        tls: dict[str, Value] = {"host": "localhost", "tls": "starttls"}
        path = config(tmp_path, provider, sink, tls_ca_file=authority.write_ca(tmp_path), **tls)
        with DaemonProcess(path) as daemon:
            first, second = await wait_for(daemon, "etrn.mail_taken", 2)
            status = await asyncio.to_thread(program, "status", "--json", "-c", path)
            assert await asyncio.to_thread(daemon.stop) == 0
    assert [body(each.content) for each in sink.accepted] == [each.content for each in THREE]
    assert [each.recipients for each in sink.accepted][1] == (b"bob@example.org", b"ann@example.org")
    assert {each.envelope_sender for each in sink.accepted} == {b"friend@example.net"}
    assert b" with ESMTPS" in sink.accepted[0].content
    assert (provider.queue, provider.bounced, provider.violations) == ([], [], [])
    assert provider.turned_under_tls == [True, True]
    # The third was taken, its 250 lost, and it came a second time: answered, delivered no more.
    assert (first["accepted"], second["accepted"]) == (3, 1)
    assert "without QUIT" in first["error"]
    (row,) = status.document["etrn"]
    assert (row["node"], row["state"]) == (DOMAIN, "ok")
    assert row["last_reply"].startswith("250 ")


async def test_what_the_next_hop_does_not_take_stays_with_the_provider(tmp_path: Path) -> None:
    foreign = mail(9, "victim@example.com")
    provider = ScriptedProvider(*THREE, foreign)
    sink = ScriptedSmtpServer(
        Fault(FINAL, reply=b"451 4.3.0 later\r\n", nth=2), Fault(FINAL, reply=b"554 5.6.0 never\r\n", nth=3)
    )
    async with running(provider), running(sink):
        with DaemonProcess(config(tmp_path, provider, sink)) as daemon:
            (taken,) = await wait_for(daemon, "etrn.mail_taken")
            assert await asyncio.to_thread(daemon.stop) == 0
    assert (taken["accepted"], taken["deferred"], taken["rejected"], taken["refusals"]) == (1, 1, 1, 1)
    assert len(provider.queue) == 1
    assert provider.bounced[-1] == foreign
    assert len(sink.accepted) == 1


async def test_a_stop_ends_a_turned_connection_in_good_order(tmp_path: Path) -> None:
    provider = ScriptedProvider(*THREE)
    provider.odd.append(Odd.NEVER_SPEAKS)
    sink = ScriptedSmtpServer()
    async with running(provider), running(sink):
        with DaemonProcess(config(tmp_path, provider, sink)) as daemon:
            await asyncio.to_thread(daemon.wait_for, lambda: bool(provider.heard), "our greeting")
            began = time.monotonic()
            assert await asyncio.to_thread(daemon.stop) == 0
            assert time.monotonic() - began < 10
    (stopped,) = daemon.named("daemon.stopped")
    assert stopped["clean"] is True
    assert [line[:3] for line in provider.heard] == [b"220", b"421"]
    assert len(provider.queue) == 3


async def test_a_refusal_is_told_and_remembered(tmp_path: Path, program) -> None:
    provider = ScriptedProvider(*THREE, says={DOMAIN: [b"550 5.7.1 not your domain"]})
    sink = ScriptedSmtpServer()
    async with running(provider), running(sink):
        path = config(tmp_path, provider, sink)
        with DaemonProcess(path) as daemon:
            (refused,) = await wait_for(daemon, "etrn.refused")
            assert await asyncio.to_thread(daemon.stop) == 0
        status = await asyncio.to_thread(program, "status", "--json", "-c", path)
        checked = await asyncio.to_thread(program, "check", "--json", "-c", path)
    assert refused["reply"] == "550 5.7.1 not your domain"
    (row,) = status.document["etrn"]
    assert (row["state"], row["failures"]) == ("failing", 1)
    (table,) = checked.document["etrn"]
    assert (table["mode"], table["deliver"]) == ("odmr", ["hop"])


async def test_a_person_has_the_daemon_ask(tmp_path: Path, program) -> None:
    provider = ScriptedProvider(*THREE)
    sink = ScriptedSmtpServer()
    async with running(provider), running(sink):
        path = config(tmp_path, provider, sink, on_start=False, min_gap="1h")
        alone = await asyncio.to_thread(program, "etrn", "home", "-c", path)
        with DaemonProcess(path) as daemon:
            await wait_for(daemon, "daemon.started")
            asked = await asyncio.to_thread(program, "etrn", "home", "-c", path)
            status = await asyncio.to_thread(program, "status", "--json", "-c", path)
            early = await asyncio.to_thread(program, "etrn", "home", "--json", "-c", path)
            assert await asyncio.to_thread(daemon.stop) == 0
    assert (alone.code, "no daemon listens" in alone.err) == (69, True)
    assert asked.code == 0, asked.err
    assert "the mail came with the answer" in asked.out
    assert (early.code, early.document["nodes"][0]["result"]) == (75, "too_soon")
    assert len(sink.accepted) == 3
    assert status.document["etrn"][0]["state"] == "ok"
    assert daemon.named("etrn.mail_taken")[0]["accepted"] == 3
