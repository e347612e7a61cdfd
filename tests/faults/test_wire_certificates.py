"""Certificates that a hasty client would take: each must be refused before anything is sent.

RFC 7817 and RFC 9525 say which name counts: one of the certificate's subjectAltName
entries, never the common name, an address only as an address.
"""

from __future__ import annotations

import datetime as dt
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from mailferry.errors import TlsError
from mailferry.net.credentials import Credentials
from mailferry.net.endpoint import Endpoint, TlsMode
from mailferry.net.pop3_connector import Pop3Connector, Pop3Settings
from mailferry.net.smtp_connector import SmtpConnector, SmtpSettings
from mailferry.sandbox.maildrop import SandboxMaildrop
from support.certificates import ServerCertificate
from support.clients import running
from support.odd_certificates import OddAuthority, address, dns
from support.scripted_pop3 import ScriptedPop3Server
from support.scripted_smtp import ScriptedSmtpServer

PASSWORD = "correct-horse-4711"
SECONDS = 5.0
DAYS = dt.timedelta(days=1)
BOTH = ["pop3", "smtp"]
MODES = [TlsMode.IMPLICIT, TlsMode.STARTTLS]

Server = ScriptedPop3Server | ScriptedSmtpServer
Issue = Callable[[OddAuthority], ServerCertificate]

WRONG: dict[str, tuple[str, Issue, str]] = {
    "not yet valid": (
        "localhost",
        lambda ca: ca.issue(dns("localhost"), begins_in=DAYS, ends_in=30 * DAYS),
        "not valid yet: check this machine's clock",
    ),
    "expired": (
        "localhost",
        lambda ca: ca.issue(dns("localhost"), ends_in=-DAYS),
        "It has expired",
    ),
    "another address": (
        "127.0.0.1",
        lambda ca: ca.issue(address("127.0.0.2")),
        "Use the name that the certificate is for as host",
    ),
    "another name": (
        "localhost",
        lambda ca: ca.issue(dns("localhost.example.org")),
        "Use the name that the certificate is for as host",
    ),
    "the name only as common name": (
        "localhost",
        lambda ca: ca.issue(common_name="localhost"),
        "Use the name that the certificate is for as host",
    ),
    "the address only as common name": (
        "127.0.0.1",
        lambda ca: ca.issue(common_name="127.0.0.1"),
        "Use the name that the certificate is for as host",
    ),
    "the common name beside another entry": (
        "localhost",
        lambda ca: ca.issue(dns("elsewhere.example.org"), common_name="localhost"),
        "Use the name that the certificate is for as host",
    ),
    "an address written as a name": (
        "127.0.0.1",
        lambda ca: ca.issue(dns("127.0.0.1")),
        "Use the name that the certificate is for as host",
    ),
    "a star for everything": (
        "localhost",
        lambda ca: ca.issue(dns("*")),
        "Use the name that the certificate is for as host",
    ),
    "a star within a label": (
        "localhost",
        lambda ca: ca.issue(dns("local*", "*host", "l*t")),
        "Use the name that the certificate is for as host",
    ),
    "a star for an address": (
        "127.0.0.1",
        lambda ca: ca.issue(dns("*.0.0.1", "127.0.0.*")),
        "Use the name that the certificate is for as host",
    ),
    "a name that goes on after a NUL": (
        "localhost",
        lambda ca: ca.issue(dns("localhost\0.evil.example.org")),
        "Use the name that the certificate is for as host",
    ),
    "a missing intermediate": (
        "localhost",
        lambda ca: OddAuthority(parent=ca).issue(dns("localhost")),
        "give its authority in tls_ca_file",
    ),
    "an intermediate that is no authority": (
        "localhost",
        lambda ca: OddAuthority(parent=ca, is_ca=False).issue(dns("localhost"), with_chain=True),
        "certificate refused",
    ),
    "a certificate for clients": (
        "localhost",
        lambda ca: ca.issue(dns("localhost"), for_clients=True),
        "certificate refused",
    ),
    "another authority of the same name": (
        "localhost",
        lambda _ca: OddAuthority().issue(dns("localhost")),
        "certificate refused",
    ),
}

RIGHT: dict[str, tuple[str, Issue]] = {
    "by name": ("localhost", lambda ca: ca.issue(dns("LOCALHOST"))),
    "by address": ("127.0.0.1", lambda ca: ca.issue(address("127.0.0.1"))),
    "by its intermediate": (
        "localhost",
        lambda ca: OddAuthority(parent=ca).issue(dns("localhost"), with_chain=True),
    ),
}


@pytest.fixture(scope="module")
def authority() -> OddAuthority:
    return OddAuthority()


async def opens(
    kind: str, mode: TlsMode, host: str, certificate: ServerCertificate, ca_file: Path, folder: Path
) -> Server:
    """Log in at a server with that certificate; return the server."""
    tls, implicit = certificate.server_context(folder), mode is TlsMode.IMPLICIT
    credentials = Credentials("ann", lambda: PASSWORD)
    server: Server
    if kind == "pop3":
        boxes = {"ann": SandboxMaildrop(PASSWORD, [])}
        server = ScriptedPop3Server(boxes, tls=tls, implicit_tls=implicit)
    else:
        server = ScriptedSmtpServer(tls=tls, implicit_tls=implicit, credentials={"ann": PASSWORD})
    async with running(server):
        where = Endpoint(
            host,
            server.port,
            mode,
            ca_file=ca_file,
            connect_timeout_seconds=SECONDS,
            timeout_seconds=SECONDS,
        )
        try:
            if kind == "pop3":
                await (await Pop3Connector(Pop3Settings(where, credentials)).open()).quit()
            else:
                await (
                    await SmtpConnector(SmtpSettings(where, "relay.example.org", credentials)).open()
                ).quit()
        except TlsError:
            assert set(server.commands) <= {b"CAPA", b"STLS", b"EHLO relay.example.org", b"STARTTLS"}
            raise
    return server


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("wrong", WRONG)
async def test_what_does_not_prove_the_host_is_refused(
    kind: str, mode: TlsMode, wrong: str, authority: OddAuthority, tmp_path: Path
) -> None:
    host, issue, words = WRONG[wrong]
    ca_file = authority.write_ca(tmp_path)
    with pytest.raises(TlsError, match="certificate refused") as caught:
        await opens(kind, mode, host, issue(authority), ca_file, tmp_path)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("right", RIGHT)
async def test_what_proves_the_host_is_taken(
    kind: str, mode: TlsMode, right: str, authority: OddAuthority, tmp_path: Path
) -> None:
    """Without these the refusals above could have any other reason."""
    host, issue = RIGHT[right]
    ca_file = authority.write_ca(tmp_path)
    server = await opens(kind, mode, host, issue(authority), ca_file, tmp_path)
    assert any(command.startswith(b"AUTH ") for command in server.commands)


@pytest.mark.parametrize("mode", MODES)
async def test_a_name_with_the_dot_of_the_root_is_the_same_name(
    mode: TlsMode, authority: OddAuthority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`pop.example.net.` keeps the search list out of it; no certificate has the dot (RFC 6066 s.3)."""
    resolve = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *more, **words: resolve(str(host).rstrip("."), *more, **words)
    )
    ca_file = authority.write_ca(tmp_path)
    await opens("pop3", mode, "localhost.", authority.issue(dns("localhost")), ca_file, tmp_path)
    with pytest.raises(TlsError, match="certificate refused"):
        await opens("pop3", mode, "localhost.", authority.issue(dns("elsewhere")), ca_file, tmp_path)
