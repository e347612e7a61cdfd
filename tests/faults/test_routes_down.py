"""A next hop that takes no mail at all, in every way that there is: the route pauses, no message is touched.

Each case runs the program three times on one ledger: with the fault, again while the
pause lasts, and after it, mended.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mailferry.events import (
    MessageDeferred,
    MessageEvent,
    MessageRelayed,
    PollFailed,
    RouteAuthRejected,
    RoutePaused,
    RouteProbeFailed,
    RouteResumed,
)
from mailferry.model import MessageState, StandingKind
from mailferry.policy.backoff import ROUTE_AUTH_BACKOFF, ROUTE_BACKOFF
from mailferry.sandbox.maildrop import SandboxMaildrop
from support.certificates import LocalAuthority, self_signed
from support.clients import running
from support.configs import PASSWORD, Value
from support.faults import GREETING, Close, Endless, Fault, Reset, Send, Stall
from support.relay import Relay
from support.scripted_pop3 import ScriptedPop3Server
from support.scripted_smtp import AUTH_RESPONSE, FINAL, ScriptedSmtpServer, SmtpFeatures

MAIL = [b"Subject: %d\r\n\r\nbody of %d\r\n" % (number, number) for number in range(1, 6)]
HOP = StandingKind.DESTINATION


@dataclass(frozen=True)
class Case:
    """A way to be down.

    Attributes:
        faults: of the next hop.
        words: stand in the reason.
        settings: of the destination.
        mended: its settings afterwards, where it is not the server that is mended.
        credentials: whether it is our login that is refused.
    """

    faults: tuple[Fault, ...] = ()
    words: str = ""
    settings: dict[str, Value] = field(default_factory=dict)
    mended: dict[str, Value] = field(default_factory=dict)
    credentials: bool = False


def at(verb: bytes, reply: bytes, *, credentials: bool = False) -> Case:
    """A reply that takes the whole route out."""
    log_in: dict[str, Value] = {"username": "carol", "auth": "plain"} if verb == b"AUTH" else {}
    words = reply.decode().replace("\r\n", "")
    return Case((Fault(verb, reply=reply),), words, log_in, credentials=credentials)


def broken(verb: bytes, *deliveries: Close | Reset | Stall | Endless | Send, words: str = "") -> Case:
    """A session that breaks at a command."""
    return Case(tuple(Fault(verb, delivery, effect=False) for delivery in deliveries), words)


CASES: dict[str, Case] = {
    "nobody listens": Case(words="Nothing listens there", settings={"port": 9}),
    "no such name": Case(
        words="cannot connect", settings={"host": "no-such-host.invalid", "allow_cleartext": True}
    ),
    "no route to it": Case(words="cannot connect", settings={"source_address": "192.0.2.1"}),
    "greeting: silence": broken(GREETING, Stall(), words="while waiting for the greeting"),
    "greeting: half a line, then silence": broken(GREETING, Stall(7), words="while waiting for the greeting"),
    "greeting: reset": broken(GREETING, Reset(), words="connection lost"),
    "greeting: hangs up": broken(GREETING, Close(), words="connection lost"),
    "greeting: endless": broken(GREETING, Endless(b"220-more\r\n"), words="a reply of more than"),
    "greeting: 421": at(GREETING, b"421 4.3.2 going down\r\n"),
    "greeting: 450": at(GREETING, b"450 4.7.1 later\r\n"),
    "greeting: 521": at(GREETING, b"521 5.3.2 takes no mail\r\n"),
    "greeting: 554": at(GREETING, b"554 5.7.1 listed somewhere\r\n"),
    "greeting: 354": Case((Fault(GREETING, reply=b"354 go\r\n"),), "a greeting that is no greeting"),
    "greeting: garbage": Case((Fault(GREETING, reply=b"hello\r\n"),), "not an SMTP reply"),
    "greeting: ssh": Case((Fault(GREETING, reply=b"SSH-2.0-OpenSSH_9.2\r\n"),), "not an SMTP reply"),
    "greeting: http": Case((Fault(GREETING, reply=b"HTTP/1.1 400 Bad Request\r\n"),), "not an SMTP reply"),
    "EHLO: 421": at(b"EHLO", b"421 4.3.2 not now\r\n"),
    "EHLO: 450": at(b"EHLO", b"450 4.3.2 not now\r\n"),
    "EHLO and HELO: 550": Case(
        (Fault(b"EHLO", reply=b"550 who\r\n"), Fault(b"HELO", reply=b"550 are you\r\n")), "550 are you"
    ),
    "EHLO: hangs up": broken(b"EHLO", Close(), words="connection lost while waiting for the reply to EHLO"),
    "MAIL: 421": at(b"MAIL", b"421 4.7.0 enough\r\n"),
    "MAIL: 454": at(b"MAIL", b"454 4.7.0 TLS not available\r\n"),
    "MAIL: 530": at(b"MAIL", b"530 5.7.0 authentication required\r\n"),
    "MAIL: 535": at(b"MAIL", b"535 5.7.8 log in\r\n"),
    "MAIL: 550 5.7.30": at(b"MAIL", b"550 5.7.30 basic authentication is off\r\n"),
    "MAIL: 521": at(b"MAIL", b"521 5.3.2 takes no mail\r\n"),
    "MAIL: hangs up": broken(b"MAIL", Close(), words="connection lost"),
    "MAIL: silence": broken(b"MAIL", Stall(), words="while waiting for the reply to MAIL"),
    "RCPT: 421": at(b"RCPT", b"421 4.7.0 enough\r\n"),
    "RCPT: reset": broken(b"RCPT", Reset(), words="connection lost"),
    "DATA: 421": at(b"DATA", b"421 4.7.0 enough\r\n"),
    "DATA: hangs up": broken(b"DATA", Close(), words="connection lost"),
    "AUTH: 432": at(b"AUTH", b"432 4.7.12 a password transition is needed\r\n", credentials=True),
    "AUTH: 454": at(b"AUTH", b"454 4.7.0 temporary failure\r\n"),
    "AUTH: 530": at(b"AUTH", b"530 5.7.0 no\r\n", credentials=True),
    "AUTH: 534": at(b"AUTH", b"534 5.7.9 application-specific password required\r\n", credentials=True),
    "AUTH: 535": at(b"AUTH", b"535 5.7.8 no\r\n", credentials=True),
    "AUTH: 538": at(b"AUTH", b"538 5.7.11 encryption required\r\n", credentials=True),
    "AUTH: 550 5.7.30": at(b"AUTH", b"550 5.7.30 basic authentication is off\r\n", credentials=True),
    "AUTH: 421": at(b"AUTH", b"421 4.7.0 too many login attempts\r\n"),
    "AUTH: hangs up": Case(
        (Fault(b"AUTH", Close(), effect=False),), "connection lost", {"username": "carol", "auth": "plain"}
    ),
    "AUTH, in its second step: 535": Case(
        (Fault(AUTH_RESPONSE, reply=b"535 5.7.8 no\r\n"),),
        "535 5.7.8 no",
        {"username": "carol", "auth": "cram-md5"},
        credentials=True,
    ),
}


def relay_to(tmp_path: Path, pop3_port: int, hop_port: int, case: Case) -> Relay:
    relay = Relay(tmp_path)
    relay.maildrop(pop3_port)
    settings: dict[str, Value] = {
        "timeout": "0.4s",
        "connect_timeout": "1s",
        "chunking": False,
        **case.settings,
    }
    if "username" in settings:
        settings["password"] = {"file": str(relay.folder.secret)}
    relay.destination(hop_port)
    relay.tables["destination.hop"] = {**relay.tables["destination.hop"], **settings}
    return relay


def untouched(relay: Relay, box: SandboxMaildrop) -> None:
    """No message was blamed, nothing was lost."""
    assert box.messages == MAIL
    assert relay.rows() == []
    assert relay.told(MessageEvent) == relay.told(MessageDeferred) == []
    assert relay.told(PollFailed) == []


@pytest.mark.parametrize("name", CASES)
async def test_the_route_pauses_and_the_messages_wait(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    box = SandboxMaildrop(PASSWORD, MAIL)
    pop3, hop = ScriptedPop3Server({"ann": box}), make_hop(case)
    async with running(pop3), running(hop):
        relay = relay_to(tmp_path, pop3.port, hop.port, case)

        await relay.once()
        (paused,) = relay.told(RoutePaused)
        assert (paused.destination, paused.failures) == ("hop", 1)
        assert case.words in paused.reason
        assert len(relay.told(RouteAuthRejected)) == case.credentials
        # Nor does it go on with what was fetched before the fault was known, but for a message
        # whose envelope was on its way behind the one that failed.
        assert hop.counts["sessions"] <= 2
        untouched(relay, box)
        standing = relay.standing(HOP, "hop")
        first = (ROUTE_AUTH_BACKOFF if case.credentials else ROUTE_BACKOFF).first_seconds
        assert 0.75 * first <= standing.not_before - (standing.last_error_at or 0) <= 1.25 * first

        # Restarted while the pause lasts: told once more, since this process had not told it.
        fetched, sessions = pop3.counts["retr"], hop.counts["sessions"]
        await relay.once()
        assert (pop3.counts["retr"], hop.counts["sessions"]) == (fetched, sessions)
        assert [event.failures for event in relay.told(RoutePaused)] == [1, 1]
        untouched(relay, box)

        hop.faults.clear()
        sound = {key: value for key, value in case.settings.items() if key in {"username", "auth"}}
        relay = with_history(relay, relay_to(tmp_path / "mended", pop3.port, hop.port, Case(settings=sound)))
        await relay.end_pause(HOP, "hop")
        await relay.once()
    assert box.messages == []
    assert sorted(message.content.partition(b"Subject")[2] for message in hop.accepted) == sorted(
        mail.partition(b"Subject")[2] for mail in MAIL
    )
    assert [(event.destination, event.failures) for event in relay.told(RouteResumed)] == [("hop", 1)]
    assert [event.attempt for event in relay.told(MessageRelayed)] == [1] * len(MAIL)
    assert {known.message.state for known in relay.rows()} == {MessageState.GONE}


async def test_a_421_to_the_content_counts_for_that_message_only(tmp_path: Path) -> None:
    """It blames the next hop, but it may be the message, which must not go first for ever."""
    case = at(FINAL, b"421 4.7.0 enough\r\n")
    box = SandboxMaildrop(PASSWORD, MAIL)
    pop3, hop = ScriptedPop3Server({"ann": box}), make_hop(case)
    async with running(pop3), running(hop):
        relay = relay_to(tmp_path, pop3.port, hop.port, case)
        await relay.once()
        (paused,) = relay.told(RoutePaused)
        assert case.words in paused.reason
        # One more may have been told so: its envelope was on its way behind the first.
        blamed = relay.rows()
        assert 1 <= len(blamed) <= 2 < len(MAIL)
        assert {known.message.state for known in blamed} == {MessageState.DEFERRED}
        assert [d.attempts for known in blamed for d in known.deliveries] == [1] * len(blamed)

        hop.faults.clear()
        await relay.end_pause(HOP, "hop")
        await relay.once()
    assert len(box.messages) == len(blamed), "their own pause is not over yet; the others are through"
    assert len(hop.accepted) == len(MAIL) - len(blamed)


def make_hop(case: Case) -> ScriptedSmtpServer:
    credentials = {"carol": PASSWORD} if "username" in case.settings else None
    return ScriptedSmtpServer(*case.faults, credentials=credentials)


def with_history(before: Relay, after: Relay) -> Relay:
    """The same program with other settings: its state and what it said so far go along."""
    before.tables = after.tables
    return before


async def test_a_probe_that_fails_costs_one_message_and_one_line(tmp_path: Path) -> None:
    """And no line says `paused` again: nothing has changed."""
    box = SandboxMaildrop(PASSWORD, MAIL)
    pop3, hop = ScriptedPop3Server({"ann": box}), ScriptedSmtpServer(Fault(GREETING, reply=b"421 no\r\n"))
    async with running(pop3), running(hop):
        relay = relay_to(tmp_path, pop3.port, hop.port, Case())
        await relay.once()
        for probe in (2, 3):
            await relay.end_pause(HOP, "hop")
            fetched, sessions = pop3.counts["retr"], hop.counts["sessions"]
            await relay.once()
            assert (pop3.counts["retr"], hop.counts["sessions"]) == (fetched + 1, sessions + 1)
            assert relay.standing(HOP, "hop").consecutive_failures == probe
            untouched(relay, box)


@pytest.mark.parametrize("greeting_only", [True, False])
async def test_a_hop_that_knows_no_ehlo_gets_its_mail_by_helo(greeting_only: bool, tmp_path: Path) -> None:
    box = SandboxMaildrop(PASSWORD, MAIL)
    pop3, hop = ScriptedPop3Server({"ann": box}), ScriptedSmtpServer(features=SmtpFeatures(ehlo=False))
    if not greeting_only:
        hop.faults.add(Fault(b"EHLO", reply=b"502 5.5.1 never heard of it\r\n"))
    async with running(pop3), running(hop):
        relay = relay_to(tmp_path, pop3.port, hop.port, Case())
        await relay.once()
    assert (len(hop.accepted), box.messages, hop.violations) == (len(MAIL), [], [])
    assert relay.told(RoutePaused) == []


@pytest.mark.parametrize("fault", ["unknown authority", "not offered", "refused"])
async def test_a_fault_of_tls_pauses_the_route(fault: str, tmp_path: Path) -> None:
    authority = LocalAuthority()
    contexts: dict[str, ssl.SSLContext | None] = {
        "unknown authority": self_signed().server_context(tmp_path / "keys"),
        "not offered": None,
        "refused": authority.good().server_context(tmp_path / "keys"),
    }
    faults = [Fault(b"STARTTLS", reply=b"454 4.7.0 TLS not available\r\n")] if fault == "refused" else []
    box = SandboxMaildrop(PASSWORD, MAIL)
    pop3, hop = ScriptedPop3Server({"ann": box}), ScriptedSmtpServer(*faults, tls=contexts[fault])
    async with running(pop3), running(hop):
        tls: dict[str, Value] = {"tls": "starttls", "tls_ca_file": authority.write_ca(tmp_path / "ca")}
        relay = relay_to(tmp_path / "relay", pop3.port, hop.port, Case(settings=tls))
        await relay.once()
        await relay.once()
    assert len(relay.told(RoutePaused)) == 2  # once in each process
    assert relay.told(RouteProbeFailed) == []
    assert hop.counts["sessions"] == 1
    untouched(relay, box)
