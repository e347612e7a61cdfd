"""SMTP sessions against a server that refuses, stalls and hangs up, over real sockets."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import email
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from mailferry.destinations import smtp as destination_module
from mailferry.destinations.letter import Envelope
from mailferry.destinations.smtp import SmtpDestination, SmtpLimits
from mailferry.errors import (
    CleartextRefusedError,
    ConnectionLostError,
    HopAuthenticationError,
    HopError,
    LocalProtocolError,
    MailferryError,
    ReadTimeoutError,
    RemoteProtocolError,
)
from mailferry.model import Deferred, Delivered, DestinationName, PermanentFailure, Scope
from mailferry.net.credentials import Credentials, LoginMethod
from mailferry.net.endpoint import Endpoint, TlsMode
from mailferry.net.smtp_connector import SmtpConnector, SmtpSettings
from mailferry.net.trace import Direction, Trace, no_trace
from support.clients import running
from support.deliveries import Reports
from support.faults import GREETING, Close, Delay, Drip, Fault, Reset, Send, Stall
from support.scripted_smtp import FINAL, ScriptedSmtpServer, SmtpFeatures

PASSWORD = "correct-horse-4711"
SECONDS = 0.5
LIMITS = SmtpLimits()
BOB, CYD = "bob@example.org", "cyd@example.org"


def settings_for(server: ScriptedSmtpServer, **more: Any) -> SmtpSettings:
    endpoint = Endpoint(
        "127.0.0.1",
        server.port,
        TlsMode.NONE,
        connect_timeout_seconds=5.0,
        timeout_seconds=SECONDS,
    )
    return replace(SmtpSettings(endpoint, "relay.example.net", final_timeout_seconds=SECONDS), **more)


async def opens(server: ScriptedSmtpServer, trace: Trace = no_trace, **more: Any) -> frozenset[str]:
    """Open a session and end it; return what the server offered."""
    session = await SmtpConnector(settings_for(server, **more), lambda: trace).open()
    await session.quit()
    return frozenset(session.features.keywords)


@contextlib.asynccontextmanager
async def destination_at(
    server: ScriptedSmtpServer,
    *,
    recipients: tuple[str, ...] = (BOB,),
    limits: SmtpLimits = LIMITS,
    **more: Any,
) -> AsyncIterator[SmtpDestination]:
    envelope = Envelope("original", recipients, "relay.example.net")
    async with running(server):
        connector = SmtpConnector(settings_for(server, **more))
        destination = SmtpDestination(DestinationName("hop"), connector, envelope, limits)
        yield destination
        async with asyncio.timeout(10):
            await destination.drain()
    assert not server.violations


async def deliver(
    server: ScriptedSmtpServer, *names: str, content: bytes | None = None, **more: Any
) -> Reports:
    reports = Reports()
    async with destination_at(server, **more) as destination:
        for name in names or ("one",):
            destination.submit(reports.order(name, content))
        await reports.all_done()
    return reports


def subjects(server: ScriptedSmtpServer) -> list[str]:
    return [email.message_from_bytes(message.content)["Subject"] for message in server.accepted]


# --- opening ---------------------------------------------------------------------


async def test_a_session_learns_what_the_server_offers() -> None:
    server = ScriptedSmtpServer()
    async with running(server):
        assert {"PIPELINING", "8BITMIME", "SIZE"} <= await opens(server)
    assert list(server.commands) == [b"EHLO relay.example.net", b"QUIT"]


async def test_helo_where_ehlo_is_not_known() -> None:
    server = ScriptedSmtpServer(features=SmtpFeatures(ehlo=False))
    async with running(server):
        assert await opens(server) == frozenset()
    assert list(server.commands) == [b"EHLO relay.example.net", b"HELO relay.example.net", b"QUIT"]


async def test_no_helo_after_a_temporary_refusal_or_a_421() -> None:
    for reply in (b"451 4.3.0 later\r\n", b"421 4.3.2 bye\r\n"):
        server = ScriptedSmtpServer(Fault(b"EHLO", reply=reply))
        async with running(server):
            with pytest.raises(HopError, match="EHLO: 4"):
                await opens(server)
        assert list(server.commands) == [b"EHLO relay.example.net"]


@pytest.mark.parametrize("reply", [b"421 4.3.2 busy\r\n", b"554 5.7.1 not you\r\n", b"521 5.3.2 never\r\n"])
async def test_a_greeting_that_refuses(reply: bytes) -> None:
    server = ScriptedSmtpServer(Fault(GREETING, reply=reply))
    async with running(server):
        with pytest.raises(HopError, match=f"greeting: {reply.decode().strip()}"):
            await opens(server)
    assert not server.commands


@pytest.mark.parametrize(
    "reply", [b"+OK pop3\r\n", b"220\n", b"* OK IMAP\r\n", b"354 go\r\n", b"\x16\x03\x01\x02\x00"]
)
async def test_what_is_no_smtp_server(reply: bytes) -> None:
    server = ScriptedSmtpServer(Fault(GREETING, reply=reply))
    async with running(server):
        with pytest.raises(RemoteProtocolError):
            await opens(server)


@pytest.mark.parametrize(
    ("verb", "delivery"),
    [(GREETING, Stall()), (GREETING, Drip(0.04)), (b"EHLO", Stall(3)), (b"EHLO", Drip(0.04))],
)
async def test_a_server_that_stalls_or_drips_while_we_open(verb: bytes, delivery: Stall | Drip) -> None:
    server = ScriptedSmtpServer(Fault(verb, delivery, reply=b"250-" + b"x" * 500 + b"\r\n250 ok\r\n"))
    async with running(server), asyncio.timeout(5):
        with pytest.raises(ReadTimeoutError):
            await opens(server)


@pytest.mark.parametrize("verb", [GREETING, b"EHLO"])
@pytest.mark.parametrize("delivery", [Close(), Close(3), Reset(3)])
async def test_a_server_that_hangs_up_while_we_open(verb: bytes, delivery: Close | Reset) -> None:
    server = ScriptedSmtpServer(Fault(verb, delivery))
    async with running(server):
        with pytest.raises(ConnectionLostError):
            await opens(server)


# --- logging in --------------------------------------------------------------------


def login_server(*faults: Fault, password: str = PASSWORD, **features: Any) -> ScriptedSmtpServer:
    return ScriptedSmtpServer(*faults, credentials={"ann": password}, features=SmtpFeatures(**features))


LOGIN: dict[str, Any] = {"credentials": Credentials("ann", lambda: PASSWORD), "allow_cleartext": True}


@pytest.mark.parametrize(
    ("method", "verb"),
    [
        (LoginMethod.PLAIN, b"AUTH PLAIN"),
        (LoginMethod.LOGIN, b"AUTH LOGIN"),
        (LoginMethod.CRAM_MD5, b"AUTH CRAM-MD5"),
        (LoginMethod.AUTO, b"AUTH CRAM-MD5"),
    ],
)
async def test_each_way_to_log_in(method: LoginMethod, verb: bytes) -> None:
    server = login_server()
    async with running(server):
        await opens(server, method=method, **LOGIN)
    assert any(command.startswith(verb) for command in server.commands)


@pytest.mark.parametrize("method", [LoginMethod.PLAIN, LoginMethod.LOGIN, LoginMethod.CRAM_MD5])
async def test_a_refused_login_is_told_with_advice(method: LoginMethod) -> None:
    server = login_server(password="another")
    async with running(server):
        with pytest.raises(
            HopAuthenticationError, match="check the destination's user name, password"
        ) as caught:
            await opens(server, method=method, **LOGIN)
    assert "535 5.7.8" in str(caught.value)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("reply", [b"454 4.7.0 later\r\n", b"504 5.5.4 what\r\n", b"500 5.5.2 what\r\n"])
async def test_a_login_that_could_not_be_tried_is_no_wrong_password(reply: bytes) -> None:
    server = login_server(Fault(b"AUTH", reply=reply))
    async with running(server):
        with pytest.raises(HopError) as caught:
            await opens(server, method=LoginMethod.PLAIN, **LOGIN)
    assert not isinstance(caught.value, HopAuthenticationError)


@pytest.mark.parametrize(
    ("method", "error"),
    [
        (LoginMethod.AUTO, HopAuthenticationError),
        (LoginMethod.PLAIN, CleartextRefusedError),
        (LoginMethod.LOGIN, CleartextRefusedError),
    ],
)
async def test_no_password_goes_over_a_bare_link_unless_it_is_allowed(
    method: LoginMethod, error: type[MailferryError]
) -> None:
    server = login_server(auth_mechanisms=("PLAIN", "LOGIN"))
    async with running(server):
        with pytest.raises(error):
            await opens(server, method=method, credentials=LOGIN["credentials"])
    assert list(server.commands) == [b"EHLO relay.example.net"]


async def test_a_proof_may_go_over_a_bare_link() -> None:
    server = login_server()
    async with running(server):
        await opens(server, credentials=LOGIN["credentials"])


async def test_a_server_without_auth_is_told() -> None:
    server = ScriptedSmtpServer()
    async with running(server):
        with pytest.raises(HopAuthenticationError, match="offers no AUTH here"):
            await opens(server, **LOGIN)


async def test_nonsense_within_a_login_is_cancelled() -> None:
    server = login_server(Fault(b"AUTH-RESPONSE", reply=b"334 bm9jaCBtYWw=\r\n", times=1))
    async with running(server):
        with pytest.raises(HopError, match="CRAM-MD5: unexpected challenge"):
            await opens(server, method=LoginMethod.CRAM_MD5, **LOGIN)
    assert b"*" in server.commands[-1]


@pytest.mark.parametrize("name", ["ann\0", "ann\0bob"])
async def test_a_hostile_name_is_refused_before_it_is_sent(name: str) -> None:
    server = login_server()
    async with running(server):
        with pytest.raises(LocalProtocolError):
            await opens(server, allow_cleartext=True, credentials=Credentials(name, lambda: PASSWORD))
    assert list(server.commands) == [b"EHLO relay.example.net"]


@pytest.mark.parametrize("method", [LoginMethod.PLAIN, LoginMethod.LOGIN, LoginMethod.CRAM_MD5])
@pytest.mark.parametrize("chunking", [True, False])
async def test_the_trace_has_every_line_and_no_secret(method: LoginMethod, chunking: bool) -> None:
    lines: list[str] = []

    def trace(direction: Direction, text: str) -> None:
        lines.append(f"{direction}: {text}")

    server, reports = login_server(chunking=chunking), Reports()
    async with running(server):
        connector = SmtpConnector(settings_for(server, method=method, **LOGIN), lambda: trace)
        envelope = Envelope("original", (BOB,), "relay.example.net")
        hop = SmtpDestination(DestinationName("hop"), connector, envelope, SmtpLimits())
        hop.submit(reports.order("secret-subject"))
        await reports.all_done()
        await hop.drain()
    text = "\n".join(lines)
    assert isinstance(reports.outcome("secret-subject"), Delivered)
    for secret in (PASSWORD.encode(), b"\0ann\0" + PASSWORD.encode()):
        assert base64.b64encode(secret).decode() not in text
    responses = [c.split()[-1] for c in server.commands if c.startswith((b"AUTH-RESPONSE", b"AUTH PLAIN"))]
    assert responses
    assert not any(response.decode() in text for response in responses)
    assert not any(word in text for word in (PASSWORD, "secret-subject", "body of", "Received"))
    for line in (
        "send: EHLO relay.example.net",
        "send: MAIL FROM:<ann@example.org>",
        "reply: 250",
        "send: QUIT",
    ):
        assert line in text
    assert "octets of content" in text


# --- what a message gets back -------------------------------------------------------


@pytest.mark.parametrize("chunking", [True, False])
@pytest.mark.parametrize("pipelining", [True, False])
async def test_messages_arrive_whole_over_one_session(chunking: bool, pipelining: bool) -> None:
    server = ScriptedSmtpServer(features=SmtpFeatures(chunking=chunking, pipelining=pipelining))
    content = b"Subject: dots\r\n\r\n.\r\n..\r\n.x\r\nend"
    reports = await deliver(server, "a", "b", "c", content=content)
    assert all(isinstance(reports.outcome(name), Delivered) for name in "abc")
    assert "taken as 1" in str(reports.outcome("a"))
    assert server.counts["sessions"] == 1
    assert all(message.content.endswith(content + b"\r\n") for message in server.accepted)
    assert all(message.content.startswith(b"Received: from pop.example.org") for message in server.accepted)


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (Fault(b"MAIL", reply=b"550 5.1.8 bad sender\r\n"), PermanentFailure(Scope.MESSAGE, "MAIL")),
        (Fault(b"MAIL", reply=b"451 4.3.0 later\r\n"), Deferred(Scope.MESSAGE, "MAIL")),
        (Fault(b"MAIL", reply=b"530 5.7.0 AUTH first\r\n"), Deferred(Scope.NEXT_HOP, "MAIL")),
        (Fault(b"MAIL", reply=b"421 4.3.2 bye\r\n"), Deferred(Scope.NEXT_HOP, "MAIL")),
        (Fault(b"RCPT", reply=b"550 5.1.1 unknown\r\n"), PermanentFailure(Scope.RECIPIENT, "RCPT")),
        (Fault(b"RCPT", reply=b"450 4.2.1 greylisted\r\n"), Deferred(Scope.RECIPIENT, "RCPT")),
        (Fault(b"RCPT", reply=b"554 5.7.1 relaying denied\r\n"), Deferred(Scope.RECIPIENT, "RCPT")),
        (Fault(b"RCPT", reply=b"552 5.2.2 full\r\n"), Deferred(Scope.RECIPIENT, "RCPT")),
        (Fault(b"DATA", reply=b"451 4.3.0 later\r\n"), Deferred(Scope.MESSAGE, "DATA")),
        (Fault(b"DATA", reply=b"421 4.3.0 bye\r\n"), Deferred(Scope.NEXT_HOP, "DATA")),
        (Fault(FINAL, reply=b"554 5.6.0 virus\r\n"), PermanentFailure(Scope.MESSAGE, "end of data")),
        (Fault(FINAL, reply=b"451 4.3.0 later\r\n"), Deferred(Scope.MESSAGE, "end of data")),
        (Fault(FINAL, reply=b"421 4.3.0 bye\r\n"), Deferred(Scope.NEXT_HOP, "end of data")),
        (Fault(FINAL, reply=b"452 4.3.1 disk full\r\n"), Deferred(Scope.MESSAGE, "end of data")),
    ],
)
@pytest.mark.parametrize("pipelining", [True, False])
async def test_every_stage_that_refuses_has_its_outcome(
    fault: Fault, outcome: Deferred | PermanentFailure, pipelining: bool
) -> None:
    server = ScriptedSmtpServer(fault, features=SmtpFeatures(pipelining=pipelining))
    reports = await deliver(server)
    told = reports.outcome()
    assert type(told) is type(outcome)
    assert isinstance(told, Deferred | PermanentFailure)
    assert told.scope is outcome.scope
    assert told.reason.startswith(outcome.reason)
    assert (fault.reply or b"").decode().split("\r")[0] in told.reason
    assert not server.accepted


async def test_recipients_are_settled_one_by_one() -> None:
    server = ScriptedSmtpServer(
        Fault(b"RCPT", reply=b"450 4.2.1 greylisted\r\n", argument=CYD.encode()),
        Fault(b"RCPT", reply=b"550 5.1.1 unknown\r\n", argument=b"dan@example.org"),
    )
    reports = await deliver(server, recipients=(BOB, CYD, "dan@example.org"))
    report = reports.report()
    assert report.accepted_recipients == (BOB,)
    assert report.refused_recipients == ("dan@example.org",)
    assert isinstance(report.outcome, Deferred)
    assert report.outcome.scope is Scope.RECIPIENT
    assert [message.recipients for message in server.accepted] == [(BOB.encode(),)]


async def test_settled_recipients_are_left_alone() -> None:
    server, reports = ScriptedSmtpServer(), Reports()
    async with destination_at(server, recipients=(BOB, CYD)) as hop:
        hop.submit(reports.order("one", settled=[BOB]))
        await reports.all_done()
    assert [message.recipients for message in server.accepted] == [(CYD.encode(),)]


async def test_a_message_above_the_limit_is_refused_here() -> None:
    server = ScriptedSmtpServer(features=SmtpFeatures(size_octets=300))
    reports = await deliver(server, content=b"Subject: big\r\n\r\n" + b"x" * 300)
    outcome = reports.outcome()
    assert isinstance(outcome, PermanentFailure)
    assert "its SIZE limit is 300" in outcome.reason
    assert not any(command.startswith(b"MAIL") for command in server.commands)


EIGHT_BIT = "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nпривет, мир\r\n".encode()


@pytest.mark.parametrize("offered", [True, False])
async def test_eight_bits_arrive_equal_with_and_without_8bitmime(offered: bool) -> None:
    server = ScriptedSmtpServer(features=SmtpFeatures(eightbitmime=offered))
    reports = await deliver(server, content=EIGHT_BIT)
    assert isinstance(reports.outcome(), Delivered)
    (message,) = server.accepted
    assert (b"BODY=8BITMIME" in message.mail_parameters) is offered
    assert message.content.isascii() is not offered
    assert message.content.endswith(EIGHT_BIT) is offered
    decoded = email.message_from_bytes(message.content).get_payload(decode=True)
    assert decoded == "привет, мир\r\n".encode()


@pytest.mark.parametrize("offered", [True, False])
async def test_an_international_recipient(offered: bool) -> None:
    server = ScriptedSmtpServer(features=SmtpFeatures(smtputf8=offered))
    reports = await deliver(server, recipients=("боб@example.org",))
    assert isinstance(reports.outcome(), Delivered if offered else PermanentFailure)


# --- sessions that end ----------------------------------------------------------------


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr(destination_module, "PATIENCE_SECONDS", 0.05)
    return 0.05


async def test_the_share_of_a_session() -> None:
    server = ScriptedSmtpServer()
    reports = await deliver(server, *"abcdefg", limits=SmtpLimits(messages_per_session=3))
    assert all(isinstance(reports.outcome(name), Delivered) for name in "abcdefg")
    sessions = [message.session_number for message in server.accepted]
    assert sessions == [1, 1, 1, 2, 2, 2, 3]
    assert subjects(server) == list("abcdefg")


async def test_a_stuck_message_does_not_hold_up_the_others(short_patience: float) -> None:
    server = ScriptedSmtpServer(Fault(FINAL, Delay(10 * short_patience), argument=b"Subject: slow"))
    reports = await deliver(server, "slow", *"abcdef", final_timeout_seconds=5.0)
    assert subjects(server)[0] == "slow"  # the server had it, and thought about it
    assert all(isinstance(reports.outcome(name), Delivered) for name in ("slow", *"abcdef"))
    assert server.counts["sessions"] == 2


async def test_there_are_never_more_sessions_than_allowed(short_patience: float) -> None:
    server, most = ScriptedSmtpServer(Fault(FINAL, Delay(3 * short_patience))), 0

    def count(_message: object) -> None:
        nonlocal most
        most = max(most, server.active_sessions)

    server.on_accept = count
    reports = await deliver(server, *"abcdefg", limits=SmtpLimits(max_sessions=3), final_timeout_seconds=5.0)
    assert all(isinstance(reports.outcome(name), Delivered) for name in "abcdefg")
    assert most == 3
    assert server.counts["sessions"] == 3


@pytest.mark.parametrize("farewell", [b"", b"421 4.4.2 idle too long\r\n"])
@pytest.mark.parametrize("noticed", [True, False])
async def test_a_session_that_was_closed_between_two_messages(farewell: bytes, noticed: bool) -> None:
    """The server hangs up in idleness; the next message goes over a new session, untouched."""
    server, reports = ScriptedSmtpServer(), Reports()
    async with destination_at(server) as hop:
        hop.submit(reports.order("a"))
        await reports.all_done()
        for session in list(server._sessions):
            session.send(farewell)
            session.close()
        if noticed:
            await asyncio.sleep(0.02)
        hop.submit(reports.order("b"))
        await reports.all_done()
    assert isinstance(reports.outcome("b"), Delivered)
    assert [message.session_number for message in server.accepted] == [1, 2]


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize("delivery", [Close(None), Send()])
async def test_a_421_to_a_later_mail_moves_on_to_a_new_session(
    pipelining: bool, delivery: Close | Send
) -> None:
    fault = Fault(b"MAIL", delivery, reply=b"421 4.7.0 enough for one session\r\n", nth=3)
    server = ScriptedSmtpServer(fault, features=SmtpFeatures(pipelining=pipelining))
    reports = await deliver(server, *"abcde")
    assert all(isinstance(reports.outcome(name), Delivered) for name in "abcde")
    assert sorted(subjects(server)) == list("abcde")
    assert server.counts["sessions"] == 2


@pytest.mark.parametrize("effect", [True, False])
@pytest.mark.parametrize("delivery", [Close(), Reset(), Stall(), Close(3)])
@pytest.mark.parametrize("chunking", [True, False])
async def test_only_the_message_whose_verdict_was_lost_is_in_doubt(
    effect: bool, delivery: Close | Reset | Stall, chunking: bool
) -> None:
    fault = Fault(FINAL, delivery, argument=b"Subject: c\r\n", times=1, effect=effect)
    server = ScriptedSmtpServer(fault, features=SmtpFeatures(chunking=chunking))
    reports = await deliver(server, *"abcde")
    doubtful = reports.outcome("c")
    assert isinstance(doubtful, Deferred)
    assert doubtful.in_doubt
    assert f"127.0.0.1:{server_port(doubtful.reason)}" in doubtful.reason  # and why
    assert all(isinstance(reports.outcome(name), Delivered) for name in "abde")
    assert sorted(subjects(server)) == (list("abcde") if effect else list("abde"))


def server_port(reason: str) -> str:
    return reason.rpartition("127.0.0.1:")[2].split(":")[0]


async def test_a_hop_that_lets_in_and_hangs_up_is_asked_once() -> None:
    server = ScriptedSmtpServer(Fault(b"EHLO", Close(None)))
    reports = await deliver(server, "a", "b")
    for name in "ab":
        outcome = reports.outcome(name)
        assert isinstance(outcome, Deferred)
        assert outcome.scope is Scope.NEXT_HOP
    assert server.counts["sessions"] <= 2


async def test_a_failing_login_is_the_reason_of_all() -> None:
    server = login_server(password="another")
    reports = await deliver(server, "a", "b", **LOGIN)
    assert "535 5.7.8" in str(reports.outcome("a"))
    assert reports.outcome("a") == reports.outcome("b")
    assert server.counts["sessions"] == 1


# --- draining -----------------------------------------------------------------------


@pytest.mark.parametrize("delay", [0.0, 0.001, 0.005, 0.02, 0.05, 0.15])
async def test_draining_at_any_moment_answers_every_order_once(delay: float) -> None:
    server = ScriptedSmtpServer(Fault(GREETING, Delay(0.01)), Fault(FINAL, Delay(0.02)))
    reports = Reports()
    async with destination_at(server) as hop:
        for name in "abcdef":
            hop.submit(reports.order(name))
        await asyncio.sleep(delay)
        await hop.drain()
        assert not reports.open
    delivered = [name for name in "abcdef" if isinstance(reports.outcome(name), Delivered)]
    assert subjects(server) == delivered  # nothing was broken off in the middle
    for name in set("abcdef") - set(delivered):
        assert reports.outcome(name) == Deferred(Scope.NEXT_HOP, "the daemon is stopping", attempted=False)


async def test_draining_with_a_silent_server_ends() -> None:
    server, reports = ScriptedSmtpServer(Fault(FINAL, Stall())), Reports()
    async with destination_at(server) as hop:
        hop.submit(reports.order("a"))
        await asyncio.sleep(0.05)
        await hop.drain()
        outcome = reports.outcome("a")
    assert isinstance(outcome, Deferred)
    assert outcome.in_doubt


async def test_draining_with_a_server_that_does_not_answer_quit_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailferry.net.smtp_session.QUIT_SECONDS", 0.1)
    server, reports = ScriptedSmtpServer(Fault(b"QUIT", Stall())), Reports()
    async with destination_at(server) as hop:
        hop.submit(reports.order("a"))
        await reports.all_done()
        await hop.drain()
        assert server.active_sessions <= 1
