"""From a real POP3 server into a real mail store by LMTP: one recipient has it, the other is unknown."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailferry.destinations.letter import Envelope
from mailferry.destinations.smtp import SmtpDestination, SmtpLimits
from mailferry.errors import RecipientRefusedError, SmtpCommandRefusedError
from mailferry.model import Delivered, DestinationName
from mailferry.net.endpoint import Endpoint, TlsMode
from mailferry.net.smtp_connector import SmtpConnector, SmtpSettings
from mailferry.protocol.smtp_by_hand import command_by_hand
from support.certificates import LocalAuthority
from support.configs import PASSWORD, ConfigFolder
from support.daemon import DaemonProcess
from support.deliveries import Reports
from support.dovecot import PrivateDovecot

pytestmark = pytest.mark.real_server
MAIL = b"From: ann@example.org\r\nSubject: one\r\n\r\n.dot\r\nlast\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, authority: LocalAuthority) -> Iterator[PrivateDovecot]:
    with PrivateDovecot(tmp_path_factory.mktemp("dovecot"), authority=authority, lmtp=True) as dovecot:
        for name in ("ann", "bob", "cyd", "dan"):
            dovecot.add_user(name, PASSWORD)
        yield dovecot


def settings_for(server: PrivateDovecot) -> SmtpSettings:
    endpoint = Endpoint("localhost", 24, TlsMode.NONE, timeout_seconds=20.0, socket=server.lmtp_socket)
    return SmtpSettings(endpoint, "relay.example.org", lmtp=True)


def test_a_maildrop_into_dovecot(server: PrivateDovecot, tmp_path: Path) -> None:
    server.add_message("ann", MAIL)
    folder = ConfigFolder(tmp_path)
    recipients = ["bob@example.org", "nobody@example.org"]
    config = folder.write(
        {
            "maildrop.ann": folder.maildrop(server.port, "ann", deliver=["store"]),
            "destination.store": {
                "type": "lmtp",
                "host": "127.0.0.1",
                "port": server.lmtp_port,
                "recipients": recipients,
            },
        },
        log_format="json",
    )
    with DaemonProcess(config, command="once") as program:
        program.wait()
    (kept,) = server.messages_left("bob")
    assert kept.replace(b"\r\n", b"\n").endswith(MAIL.replace(b"\r\n", b"\n"))
    assert b"Return-Path: <" in kept
    assert len(server.messages_left("ann")) == 1, "who was refused for good keeps it on its server"
    with DaemonProcess(config, "--json", command="history") as program:
        program.wait()
    (message,) = json.loads("".join(program.raw))["messages"]
    (delivery,) = message["deliveries"]
    assert delivery["state"] == "rejected"
    assert delivery["accepted_recipients"] == ["bob@example.org"]
    assert delivery["refused_recipients"] == ["nobody@example.org"]
    assert "550 5.1.1" in delivery["error"]


async def test_over_its_unix_socket_to_those_that_the_messages_came_for(server: PrivateDovecot) -> None:
    reports = Reports()
    store = SmtpDestination(
        DestinationName("store"),
        SmtpConnector(settings_for(server)),
        Envelope("original", (), "relay.example.org"),
        SmtpLimits(),
    )
    async with asyncio.timeout(30):
        store.submit(reports.order("one", recipients=("cyd@example.org", "dan@example.org")))
        store.submit(reports.order("two", recipients=("dan@example.org",)))
        await reports.all_done(20)
        await store.drain()
    assert isinstance(reports.outcome("one"), Delivered)
    assert isinstance(reports.outcome("two"), Delivered)
    assert reports.report("one").accepted_recipients == ("cyd@example.org", "dan@example.org")
    assert [len(server.messages_left(name)) for name in ("cyd", "dan")] == [1, 2]


async def test_a_session_by_hand(server: PrivateDovecot) -> None:
    session = await SmtpConnector(settings_for(server)).open()
    async with asyncio.timeout(20):
        assert (await session.perform(command_by_hand("NOOP"))).code == 250
        assert (await session.perform(command_by_hand("VRFY bob"))).code == 252
        with pytest.raises(SmtpCommandRefusedError):
            await session.perform(command_by_hand("EXPN staff"))
        await session.perform(command_by_hand("MAIL FROM:<>"))
        await session.perform(command_by_hand("RCPT TO:<bob@example.org>"))
        with pytest.raises(RecipientRefusedError) as caught:
            await session.perform(command_by_hand("RCPT TO:<nobody@example.org>"))
        assert caught.value.refused is not None
        assert (caught.value.refused.code, caught.value.refused.enhanced_status) == (550, "5.1.1")
        await session.quit()
