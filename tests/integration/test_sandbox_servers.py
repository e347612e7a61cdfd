"""The sandbox's servers, tried with the standard library's clients."""

import asyncio
import poplib
import smtplib
from pathlib import Path

import pytest

from mailferry.sandbox import (
    Sandbox,
    SandboxFeatures,
    SandboxMaildrop,
    SandboxPop3Server,
    SandboxPorts,
    SinkMessage,
    SmtpSink,
    run_sandbox,
    sample_messages,
)
from support.certificates import LocalAuthority
from support.clients import (
    HOST,
    MESSAGE,
    SECONDS,
    drain,
    log_in,
    retrieved,
    running,
    send_raw,
    smtp,
    with_pop3,
)
from support.mailset import normalised


async def test_sandbox_pop3_answers_each_verb() -> None:
    server = SandboxPop3Server({"ann": SandboxMaildrop("pw", [MESSAGE, b"Subject: 2\r\n\r\nx"])})

    def converse(client: poplib.POP3) -> None:
        assert "UIDL" in client.capa()
        log_in(client)
        assert client.stat() == (2, len(MESSAGE) + 17)
        assert client.list(1) == b"+OK 1 %d" % len(MESSAGE)
        assert len(client.uidl()[1]) == 2
        assert retrieved(client, 1) == MESSAGE
        assert client.top(1, 0)[1] == [b"Subject: hello", b""]
        client.dele(1)
        client.rset()
        client.noop()
        client.dele(2)
        assert client.quit().startswith(b"+OK")

    async with running(server):
        await asyncio.to_thread(with_pop3, server.port, converse)
        assert server.maildrops["ann"].messages == [MESSAGE]


@pytest.mark.parametrize("implicit", [True, False])
async def test_sandbox_pop3_under_tls(authority: LocalAuthority, tmp_path: Path, implicit: bool) -> None:
    server = SandboxPop3Server(
        {"ann": SandboxMaildrop("pw", [MESSAGE])},
        tls=authority.good().server_context(tmp_path),
        implicit_tls=implicit,
        features=SandboxFeatures(cleartext_login=False),
    )
    trust = authority.client_context()

    def converse(client: poplib.POP3) -> list[bytes]:
        if not implicit:
            client.stls(trust)
        return drain(client)

    async with running(server):
        assert await asyncio.to_thread(with_pop3, server.port, converse, trust if implicit else None) == [
            MESSAGE
        ]


async def test_stop_leaves_no_session_behind(authority: LocalAuthority, tmp_path: Path) -> None:
    server = SandboxPop3Server({}, tls=authority.good().server_context(tmp_path), implicit_tls=True)
    await server.start()
    reader, writer = await asyncio.open_connection(HOST, server.port)
    await asyncio.sleep(0.05)
    assert server.active_sessions == 1

    await server.stop()
    assert server.active_sessions == 0
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_sink_keeps_octets(tmp_path: Path) -> None:
    told: list[SinkMessage] = []
    sink = SmtpSink(on_message=told.append, directory=tmp_path / "sink")
    content = b"Subject: raw\r\n\r\n.\r\n..\r\n\xff\0a\nb\rc\r\n" + b"y" * 20_000 + b"\r\n"

    def converse() -> None:
        with smtp(sink.port) as client:
            assert {"size", "8bitmime", "smtputf8", "pipelining"} <= client.esmtp_features.keys()
            assert send_raw(client, content, "a@example.org", "b@example.org")[0] == 250
            client.sendmail("", ["c@example.org"], MESSAGE)

    async with running(sink):
        await asyncio.to_thread(converse)
    assert sink.session_count == 1
    first, second = sink.received
    assert (first.content, first.envelope_sender, first.mail_options) == (
        content,
        "ann@example.net",
        ("BODY=8BITMIME",),
    )
    assert first.recipients == ("a@example.org", "b@example.org")
    assert (second.content, second.envelope_sender) == (MESSAGE, "")
    assert told == [first, second]
    assert (tmp_path / "sink" / "000001.eml").read_bytes() == content


async def test_sink_takes_every_sample() -> None:
    sink = SmtpSink()
    samples = [normalised(sample) for sample in sample_messages()]

    def converse() -> None:
        with smtp(sink.port) as client:
            for sample in samples:
                assert send_raw(client, sample)[0] == 250

    async with running(sink):
        await asyncio.to_thread(converse)
    assert [message.content for message in sink.received] == samples


async def test_sink_forgets_the_oldest(tmp_path: Path) -> None:
    sink = SmtpSink(max_messages=2, max_octets=len(MESSAGE) * 3 // 2, directory=tmp_path)

    def converse() -> None:
        with smtp(sink.port) as client:
            for _ in range(3):
                client.sendmail("a@example.org", ["b@example.org"], MESSAGE)

    async with running(sink):
        await asyncio.to_thread(converse)
    assert [message.number for message in sink.received] == [3]
    assert not (tmp_path / "000001.eml").exists()
    assert (tmp_path / "000003.eml").read_bytes() == MESSAGE
    assert sink.accepted_count == 3


async def test_sink_with_starttls_and_auth(authority: LocalAuthority, tmp_path: Path) -> None:
    sink = SmtpSink(tls=authority.good().server_context(tmp_path), credentials={"ann": "pw"})

    def converse() -> None:
        with smtp(sink.port, authority.client_context()) as client:
            assert client.mail("ann@example.org")[0] == 530
            with pytest.raises(smtplib.SMTPAuthenticationError):
                client.login("ann", "wrong")
            client.login("ann", "pw")
            client.sendmail("ann@example.org", ["bob@example.org"], MESSAGE)

    async with running(sink):
        await asyncio.to_thread(converse)
    assert [message.content for message in sink.received] == [MESSAGE]


async def test_run_sandbox_writes_a_configuration_that_fits(tmp_path: Path) -> None:
    until, ready, sandbox = asyncio.Event(), asyncio.Event(), Sandbox()
    written: list[Path] = []

    def note(path: Path) -> None:
        written.append(path)
        ready.set()

    task = asyncio.create_task(run_sandbox(sandbox, tmp_path, SandboxPorts(), ready=note, until=until))
    await asyncio.wait_for(ready.wait(), SECONDS)
    assert f"port = {sandbox.pop_port}" in written[0].read_text()
    secret = tmp_path / "sandbox-password"
    assert secret.stat().st_mode & 0o077 == 0

    def converse(client: poplib.POP3) -> int:
        client.user("sandbox")
        client.pass_(secret.read_text().strip())
        return client.stat()[0]

    assert await asyncio.to_thread(with_pop3, sandbox.pop_port, converse) == len(sample_messages())
    until.set()
    await asyncio.wait_for(task, SECONDS)
