"""Somebody in the middle takes TLS out of the dialogue: no password, no mail, and it is told (RFC 2595 s.4, RFC 3207 s.6)."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

from mailferry.errors import RemoteProtocolError
from mailferry.events import PollFailed, RoutePaused
from mailferry.net.credentials import Credentials, LoginMethod
from mailferry.net.endpoint import Endpoint, TlsMode
from mailferry.net.pop3_connector import Pop3Connector, Pop3Settings
from mailferry.net.smtp_connector import SmtpConnector, SmtpSettings
from mailferry.sandbox.maildrop import SandboxFeatures, SandboxMaildrop
from support.certificates import LocalAuthority
from support.clients import running
from support.configs import PASSWORD
from support.faults import Close, Fault, Send
from support.relay import Relay
from support.scripted_pop3 import ScriptedPop3Server
from support.scripted_smtp import ScriptedSmtpServer
from support.wiretap import Wiretap, shown

HOP_PASSWORD = "another horse 0815"
MAIL = [b"Subject: secret plans\r\n\r\nmost secret\r\n"]
HARMLESS = {b"CAPA", b"STLS", b"EHLO relay.example.org", b"HELO relay.example.org", b"STARTTLS", b"QUIT"}
SECONDS = 5.0


@pytest.fixture(scope="module")
def authority() -> LocalAuthority:
    return LocalAuthority()


@pytest.fixture
def ca_file(authority: LocalAuthority, tmp_path: Path) -> Path:
    return authority.write_ca(tmp_path / "ca")


def nothing_in_clear(heard: bytes) -> None:
    """What went over the bare link holds no secret, no name, no mail."""
    assert set(heard.split(b"\r\n")) <= HARMLESS | {b""}
    for secret in (PASSWORD, HOP_PASSWORD):
        assert shown(secret, heard) == []
    assert b"most secret" not in heard


def test_the_search_for_secrets_finds_them() -> None:
    for login in (b"PASS correct horse", b"AUTH PLAIN " + base64.b64encode(b"\0ann\0correct horse")):
        assert shown(PASSWORD, login)
        with pytest.raises(AssertionError):
            nothing_in_clear(login + b"\r\n")


def without(word: bytes) -> Callable[[bytes], bytes]:
    return lambda chunk: chunk.replace(word, b"")


def instead(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    return lambda chunk: chunk.replace(old, new)


# -- the maildrop ------------------------------------------------------------------

POP3_ATTACKS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "the capability is taken out": (without(b"STLS\r\n"), "does not offer STLS; nothing was sent"),
    "the capability is made unreadable": (instead(b"STLS", b"XXXX"), "does not offer STLS"),
    "it is written over": (instead(b"\r\nSTLS\r\n", b"\r\nIMPLEMENTATION STLS\r\n"), "does not offer STLS"),
    "the command is refused": (instead(b"+OK begin TLS", b"-ERR no TLS"), "STLS refused: -ERR no TLS"),
    "the command is unknown": (instead(b"+OK begin TLS negotiation", b"-ERR"), "STLS refused: -ERR"),
    "CAPA is refused and so is STLS": (
        lambda chunk: b"-ERR no\r\n" if b"capability list" in chunk or b"begin TLS" in chunk else chunk,
        "STLS refused: -ERR no",
    ),
}


async def poll_through(
    tmp_path: Path, ca_file: Path, server: ScriptedPop3Server, change: Callable[[bytes], bytes]
) -> tuple[Relay, Wiretap, ScriptedSmtpServer]:
    """Poll a maildrop that must use STLS, with somebody in the middle."""
    hop = ScriptedSmtpServer()
    async with running(server), running(hop), Wiretap(server.port, change).running() as tap:
        relay = Relay(tmp_path / "relay")
        relay.maildrop(tap.port, tls="starttls", tls_ca_file=ca_file, timeout="2s", connect_timeout="2s")
        relay.destination(hop.port)
        await relay.once()
    return relay, tap, hop


@pytest.mark.parametrize("attack", POP3_ATTACKS)
async def test_a_maildrop_is_not_polled_without_the_tls_that_it_must_have(
    attack: str, authority: LocalAuthority, ca_file: Path, tmp_path: Path
) -> None:
    change, words = POP3_ATTACKS[attack]
    box = SandboxMaildrop(PASSWORD, MAIL)
    server = ScriptedPop3Server({"ann": box}, tls=authority.good().server_context(tmp_path))
    relay, tap, hop = await poll_through(tmp_path, ca_file, server, change)
    nothing_in_clear(tap.heard)
    (failed,) = relay.told(PollFailed)
    assert failed.result == "tls_failed"
    assert words in failed.error
    assert (box.messages, hop.accepted, relay.rows()) == (MAIL, [], [])
    assert server.counts["logins"] + server.counts["refused"] == 0


async def test_a_maildrop_is_polled_through_a_relay_that_changes_nothing(
    authority: LocalAuthority, ca_file: Path, tmp_path: Path
) -> None:
    box = SandboxMaildrop(PASSWORD, MAIL)
    server = ScriptedPop3Server({"ann": box}, tls=authority.good().server_context(tmp_path))
    relay, tap, hop = await poll_through(tmp_path, ca_file, server, lambda chunk: chunk)
    assert tap.in_clear == b"CAPA\r\nSTLS\r\n"
    assert (box.messages, len(hop.accepted), relay.told(PollFailed)) == ([], 1, [])


async def test_a_server_that_hangs_up_at_capa_still_gets_no_password_in_clear(
    authority: LocalAuthority, ca_file: Path, tmp_path: Path
) -> None:
    """The second attempt asks for STLS without having been offered it, and insists."""
    box = SandboxMaildrop(PASSWORD, MAIL)
    script = [Fault(b"CAPA", Close()), Fault(b"STLS", reply=b"-ERR what?\r\n")]
    server = ScriptedPop3Server({"ann": box}, *script, tls=authority.good().server_context(tmp_path))
    relay, tap, _ = await poll_through(tmp_path, ca_file, server, lambda chunk: chunk)
    nothing_in_clear(tap.heard)
    assert tap.heard == b"CAPA\r\nSTLS\r\n"
    assert relay.told(PollFailed)[0].result == "tls_failed"


# -- the next hop ------------------------------------------------------------------

HOP_ATTACKS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "the capability is taken out": (without(b"250-STARTTLS\r\n"), "does not offer STARTTLS"),
    "the capability is made unreadable": (instead(b"STARTTLS", b"XXXXXXXX"), "does not offer STARTTLS"),
    "EHLO is refused": (
        lambda chunk: b"502 no\r\n" if b"PIPELINING" in chunk else chunk,
        "does not offer STARTTLS",
    ),
    "the command is unknown": (instead(b"220 2.0.0 go ahead", b"502 5.5.1 what?"), "STARTTLS: 502"),
    "the command is refused for now": (instead(b"220 2.0.0 go ahead", b"454 4.7.0 no"), "STARTTLS: 454"),
    "the command is refused for good": (instead(b"220 2.0.0 go ahead", b"554 5.7.0 no"), "STARTTLS: 554"),
    "the command is answered by a challenge": (instead(b"220 2.0.0 go ahead", b"334 "), "asks for more"),
}


@pytest.mark.parametrize("attack", HOP_ATTACKS)
async def test_a_next_hop_gets_nothing_without_the_tls_that_it_must_have(
    attack: str, authority: LocalAuthority, ca_file: Path, tmp_path: Path
) -> None:
    change, words = HOP_ATTACKS[attack]
    box = SandboxMaildrop(PASSWORD, MAIL)
    pop3 = ScriptedPop3Server({"ann": box})
    hop = ScriptedSmtpServer(
        tls=authority.good().server_context(tmp_path), credentials={"carol": HOP_PASSWORD}
    )
    async with running(pop3), running(hop), Wiretap(hop.port, change).running() as tap:
        relay = hop_relay(tmp_path, pop3.port, tap.port, ca_file)
        await relay.once()
    nothing_in_clear(tap.heard)
    (paused,) = relay.told(RoutePaused)
    assert words in paused.reason
    assert (box.messages, hop.accepted, relay.rows()) == (MAIL, [], [])


async def test_a_next_hop_gets_mail_through_a_relay_that_changes_nothing(
    authority: LocalAuthority, ca_file: Path, tmp_path: Path
) -> None:
    box = SandboxMaildrop(PASSWORD, MAIL)
    pop3 = ScriptedPop3Server({"ann": box})
    hop = ScriptedSmtpServer(
        tls=authority.good().server_context(tmp_path), credentials={"carol": HOP_PASSWORD}
    )
    async with running(pop3), running(hop), Wiretap(hop.port).running() as tap:
        await hop_relay(tmp_path, pop3.port, tap.port, ca_file).once()
    assert tap.in_clear == b"EHLO relay.example.org\r\nSTARTTLS\r\n"
    assert (box.messages, len(hop.accepted)) == ([], 1)
    assert hop.counts["EHLO"] == 2  # what it offers is asked again under TLS


def hop_relay(tmp_path: Path, pop3_port: int, hop_port: int, ca_file: Path) -> Relay:
    relay = Relay(tmp_path / "relay")
    secret = tmp_path / "hop-password"
    secret.touch(mode=0o600)
    secret.write_text(HOP_PASSWORD)
    relay.maildrop(pop3_port)
    relay.destination(
        hop_port,
        tls="starttls",
        tls_ca_file=ca_file,
        username="carol",
        password={"file": str(secret)},
        timeout="2s",
        connect_timeout="2s",
    )
    return relay


# -- octets that were put in front of TLS --------------------------------------------


def where(port: int, ca_file: Path | None = None, mode: TlsMode = TlsMode.STARTTLS) -> Endpoint:
    return Endpoint(
        "127.0.0.1", port, mode, ca_file=ca_file, connect_timeout_seconds=SECONDS, timeout_seconds=SECONDS
    )


async def open_pop3(endpoint: Endpoint, method: LoginMethod = LoginMethod.AUTO) -> None:
    credentials = Credentials("ann", lambda: PASSWORD)
    session = await Pop3Connector(Pop3Settings(endpoint, credentials, method)).open()
    await session.quit()


async def open_smtp(endpoint: Endpoint) -> None:
    settings = SmtpSettings(endpoint, "relay.example.org", Credentials("carol", lambda: HOP_PASSWORD))
    session = await SmtpConnector(settings).open()
    await session.quit()


@pytest.mark.parametrize(
    "injected", [b"+", b"+OK\r\n", b"+OK\r\n+OK logged in\r\n", b"\r\n", b"\x16\x03\x01"]
)
async def test_octets_behind_the_yes_to_stls_end_the_session(
    injected: bytes, authority: LocalAuthority, ca_file: Path, tmp_path: Path
) -> None:
    """CVE-2011-0411 and its kin: they would count as if they had come under TLS."""
    tls = authority.good().server_context(tmp_path)
    server = ScriptedPop3Server({"ann": SandboxMaildrop(PASSWORD)}, Fault(b"STLS", Send(injected)), tls=tls)
    async with running(server), Wiretap(server.port).running() as tap:
        with pytest.raises(RemoteProtocolError, match="octets between"):
            await open_pop3(where(tap.port, ca_file))
    assert tap.heard == b"CAPA\r\nSTLS\r\n"


@pytest.mark.parametrize(
    "injected", [b"2", b"250 ok\r\n", b"250-hop\r\n250 AUTH PLAIN\r\n", b"\r\n", b"\x16\x03\x01"]
)
async def test_octets_behind_the_yes_to_starttls_end_the_session(
    injected: bytes, authority: LocalAuthority, ca_file: Path, tmp_path: Path
) -> None:
    tls = authority.good().server_context(tmp_path)
    server = ScriptedSmtpServer(
        Fault(b"STARTTLS", Send(injected)), tls=tls, credentials={"carol": HOP_PASSWORD}
    )
    async with running(server), Wiretap(server.port).running() as tap:
        with pytest.raises(RemoteProtocolError, match=r"octets between|not an SMTP reply"):
            await open_smtp(where(tap.port, ca_file))
    assert tap.heard == b"EHLO relay.example.org\r\nSTARTTLS\r\n"


async def test_what_a_maildrop_said_before_tls_is_forgotten(
    authority: LocalAuthority, ca_file: Path, tmp_path: Path
) -> None:
    before = b"+OK\r\nSTLS\r\nUIDL\r\nSASL SCRAM-SHA-256 CRAM-MD5\r\nPIPELINING\r\nLOGIN-DELAY 99999\r\nEXPIRE 0\r\n.\r\n"
    server = ScriptedPop3Server(
        {"ann": SandboxMaildrop(PASSWORD)},
        Fault(b"CAPA", reply=before, nth=1),
        tls=authority.good().server_context(tmp_path),
        features=SandboxFeatures(pipelining=False),
    )
    async with running(server):
        session = await Pop3Connector(
            Pop3Settings(where(server.port, ca_file), Credentials("ann", lambda: PASSWORD))
        ).open()
        assert session.traits.login_delay_seconds is None
        assert session.traits.expire_days is None
        assert not session.traits.pipelining
        await session.quit()
    commands = [command.partition(b" ")[0] for command in server.commands]
    assert commands == [b"CAPA", b"STLS", b"CAPA", b"AUTH", b"CAPA", b"QUIT"]
    assert server.commands[3].startswith(b"AUTH PLAIN")


async def test_a_refused_capa_under_tls_does_not_bring_the_old_ones_back(
    authority: LocalAuthority, ca_file: Path, tmp_path: Path
) -> None:
    server = ScriptedPop3Server(
        {"ann": SandboxMaildrop(PASSWORD)},
        Fault(b"CAPA", reply=b"-ERR not here\r\n", nth=2),
        tls=authority.good().server_context(tmp_path),
    )
    async with running(server):
        await open_pop3(where(server.port, ca_file))
    assert [command.partition(b" ")[0] for command in server.commands] == [
        b"CAPA", b"STLS", b"CAPA", b"USER", b"PASS", b"QUIT"
    ]  # fmt: skip
