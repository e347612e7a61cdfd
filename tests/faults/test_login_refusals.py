"""A login that is refused, over real sockets: what each reply means, and that one refusal is one attempt.

RFC 2449 s.8.1 defines IN-USE and LOGIN-DELAY, RFC 3206 SYS/TEMP, SYS/PERM and AUTH.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from mailferry.config.logins import MaildropAuth
from mailferry.events import (
    MaildropAuthRejected,
    MaildropFaultReported,
    MaildropRecovered,
    PollFailed,
    PollFinished,
)
from mailferry.model import StandingKind
from mailferry.policy.backoff import AUTH_BACKOFF, BUSY_BACKOFF, FAULT_BACKOFF, MAILDROP_BACKOFF, Backoff
from mailferry.sandbox.maildrop import SandboxFeatures, SandboxMaildrop
from support.clients import running
from support.configs import PASSWORD
from support.daemon import DaemonProcess
from support.faults import GREETING, Close, Fault
from support.relay import Relay, until
from support.scripted_pop3 import ScriptedPop3Server
from support.scripted_smtp import ScriptedSmtpServer

MAIL = [b"Subject: %d\r\n\r\nbody\r\n" % number for number in range(3)]
ANN = StandingKind.MAILDROP


@dataclass(frozen=True)
class Meaning:
    """What a refusal is called, how long it keeps the maildrop quiet, and who is told."""

    result: str
    backoff: Backoff | None
    event: type[MaildropAuthRejected | MaildropFaultReported] | None = None


AUTH = Meaning("auth_rejected", AUTH_BACKOFF, MaildropAuthRejected)
BUSY = Meaning("busy", BUSY_BACKOFF)
DELAYED = Meaning("login_delayed", None)
TEMPORARY = Meaning("unavailable", MAILDROP_BACKOFF)
PERMANENT = Meaning("server_fault", FAULT_BACKOFF, MaildropFaultReported)

CODES = {
    b"[AUTH] no": AUTH,
    b"[IN-USE] no": BUSY,
    b"[LOGIN-DELAY] no": DELAYED,
    b"[SYS/TEMP] no": TEMPORARY,
    b"[SYS/PERM] no": PERMANENT,
    b"[SYS/PERM] Your account is not enabled for POP access": PERMANENT,
    b"[sys/perm] no": PERMANENT,
    b"[X/UNKNOWN] no": None,
    b"no": None,
    b"": None,
    b"maildrop already locked": BUSY,
    b"[AUTH] maildrop already locked": AUTH,
    b"[IN-USE] wrong password": BUSY,
    b"Too many failed logins, mailbox locked": AUTH,
}
"""None: by AUTH-RESP-CODE alone (RFC 3206 s.6)."""

WAYS: dict[str, tuple[MaildropAuth, bytes]] = {
    "USER": ("user", b"USER"),
    "PASS": ("user", b"PASS"),
    "APOP": ("apop", b"APOP"),
    "AUTH with its first octets": ("plain", b"AUTH"),
    "AUTH in its last step": ("cram-md5", b"SASL-RESPONSE"),
    "whatever auto takes": ("auto", b"SASL-RESPONSE"),
}


def login_commands(server: ScriptedPop3Server) -> list[bytes]:
    words = (command.partition(b" ")[0] for command in server.commands)
    return [word for word in words if word in {b"PASS", b"APOP", b"AUTH"}]


async def poll(tmp_path: Path, server: ScriptedPop3Server, way: MaildropAuth) -> Relay:
    hop = ScriptedSmtpServer()
    async with running(server), running(hop):
        relay = Relay(tmp_path)
        relay.maildrop(server.port, auth=way)
        relay.destination(hop.port)
        await relay.once()
    assert hop.accepted == []
    return relay


@pytest.mark.parametrize("codes", [True, False], ids=["AUTH-RESP-CODE", "plain"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("text", CODES)
async def test_a_refusal_means_what_its_code_says(text: bytes, way: str, codes: bool, tmp_path: Path) -> None:
    method, verb = WAYS[way]
    box = SandboxMaildrop(PASSWORD, MAIL)
    fault = Fault(verb, reply=b"-ERR " + text + b"\r\n")
    server = ScriptedPop3Server({"ann": box}, fault, features=SandboxFeatures(resp_codes=codes))
    relay = await poll(tmp_path, server, method)

    meaning = CODES[text] or (TEMPORARY if codes else AUTH)
    if text.startswith(b"Too many failed") and codes:
        meaning = TEMPORARY  # such a server says [AUTH] when it means the password
    (failed,) = relay.told(PollFailed)
    assert (failed.result, failed.failures) == (meaning.result, 1)
    assert relay.told(PollFinished)[0].result == meaning.result
    assert text.decode().partition("]")[2] in failed.error
    told = [*relay.told(MaildropAuthRejected), *relay.told(MaildropFaultReported)]
    assert [type(event) for event in told] == ([meaning.event] if meaning.event else [])
    assert all(event.level == "error" for event in told)
    standing = relay.standing(ANN, "ann")
    pause = standing.not_before - (standing.last_error_at or 0)
    low, high = (
        (600.0, 600.0)
        if meaning.backoff is None
        else (0.75 * meaning.backoff.first_seconds, 1.25 * meaning.backoff.first_seconds)
    )
    assert low <= pause <= high
    assert len(login_commands(server)) <= 1, "no second mechanism after a refusal"
    assert server.counts["sessions"] == 1
    assert box.messages == MAIL


@pytest.mark.parametrize(
    "told",
    [b"LOGIN-DELAY 1200", b"LOGIN-DELAY 1200 USER", b"LOGIN-DELAY 99999999999", b"LOGIN-DELAY 9999999999"],
)
async def test_a_login_delay_is_as_long_as_capa_says_within_reason(told: bytes, tmp_path: Path) -> None:
    capabilities = b"+OK\r\nUSER\r\nUIDL\r\nRESP-CODES\r\n" + told + b"\r\n.\r\n"
    faults = [Fault(b"CAPA", reply=capabilities), Fault(b"PASS", reply=b"-ERR [LOGIN-DELAY] no\r\n")]
    server = ScriptedPop3Server({"ann": SandboxMaildrop(PASSWORD, MAIL)}, *faults)
    relay = await poll(tmp_path, server, "user")
    standing = relay.standing(ANN, "ann")
    seconds = {b"1200": 1200.0, b"9999999999": 86_400.0, b"99999999999": 600.0}[told.split()[1]]
    assert standing.not_before - (standing.last_error_at or 0) == pytest.approx(seconds)


@pytest.mark.parametrize("verb", [GREETING, b"PASS", b"AUTH"])
async def test_a_server_that_hangs_up_instead_of_an_answer_is_no_wrong_password(
    verb: bytes, tmp_path: Path
) -> None:
    way: MaildropAuth = "plain" if verb == b"AUTH" else "user"
    server = ScriptedPop3Server({"ann": SandboxMaildrop(PASSWORD, MAIL)}, Fault(verb, Close(), effect=False))
    relay = await poll(tmp_path, server, way)
    assert relay.told(PollFailed)[0].result == "connection_lost"
    assert relay.told(MaildropAuthRejected) == []
    assert len(login_commands(server)) <= 1


@pytest.mark.parametrize("code", [b"[AUTH]", b"[IN-USE]", b"[LOGIN-DELAY]", b"[SYS/TEMP]", b"[SYS/PERM]"])
async def test_a_restart_does_not_ask_again_before_its_time(code: bytes, tmp_path: Path) -> None:
    """The program is stopped and started; the pause of the last run still holds."""
    fault = Fault(b"PASS", reply=b"-ERR " + code + b" no\r\n")
    server = ScriptedPop3Server({"ann": SandboxMaildrop(PASSWORD, MAIL)}, fault)
    hop = ScriptedSmtpServer()
    async with running(server), running(hop):
        relay = Relay(tmp_path)
        relay.maildrop(server.port, auth="user", every="1s", jitter="0s")
        relay.destination(hop.port)
        for _ in range(3):
            async with relay.running():
                await until(lambda: server.counts["sessions"], "the first attempt")
                await asyncio.sleep(1.2)
    assert server.counts["sessions"] == 1
    assert len(relay.told(PollFailed)) == 1


async def test_the_program_recovers_when_the_password_is_mended(tmp_path: Path) -> None:
    """No restart, no waiting for the end of the pause: the file is written, the next turn tries it."""
    box = SandboxMaildrop("the new one", MAIL)
    server, hop = ScriptedPop3Server({"ann": box}), ScriptedSmtpServer()
    async with running(server), running(hop):
        relay = Relay(tmp_path)
        relay.maildrop(server.port, auth="user", every="1s", jitter="0s")
        relay.destination(hop.port)
        async with relay.running():
            await until(lambda: relay.told(MaildropAuthRejected), "a refusal")
            await asyncio.sleep(2.2)
            assert server.counts["refused"] == 1
            relay.folder.secret.write_text("still wrong\n")
            await until(lambda: server.counts["refused"] == 2, "the second refusal")
            await asyncio.sleep(2.2)
            assert server.counts["refused"] == 2, "one try for each time that it is written"
            relay.folder.secret.write_text("the new one\n")
            await until(lambda: len(hop.accepted) == len(MAIL), "the mail")
        assert [event.failures for event in relay.told(MaildropAuthRejected)] == [1, 2]
        assert [event.failures for event in relay.told(MaildropRecovered)] == [2]
    assert box.messages == []


async def test_a_file_that_was_written_before_the_refusal_is_no_news(tmp_path: Path) -> None:
    server, hop = ScriptedPop3Server({"ann": SandboxMaildrop("another", MAIL)}), ScriptedSmtpServer()
    async with running(server), running(hop):
        relay = Relay(tmp_path)
        relay.maildrop(server.port, auth="user", every="1s", jitter="0s")
        relay.destination(hop.port)
        async with relay.running():
            await until(lambda: relay.told(MaildropAuthRejected), "a refusal")
            for moment in (time.time() - 3600, time.time() + 3600):
                os.utime(relay.folder.secret, (moment, moment))
                await asyncio.sleep(1.2)
    assert server.counts["refused"] == 1


def test_the_real_program_is_restarted_and_does_not_hammer(tmp_path: Path) -> None:
    async def work() -> None:
        box = SandboxMaildrop("the new one", MAIL)
        server, hop = ScriptedPop3Server({"ann": box}), ScriptedSmtpServer()
        async with running(server), running(hop):
            relay = Relay(tmp_path)
            relay.maildrop(server.port, auth="user", every="1s", jitter="0s")
            relay.destination(hop.port)
            config = relay.config()
            await asyncio.to_thread(lives, config, server)
            assert server.counts["refused"] == 1
            relay.folder.secret.write_text("the new one\n")
            await asyncio.to_thread(last_life, config, hop)
        assert box.messages == []

    def lives(config: Path, server: ScriptedPop3Server) -> None:
        for life in range(3):
            with DaemonProcess(config) as program:
                program.wait_for(lambda: bool(program.named("daemon.started")), "start")
                program.wait_for(lambda: server.counts["refused"] > 0, "refusal")
                time.sleep(1.5)
                assert program.stop() == 0
                assert len(program.named("maildrop.auth_rejected")) == (1 if life == 0 else 0)

    def last_life(config: Path, hop: ScriptedSmtpServer) -> None:
        with DaemonProcess(config) as program:
            program.wait_for(lambda: len(hop.accepted) == len(MAIL), "mail")
            assert program.stop() == 0

    asyncio.run(work())
