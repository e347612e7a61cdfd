"""The scripted servers do what their script says."""

import asyncio
import smtplib
from pathlib import Path

import pytest

from mailferry.sandbox import (
    SandboxMaildrop,
)
from support.certificates import LocalAuthority
from support.clients import (
    HOST,
    MESSAGE,
    SECONDS,
    running,
    says,
    smtp,
)
from support.faults import GREETING, Close, Delay, Drip, Endless, Fault, Reset, Send, Stall
from support.mailset import make_messages
from support.scripted_pop3 import ScriptedPop3Server
from support.scripted_smtp import FINAL, ScriptedSmtpServer, SmtpFeatures

LOGIN = (b"USER ann", b"PASS pw")


@pytest.mark.parametrize(
    ("fault", "lines", "expected"),
    [
        (Fault(GREETING, Stall()), (), b"<silent>"),
        (Fault(GREETING, Close()), (), b"<closed>"),
        (Fault(GREETING, Reset()), (), b"<reset>"),
        (Fault(GREETING, reply=b"220 wrong shop\r\n"), (), b"220 wrong shop\r\n<silent>"),
        (
            Fault(b"USER", reply=b"-ERR [SYS/TEMP] later\r\n"),
            LOGIN,
            b"-ERR [SYS/TEMP] later\r\n-ERR USER first\r\n<silent>",
        ),
        (Fault(b"STAT", Stall(after_octets=3)), (*LOGIN, b"STAT", b"NOOP"), b"+OK<silent>"),
        (Fault(b"STAT", Close(after_octets=None)), (*LOGIN, b"STAT", b"NOOP"), b"+OK 2 50\r\n<closed>"),
        (
            Fault(b"RETR", Close(after_octets=25), argument=b"1"),
            (*LOGIN, b"RETR 1"),
            b"+OK 33 octets\r\nSubject: h<closed>",
        ),
        (
            Fault(b"RETR", Reset(after_octets=20), nth=2),
            (*LOGIN, b"RETR 2", b"RETR 1"),
            b"+OK 33 octets\r\nSubje<reset>",
        ),
        (
            Fault(b"NOOP", Send(b"more\r\n")),
            (*LOGIN, b"NOOP", b"STAT"),
            b"+OK\r\nmore\r\n+OK 2 50\r\n<silent>",
        ),
        (Fault(b"NOOP", Delay(0.1)), (*LOGIN, b"NOOP", b"STAT"), b"+OK\r\n+OK 2 50\r\n<silent>"),
        (Fault(b"NOOP", Drip(0.01)), (*LOGIN, b"NOOP", b"STAT"), b"+OK\r\n+OK 2 50\r\n<silent>"),
        (Fault(b"NOOP", Drip(0.2)), (*LOGIN, b"NOOP", b"STAT"), b"+O<silent>"),
        (Fault(b"QUIT", Stall()), (*LOGIN, b"QUIT"), b"2 messages\r\n<silent>"),
    ],
)
async def test_scripted_pop3_misbehaves_as_told(
    fault: Fault, lines: tuple[bytes, ...], expected: bytes
) -> None:
    maildrops = {"ann": SandboxMaildrop("pw", [MESSAGE, b"Subject: 2\r\n\r\nx\r\n"])}
    assert len(MESSAGE) == 33
    server = ScriptedPop3Server(maildrops, fault)
    async with running(server):
        heard = await says(server.port, *lines)
    assert heard.endswith(expected), heard
    assert server.faults.struck(fault) == 1


async def test_scripted_pop3_can_talk_for_ever() -> None:
    server = ScriptedPop3Server({"ann": SandboxMaildrop("pw", [MESSAGE])}, Fault(b"RETR", Endless()))
    async with running(server):
        assert len(await says(server.port, *LOGIN, b"RETR 1", seconds=SECONDS)) > 1_000_000


@pytest.mark.parametrize(("effect", "left"), [(True, 0), (False, 1)])
async def test_a_lost_answer_to_quit_may_or_may_not_have_deleted(effect: bool, left: int) -> None:
    fault = Fault(b"QUIT", Close(), effect=effect)
    server = ScriptedPop3Server({"ann": SandboxMaildrop("pw", [MESSAGE])}, fault)
    async with running(server):
        assert (await says(server.port, *LOGIN, b"DELE 1", b"QUIT")).endswith(b"marked\r\n<closed>")
    assert len(server.maildrops["ann"].messages) == left
    assert list(server.commands) == [*LOGIN, b"DELE 1", b"QUIT"]


async def test_octets_after_stls_come_before_the_handshake(authority: LocalAuthority, tmp_path: Path) -> None:
    server = ScriptedPop3Server(
        {}, Fault(b"STLS", Send(b"+OK injected\r\n")), tls=authority.good().server_context(tmp_path)
    )
    async with running(server):
        assert (await says(server.port, b"STLS")).endswith(b"negotiation\r\n+OK injected\r\n<silent>")


async def test_faults_can_be_limited_and_cleared() -> None:
    twice = Fault(b"NOOP", reply=b"-ERR no\r\n", times=2)
    server = ScriptedPop3Server({"ann": SandboxMaildrop("pw")}, twice)
    async with running(server):
        heard = await says(server.port, *LOGIN, *[b"NOOP"] * 3)
        assert heard.endswith(b"-ERR no\r\n-ERR no\r\n+OK\r\n<silent>")
        server.faults.add(Fault(b"NOOP", Close()))
        server.faults.clear()
        assert (await says(server.port, *LOGIN, b"NOOP")).endswith(b"+OK\r\n<silent>")


# --- scripted SMTP ----------------------------------------------------------------


async def test_scripted_smtp_takes_mail_octet_for_octet() -> None:
    server = ScriptedSmtpServer()
    contents = [b"", MESSAGE, b".\r\n", make_messages(1, 7)[0] + b"\r\n"]

    def converse() -> None:
        with smtp(server.port) as client:
            for content in contents:
                client.mail("")
                client.rcpt("bob@example.org")
                assert client.data(content)[0] == 250
            assert client.docmd("ETRN", "example.org")[0] == 250

    async with running(server):
        await asyncio.to_thread(converse)
    # smtplib ends an empty message with CRLF of its own.
    assert [message.content for message in server.accepted] == [b"\r\n", *contents[1:]]
    assert server.accepted[0].envelope_sender == b""
    assert server.accepted[0].recipients == (b"bob@example.org",)
    assert server.violations == []


async def test_scripted_smtp_takes_an_empty_message_and_chunks() -> None:
    server = ScriptedSmtpServer(features=SmtpFeatures(chunking=True))
    transaction = (b"MAIL FROM:<a@example.org>", b"RCPT TO:<b@example.org>")
    async with running(server):
        heard = await says(
            server.port,
            b"EHLO me",
            *transaction,
            b"DATA",
            b".",
            *transaction,
            b"BDAT 4\r\nab",
            b"BDAT 3 LAST\r\n.",
            b"QUIT",
        )
    assert b"250 2.0.0 OK: taken as 2\r\n221" in heard
    assert [message.content for message in server.accepted] == [b"", b"ab\r\n.\r\n"]


@pytest.mark.parametrize("implicit", [True, False])
async def test_scripted_smtp_under_tls_with_auth(
    authority: LocalAuthority, tmp_path: Path, implicit: bool
) -> None:
    server = ScriptedSmtpServer(
        tls=authority.good().server_context(tmp_path), implicit_tls=implicit, credentials={"ann": "pw"}
    )
    trust = authority.client_context()

    def converse(mechanism: str) -> None:
        client = (
            smtplib.SMTP_SSL(HOST, server.port, timeout=SECONDS, context=trust)
            if implicit
            else smtplib.SMTP(HOST, server.port, timeout=SECONDS)
        )
        with client:
            if not implicit:
                client.starttls(context=trust)
            client.ehlo()
            assert client.mail("ann@example.org")[0] == 530
            client.esmtp_features["auth"] = mechanism
            with pytest.raises(smtplib.SMTPAuthenticationError):
                client.login("ann", "wrong")
            client.login("ann", "pw")
            client.sendmail("ann@example.org", ["bob@example.org"], MESSAGE)

    async with running(server):
        for mechanism in ("PLAIN", "LOGIN", "CRAM-MD5"):
            await asyncio.to_thread(converse, mechanism)
    assert [message.content for message in server.accepted] == [MESSAGE] * 3


TRANSACTION = (
    b"EHLO me",
    b"MAIL FROM:<a@example.org>",
    b"RCPT TO:<b@example.org>",
    b"DATA",
    b"A: b",
    b"",
    b"text",
    b".",
)


@pytest.mark.parametrize(
    ("fault", "expected", "accepted"),
    [
        (
            Fault(GREETING, reply=b"421 4.3.2 busy\r\n", delivery=Close(after_octets=None)),
            b"421 4.3.2 busy\r\n<closed>",
            0,
        ),
        (Fault(GREETING, Stall()), b"<silent>", 0),
        (Fault(b"EHLO", Close()), b"ESMTP\r\n<closed>", 0),
        (Fault(b"MAIL", reply=b"451 4.3.0 later\r\n"), b"", 0),
        (Fault(b"RCPT", reply=b"550 5.1.1 who\r\n", argument=b"b@example.org"), b"", 0),
        (Fault(b"DATA", Stall()), b"2.1.5 OK\r\n<silent>", 0),
        (Fault(FINAL, reply=b"552 5.2.2 full\r\n"), b"354 go ahead\r\n552 5.2.2 full\r\n<silent>", 0),
        (Fault(FINAL, reply=b"552 5.2.2 full\r\n", argument=b"text"), b"552 5.2.2 full\r\n<silent>", 0),
        (Fault(FINAL, Close()), b"354 go ahead\r\n<closed>", 1),
        (Fault(FINAL, Close(), effect=False), b"354 go ahead\r\n<closed>", 0),
        (Fault(FINAL, Reset()), b"<reset>", 1),
        (Fault(FINAL, Stall()), b"354 go ahead\r\n<silent>", 1),
        (Fault(FINAL, Close(after_octets=None)), b"250 2.0.0 OK: taken as 1\r\n<closed>", 1),
    ],
)
async def test_scripted_smtp_misbehaves_as_told(fault: Fault, expected: bytes, accepted: int) -> None:
    server = ScriptedSmtpServer(fault)
    async with running(server):
        heard = await says(server.port, *TRANSACTION)
    assert heard.endswith(expected), heard
    if fault.reply is not None:
        assert fault.reply in heard
    assert len(server.accepted) == accepted
    assert server.faults.struck(fault) == 1


async def test_scripted_smtp_sees_what_rfc_5321_forbids() -> None:
    server = ScriptedSmtpServer(features=SmtpFeatures(pipelining=False))
    async with running(server):
        await says(server.port, *TRANSACTION[:-2], b"bare\nline \xff", b".")
    assert [violation for violation in server.violations if "message 1" in violation] == [
        "message 1: a bare CR or LF",
        "message 1: 8-bit octets without BODY=8BITMIME",
    ]
    assert any("PIPELINING" in violation for violation in server.violations)
