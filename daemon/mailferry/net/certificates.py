"""What a TLS connection is worth, for people: version, cipher, and the certificates that were shown.

Only for display: whether a certificate is the right one was decided in the handshake
(`net.tls`). The chain is as the server sent it, also where a pinned fingerprint
replaces the authorities and nothing of it was verified.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mailferry.errors import TlsError

MOST_CERTIFICATES = 10
"""OpenSSL itself takes no longer chain (its default depth), so that one is shown in full."""

_MOST_NAMES = 100
_SHORT_NAMES = {
    "commonName": "CN",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "stateOrProvinceName": "ST",
    "localityName": "L",
}


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """One certificate of a chain.

    Attributes:
        subject: as `CN=mx.example.org, O=Example`; empty where the system cannot tell.
        issuer: in the same form.
        names: the hosts that it is for (subjectAltName), as `mx.example.org`.
        not_before: when it becomes valid, seconds since the epoch; None where the system cannot tell.
        not_after: when it expires, as `not_before`.
        sha256: its fingerprint in lower-case hex, as `tls_fingerprint` takes it.
    """

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: float | None
    not_after: float | None
    sha256: str


@dataclass(frozen=True, slots=True)
class TlsFacts:
    """One TLS connection.

    Attributes:
        version: as `TLSv1.3`.
        cipher: the cipher suite's name.
        bits: of the secret.
        chain: the server's own certificate first.
    """

    version: str
    cipher: str
    bits: int
    chain: tuple[CertificateFacts, ...]


class WrongCertificateError(TlsError):
    """The certificate is not the pinned one; `facts` tells which was shown."""

    def __init__(self, message: str, facts: TlsFacts) -> None:
        self.facts = facts
        super().__init__(message)


def tls_facts(tls: ssl.SSLObject) -> TlsFacts:
    """Return what can be told of an established connection."""
    name, _protocol, bits = tls.cipher() or ("", "", 0)
    return TlsFacts(tls.version() or "", name, bits, _chain(tls))


def _chain(tls: ssl.SSLObject) -> tuple[CertificateFacts, ...]:
    # `SSLObject.get_unverified_chain` is public from Python 3.13 on, gives octets only and no way to
    # read them; below it are the same certificates with their contents, in every version since 3.10.
    shown = getattr(getattr(tls, "_sslobj", None), "get_unverified_chain", None)
    certificates = shown() if shown is not None else None
    if certificates:
        return tuple(_facts(*_contents(each)) for each in certificates[:MOST_CERTIFICATES])
    own = tls.getpeercert(binary_form=True)
    return (_facts(tls.getpeercert() or {}, own),) if own else ()


def _contents(certificate: Any) -> tuple[dict[str, Any], bytes]:  # Any: the ssl module's own, without stubs
    octets = ssl.PEM_cert_to_DER_cert(certificate.public_bytes())
    try:
        return certificate.get_info(), octets
    except (ValueError, ssl.SSLError):  # a name that Python cannot read: the fingerprint says which it is
        return {}, octets


def _facts(info: dict[str, Any], octets: bytes) -> CertificateFacts:
    return CertificateFacts(
        subject=_name(info.get("subject", ())),
        issuer=_name(info.get("issuer", ())),
        names=tuple(str(value) for _, value in info.get("subjectAltName", ())[:_MOST_NAMES]),
        not_before=_seconds(info.get("notBefore")),
        not_after=_seconds(info.get("notAfter")),
        sha256=hashlib.sha256(octets).hexdigest(),
    )


def _name(rdns: Iterable[Iterable[tuple[str, str]]]) -> str:
    """Return a distinguished name, the most telling part first."""
    parts = [(_SHORT_NAMES.get(key, key), value) for rdn in rdns for key, value in rdn]
    return ", ".join(f"{key}={value}" for key, value in reversed(parts))


def _seconds(when: str | None) -> float | None:
    try:
        return float(ssl.cert_time_to_seconds(when)) if when else None
    except ValueError:
        return None
