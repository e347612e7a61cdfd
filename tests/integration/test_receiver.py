"""The receiver in the whole program, between clients and servers of ours on loopback."""

from __future__ import annotations

import asyncio
import smtplib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from mailferry.errors import MailferryError
from mailferry.events import (
    EtrnAcceptedButSilent,
    EtrnMailCame,
    ReceiverMessageReceived,
    ReceiverStarted,
    ReceiverStopped,
)
from mailferry.model import MessageState, StandingKind
from support.certificates import LocalAuthority
from support.faults import Fault
from support.relay import Relay, until
from support.scripted_smtp import FINAL, ScriptedSmtpServer, SmtpFeatures

T = TypeVar("T")
TEXT = b"Subject: hi\r\nMessage-ID: <1@example.net>\r\n\r\nbody\r\n.dot\r\n"


@pytest.fixture
async def hop() -> AsyncIterator[ScriptedSmtpServer]:
    server = ScriptedSmtpServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def relay(tmp_path: Path, hop: ScriptedSmtpServer) -> Relay:
    relay = Relay(tmp_path)
    relay.destination(hop.port, "hop", recipients="original")
    receive(relay)
    return relay


def receive(relay: Relay, **more: str | int | Path | list[str]) -> None:
    relay.tables["receiver"] = {
        "listen": "127.0.0.1:0", "domains": ["example.org"], "deliver": ["hop"], **more,
    }  # fmt: skip


async def send(relay: Relay, *recipients: str, text: bytes = TEXT) -> int:
    """Bring a message and return the code of the reply to its content."""

    def bring(client: smtplib.SMTP) -> int:
        client.ehlo("client.example.net")
        client.mail("a@example.net", ["SIZE=100"])
        for recipient in recipients or ("u@example.org",):
            client.rcpt(recipient)
        return client.data(text)[0]

    return await talk(relay, bring)


async def talk(relay: Relay, say: Callable[[smtplib.SMTP], T]) -> T:
    await until(lambda: len(relay.told(ReceiverStarted)) > len(relay.told(ReceiverStopped)), "the receiver")
    port = relay.told(ReceiverStarted)[-1].port

    def session() -> T:
        client = smtplib.SMTP("127.0.0.1", port, timeout=20)
        try:
            return say(client)
        finally:
            client.close()

    return await asyncio.to_thread(session)


async def test_a_message_goes_through_with_its_envelope(relay: Relay, hop: ScriptedSmtpServer) -> None:
    async with relay.running():
        assert await send(relay, "u@example.org", "v@example.org", "w@example.net") == 250
    (message,) = hop.accepted
    assert (message.envelope_sender, message.recipients) == (
        b"a@example.net",
        (b"u@example.org", b"v@example.org"),
    )
    received, rest = message.content.split(b"Subject", 1)
    assert b"Subject" + rest == TEXT
    words = b" ".join(received.split())
    assert words.startswith(
        b"Received: from client.example.net ([127.0.0.1]) by relay.example.org with ESMTP id "
    )
    rows = relay.rows()
    assert {row.message.recipient: row.message.state for row in rows} == {
        "u@example.org": MessageState.GONE,
        "v@example.org": MessageState.GONE,
    }
    assert [event.clean for event in relay.told(ReceiverStopped)] == [True]
    assert hop.violations == []
    assert relay.standing(StandingKind.DESTINATION, "hop").last_success_at


async def test_a_message_that_is_brought_again_goes_only_where_it_is_missing(
    relay: Relay, hop: ScriptedSmtpServer
) -> None:
    second = ScriptedSmtpServer(Fault(FINAL, reply=b"451 4.3.0 not now\r\n", times=1))
    await second.start()
    relay.destination(second.port, "second", recipients=["archive@example.org"])
    receive(relay, deliver=["hop", "second"])
    async with relay.running():
        assert await send(relay) == 451
        assert {row.message.state for row in relay.rows()} == {MessageState.DEFERRED}
    async with relay.running():  # also after a restart
        assert await send(relay) == 250
        assert await send(relay) == 250, "its answer may have been lost"
    await second.stop()
    assert (len(hop.accepted), len(second.accepted)) == (1, 1)
    results = [event.result for event in relay.told(ReceiverMessageReceived)]
    assert results == ["deferred", "accepted", "known"]


async def test_lmtp_settles_each_recipient_by_itself(relay: Relay) -> None:
    refusal = Fault(FINAL, reply=b"550 5.1.1 no such user\r\n", argument=b"v@example.org", times=1)
    store = ScriptedSmtpServer(refusal, features=SmtpFeatures(lmtp=True))
    await store.start()
    relay.tables["destination.hop"] = {
        "type": "lmtp", "host": "127.0.0.1", "port": store.port, "tls": "none", "recipients": "original",
    }  # fmt: skip
    async with relay.running():
        assert await send(relay, "u@example.org", "v@example.org") == 554
        assert await send(relay, "u@example.org", "v@example.org") == 250
    await store.stop()
    assert sorted(message.recipients for message in store.accepted) == [
        (b"u@example.org",),
        (b"v@example.org",),
    ]


async def test_what_nobody_can_take_stays_with_the_sender(relay: Relay, hop: ScriptedSmtpServer) -> None:
    await hop.stop()
    async with relay.running():
        assert await send(relay) == 451
    assert relay.rows() == []


async def test_tls_and_a_renewed_certificate(
    relay: Relay, hop: ScriptedSmtpServer, authority: LocalAuthority, tmp_path: Path
) -> None:
    certificate, key = authority.good().write(tmp_path)
    receive(relay, tls_certificate=certificate, tls_key=key)
    trusting = authority.client_context()
    trusting.check_hostname = False

    def under_tls(client: smtplib.SMTP) -> tuple[int, bool, bytes]:
        client.ehlo("client.example.net")
        client.starttls(context=trusting)
        assert isinstance(client.sock, ssl.SSLSocket)
        shown = client.sock.getpeercert(binary_form=True) or b""
        client.ehlo("client.example.net")
        offered = client.has_extn("starttls") or client.has_extn("auth")
        client.mail("a@example.net")
        client.rcpt("u@example.org")
        return client.data(TEXT)[0], offered, shown

    async with relay.running():
        code, offered, first = await talk(relay, under_tls)
        assert (code, offered) == (250, False)
        other_certificate, other_key = authority.good().write(tmp_path, "other")
        other_key.replace(key)
        other_certificate.replace(certificate)
        _, _, second = await talk(relay, under_tls)
    assert first != second
    assert b"with ESMTPS id" in b" ".join(hop.accepted[0].content.split())


async def test_what_is_sent_behind_starttls_in_clear_is_not_carried_out(
    relay: Relay, hop: ScriptedSmtpServer, authority: LocalAuthority, tmp_path: Path
) -> None:
    certificate, key = authority.good().write(tmp_path)
    receive(relay, tls_certificate=certificate, tls_key=key)

    def inject(client: smtplib.SMTP) -> bytes:
        client.ehlo("client.example.net")
        client.send("STARTTLS\r\nMAIL FROM:<>\r\nRCPT TO:<u@example.org>\r\nDATA\r\nx\r\n.\r\n")
        return client.getreply()[0].to_bytes(2, "big")

    async with relay.running():
        assert await talk(relay, inject) == (421).to_bytes(2, "big")
    assert hop.accepted == []


async def test_broken_handshakes_and_links_leave_nothing_behind(
    relay: Relay, authority: LocalAuthority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, key = authority.good().write(tmp_path)
    receive(relay, tls_certificate=certificate, tls_key=key)

    def hang_up(client: smtplib.SMTP, *lines: str) -> None:
        client.ehlo("client.example.net")
        client.send("".join(f"{line}\r\n" for line in lines))
        client.getreply()
        client.send(b"\x16\x03nonsense that is no handshake, and no message either\r\n")
        assert client.sock is not None
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset

    async with relay.running():
        await talk(relay, lambda client: hang_up(client, "STARTTLS"))
        await talk(relay, lambda client: hang_up(client, "MAIL FROM:<>", "RCPT TO:<u@example.org>", "DATA"))
        assert await send(relay) == 250
    assert len(relay.told(ReceiverMessageReceived)) == 1
    assert [event.clean for event in relay.told(ReceiverStopped)] == [True]
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []
    assert "python.logged" not in relay.log.getvalue()


async def test_at_the_end_a_message_under_way_is_finished_and_answered(
    relay: Relay, hop: ScriptedSmtpServer
) -> None:
    answers = asyncio.Event()
    async with relay.running():
        hop.on_accept = lambda _message: answers.set()
        sending = asyncio.create_task(send(relay))
        await answers.wait()
    assert await sending == 250
    assert {row.message.state for row in relay.rows()} == {MessageState.GONE}


async def test_a_port_that_cannot_be_had_is_said_at_the_start(relay: Relay) -> None:
    blocker = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
    port = blocker.sockets[0].getsockname()[1]
    receive(relay, listen=f"127.0.0.1:{port}")
    with pytest.raises(MailferryError, match=f"127.0.0.1 port {port}: another program listens"):
        await relay.application().run()
    blocker.close()
    await blocker.wait_closed()


async def test_an_accepted_request_after_which_nothing_comes_is_told_until_mail_comes(
    relay: Relay, hop: ScriptedSmtpServer
) -> None:
    relay.tables["etrn.provider"] = {
        "host": "127.0.0.1", "port": hop.port, "tls": "none", "nodes": ["example.org", "other.example.net"],
        "every": "1h", "silent_after": "60s",
    }  # fmt: skip
    application = relay.application()
    async with application.opened() as supervisor:
        task = asyncio.create_task(supervisor.run())
        watch = application.arrivals
        await until(lambda: any(w.since is not None for w in watch._nodes.values()), "an accepted request")
        for watched in watch._nodes.values():
            watched.since = watched.since and watched.since - 61.0
        watch.look()
        assert [event.node for event in relay.told(EtrnAcceptedButSilent)] == ["example.org"]
        assert _silent(application.registry) == {"example.org": 1.0, "other.example.net": 0.0}
        assert await send(relay) == 250
        assert [event.node for event in relay.told(EtrnMailCame)] == ["example.org"]
        assert _silent(application.registry) == {"example.org": 0.0, "other.example.net": 0.0}
        supervisor.ask_to_stop("the test has seen enough")
        await task


def _silent(registry: object) -> dict[str, float]:
    collected = registry.collect()  # type: ignore[attr-defined]  # prometheus_client's own
    return {
        sample.labels["node"]: sample.value
        for family in collected
        for sample in family.samples
        if sample.name == "mailferry_etrn_silent"
    }


async def test_a_recipient_that_the_envelope_and_the_destination_share_speaks_for_itself_alone(
    relay: Relay,
) -> None:
    fault = Fault(b"RCPT", reply=b"450 4.2.0 not now\r\n", argument=b"copy@example.org", times=1)
    hop = ScriptedSmtpServer(fault)
    await hop.start()
    relay.destination(hop.port, "hop", recipients=["u@example.org", "copy@example.org"])
    async with relay.running():
        assert await send(relay) == 451
        assert {row.message.state for row in relay.rows()} == {MessageState.DEFERRED}
        assert await send(relay) == 250
    await hop.stop()
    assert [message.recipients for message in hop.accepted] == [
        (b"u@example.org",),
        (b"copy@example.org",),
    ]
