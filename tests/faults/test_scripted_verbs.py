"""Every step of the scripted servers can be told to misbehave in every way, greeting and data included."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path

import pytest

from mailferry.sandbox.maildrop import SandboxMaildrop
from mailferry.sandbox.pop3_session import SASL_RESPONSE
from support.certificates import LocalAuthority
from support.clients import MESSAGE, running, says
from support.closed_doors import refusing, unaccepting
from support.faults import GREETING, Close, Drip, Endless, Fault, Reset, Stall
from support.scripted_pop3 import ScriptedPop3Server
from support.scripted_smtp import AUTH_RESPONSE, CONTENT, FINAL, ScriptedSmtpServer, SmtpFeatures

WRONG = b"#wrong\r\n"
BEGUN = tuple(WRONG[:octets] + b"<silent>" for octets in range(1, len(WRONG)))
FLOOD_OCTETS = 200_000
AT_A_TIME = 24
LOGIN = (b"USER ann", b"PASS pw")
POP3_STEPS: dict[bytes, tuple[bytes, ...]] = {
    GREETING: (),
    b"CAPA": (b"CAPA",),
    b"STLS": (b"STLS",),
    b"USER": (b"USER ann",),
    b"PASS": LOGIN,
    b"APOP": (b"APOP ann 0",),
    b"AUTH": (b"AUTH PLAIN",),
    SASL_RESPONSE: (b"AUTH PLAIN", b"AGFubgBwdw=="),
    b"STAT": (*LOGIN, b"STAT"),
    b"LIST": (*LOGIN, b"LIST"),
    b"UIDL": (*LOGIN, b"UIDL"),
    b"TOP": (*LOGIN, b"TOP 1 0"),
    b"RETR": (*LOGIN, b"RETR 1"),
    b"DELE": (*LOGIN, b"DELE 1"),
    b"NOOP": (*LOGIN, b"NOOP"),
    b"RSET": (*LOGIN, b"RSET"),
    b"QUIT": (*LOGIN, b"QUIT"),
}
ENVELOPE = (b"EHLO me", b"MAIL FROM:<a@example.org>", b"RCPT TO:<b@example.org>")
SMTP_STEPS: dict[bytes, tuple[bytes, ...]] = {
    GREETING: (),
    b"EHLO": (b"EHLO me",),
    b"HELO": (b"HELO me",),
    b"STARTTLS": (b"EHLO me", b"STARTTLS"),
    b"AUTH": (b"EHLO me", b"AUTH PLAIN"),
    AUTH_RESPONSE: (b"EHLO me", b"AUTH PLAIN", b"AGFubgBwdw=="),
    b"MAIL": ENVELOPE[:2],
    b"RCPT": ENVELOPE,
    b"DATA": (*ENVELOPE, b"DATA"),
    CONTENT: (*ENVELOPE, b"DATA", b"half"),
    FINAL: (*ENVELOPE, b"DATA", b"text", b"."),
    b"BDAT": (*ENVELOPE, b"BDAT 3", b"x"),
    b"RSET": (b"RSET",),
    b"NOOP": (b"NOOP",),
    b"ETRN": (b"EHLO me", b"ETRN example.org"),
    b"QUIT": (b"QUIT",),
}
LMTP_STEPS: dict[bytes, tuple[bytes, ...]] = {
    b"LHLO": (b"LHLO me",),
    FINAL: (b"LHLO me", *ENVELOPE[1:], b"DATA", b"text", b"."),
}
WAYS: dict[str, tuple[Fault, Callable[[bytes], bool]]] = {
    "stall": (Fault(b"", Stall()), lambda heard: heard.endswith(b"<silent>")),
    "drip": (Fault(b"", Drip(0.3), reply=WRONG), lambda heard: heard.endswith(BEGUN)),
    "close": (Fault(b"", Close()), lambda heard: heard.endswith(b"<closed>")),
    "reset": (Fault(b"", Reset()), lambda heard: heard.endswith(b"<reset>")),
    "wrong": (Fault(b"", reply=WRONG), lambda heard: WRONG in heard),
    "endless": (Fault(b"", Endless()), lambda heard: len(heard) > FLOOD_OCTETS),
}


def struck_by(fault: Fault, verb: bytes) -> Fault:
    return Fault(verb, fault.delivery, reply=fault.reply)


async def misbehaves(
    server: ScriptedPop3Server | ScriptedSmtpServer, verb: bytes, lines: tuple[bytes, ...], way: str
) -> str:
    """Return what is wrong with one step; empty when it misbehaves as it was told to."""
    pattern, expected = WAYS[way]
    fault = struck_by(pattern, verb)
    server.faults.add(fault)
    async with running(server):
        heard = await says(server.port, *lines, seconds=0.6)
    if server.faults.struck(fault) != 1:
        return f"{verb!r} was never asked: {heard[-80:]!r}"
    return "" if expected(heard) else f"{verb!r} {way}: {heard[-80:]!r}"


async def problems(checks: Sequence[Coroutine[None, None, str]]) -> list[str]:
    """Make some checks at a time; return what is wrong."""
    places = asyncio.Semaphore(AT_A_TIME)

    async def take_turn(check: Coroutine[None, None, str]) -> str:
        async with places:
            return await check

    return [problem for problem in await asyncio.gather(*map(take_turn, checks)) if problem]


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    return LocalAuthority().good().server_context(tmp_path)


async def test_every_pop3_step(tls: ssl.SSLContext) -> None:
    def make() -> ScriptedPop3Server:
        return ScriptedPop3Server({"ann": SandboxMaildrop("pw", [MESSAGE])}, tls=tls)

    assert (
        await problems([misbehaves(make(), *step, way) for step in POP3_STEPS.items() for way in WAYS]) == []
    )


async def test_every_smtp_step(tls: ssl.SSLContext) -> None:
    def make(verb: bytes) -> ScriptedSmtpServer:
        with_auth = verb in (b"AUTH", AUTH_RESPONSE)
        return ScriptedSmtpServer(
            tls=tls,
            features=SmtpFeatures(chunking=True),
            credentials={"ann": "pw"} if with_auth else None,
        )

    assert (
        await problems([misbehaves(make(step[0]), *step, way) for step in SMTP_STEPS.items() for way in WAYS])
        == []
    )


async def test_every_lmtp_step() -> None:
    def make() -> ScriptedSmtpServer:
        return ScriptedSmtpServer(features=SmtpFeatures(lmtp=True))

    assert (
        await problems([misbehaves(make(), *step, way) for step in LMTP_STEPS.items() for way in WAYS]) == []
    )


async def test_lmtp_answers_for_each_recipient() -> None:
    full = Fault(FINAL, reply=b"452 4.2.2 full\r\n", argument=b"b@example.org")
    server = ScriptedSmtpServer(full, features=SmtpFeatures(lmtp=True))
    recipients = [b"RCPT TO:<%c@example.org>" % name for name in b"abc"]
    async with running(server):
        heard = await says(
            server.port, b"LHLO me", b"MAIL FROM:<>", *recipients, b"DATA", b"text", b".", b"NOOP"
        )
        refused = await says(server.port, b"EHLO me")
    assert heard.endswith(
        b"354 go ahead\r\n250 2.0.0 OK: taken as 1\r\n452 4.2.2 full\r\n250 2.0.0 OK: taken as 2\r\n"
        b"250 2.0.0 OK\r\n<silent>"
    )
    assert [message.recipients for message in server.accepted] == [(b"a@example.org",), (b"c@example.org",)]
    assert {message.content for message in server.accepted} == {b"text\r\n"}
    assert refused.endswith(b"500 5.5.2 command not recognized\r\n<silent>")


async def test_lmtp_may_break_off_between_two_recipients() -> None:
    second = Fault(FINAL, Close(), argument=b"b@example.org")
    server = ScriptedSmtpServer(second, features=SmtpFeatures(lmtp=True))
    async with running(server):
        heard = await says(
            server.port,
            b"LHLO me",
            b"MAIL FROM:<>",
            b"RCPT TO:<a@example.org>",
            b"RCPT TO:<b@example.org>",
            b"DATA",
            b".",
        )
    assert heard.endswith(b"354 go ahead\r\n250 2.0.0 OK: taken as 1\r\n<closed>")
    assert len(server.accepted) == 2, "accepted, and not told"


@pytest.mark.parametrize("end", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r\n"])
async def test_a_lax_server_can_be_tricked(end: bytes) -> None:
    trick = b"one" + end + b"MAIL FROM:<x@example.org>"
    strict, lax = ScriptedSmtpServer(), ScriptedSmtpServer(features=SmtpFeatures(lax_end=True))
    for server, tricked in ((strict, end == b"\r\n.\r\n"), (lax, True)):
        async with running(server):
            heard = await says(server.port, *ENVELOPE, b"DATA", trick)
        assert (b"taken as 1" in heard) is tricked
        assert len(server.accepted) == tricked


async def test_doors_that_stay_closed() -> None:
    loop = asyncio.get_running_loop()
    with refusing() as port, pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    with unaccepting() as port, socket.socket() as link:
        link.setblocking(False)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await loop.sock_connect(link, ("127.0.0.1", port))
