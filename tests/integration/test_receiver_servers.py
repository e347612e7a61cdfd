"""The closed loop with real servers: the daemon asks, a Postfix or an Exim sends, the daemon takes the mail in."""

from __future__ import annotations

import asyncio
import smtplib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mailferry.sandbox.smtp_sink import SmtpSink
from support.configs import ConfigFolder
from support.daemon import DaemonProcess
from support.exim import PrivateExim
from support.faults import Fault
from support.postfix import PrivatePostfix
from support.processes import free_port, wait_until
from support.scripted_smtp import FINAL, ScriptedSmtpServer

pytestmark = pytest.mark.real_server

OURS, THEIRS = "branch.example.org", "stranger.example.net"
MESSAGES = 5


@dataclass
class Provider:
    """A server that keeps mail for `OURS`, to be sent to port `ours`."""

    port: int
    ours: int
    wait_deferred: Callable[[int], None]


@pytest.fixture(params=["postfix", "exim"])
def provider(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Provider]:
    ours = free_port()
    if request.param == "exim":
        with PrivateExim(tmp_path / "exim", domains=[OURS], deliver_to=ours) as exim:
            yield Provider(exim.port, ours, lambda count: exim.wait_log(" == ", count))
        return
    settings = {
        "relay_domains": OURS,
        "relay_transport": f"relay:[127.0.0.1]:{ours}",
        "fast_flush_domains": "$relay_domains",
        "smtp_tls_security_level": "none",
    }
    with PrivatePostfix(tmp_path / "postfix", settings=settings) as postfix:

        def wait_deferred(count: int) -> None:
            wait_until(lambda: postfix.log.read_text().count("status=deferred") >= count, "deferred mail")

        yield Provider(postfix.port, ours, wait_deferred)


@pytest.fixture
async def sink() -> AsyncIterator[SmtpSink]:
    sink = SmtpSink()
    await sink.start()
    yield sink
    await sink.stop()


def leave_mail(provider: Provider) -> None:
    """Give the provider messages while nobody is there to take them."""
    with smtplib.SMTP("127.0.0.1", provider.port) as client:
        for number in range(MESSAGES):
            text = f"Subject: m{number}\r\n\r\n.hello\r\n".encode()
            client.sendmail("ann@example.com", [f"u{number}@{OURS}"], text)
    provider.wait_deferred(MESSAGES)


def config_for(provider: Provider, folder: Path, **destinations: int) -> Path:
    configs = ConfigFolder(folder)
    tables = {
        **{
            f"destination.{name}": configs.smtp(port, recipients="original")
            for name, port in destinations.items()
        },
        "etrn.provider": {
            "host": "127.0.0.1",
            "port": provider.port,
            "tls": "none",
            "nodes": [THEIRS, OURS],
            "every": "2s",
            "min_gap": "1s",
            "silent_after": "60s",
            "check_listener": f"127.0.0.1:{provider.ours}",
        },
        "receiver": {
            "listen": f"127.0.0.1:{provider.ours}",
            "domains": [OURS],
            "deliver": list(destinations),
            "allow_from": ["127.0.0.0/8"],
        },
    }
    return configs.write(tables, log_format="json")


def accepted(daemon: DaemonProcess) -> int:
    return sum(event["result"] == "accepted" for event in daemon.named("receiver.message_received"))


async def test_a_scheduled_request_brings_the_mail_to_the_destination(
    provider: Provider, sink: SmtpSink, tmp_path: Path
) -> None:
    leave_mail(provider)
    with DaemonProcess(config_for(provider, tmp_path / "config", hop=sink.port)) as daemon:
        await asyncio.to_thread(daemon.wait_for, lambda: accepted(daemon) >= MESSAGES, "five messages")
        await asyncio.to_thread(
            daemon.wait_for, lambda: len(daemon.named("etrn.answered")) >= 3, "another request"
        )
        assert daemon.stop() == 0
    assert sorted(message.recipients for message in sink.received) == [
        (f"u{number}@{OURS}",) for number in range(MESSAGES)
    ]
    assert {message.envelope_sender for message in sink.received} == {"ann@example.com"}
    assert all(message.content.endswith(b"\r\n\r\n.hello\r\n") for message in sink.received)
    relayed = daemon.named("message.relayed")
    assert {event["maildrop"] for event in relayed} == {"receiver"}
    assert len(relayed) == MESSAGES
    (refused,) = daemon.named("etrn.refused")
    assert (refused["node"], refused["reply"][:4]) == (THEIRS, "459 ")
    assert daemon.named("etrn.accepted_but_silent") == []
    assert daemon.named("receiver.refused") == []


async def test_what_one_destination_puts_off_is_sent_again_and_reaches_it_alone(
    provider: Provider, sink: SmtpSink, tmp_path: Path
) -> None:
    leave_mail(provider)
    slow = ScriptedSmtpServer(Fault(FINAL, reply=b"451 4.3.0 not now\r\n", times=MESSAGES))
    await slow.start()
    config = config_for(provider, tmp_path / "config", hop=sink.port, slow=slow.port)
    with DaemonProcess(config) as daemon:
        await asyncio.to_thread(daemon.wait_for, lambda: accepted(daemon) >= MESSAGES, "five messages")
        assert daemon.stop() == 0
    await slow.stop()
    put_off = [event for event in daemon.named("receiver.message_received") if event["result"] == "deferred"]
    assert len(put_off) >= MESSAGES
    everybody = [f"u{number}@{OURS}" for number in range(MESSAGES)]
    assert sorted(message.recipients[0] for message in sink.received) == everybody
    assert sorted(message.recipients[0].decode() for message in slow.accepted) == everybody
