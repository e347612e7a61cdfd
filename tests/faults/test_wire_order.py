"""Replies that come before their commands, and servers that say anything in any order: nothing is drawn out."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from mailferry.errors import MailferryError, RemoteProtocolError, TlsError
from mailferry.events import RoutePaused
from mailferry.net.credentials import Credentials, LoginMethod
from mailferry.net.endpoint import Endpoint, TlsMode
from mailferry.net.pop3_connector import Pop3Connector, Pop3Settings
from mailferry.net.smtp_connector import SmtpConnector, SmtpSettings
from mailferry.sandbox.maildrop import SandboxMaildrop
from support.clients import running
from support.configs import PASSWORD
from support.faults import GREETING, Fault, Send
from support.raw_server import RawServer
from support.relay import Relay
from support.scripted_pop3 import ScriptedPop3Server
from support.scripted_smtp import ScriptedSmtpServer
from support.wiretap import Wiretap, shown

MAIL = [b"Subject: secret plans\r\n\r\nmost secret\r\n"]
HARMLESS = {b"CAPA", b"STLS", b"EHLO relay.example.org", b"HELO relay.example.org", b"STARTTLS", b"QUIT"}
SECONDS = 1.0


def where(port: int, mode: TlsMode = TlsMode.STARTTLS, seconds: float = SECONDS) -> Endpoint:
    return Endpoint("127.0.0.1", port, mode, connect_timeout_seconds=seconds, timeout_seconds=seconds)


async def open_session(kind: str, endpoint: Endpoint) -> None:
    credentials = Credentials("ann", lambda: PASSWORD)
    if kind == "pop3":
        await (await Pop3Connector(Pop3Settings(endpoint, credentials)).open()).quit()
    else:
        settings = SmtpSettings(endpoint, "relay.example.org", credentials)
        await (await SmtpConnector(settings).open()).quit()


# -- replies that come before their commands -------------------------------------------


@pytest.mark.parametrize(
    "greeting",
    [
        b"+OK hello\r\n+OK\r\n",
        b"+OK hello\r\n+OK\r\n+OK\r\n+OK logged in\r\n",
        b"+OK hello\r\n+OK\r\nUIDL\r\n.\r\n+OK\r\n+OK\r\n",
        b"+OK hello\r\n-ERR\r\n",
    ],
)
@pytest.mark.parametrize("method", [LoginMethod.USER, LoginMethod.APOP, LoginMethod.AUTO])
async def test_pop3_replies_ahead_of_their_commands_end_the_session(
    greeting: bytes, method: LoginMethod
) -> None:
    server = ScriptedPop3Server({"ann": SandboxMaildrop(PASSWORD)}, Fault(GREETING, reply=greeting))
    async with running(server), Wiretap(server.port).running() as tap:
        endpoint = where(tap.port, TlsMode.NONE)
        credentials = Credentials("ann", lambda: PASSWORD)
        with pytest.raises(RemoteProtocolError, match="nobody asked for"):
            await Pop3Connector(Pop3Settings(endpoint, credentials, method, allow_cleartext=True)).open()
    assert tap.heard == b""


@pytest.mark.parametrize("verb", [b"CAPA", b"USER"])
async def test_a_yes_to_the_password_that_comes_before_it_gets_no_password(verb: bytes) -> None:
    early = Fault(verb, Send(b"+OK logged in\r\n"), nth=1)
    server = ScriptedPop3Server({"ann": SandboxMaildrop(PASSWORD)}, early)
    async with running(server), Wiretap(server.port).running() as tap:
        endpoint = where(tap.port, TlsMode.NONE)
        settings = Pop3Settings(
            endpoint, Credentials("ann", lambda: PASSWORD), LoginMethod.USER, allow_cleartext=True
        )
        with pytest.raises(RemoteProtocolError, match="nobody asked for"):
            await Pop3Connector(settings).open()
    assert shown(PASSWORD, tap.heard) == []


@pytest.mark.parametrize(
    "fault",
    [
        Fault(GREETING, Send(b"250 hop\r\n")),
        Fault(GREETING, Send(b"250-hop\r\n250 AUTH PLAIN LOGIN\r\n235 welcome\r\n")),
        Fault(b"EHLO", Send(b"235 2.7.0 welcome\r\n")),
        Fault(
            b"EHLO", Send(b"250 2.1.0 sender ok\r\n250 2.1.5 recipient ok\r\n354 go ahead\r\n250 taken\r\n")
        ),
    ],
)
async def test_smtp_replies_ahead_of_their_commands_end_the_session(fault: Fault, tmp_path: Path) -> None:
    """And no message counts as delivered, which was never sent."""
    box = SandboxMaildrop(PASSWORD, MAIL)
    pop3, hop = ScriptedPop3Server({"ann": box}), ScriptedSmtpServer(fault)
    async with running(pop3), running(hop):
        relay = Relay(tmp_path / "relay")
        relay.maildrop(pop3.port)
        relay.destination(hop.port)
        await relay.once()
    (paused,) = relay.told(RoutePaused)
    assert "nothing asked for" in paused.reason
    assert (box.messages, hop.accepted, relay.rows()) == (MAIL, [], [])


async def test_a_message_does_not_count_as_taken_before_its_end_was_sent(tmp_path: Path) -> None:
    box = SandboxMaildrop(PASSWORD, MAIL)
    pop3 = ScriptedPop3Server({"ann": box})
    hop = ScriptedSmtpServer(Fault(b"DATA", Send(b"250 2.0.0 taken\r\n")))
    async with running(pop3), running(hop):
        relay = Relay(tmp_path / "relay")
        relay.maildrop(pop3.port)
        relay.destination(hop.port)
        await relay.once()
    assert (box.messages, hop.accepted, relay.rows()) == (MAIL, [], [])
    assert "answered before it was sent" in relay.told(RoutePaused)[0].reason


# -- any order of events -----------------------------------------------------------------

_POP3_WORDS = (
    b"+OK\r\n", b"+OK logged in\r\n", b"-ERR\r\n", b"-ERR [AUTH] no\r\n", b"+ \r\n", b"+ bm9uY2U=\r\n",
    b"+OK\r\nSTLS\r\nUSER\r\nSASL PLAIN LOGIN CRAM-MD5 SCRAM-SHA-256\r\n.\r\n", b"+OK\r\nUSER\r\n.\r\n",
    b".\r\n", b"+O", b"K\r\n", b"+OK <1896.697170952@pop.example.org>\r\n", b"-ERR [SYS/TEMP]\r\n", b"",
)  # fmt: skip
_SMTP_WORDS = (
    b"220 hop\r\n", b"250 hop\r\n", b"250-hop\r\n250-AUTH PLAIN LOGIN\r\n250 STARTTLS\r\n", b"334 \r\n",
    b"250-hop\r\n250 AUTH PLAIN LOGIN CRAM-MD5\r\n", b"235 welcome\r\n", b"454 no\r\n", b"502 no\r\n",
    b"500 no\r\n", b"354 go\r\n", b"421 bye\r\n", b"334 VXNlcm5hbWU6\r\n", b"250-", b"220 ", b"",
)  # fmt: skip

_USUAL = {
    b"GREETING\r\n": (b"+OK hello\r\n", b"220 hop\r\n"),
    b"CAPA\r\n": (b"+OK\r\nSTLS\r\nUSER\r\n.\r\n", b""),
    b"STLS\r\n": (b"+OK go\r\n", b""),
    b"EHLO relay.example.org\r\n": (b"", b"250-hop\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n"),
    b"STARTTLS\r\n": (b"", b"220 go\r\n"),
}


@pytest.mark.parametrize("kind", ["pop3", "smtp"])
@pytest.mark.parametrize("seed", range(8))
async def test_no_order_of_words_draws_a_secret_out_before_tls(kind: str, seed: int) -> None:
    """A server that says anything at any time, but never speaks TLS, hears nothing worth hearing."""
    chance = random.Random(f"{kind} {seed}")
    words = _POP3_WORDS if kind == "pop3" else _SMTP_WORDS
    server = RawServer()

    def say(transport: asyncio.Transport, data: bytes = b"GREETING\r\n") -> None:
        usual = _USUAL.get(data)
        if usual is not None and chance.random() < 0.6:
            transport.write(usual[kind == "smtp"])
        else:
            transport.write(b"".join(chance.choices(words, k=chance.choice((1, 1, 1, 2)))))
        if chance.random() < 0.05:
            transport.close()

    server.on_open = say
    server.on_data = say
    sessions = 60
    async with server.running():
        endpoint = where(server.port, seconds=0.05)
        for _ in range(sessions):
            with pytest.raises(MailferryError):
                await open_session(kind, endpoint)
    heard, hello = server.heard, 0
    while (start := heard.find(b"\x16\x03")) >= 0:  # TLS records: what is in them is not in clear
        hello += 1
        length = int.from_bytes(heard[start + 3 : start + 5], "big")
        heard = heard[:start] + heard[start + 5 + length :]
    assert hello, "no dialogue came as far as the handshake"
    assert set(heard.split(b"\r\n")) <= HARMLESS | {b""}
    assert shown(PASSWORD, heard) == []


@pytest.mark.parametrize("kind", ["pop3", "smtp"])
async def test_a_name_and_a_secret_that_fail_tls_are_not_read_at_all(kind: str) -> None:
    """The secret is fetched only once the link is protected: a command for it may cost a person a touch."""
    read: list[str] = []

    def secret() -> str:
        read.append("read")
        return PASSWORD

    server = RawServer()
    server.on_open = lambda transport: transport.write(b"+OK\r\n" if kind == "pop3" else b"220 hop\r\n")
    server.on_data = lambda transport, data: transport.write(
        {b"CAPA\r\n": b"+OK\r\nUSER\r\n.\r\n"}.get(data, b"250 hop\r\n")
    )
    async with server.running():
        endpoint = where(server.port)
        credentials = Credentials("ann", secret)
        pop3 = Pop3Connector(Pop3Settings(endpoint, credentials))
        smtp = SmtpConnector(SmtpSettings(endpoint, "relay.example.org", credentials))
        with pytest.raises(TlsError, match="does not offer"):
            await (pop3 if kind == "pop3" else smtp).open()
    assert read == []
