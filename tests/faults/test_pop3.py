"""POP3 sessions against a server that refuses, lies, stalls and hangs up, over real sockets."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import hashlib
from dataclasses import replace
from typing import Any

import pytest

from mailferry.errors import (
    AuthenticationRejectedError,
    CleartextRefusedError,
    ConnectionLostError,
    LocalProtocolError,
    LoginDelayedError,
    MaildropBusyError,
    MaildropError,
    MaildropFaultError,
    MaildropUnavailableError,
    ProtocolError,
    ReadTimeoutError,
    SecretError,
    TransportError,
)
from mailferry.net.credentials import Credentials, LoginMethod
from mailferry.net.endpoint import Endpoint, TlsMode
from mailferry.net.pop3_connector import Pop3Connector, Pop3Settings
from mailferry.net.pop3_session import Pop3Session
from mailferry.net.trace import Direction
from mailferry.sandbox.maildrop import SandboxFeatures, SandboxMaildrop
from support.clients import running
from support.faults import GREETING, Close, Drip, Endless, Fault, Reset, Stall
from support.scripted_pop3 import ScriptedPop3Server

PASSWORD = "correct-horse-4711"
SECONDS = 0.5
MAIL = [b"Subject: %d\r\n\r\nbody of %d\r\n.\r\n..\r\n" % (number, number) for number in range(1, 4)]


def make_server(*faults: Fault, password: str = PASSWORD, **features: Any) -> ScriptedPop3Server:
    boxes = {"ann": SandboxMaildrop(password, MAIL), "ann@" + "x" * 300: SandboxMaildrop(password, MAIL)}
    return ScriptedPop3Server(boxes, *faults, features=SandboxFeatures(**features))


def settings_for(server: ScriptedPop3Server, **more: Any) -> Pop3Settings:
    endpoint = Endpoint(
        "127.0.0.1",
        server.port,
        TlsMode.NONE,
        connect_timeout_seconds=5.0,
        timeout_seconds=SECONDS,
    )
    plain = Pop3Settings(endpoint, Credentials("ann", lambda: PASSWORD), allow_cleartext=True)
    return replace(plain, **more)


async def fetch_all(session: Pop3Session) -> list[bytes]:
    listing = await session.listing()
    fetched: list[bytes | None] = []
    done = asyncio.Event()

    def take(content: bytes | None, _why: str) -> None:
        fetched.append(content)
        if len(fetched) == len(listing.messages):
            done.set()

    for message in listing.messages:
        session.retrieve(message, take)
    await done.wait()
    return [content for content in fetched if content is not None]


async def opens(server: ScriptedPop3Server, **more: Any) -> None:
    """Open a session and end it."""
    session = await Pop3Connector(settings_for(server, **more)).open()
    assert await session.quit()


# --- ways to log in --------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "verb"),
    [
        (LoginMethod.USER, b"PASS"),
        (LoginMethod.APOP, b"APOP"),
        (LoginMethod.PLAIN, b"AUTH PLAIN"),
        (LoginMethod.CRAM_MD5, b"AUTH CRAM-MD5"),
        (LoginMethod.AUTO, b"AUTH CRAM-MD5"),
    ],
)
@pytest.mark.parametrize("pipelining", [True, False])
async def test_each_way_to_log_in_fetches_the_mail(
    method: LoginMethod, verb: bytes, pipelining: bool
) -> None:
    server = make_server(pipelining=pipelining)
    async with running(server):
        session = await Pop3Connector(settings_for(server, method=method)).open()
        assert session.traits.pipelining is pipelining
        assert await fetch_all(session) == MAIL
        assert await session.quit()
    assert any(command.startswith(verb) for command in server.commands)
    assert server.counts["discarded"] == 0  # nothing was pipelined unasked


async def test_pipelining_can_be_switched_off() -> None:
    server = make_server()
    async with running(server):
        session = await Pop3Connector(settings_for(server, pipelining=False)).open()
        assert not session.traits.pipelining
        assert await fetch_all(session) == MAIL
        assert await session.quit()


@pytest.mark.parametrize(
    "method", [m for m in LoginMethod if m.value in {"user", "apop", "plain", "cram-md5"}]
)
async def test_a_wrong_password_is_told_as_such_whatever_the_method(method: LoginMethod) -> None:
    server = make_server(password="another")
    async with running(server):
        with pytest.raises(AuthenticationRejectedError, match="Check username and password"):
            await opens(server, method=method)
    assert server.counts["refused"] == 1  # and it was tried once only


async def test_auto_without_capa_and_without_timestamp_is_user_and_pass() -> None:
    server = make_server(has_capa=False, has_apop=False)
    async with running(server):
        session = await Pop3Connector(settings_for(server)).open()
        assert session.traits.has_top  # unknown: its refusal would tell
        assert session.traits.login_delay_seconds is None
        assert await fetch_all(session) == MAIL
        assert await session.quit()
    assert b"PASS " + PASSWORD.encode() in server.commands


async def test_auto_without_capa_uses_the_timestamp() -> None:
    server = make_server(has_capa=False)
    async with running(server):
        await opens(server)
    assert not any(command.startswith((b"PASS", b"USER")) for command in server.commands)


async def test_apop_without_a_timestamp_is_impossible() -> None:
    server = make_server(has_apop=False)
    async with running(server):
        with pytest.raises(MaildropUnavailableError, match='auth = "apop" is not possible'):
            await opens(server, method=LoginMethod.APOP)
    assert list(server.commands) == [b"CAPA"]


async def test_traits_are_those_after_the_login() -> None:
    fault = Fault(b"CAPA", reply=b"+OK\r\nUIDL\r\nLOGIN-DELAY 900 USER\r\nEXPIRE 0\r\n.\r\n", nth=2)
    server = make_server(fault)
    async with running(server):
        session = await Pop3Connector(settings_for(server)).open()
        assert not session.traits.has_top
        assert session.traits.login_delay_seconds == 900
        assert session.traits.expire_days == 0
        assert not session.traits.protected
        await session.quit()


async def test_a_capa_that_is_refused_after_the_login_is_not_fatal() -> None:
    server = make_server(Fault(b"CAPA", reply=b"-ERR not now\r\n", nth=2))
    async with running(server):
        session = await Pop3Connector(settings_for(server)).open()
        assert session.traits.pipelining
        await session.quit()


async def test_a_long_initial_response_waits_for_the_challenge() -> None:
    user = "ann@" + "x" * 300
    server = make_server()
    async with running(server):
        settings = settings_for(
            server, method=LoginMethod.PLAIN, credentials=Credentials(user, lambda: PASSWORD)
        )
        session = await Pop3Connector(settings).open()
        await session.quit()
    assert b"AUTH PLAIN" in server.commands
    assert all(len(command) <= 255 for command in server.commands if command.startswith(b"AUTH"))


async def test_a_challenge_that_makes_no_sense_is_cancelled() -> None:
    again = Fault(b"SASL-RESPONSE", reply=b"+ bm9jaCBtYWw=\r\n", times=1, effect=True)
    server = make_server(again)
    async with running(server):
        with pytest.raises(ProtocolError, match="unexpected challenge"):
            await opens(server, method=LoginMethod.CRAM_MD5)
    assert server.commands[-1] in (b"*", b"SASL-RESPONSE *")


# --- refusals --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (b"-ERR [AUTH] no\r\n", AuthenticationRejectedError),
        (b"-ERR [IN-USE] no\r\n", MaildropBusyError),
        (b"-ERR [LOGIN-DELAY] no\r\n", LoginDelayedError),
        (b"-ERR [SYS/TEMP] no\r\n", MaildropUnavailableError),
        (b"-ERR [SYS/PERM] no\r\n", MaildropFaultError),
        (b"-ERR maildrop already locked\r\n", MaildropBusyError),
    ],
)
@pytest.mark.parametrize("verb", [b"PASS", b"USER", GREETING])
async def test_a_refusal_is_told_apart_by_its_reason(
    reply: bytes, error: type[MaildropError], verb: bytes
) -> None:
    server = make_server(Fault(verb, reply=reply))
    async with running(server):
        with pytest.raises(error) as caught:
            await opens(server, method=LoginMethod.USER)
    assert reply.decode().strip() in str(caught.value)
    assert str(caught.value).startswith("127.0.0.1:")


@pytest.mark.parametrize(
    ("resp_codes", "error"), [(True, MaildropUnavailableError), (False, AuthenticationRejectedError)]
)
async def test_a_refusal_without_a_code(resp_codes: bool, error: type[MaildropError]) -> None:
    """With AUTH-RESP-CODE a refusal of credentials would have said so (RFC 3206 s.6)."""
    server = make_server(Fault(b"PASS", reply=b"-ERR no\r\n"), resp_codes=resp_codes)
    async with running(server):
        with pytest.raises(error):
            await opens(server, method=LoginMethod.USER)


@pytest.mark.parametrize(("offered", "seconds"), [(0.0, 600.0), (90.0, 90.0)])
async def test_a_login_delay_has_a_length(offered: float, seconds: float) -> None:
    fault = Fault(b"PASS", reply=b"-ERR [LOGIN-DELAY] no\r\n")
    server = make_server(fault, login_delay_seconds=offered)
    async with running(server):
        with pytest.raises(LoginDelayedError) as caught:
            await opens(server, method=LoginMethod.USER)
    assert caught.value.retry_after_seconds == seconds


async def test_a_greeting_that_refuses_is_trouble_not_a_wrong_password() -> None:
    server = make_server(Fault(GREETING, reply=b"-ERR go away\r\n"))
    async with running(server):
        with pytest.raises(MaildropUnavailableError, match="greeting refused: -ERR go away"):
            await opens(server)
    assert not server.commands


# --- secrets ---------------------------------------------------------------------


async def test_no_password_goes_over_a_bare_link_unless_it_is_allowed() -> None:
    server = make_server()
    async with running(server):
        with pytest.raises(CleartextRefusedError, match="set tls, or allow_cleartext = true"):
            await opens(server, allow_cleartext=False)
    assert list(server.commands) == [b"CAPA"]


@pytest.mark.parametrize("method", [LoginMethod.USER, LoginMethod.APOP])
@pytest.mark.parametrize("name", ["ann\r\nDELE 1", "ann\nDELE 1", "ann\0", ""])
async def test_a_hostile_name_is_refused_before_anything_is_sent(method: LoginMethod, name: str) -> None:
    server = make_server()
    async with running(server):
        with pytest.raises(LocalProtocolError):
            await opens(server, method=method, credentials=Credentials(name, lambda: PASSWORD))
    assert list(server.commands) == [b"CAPA"]


@pytest.mark.parametrize("password", ["pw\r\nDELE 1", "pw\n", "pw\0", "x" * 300])
async def test_a_hostile_password_is_refused_and_not_told(password: str) -> None:
    server = make_server()
    async with running(server):
        with pytest.raises(LocalProtocolError) as caught:
            await opens(server, method=LoginMethod.USER, credentials=Credentials("ann", lambda: password))
    assert password not in str(caught.value)
    assert password not in repr(caught.value.__cause__)
    assert list(server.commands) == [b"CAPA", b"USER ann"]


async def test_a_secret_that_cannot_be_read_closes_the_link() -> None:
    def broken() -> str:
        raise SecretError("file /run/secret: not there")

    server = make_server()
    async with running(server):
        with pytest.raises(SecretError, match="not there"):
            await opens(server, credentials=Credentials("ann", broken))
        with pytest.raises(LocalProtocolError, match="no password is configured for ann"):
            await opens(server, credentials=Credentials("ann"))
        with pytest.raises(LocalProtocolError, match="no oauth2_token"):
            await opens(server, credentials=Credentials("ann"), method=LoginMethod.XOAUTH2)
        await no_session(server)


@pytest.mark.parametrize(
    "method", [LoginMethod.USER, LoginMethod.APOP, LoginMethod.PLAIN, LoginMethod.CRAM_MD5]
)
async def test_the_trace_has_every_line_and_no_secret(method: LoginMethod) -> None:
    lines: list[tuple[str, str]] = []

    def trace(direction: Direction, text: str) -> None:
        lines.append((direction, text))

    server = make_server()
    async with running(server):
        session = await Pop3Connector(settings_for(server, method=method), lambda: trace).open()
        await fetch_all(session)
        assert await session.quit()
    text = "\n".join(f"{direction}: {line}" for direction, line in lines)
    sent = [line for direction, line in lines if direction == "send"]
    assert len(sent) == len(server.commands)
    for encoded in (PASSWORD.encode(), b"\0ann\0" + PASSWORD.encode()):
        assert base64.b64encode(encoded).decode() not in text
    assert PASSWORD not in text
    assert not any(
        word in text for word in ("body of", "Subject", hashlib.md5(PASSWORD.encode()).hexdigest())
    )
    responses = [c.partition(b" ")[2] for c in server.commands if c.startswith((b"SASL-RESPONSE", b"APOP"))]
    assert not any(response.split()[-1].decode() in text for response in responses)
    assert "send: RETR 1" in text
    assert "reply: +OK" in text
    assert "octets>" in text
    assert "reply: UIDL" in text  # of the capability list, which is shown
    assert lines[-1][0] == "reply"
    assert lines[-2] == ("send", "QUIT")
    assert "session ended" not in text


# --- servers in trouble ------------------------------------------------------------


@pytest.mark.parametrize("delivery", [Close(), Reset()])
async def test_a_server_that_hangs_up_at_capa_is_asked_again_without_it(delivery: Close | Reset) -> None:
    server = make_server(Fault(b"CAPA", delivery))
    async with running(server):
        connector = Pop3Connector(settings_for(server))
        for _ in range(2):
            session = await connector.open()
            assert await fetch_all(session) == MAIL
            assert await session.quit()
    assert server.counts["sessions"] == 3  # the second time it was not tried
    assert list(server.commands).count(b"CAPA") == 1


async def test_a_server_that_is_down_does_not_teach_us_to_leave_capa_out() -> None:
    server = make_server(Fault(b"CAPA", Close(), times=1), Fault(GREETING, Close(), nth=2))
    async with running(server):
        connector = Pop3Connector(settings_for(server))
        with pytest.raises(ConnectionLostError):
            await connector.open()
        session = await connector.open()
        assert session.traits.pipelining  # so CAPA was asked
        await session.quit()


@pytest.mark.parametrize("verb", [GREETING, b"CAPA", b"PASS"])
async def test_a_server_that_stalls_while_we_open(verb: bytes) -> None:
    server = make_server(Fault(verb, Stall(after_octets=2)))
    async with running(server):
        with pytest.raises(ReadTimeoutError):
            await opens(server, method=LoginMethod.USER)
        await no_session(server)


@pytest.mark.parametrize("verb", [GREETING, b"CAPA", b"UIDL", b"RETR"])
async def test_a_server_that_drips_dies_soon(verb: bytes) -> None:
    server = make_server(Fault(verb, Drip(0.04), reply=b"+OK " + b"x" * 400 + b"\r\n.\r\n"))
    async with running(server), asyncio.timeout(5):
        with pytest.raises(ReadTimeoutError):
            await fetch_and_fail(server)


async def fetch_and_fail(server: ScriptedPop3Server) -> None:
    session = await Pop3Connector(settings_for(server)).open()
    await fetch_all(session)
    raise session.failure or AssertionError("it lives")


async def test_a_flood_ends_at_the_limit() -> None:
    server = make_server(Fault(b"RETR", Endless(), reply=b"+OK\r\n", argument=b"2"))
    async with running(server):
        session = await Pop3Connector(settings_for(server, message_limit_octets=100_000)).open()
        assert await fetch_all(session) == MAIL[:1]
        assert "longer than 100000 octets" in str(session.failure)


@pytest.mark.parametrize("delivery", [Close(0), Close(3), Close(None), Reset(3), Stall(0), Stall(3)])
async def test_a_quit_that_is_not_confirmed(delivery: Close | Reset | Stall) -> None:
    server = make_server(Fault(b"QUIT", delivery))
    async with running(server):
        session = await Pop3Connector(settings_for(server)).open()
        confirmed = await session.quit()
    assert confirmed is (delivery == Close(None))


@pytest.mark.parametrize("turns", range(0, 40, 5))
async def test_a_cancelled_opening_leaves_no_link(turns: int) -> None:
    server = make_server()
    async with running(server):
        task = asyncio.create_task(Pop3Connector(settings_for(server, method=LoginMethod.PLAIN)).open())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            (await task).abort()
        await asyncio.sleep(0.01)
        gc.collect()
        await no_session(server)


@pytest.mark.parametrize("verb", [GREETING, b"USER", b"PASS", b"STAT", b"LIST", b"UIDL"])
async def test_wherever_the_opening_breaks_the_error_is_one_of_ours(verb: bytes) -> None:
    fault = Fault(verb, Close(0))
    server = make_server(fault)
    async with running(server):
        for octets in range(0, 60, 5):
            server.faults.clear()
            server.faults.add(Fault(verb, Close(octets)))
            with pytest.raises((TransportError, MaildropError, ProtocolError)):
                await list_and_quit(server)


async def list_and_quit(server: ScriptedPop3Server) -> None:
    session = await Pop3Connector(settings_for(server, method=LoginMethod.USER)).open()
    await session.listing()
    if not await session.quit():
        raise session.failure or AssertionError("no reason")


async def no_session(server: ScriptedPop3Server) -> None:
    """Wait until the server has no session left."""
    async with asyncio.timeout(3):
        while server.active_sessions:  # noqa: ASYNC110  the server's own bookkeeping has no event
            await asyncio.sleep(0.005)
