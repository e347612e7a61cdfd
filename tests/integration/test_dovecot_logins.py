"""Every way to log in that a real Dovecot knows, and what it does not know."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailferry.errors import (
    AuthenticationRejectedError,
    LangRefusedError,
    ListRefusedError,
    LoginUnavailableError,
    TopRefusedError,
    UidlRefusedError,
)
from mailferry.net.credentials import Credentials, LoginMethod
from mailferry.net.endpoint import Endpoint, TlsMode
from mailferry.net.pop3_connector import Pop3Connector, Pop3Settings
from mailferry.net.trace import Direction
from mailferry.protocol.pop3_by_hand import command_by_hand
from support.certificates import LocalAuthority, ServerCertificate
from support.dovecot import PrivateDovecot

pytestmark = pytest.mark.real_server
KEY = b"a key that only the server and the issuer know"
PASSWORD = "correct hörse"
MAIL = [b"Subject: one\r\n\r\nfirst\r\nsecond\r\n", b"Subject: two\r\n\r\n.\r\n"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, authority: LocalAuthority) -> Iterator[PrivateDovecot]:
    with PrivateDovecot(
        tmp_path_factory.mktemp("dovecot"), authority=authority, token_key=KEY, client_certificates=True
    ) as dovecot:
        dovecot.add_user("ann", PASSWORD, MAIL)
        yield dovecot


def token(subject: str, lasts_seconds: float = 60.0, key: bytes = KEY) -> str:
    """A JSON web token, as an issuer makes it (RFC 7519)."""

    def part(value: object) -> bytes:
        octets = value if isinstance(value, bytes) else json.dumps(value).encode()
        return base64.urlsafe_b64encode(octets).rstrip(b"=")

    now = int(time.time())
    claims = {"sub": subject, "iat": now - 60, "nbf": now - 60, "exp": int(now + lasts_seconds)}
    signed = part({"alg": "HS256", "typ": "JWT"}) + b"." + part(claims)
    return (signed + b"." + part(hmac.digest(key, signed, "sha256"))).decode()


class Trace:
    """What was said, in both directions."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self) -> Callable[[Direction, str], None]:
        return lambda direction, text: self.lines.append(f"{direction}: {text}")

    def sent(self, start: str) -> list[str]:
        return [line.removeprefix("send: ") for line in self.lines if line.startswith(f"send: {start}")]


def connector(
    server: PrivateDovecot,
    folder: Path,
    method: LoginMethod,
    *,
    tls: TlsMode = TlsMode.IMPLICIT,
    credentials: Credentials | None = None,
    certificate: ServerCertificate | None = None,
    trace: Trace | None = None,
) -> Pop3Connector:
    own, key = certificate.write(folder, "own") if certificate else (None, None)
    endpoint = Endpoint(
        "localhost",
        server.tls_port if tls is TlsMode.IMPLICIT else server.port,
        tls,
        ca_file=server.authority.write_ca(folder),
        certificate=own,
        certificate_key=key,
    )
    settings = Pop3Settings(
        endpoint, credentials or Credentials("ann", lambda: PASSWORD), method, allow_cleartext=True
    )
    return Pop3Connector(settings, trace or Trace())


@pytest.mark.parametrize("tls", [TlsMode.IMPLICIT, TlsMode.STARTTLS, TlsMode.NONE])
@pytest.mark.parametrize(
    "method",
    [
        LoginMethod.AUTO,
        LoginMethod.USER,
        LoginMethod.APOP,
        LoginMethod.PLAIN,
        LoginMethod.LOGIN,
        LoginMethod.CRAM_MD5,
        LoginMethod.SCRAM_SHA_1,
        LoginMethod.SCRAM_SHA_256,
    ],
)
async def test_a_password_logs_in_in_every_way(
    server: PrivateDovecot, tmp_path: Path, method: LoginMethod, tls: TlsMode
) -> None:
    trace = Trace()
    session = await connector(server, tmp_path, method, tls=tls, trace=trace).open()
    assert (await session.stat())[0] == 2
    assert await session.quit()
    if method is LoginMethod.AUTO:
        assert trace.sent("AUTH") == ["AUTH SCRAM-SHA-256 ***"]
    assert PASSWORD not in "".join(trace.lines)


@pytest.mark.parametrize(
    "method", [LoginMethod.PLAIN, LoginMethod.SCRAM_SHA_1, LoginMethod.SCRAM_SHA_256, LoginMethod.CRAM_MD5]
)
async def test_a_wrong_password_is_an_error_of_its_own(
    server: PrivateDovecot, tmp_path: Path, method: LoginMethod
) -> None:
    wrong = Credentials("ann", lambda: "wrong")
    with pytest.raises(AuthenticationRejectedError) as caught:
        await connector(server, tmp_path, method, credentials=wrong).open()
    assert caught.value.refused is not None
    assert (caught.value.refused.verb, caught.value.refused.response_code) == ("AUTH", "AUTH")


@pytest.mark.parametrize("method", [LoginMethod.OAUTHBEARER, LoginMethod.XOAUTH2, LoginMethod.AUTO])
async def test_a_token_logs_in(server: PrivateDovecot, tmp_path: Path, method: LoginMethod) -> None:
    trace = Trace()
    credentials = Credentials("ann", token=lambda: token("ann"))
    session = await connector(server, tmp_path, method, credentials=credentials, trace=trace).open()
    assert (await session.stat())[0] == 2
    assert await session.quit()
    if method is LoginMethod.AUTO:
        assert trace.sent("AUTH")[0].startswith("AUTH OAUTHBEARER")
    # A token is long: it waits for the empty challenge (RFC 5034 s.4).
    assert "***" not in trace.sent("AUTH")[0]


@pytest.mark.parametrize("method", [LoginMethod.OAUTHBEARER, LoginMethod.XOAUTH2])
@pytest.mark.parametrize(
    "bad",
    [lambda: token("ann", -30), lambda: token("ann", key=b"another"), lambda: "no token at all"],
    ids=["expired", "forged", "nonsense"],
)
async def test_a_bad_token_is_refused_and_explained(
    server: PrivateDovecot, tmp_path: Path, method: LoginMethod, bad: Callable[[], str]
) -> None:
    secret = bad()
    with pytest.raises(AuthenticationRejectedError) as caught:
        await connector(server, tmp_path, method, credentials=Credentials("ann", token=lambda: secret)).open()
    assert "status" in str(caught.value)
    assert secret not in str(caught.value)


async def test_a_certificate_logs_in_without_a_password(server: PrivateDovecot, tmp_path: Path) -> None:
    for tls in (TlsMode.IMPLICIT, TlsMode.STARTTLS):
        own = server.authority.client("ann")
        way = connector(
            server, tmp_path, LoginMethod.EXTERNAL, tls=tls, credentials=Credentials("ann"), certificate=own
        )
        session = await way.open()
        assert (await session.stat())[0] == 2
        assert await session.quit()


@pytest.mark.parametrize("kind", ["none", "another user's", "a stranger's"])
async def test_a_wrong_certificate_logs_nobody_in(server: PrivateDovecot, tmp_path: Path, kind: str) -> None:
    own = {
        "none": None,
        "another user's": server.authority.client("bob"),
        "a stranger's": LocalAuthority().client("ann"),
    }[kind]
    way = connector(server, tmp_path, LoginMethod.EXTERNAL, credentials=Credentials("ann"), certificate=own)
    with pytest.raises((AuthenticationRejectedError, LoginUnavailableError)):
        await way.open()


async def test_what_dovecot_does_not_offer_is_refused_in_words(
    server: PrivateDovecot, tmp_path: Path
) -> None:
    capabilities = await offered(server, tmp_path)
    if "SCRAM-SHA-256-PLUS" not in capabilities:  # of Dovecot 2.4
        with pytest.raises(LoginUnavailableError, match="does not offer SCRAM-SHA-256-PLUS"):
            await connector(server, tmp_path, LoginMethod.SCRAM_SHA_256_PLUS).open()
    with pytest.raises(LoginUnavailableError, match="Unknown command") as caught:
        await connector(server, tmp_path, LoginMethod.RPOP).open()
    assert caught.value.refused is not None
    assert caught.value.refused.verb == "RPOP"


async def offered(server: PrivateDovecot, folder: Path) -> str:
    trace = Trace()
    session = await connector(server, folder, LoginMethod.PLAIN, trace=trace).open()
    session.abort()
    return "\n".join(trace.lines)


async def test_every_command_by_hand(server: PrivateDovecot, tmp_path: Path) -> None:
    session = await connector(server, tmp_path, LoginMethod.PLAIN).open()
    assert await session.list_one(1) == len(MAIL[0])
    uidls = {number: await session.uidl_one(number) for number in (1, 2)}
    assert {each.message_number: each.uidl for each in (await session.listing()).messages} == uidls
    assert await session.top_lines(1) == b"Subject: one\r\n\r\n"
    assert await session.top_lines(1, 1) == b"Subject: one\r\n\r\nfirst\r\n"
    assert (await session.perform(command_by_hand("retr 2"))).body == MAIL[1]
    await session.perform(command_by_hand("dele 2"))
    await session.rset()
    await session.noop()
    assert (await session.stat())[0] == 2
    for line, kind in (
        ("LIST 9", ListRefusedError),
        ("UIDL 9", UidlRefusedError),
        ("TOP 9 0", TopRefusedError),
    ):
        with pytest.raises(kind) as caught:
            await session.perform(command_by_hand(line))
        assert caught.value.refused is not None
        assert caught.value.refused.text
    with pytest.raises(LangRefusedError):  # Dovecot has no LANG
        await session.lang()
    assert await session.quit()
    assert len(server.messages_left("ann")) == 2
