"""TLS over real sockets: what is refused, what is said about it, and that no password was sent."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from mailferry.errors import (
    CleartextRefusedError,
    ConnectionLostError,
    HopAuthenticationError,
    MailferryError,
    ReadTimeoutError,
    RemoteProtocolError,
    TlsError,
)
from mailferry.net.credentials import Credentials
from mailferry.net.endpoint import Endpoint, TlsMode
from mailferry.net.pop3_connector import Pop3Connector, Pop3Settings
from mailferry.net.smtp_connector import SmtpConnector, SmtpSettings
from mailferry.sandbox.maildrop import SandboxFeatures, SandboxMaildrop
from support.certificates import LocalAuthority, ServerCertificate, self_signed
from support.clients import running
from support.faults import Close, Fault, Send
from support.raw_server import RawServer, saying
from support.scripted_pop3 import ScriptedPop3Server
from support.scripted_smtp import ScriptedSmtpServer

PASSWORD = "correct-horse-4711"
SILENCE_SECONDS = 0.6
"""How long tests wait in which nothing comes; what is to succeed has far longer."""
MODES = [TlsMode.IMPLICIT, TlsMode.STARTTLS]
BOTH = ["pop3", "smtp"]

Server = ScriptedPop3Server | ScriptedSmtpServer


@pytest.fixture(scope="module")
def authority() -> LocalAuthority:
    return LocalAuthority()


@pytest.fixture
def ca_file(authority: LocalAuthority, tmp_path: Path) -> Path:
    return authority.write_ca(tmp_path / "ca")


def make_server(kind: str, tls: ssl.SSLContext | None, mode: TlsMode, *faults: Fault) -> Server:
    implicit = mode is TlsMode.IMPLICIT
    if kind == "pop3":
        boxes = {"ann": SandboxMaildrop(PASSWORD, [b"Subject: hello\r\n\r\nhello\r\n"])}
        return ScriptedPop3Server(boxes, *faults, tls=tls, implicit_tls=implicit)
    return ScriptedSmtpServer(*faults, tls=tls, implicit_tls=implicit, credentials={"ann": PASSWORD})


def endpoint(
    port: int,
    mode: TlsMode,
    ca_file: Path | None = None,
    pin: str | None = None,
    timeout_seconds: float = 10.0,
) -> Endpoint:
    return Endpoint(
        "127.0.0.1",
        port,
        mode,
        ca_file=ca_file,
        fingerprint=pin,
        connect_timeout_seconds=timeout_seconds,
        timeout_seconds=timeout_seconds,
    )


async def log_in(kind: str, where: Endpoint) -> bool:
    """Open a session and end it; return whether it was protected."""
    credentials = Credentials("ann", lambda: PASSWORD)
    if kind == "pop3":
        session = await Pop3Connector(Pop3Settings(where, credentials)).open()
        await session.quit()
        return session.traits.protected
    hop = await SmtpConnector(SmtpSettings(where, "relay.example.org", credentials)).open()
    await hop.quit()
    return hop.link.protected


def nothing_secret_was_sent(server: Server) -> bool:
    harmless = {b"CAPA", b"STLS", b"EHLO relay.example.org", b"STARTTLS", b"QUIT"}
    return set(server.commands) <= harmless


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("mode", MODES)
async def test_a_good_certificate(
    kind: str, mode: TlsMode, authority: LocalAuthority, ca_file: Path, tmp_path: Path
) -> None:
    server = make_server(kind, authority.good().server_context(tmp_path), mode)
    async with running(server):
        assert await log_in(kind, endpoint(server.port, mode, ca_file))
    assert not nothing_secret_was_sent(server)


WRONG: dict[str, tuple[Callable[[LocalAuthority], ServerCertificate], str]] = {
    "unknown authority": (
        lambda _known: LocalAuthority().good(),
        "tls_ca_file or pin it with tls_fingerprint",
    ),
    "self-signed": (lambda _known: self_signed(), "tls_ca_file or pin it with tls_fingerprint"),
    "expired": (LocalAuthority.expired, "It has expired: ask the server's operator"),
    "wrong host": (LocalAuthority.wrong_host, "Use the name that the certificate is for as host"),
}


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("wrong", WRONG)
async def test_a_wrong_certificate_is_refused_before_anything_is_sent(
    kind: str, mode: TlsMode, wrong: str, authority: LocalAuthority, ca_file: Path, tmp_path: Path
) -> None:
    issue, advice = WRONG[wrong]
    server = make_server(kind, issue(authority).server_context(tmp_path), mode)
    async with running(server):
        with pytest.raises(TlsError) as caught:
            await log_in(kind, endpoint(server.port, mode, ca_file))
        gc.collect()  # an unclosed transport would warn
        text = str(caught.value)
        assert text.startswith(f"127.0.0.1:{server.port}: certificate refused: ")
    assert advice in text
    assert nothing_secret_was_sent(server)


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("mode", MODES)
async def test_the_pinned_certificate_is_enough(kind: str, mode: TlsMode, tmp_path: Path) -> None:
    certificate = self_signed()
    server = make_server(kind, certificate.server_context(tmp_path), mode)
    async with running(server):
        assert await log_in(kind, endpoint(server.port, mode, pin=certificate.fingerprint))


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("mode", MODES)
async def test_another_certificate_than_the_pinned_one_is_refused_and_shown(
    kind: str, mode: TlsMode, authority: LocalAuthority, ca_file: Path, tmp_path: Path
) -> None:
    certificate = authority.good()  # good by any other measure
    server = make_server(kind, certificate.server_context(tmp_path), mode)
    async with running(server):
        with pytest.raises(TlsError, match=f"fingerprint is {certificate.fingerprint}, tls_fingerprint says"):
            await log_in(kind, endpoint(server.port, mode, ca_file, pin=self_signed().fingerprint))
        gc.collect()
    assert nothing_secret_was_sent(server)


def old_tls_context(authority: LocalAuthority, folder: Path) -> ssl.SSLContext:
    context = authority.good().server_context(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


async def test_a_server_that_says_its_tls_is_old_is_called_that(
    authority: LocalAuthority, ca_file: Path, tmp_path: Path
) -> None:
    context = old_tls_context(authority, tmp_path)

    def refuse(listener: socket.socket) -> None:
        # Blocking on purpose: asyncio's own server hangs up without the alert that others send.
        connected, _ = listener.accept()
        with connected, contextlib.suppress(OSError), context.wrap_socket(connected, server_side=True):
            pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        refusing = asyncio.create_task(asyncio.to_thread(refuse, listener))
        where = endpoint(listener.getsockname()[1], TlsMode.IMPLICIT, ca_file)
        with pytest.raises(TlsError, match=r"The server offers only TLS below 1\.2, which is not accepted"):
            await log_in("pop3", where)
        await refusing


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("mode", MODES)
async def test_tls_1_1_is_not_spoken(
    kind: str, mode: TlsMode, authority: LocalAuthority, ca_file: Path, tmp_path: Path
) -> None:
    server = make_server(kind, old_tls_context(authority, tmp_path), mode)
    async with running(server):
        with pytest.raises(TlsError, match=r"handshake failed: .* TLS below 1\.2 is not accepted"):
            await log_in(kind, endpoint(server.port, mode, ca_file))
    assert nothing_secret_was_sent(server)


@pytest.mark.parametrize("kind", BOTH)
async def test_a_server_that_does_not_offer_tls_gets_nothing(kind: str, ca_file: Path) -> None:
    server = make_server(kind, None, TlsMode.STARTTLS)
    async with running(server):
        with pytest.raises(TlsError, match=r"does not offer (STLS|STARTTLS); nothing was sent"):
            await log_in(kind, endpoint(server.port, TlsMode.STARTTLS, ca_file))
    assert nothing_secret_was_sent(server)


@pytest.mark.parametrize(
    ("kind", "verb", "refusal"),
    [("pop3", b"STLS", b"-ERR no\r\n"), ("smtp", b"STARTTLS", b"454 4.7.0 no\r\n")],
)
async def test_a_server_that_refuses_tls_gets_nothing(
    kind: str, verb: bytes, refusal: bytes, authority: LocalAuthority, ca_file: Path, tmp_path: Path
) -> None:
    fault = Fault(verb, reply=refusal)
    server = make_server(kind, authority.good().server_context(tmp_path), TlsMode.STARTTLS, fault)
    async with running(server):
        with pytest.raises(MailferryError, match=verb.decode()):
            await log_in(kind, endpoint(server.port, TlsMode.STARTTLS, ca_file))
    assert nothing_secret_was_sent(server)


@pytest.mark.parametrize(
    ("kind", "verb", "injected"),
    [("pop3", b"STLS", b"+OK injected\r\n"), ("smtp", b"STARTTLS", b"250 injected\r\n")],
)
async def test_octets_between_the_yes_and_the_handshake_end_the_session(
    kind: str, verb: bytes, injected: bytes, authority: LocalAuthority, ca_file: Path, tmp_path: Path
) -> None:
    server = make_server(
        kind, authority.good().server_context(tmp_path), TlsMode.STARTTLS, Fault(verb, Send(injected))
    )
    async with running(server):
        with pytest.raises(RemoteProtocolError, match="octets between"):
            await log_in(kind, endpoint(server.port, TlsMode.STARTTLS, ca_file))
    assert nothing_secret_was_sent(server)


@pytest.mark.parametrize(("kind", "verb"), [("pop3", b"STLS"), ("smtp", b"STARTTLS")])
@pytest.mark.parametrize("after_octets", [0, 3, None])
async def test_a_link_that_ends_around_the_yes(
    kind: str, verb: bytes, after_octets: int | None, authority: LocalAuthority, ca_file: Path, tmp_path: Path
) -> None:
    fault = Fault(
        verb, Close(after_octets), effect=False, reply=None if after_octets is not None else yes(verb)
    )
    server = make_server(kind, authority.good().server_context(tmp_path), TlsMode.STARTTLS, fault)
    async with running(server):
        with pytest.raises((ConnectionLostError, TlsError)):
            await log_in(kind, endpoint(server.port, TlsMode.STARTTLS, ca_file))
        gc.collect()
    assert nothing_secret_was_sent(server)


def yes(verb: bytes) -> bytes:
    return b"+OK go\r\n" if verb == b"STLS" else b"220 go\r\n"


@pytest.mark.parametrize("kind", BOTH)
async def test_a_handshake_that_stalls_times_out(kind: str) -> None:
    async with RawServer().running() as server:
        with pytest.raises(TlsError, match="longer than"):
            await log_in(kind, endpoint(server.port, TlsMode.IMPLICIT, timeout_seconds=SILENCE_SECONDS))
        await server.empty()
    assert server.heard.startswith(b"\x16\x03")  # a ClientHello, and that was all
    assert PASSWORD.encode() not in server.heard


@pytest.mark.parametrize(("kind", "greeting"), [("pop3", b"+OK hello\r\n"), ("smtp", b"220 hello\r\n")])
async def test_a_handshake_that_stalls_after_starttls_times_out(kind: str, greeting: bytes) -> None:
    answers = {
        b"CAPA\r\n": b"+OK\r\nSTLS\r\n.\r\n",
        b"STLS\r\n": b"+OK go\r\n",
        b"EHLO relay.example.org\r\n": b"250-hop\r\n250 STARTTLS\r\n",
        b"STARTTLS\r\n": b"220 go\r\n",
    }
    server = saying(greeting)
    server.on_data = lambda transport, data: transport.write(answers.get(data, b""))
    async with server.running():
        with pytest.raises(TlsError, match="longer than"):
            await log_in(kind, endpoint(server.port, TlsMode.STARTTLS, timeout_seconds=SILENCE_SECONDS))
        await server.empty()


@pytest.mark.parametrize("kind", BOTH)
async def test_a_handshake_that_drips_times_out(kind: str) -> None:
    """Each octet is a sign of life, and all of them together never become a ServerHello."""
    server_hello = b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03" + bytes(111)
    server = RawServer()

    def drip(transport: asyncio.Transport, rest: bytes) -> None:
        if rest and not transport.is_closing():
            transport.write(rest[:1])
            asyncio.get_running_loop().call_later(SILENCE_SECONDS / 20, drip, transport, rest[1:])

    server.on_data = lambda transport, _data: drip(transport, server_hello)
    async with server.running():
        with pytest.raises(TlsError, match="longer than"):
            await log_in(kind, endpoint(server.port, TlsMode.IMPLICIT, timeout_seconds=SILENCE_SECONDS))
        await server.empty()
    assert PASSWORD.encode() not in server.heard


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("mode", MODES)
async def test_a_handshake_that_is_reset_is_a_tls_failure(kind: str, mode: TlsMode) -> None:
    answers = {b"CAPA\r\n": b"+OK\r\nSTLS\r\n.\r\n", b"STLS\r\n": b"+OK go\r\n"}
    answers |= {b"EHLO relay.example.org\r\n": b"250-hop\r\n250 STARTTLS\r\n", b"STARTTLS\r\n": b"220 go\r\n"}
    server = RawServer()
    if mode is TlsMode.STARTTLS:
        server = saying(b"+OK hello\r\n" if kind == "pop3" else b"220 hello\r\n")

    def answer(transport: asyncio.Transport, data: bytes) -> None:
        if data.startswith(b"\x16\x03"):
            raw = transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        else:
            transport.write(answers[data])

    server.on_data = answer
    async with server.running():
        with pytest.raises(TlsError, match="handshake failed"):
            await log_in(kind, endpoint(server.port, mode))
        await server.empty()


@pytest.mark.parametrize("kind", BOTH)
async def test_cancelling_in_the_handshake_closes_the_link(kind: str) -> None:
    answers = {b"CAPA\r\n": b"+OK\r\nSTLS\r\n.\r\n", b"STLS\r\n": b"+OK go\r\n"}
    answers |= {b"EHLO relay.example.org\r\n": b"250-hop\r\n250 STARTTLS\r\n", b"STARTTLS\r\n": b"220 go\r\n"}
    server = saying(b"+OK hello\r\n" if kind == "pop3" else b"220 hello\r\n")
    server.on_data = lambda transport, data: transport.write(answers.get(data, b""))
    async with server.running():
        for mode in MODES:
            task = asyncio.create_task(log_in(kind, endpoint(server.port, mode)))
            await asyncio.sleep(SILENCE_SECONDS / 4)
            task.cancel()
            with pytest.raises((asyncio.CancelledError, TlsError)):
                await task
            await server.empty()
        gc.collect()


@pytest.mark.parametrize(("kind", "greeting"), [("pop3", b"+OK hello\r\n"), ("smtp", b"220 hello\r\n")])
async def test_a_plaintext_server_where_tls_was_expected_is_explained(kind: str, greeting: bytes) -> None:
    async with saying(greeting).running() as server:
        with pytest.raises(TlsError, match=r'Check that port and tls agree \("implicit" on 995/465'):
            await log_in(kind, endpoint(server.port, TlsMode.IMPLICIT))


@pytest.mark.parametrize("kind", BOTH)
async def test_a_tls_server_where_plain_text_was_expected_times_out(
    kind: str, authority: LocalAuthority, tmp_path: Path
) -> None:
    server = make_server(kind, authority.good().server_context(tmp_path), TlsMode.IMPLICIT)
    async with running(server):
        with pytest.raises(ReadTimeoutError, match="while waiting for the greeting"):
            await log_in(kind, endpoint(server.port, TlsMode.STARTTLS, timeout_seconds=SILENCE_SECONDS))


@pytest.mark.parametrize("kind", BOTH)
async def test_no_password_without_tls_unless_it_is_allowed(kind: str) -> None:
    server = make_server(kind, None, TlsMode.NONE)
    server.features = (
        SandboxFeatures(sasl_mechanisms=("PLAIN",))
        if isinstance(server, ScriptedPop3Server)
        else type(server.features)(auth_mechanisms=("PLAIN", "LOGIN"))
    )
    async with running(server):
        with pytest.raises((CleartextRefusedError, HopAuthenticationError)):
            await log_in(kind, endpoint(server.port, TlsMode.NONE))
    assert nothing_secret_was_sent(server)


async def test_what_was_said_before_tls_is_forgotten(
    authority: LocalAuthority, ca_file: Path, tmp_path: Path
) -> None:
    """Before TLS the server offers everything; under TLS only what it says there counts."""
    offer = b"250-hop\r\n250-SIZE 1\r\n250-AUTH LOGIN\r\n250 STARTTLS\r\n"
    fault = Fault(b"EHLO", reply=offer, nth=1)
    server = make_server("smtp", authority.good().server_context(tmp_path), TlsMode.STARTTLS, fault)
    async with running(server):
        settings = SmtpSettings(endpoint(server.port, TlsMode.STARTTLS, ca_file), "relay.example.org")
        session = await SmtpConnector(settings).open()
        assert session.features.size_limit != 1
        assert not session.features.starttls
        assert session.features.auth_mechanisms == {"PLAIN", "LOGIN", "CRAM-MD5"}
        await session.quit()


def test_uvloop_speaks_tls_and_refuses_as_asyncio_does(
    authority: LocalAuthority, ca_file: Path, tmp_path: Path
) -> None:
    uvloop = pytest.importorskip("uvloop")
    answers = {b"QUIT\r\n": b"+OK\r\n", b"CAPA\r\n": b"-ERR\r\n"}

    async def poll(certificate: ServerCertificate, name: str, pin: str | None = None) -> bytes:
        server = saying(b"+OK hello\r\n")
        server.on_data = lambda transport, data: transport.write(answers.get(data, b"+OK\r\n"))
        async with server.running(tls=certificate.server_context(tmp_path, name)):
            try:
                await log_in("pop3", endpoint(server.port, TlsMode.IMPLICIT, ca_file, pin))
            finally:
                await server.empty()
        return server.heard

    async def work() -> None:
        good = authority.good()
        heard = await poll(good, "good")
        assert heard.endswith(b"PASS " + PASSWORD.encode() + b"\r\nQUIT\r\n")
        assert await poll(good, "pinned", good.fingerprint) == heard
        with pytest.raises(TlsError, match="It has expired"):
            await poll(authority.expired(), "expired")
        with pytest.raises(TlsError, match=f"fingerprint is {good.fingerprint}"):
            await poll(good, "wrong", "0" * 64)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work())
