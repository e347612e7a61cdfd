"""What a handshake tells of the peer's certificates."""

from __future__ import annotations

import datetime as dt
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from mailferry.net.watch import LinkWatch, first_expiry
from support.certificates import LocalAuthority, ServerCertificate, self_signed


def connected(folder: Path, certificate: ServerCertificate, context: ssl.SSLContext) -> ssl.SSLObject:
    """The client's end of a connection in memory."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(down, up, server_hostname="localhost")
    server = certificate.server_context(folder).wrap_bio(up, down, server_side=True)
    for _ in range(10):
        for end in (client, server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert client.version() is not None
    return client


def unverified() -> ssl.SSLContext:
    """A context as it is used with a pinned fingerprint."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def ends(certificate: ServerCertificate) -> list[float]:
    return [
        each.not_valid_after_utc.timestamp()
        for each in x509.load_pem_x509_certificates(certificate.chain_pem)
    ]


@pytest.mark.parametrize("form", ["verified", "pinned", "pinned and expired"])
def test_a_handshake_tells_when_the_first_certificate_ends(tmp_path: Path, form: str) -> None:
    authority = LocalAuthority()
    certificate = {
        "verified": authority.good,
        "pinned": self_signed,
        "pinned and expired": authority.expired,
    }[form]()
    context = authority.client_context() if form == "verified" else unverified()
    tls = connected(tmp_path, certificate, context)
    heard: list[float] = []
    LinkWatch(certificate=heard.append).handshake(tls)
    assert heard == [min(ends(certificate))]
    assert (heard[0] < dt.datetime.now(dt.UTC).timestamp()) == (form == "pinned and expired")


class WithoutChain:
    """As a Python that gives no chain would have it."""

    def __init__(self, certificate: dict[str, object]) -> None:
        self._certificate = certificate

    def getpeercert(self) -> dict[str, object]:
        return self._certificate


@pytest.mark.parametrize(
    ("certificate", "end"),
    [
        ({"notAfter": "Jan  5 09:34:43 2030 GMT"}, 1_893_836_083.0),
        ({}, None),
        ({"notAfter": "some day"}, None),
    ],
)
def test_without_a_chain_the_server_s_own_counts(certificate: dict[str, object], end: float | None) -> None:
    tls = WithoutChain(certificate)
    assert first_expiry(tls) == end  # type: ignore[arg-type]
    heard: list[float] = []
    LinkWatch(certificate=heard.append).handshake(tls)  # type: ignore[arg-type]
    assert heard == ([] if end is None else [end])
