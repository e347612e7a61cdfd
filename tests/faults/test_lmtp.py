"""LMTP deliveries against a store that answers for each recipient by itself, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mailferry.destinations.letter import Envelope
from mailferry.destinations.smtp import SmtpDestination, SmtpLimits
from mailferry.errors import ConnectError, HeloRefusedError
from mailferry.model import Deferred, Delivered, DeliveryReport, DestinationName, PermanentFailure, Scope
from mailferry.net.endpoint import Endpoint, TlsMode
from mailferry.net.smtp_connector import SmtpConnector, SmtpSettings
from support.clients import running
from support.deliveries import Reports
from support.faults import Close, Fault
from support.scripted_smtp import FINAL, ScriptedSmtpServer, SmtpFeatures

BOB, CYD, EVE = "bob@example.org", "cyd@example.org", "eve@example.org"
STORE = SmtpFeatures(lmtp=True)
WAYS = [STORE, replace(STORE, pipelining=False), replace(STORE, chunking=True)]
SECONDS = 5.0


def settings_for(server: ScriptedSmtpServer, **more: Any) -> SmtpSettings:
    endpoint = Endpoint("127.0.0.1", server.port, TlsMode.NONE, timeout_seconds=SECONDS, **more)
    return SmtpSettings(endpoint, "relay.example.net", final_timeout_seconds=SECONDS, lmtp=True)


@contextlib.asynccontextmanager
async def store_at(
    server: ScriptedSmtpServer, *recipients: str, **more: Any
) -> AsyncIterator[SmtpDestination]:
    envelope = Envelope("original", recipients, "relay.example.net")
    async with running(server):
        connector = SmtpConnector(settings_for(server, **more))
        store = SmtpDestination(DestinationName("store"), connector, envelope, SmtpLimits())
        yield store
        async with asyncio.timeout(10):
            await store.drain()
    assert not server.violations


async def deliver(
    server: ScriptedSmtpServer, *recipients: str, settled: tuple[str, ...] = (), **more: Any
) -> DeliveryReport:
    reports = Reports()
    async with store_at(server, *recipients, **more) as store:
        store.submit(reports.order(settled=settled))
        await reports.all_done()
    return reports.report()


def who_has_it(server: ScriptedSmtpServer) -> list[str]:
    return [name.decode() for message in server.accepted for name in message.recipients]


@pytest.mark.parametrize("features", WAYS, ids=["pipelining", "one by one", "BDAT"])
async def test_each_recipient_has_an_answer_of_its_own_and_only_the_one_that_lacks_it_is_asked_again(
    features: SmtpFeatures,
) -> None:
    full = Fault(FINAL, argument=CYD.encode(), reply=b"452 4.2.2 mailbox is full\r\n", times=1)
    unknown = Fault(b"RCPT", argument=EVE.encode(), reply=b"550 5.1.1 no such user\r\n")
    server = ScriptedSmtpServer(full, unknown, features=features)
    first = await deliver(server, BOB, CYD, EVE)
    assert (first.accepted_recipients, first.refused_recipients) == ((BOB,), (EVE,))
    assert isinstance(first.outcome, Deferred)
    assert first.outcome.reason == f"end of data for <{CYD}>: 452 4.2.2 mailbox is full"
    assert server.commands[0] == b"LHLO relay.example.net"
    again = await deliver(server, BOB, CYD, EVE, settled=(BOB, EVE))
    assert isinstance(again.outcome, Delivered)
    assert again.accepted_recipients == (CYD,)
    assert who_has_it(server) == [BOB, CYD]
    contents = {message.content for message in server.accepted}
    assert all(content.endswith(b"Subject: one\r\n\r\nbody of one\r\n") for content in contents)


async def test_a_final_refusal_of_one_does_not_undo_the_delivery_to_the_other() -> None:
    server = ScriptedSmtpServer(
        Fault(FINAL, argument=CYD.encode(), reply=b"554 5.7.1 its filter says no\r\n"), features=STORE
    )
    report = await deliver(server, BOB, CYD)
    assert (report.accepted_recipients, report.refused_recipients) == ((BOB,), (CYD,))
    assert isinstance(report.outcome, PermanentFailure)
    assert report.outcome.scope is Scope.RECIPIENT


async def test_a_link_that_breaks_between_the_answers_leaves_only_the_second_in_doubt() -> None:
    server = ScriptedSmtpServer(
        Fault(FINAL, Close(), argument=CYD.encode(), effect=False, times=1), features=STORE
    )
    report = await deliver(server, BOB, CYD)
    assert report.accepted_recipients == (BOB,)
    assert isinstance(report.outcome, Deferred)
    assert report.outcome.in_doubt
    assert f"end of data for <{CYD}>: no reply" in report.outcome.reason
    again = await deliver(server, BOB, CYD, settled=(BOB,))
    assert isinstance(again.outcome, Delivered)
    assert who_has_it(server) == [BOB, CYD]


async def test_many_messages_share_a_session_and_no_answer_is_mixed_up() -> None:
    full = [Fault(FINAL, argument=CYD.encode(), reply=b"452 4.2.2 full\r\n", nth=nth) for nth in (2, 3, 7)]
    server = ScriptedSmtpServer(*full, features=STORE)
    reports = Reports()
    async with store_at(server, BOB, CYD) as store:
        for number in range(10):
            store.submit(reports.order(f"m{number}"))
        await reports.all_done()
    lacking = [name for name in reports.by_name if not isinstance(reports.outcome(name), Delivered)]
    assert lacking == ["m1", "m2", "m6"]
    assert all(BOB in reports.report(name).accepted_recipients for name in reports.by_name)
    assert server.counts["sessions"] == 1
    assert len(server.accepted) == 17


async def test_the_recipients_that_a_message_came_with() -> None:
    server = ScriptedSmtpServer(features=STORE)
    reports = Reports()
    async with store_at(server) as store:
        store.submit(reports.order("one", recipients=(BOB, CYD)))
        store.submit(reports.order("two", recipients=(EVE,)))
        store.submit(reports.order("three"))
        await reports.all_done()
    assert who_has_it(server) == [BOB, CYD, EVE]
    lost = reports.outcome("three")
    assert isinstance(lost, Deferred)
    assert "came without envelope recipients" in lost.reason


async def test_over_a_unix_socket() -> None:
    server = ScriptedSmtpServer(features=STORE)
    with tempfile.TemporaryDirectory(prefix="lmtp-") as folder:  # a short path: they end at 108 octets
        path = Path(folder) / "lmtp"
        listener = await asyncio.get_running_loop().create_unix_server(server.make_session, path)
        report = await deliver(server, BOB, socket=path)
        listener.close()
        await listener.wait_closed()
    assert isinstance(report.outcome, Delivered)
    assert who_has_it(server) == [BOB]


async def test_a_unix_socket_that_is_not_there() -> None:
    endpoint = Endpoint("localhost", 24, TlsMode.NONE, socket=Path("/nowhere/lmtp"))
    with pytest.raises(ConnectError, match="check socket, and that the server runs"):
        await SmtpConnector(SmtpSettings(endpoint, "relay.example.net", lmtp=True)).open()


async def test_an_smtp_server_is_not_taken_for_an_lmtp_server() -> None:
    server = ScriptedSmtpServer()
    async with running(server):
        with pytest.raises(
            HeloRefusedError, match=r"LHLO: 500 .*check that the server speaks LMTP"
        ) as caught:
            await SmtpConnector(settings_for(server)).open()
    assert caught.value.refused is not None
    assert caught.value.refused.verb == "LHLO"
    assert [line for line in server.commands if not line.startswith(b"LHLO")] == []
