"""Logins over real TLS to scripted servers, for what no real server of the distribution has."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest

from mailferry import errors
from mailferry.errors import RefusedCommand
from mailferry.model import ListedMessage
from mailferry.net.credentials import Credentials, LoginMethod
from mailferry.net.endpoint import Endpoint, TlsMode
from mailferry.net.pop3_connector import Pop3Connector, Pop3Settings
from mailferry.net.pop3_session import Pop3Session
from mailferry.net.smtp_connector import SmtpConnector, SmtpSettings
from mailferry.net.smtp_session import SmtpSession
from mailferry.protocol.sasl_exchange import ChannelBinding
from support.certificates import LocalAuthority, ServerCertificate
from support.login_server import Kind, LoginServer
from support.raw_server import RawServer, saying

PASSWORD = "pencil"
KINDS: list[Kind] = ["pop3", "smtp"]
PLUS = ("PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS")
BOUND = [LoginMethod.SCRAM_SHA_256_PLUS, LoginMethod.SCRAM_SHA_1_PLUS]


class Peer:
    """A scripted server under TLS, and how to log in to it."""

    def __init__(self, folder: Path, kind: Kind, version: ssl.TLSVersion, *offered: str) -> None:
        self.authority = LocalAuthority()
        self.certificate = self.authority.good()
        self.tls = self.certificate.server_context(folder)
        self.tls.maximum_version = version
        self.server = LoginServer(kind, PASSWORD, "granted", *offered)
        self._folder = folder
        self._kind = kind

    async def open(
        self,
        method: LoginMethod = LoginMethod.AUTO,
        *,
        own: ServerCertificate | None = None,
        credentials: Credentials | None = None,
    ) -> Pop3Session | SmtpSession:
        certificate, key = own.write(self._folder, "own") if own else (None, None)
        who = credentials or Credentials("user", lambda: PASSWORD)
        async with self.server.running(tls=self.tls):
            endpoint = Endpoint(
                "localhost",
                self.server.port,
                TlsMode.IMPLICIT,
                ca_file=self.authority.write_ca(self._folder),
                certificate=certificate,
                certificate_key=key,
            )
            session: Pop3Session | SmtpSession
            if self._kind == "pop3":
                session = await Pop3Connector(Pop3Settings(endpoint, who, method)).open()
            else:
                session = await SmtpConnector(SmtpSettings(endpoint, "relay.example.org", who, method)).open()
            await session.quit()
            return session

    @property
    def asked_for(self) -> list[bytes]:
        return [line.split()[1] for line in self.server.lines if line.startswith(b"AUTH ")]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", [LoginMethod.AUTO, *BOUND])
async def test_with_tls_1_2_a_login_is_bound_to_the_link(
    kind: Kind, method: LoginMethod, tmp_path: Path
) -> None:
    peer = Peer(tmp_path, kind, ssl.TLSVersion.TLSv1_2, *PLUS)
    await peer.open(method)
    name = b"SCRAM-SHA-256-PLUS" if method is LoginMethod.AUTO else method.value.upper().encode()
    assert (peer.asked_for, peer.server.verdict) == ([name], "granted")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", BOUND)
async def test_with_tls_1_3_it_is_bound_to_the_certificate_when_asked_for_by_name(
    kind: Kind, method: LoginMethod, tmp_path: Path
) -> None:
    peer = Peer(tmp_path, kind, ssl.TLSVersion.TLSv1_3, *PLUS)
    # trustme signs with ECDSA and SHA-256; the fingerprint is the SHA-256 of the certificate.
    digest = bytes.fromhex(peer.certificate.fingerprint)
    peer.server.binding = ChannelBinding("tls-server-end-point", digest)
    await peer.open(method)
    assert peer.server.verdict == "granted"


@pytest.mark.skipif(
    "tls-exporter" in ssl.CHANNEL_BINDING_TYPES, reason="this Python has a binding for TLS 1.3"
)
@pytest.mark.parametrize("kind", KINDS)
async def test_with_tls_1_3_auto_makes_no_attempt_that_most_servers_refuse(
    kind: Kind, tmp_path: Path
) -> None:
    peer = Peer(tmp_path, kind, ssl.TLSVersion.TLSv1_3, *PLUS)
    await peer.open()
    assert peer.asked_for == [b"SCRAM-SHA-256"]


@pytest.mark.parametrize("kind", KINDS)
async def test_one_who_stands_in_between_gets_no_login(kind: Kind, tmp_path: Path) -> None:
    """The server sees another link than ours: the proof is worth nothing there."""
    peer = Peer(tmp_path, kind, ssl.TLSVersion.TLSv1_2, *PLUS)
    peer.server.binding = ChannelBinding("tls-unique", b"the link to him")
    with pytest.raises(errors.MailferryError) as caught:
        await peer.open()
    assert isinstance(caught.value, errors.AuthenticationRejectedError | errors.HopAuthenticationError)
    assert peer.server.verdict == "refused"
    if kind == "pop3":
        assert "channel-bindings-dont-match" in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", BOUND)
async def test_a_server_that_no_longer_offers_a_bound_form_gets_no_other(
    kind: Kind, method: LoginMethod, tmp_path: Path
) -> None:
    peer = Peer(tmp_path, kind, ssl.TLSVersion.TLSv1_2, "PLAIN", "SCRAM-SHA-256")
    with pytest.raises(
        (errors.LoginUnavailableError, errors.HopAuthenticationError), match="does not offer SCRAM"
    ):
        await peer.open(method)
    assert peer.asked_for == []


@pytest.mark.parametrize("kind", KINDS)
async def test_a_certificate_is_shown_to_a_server_that_asks_for_it(kind: Kind, tmp_path: Path) -> None:
    peer = Peer(tmp_path, kind, ssl.TLSVersion.TLSv1_3, "EXTERNAL")
    peer.tls.load_verify_locations(cadata=peer.authority.ca_pem.decode())
    peer.tls.verify_mode = ssl.CERT_REQUIRED
    who = Credentials("ann")
    with pytest.raises((errors.TransportError, errors.MaildropUnavailableError)):
        await peer.open(LoginMethod.EXTERNAL, credentials=who)
    await peer.open(LoginMethod.EXTERNAL, own=peer.authority.client("ann"), credentials=who)
    assert peer.asked_for == [b"EXTERNAL"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", [LoginMethod.OAUTHBEARER, LoginMethod.XOAUTH2, LoginMethod.AUTO])
async def test_a_token_logs_in(kind: Kind, method: LoginMethod, tmp_path: Path) -> None:
    peer = Peer(tmp_path, kind, ssl.TLSVersion.TLSv1_3, "XOAUTH2", "OAUTHBEARER", "PLAIN")
    who = Credentials("ann", token=lambda: "t" * 1500)
    await peer.open(method, credentials=who)
    name = "OAUTHBEARER" if method is LoginMethod.AUTO else method.value.upper()
    assert peer.asked_for == [name.encode()]
    # Too long for the command (RFC 5034 s.4, RFC 4954 s.4): it answers the empty challenge.
    (command,) = (line for line in peer.server.lines if line.startswith(b"AUTH "))
    assert command == b"AUTH " + name.encode()


# --- one class for each way of failing ----------------------------------------------------


def pop3(port: int, tls: TlsMode = TlsMode.NONE, method: LoginMethod = LoginMethod.USER) -> Pop3Connector:
    endpoint = Endpoint("127.0.0.1", port, tls, timeout_seconds=5)
    return Pop3Connector(
        Pop3Settings(endpoint, Credentials("ann", lambda: PASSWORD), method, allow_cleartext=True)
    )


async def failure_of(server: RawServer, tls: TlsMode = TlsMode.NONE) -> errors.MailferryError:
    async with server.running():
        with pytest.raises(errors.MailferryError) as caught:
            await pop3(server.port, tls).open()
    return caught.value


def answering(**replies: bytes) -> RawServer:
    server = saying(b"+OK hello\r\n")
    server.on_data = lambda transport, data: transport.write(
        replies.get(data.split()[0].decode(), b"+OK\r\n")
    )
    return server


async def test_connect_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(errors.ConnectError) as caught:
        await pop3(port).open()
    assert type(caught.value) is errors.ConnectRefusedError


async def test_disconnected() -> None:
    failure = await failure_of(saying(b"", then_close=True))
    assert type(failure) is errors.ConnectionLostError


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (b"-ERR no service\r\n", errors.GreetingRefusedError),
        (b"-ERR [SYS/TEMP] no service\r\n", errors.GreetingRefusedError),
        (b"-ERR [SYS/PERM] no service\r\n", errors.MaildropFaultError),
        (b"-ERR [IN-USE] no service\r\n", errors.MaildropBusyError),
        (b"-ERR [LOGIN-DELAY] no service\r\n", errors.LoginDelayedError),
    ],
)
async def test_greeting_refused(said: bytes, kind: type[errors.MaildropError]) -> None:
    failure = await failure_of(saying(said))
    assert type(failure) is kind
    assert isinstance(failure, errors.MaildropError)
    assert failure.refused is not None
    assert (failure.refused.verb, failure.refused.text) == ("", "no service")


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (b"-ERR [AUTH] no\r\n", errors.AuthenticationRejectedError),
        (b"-ERR [SYS/TEMP] no\r\n", errors.LoginUnavailableError),
        (b"-ERR [SYS/PERM] no\r\n", errors.MaildropFaultError),
        (b"-ERR [IN-USE] no\r\n", errors.MaildropBusyError),
        (b"-ERR [LOGIN-DELAY] no\r\n", errors.LoginDelayedError),
    ],
)
async def test_authentication_refused(said: bytes, kind: type[errors.MaildropError]) -> None:
    failure = await failure_of(answering(CAPA=b"-ERR\r\n", PASS=said))
    assert type(failure) is kind
    assert isinstance(failure, errors.MaildropError)
    code = said[said.index(b"[") + 1 : said.index(b"]")].decode()
    assert failure.refused == RefusedCommand("PASS", code, "no")


@pytest.mark.parametrize(
    ("capa", "stls", "refused"),
    [
        (b"+OK\r\nUSER\r\n.\r\n", b"", None),
        (b"+OK\r\nSTLS\r\n.\r\n", b"-ERR [SYS/TEMP] no\r\n", RefusedCommand("STLS", "SYS/TEMP", "no")),
    ],
)
async def test_tls_refused(capa: bytes, stls: bytes, refused: RefusedCommand | None) -> None:
    failure = await failure_of(answering(CAPA=capa, STLS=stls), TlsMode.STARTTLS)
    assert type(failure) is errors.StlsRefusedError
    assert isinstance(failure, errors.TlsError)
    assert failure.refused == refused


async def test_a_failed_handshake_is_a_tls_error_and_stands_nothing_still() -> None:
    server = answering(CAPA=b"+OK\r\nSTLS\r\n.\r\n", STLS=b"+OK\r\n")
    async with asyncio.timeout(10):
        failure = await failure_of(server, TlsMode.STARTTLS)
    assert type(failure) is errors.TlsError


async def test_an_echoed_password_is_in_no_part_of_the_error() -> None:
    server = answering(CAPA=b"-ERR\r\n", PASS=b"-ERR [AUTH] PASS " + PASSWORD.encode() + b" is wrong\r\n")
    failure = await failure_of(server)
    assert isinstance(failure, errors.AuthenticationRejectedError)
    assert failure.refused == RefusedCommand("PASS", "AUTH", "PASS *** is wrong")
    assert PASSWORD not in str(failure)


# --- UTF8 (RFC 6856) ----------------------------------------------------------------------


def utf8_server(capa: bytes) -> RawServer:
    """It hands its message out only under UTF8."""
    server = saying(b"+OK hello\r\n")
    in_utf8: set[asyncio.Transport] = set()

    def answer(transport: asyncio.Transport, data: bytes) -> None:
        for line in data.splitlines():
            if line == b"UTF8":
                in_utf8.add(transport)
            needs = b"+OK\r\nSubject: \xd0\xb4\xd0\xb0\r\n\r\n.\r\n"
            replies = {
                b"CAPA": b"+OK\r\nUSER\r\n" + capa + b".\r\n",
                b"RETR 1": needs if transport in in_utf8 else b"-ERR [UTF8] needs UTF8\r\n",
            }
            transport.write(replies.get(line, b"+OK\r\n"))

    server.on_data = answer
    return server


@pytest.mark.parametrize("offered", [True, False])
async def test_utf8_is_asked_for_once_a_message_needs_it(offered: bool) -> None:
    server = utf8_server(b"UTF8\r\n" * offered)
    got: list[bytes | None] = []
    async with server.running():
        connector = pop3(server.port)
        for _ in range(2):
            session = await connector.open()
            session.retrieve(
                ListedMessage(1, 30, None),
                lambda content, _why: got.append(None if content is None else bytes(content)),
            )
            await session.noop()
            await session.quit()
    assert got == [None, b"Subject: \xd0\xb4\xd0\xb0\r\n\r\n" if offered else None]
    lines = server.heard.split(b"\r\n")
    assert lines.count(b"UTF8") == offered
    if offered:  # before the login of the second session, and not in the first
        second = len(lines) - 1 - lines[::-1].index(b"USER ann")
        assert lines.index(b"UTF8") == second - 1
