"""Certificates that look right from one side: names in the wrong place, broken chains, other uses."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from support.certificates import ServerCertificate

_DAY = dt.timedelta(days=1)


def dns(*names: str) -> list[x509.GeneralName]:
    """Return names as DNS entries, whatever they look like."""
    return [x509.DNSName(name) for name in names]


def address(*addresses: str) -> list[x509.GeneralName]:
    """Return IP addresses as such."""
    return [x509.IPAddress(ipaddress.ip_address(each)) for each in addresses]


class OddAuthority:
    """An authority that signs what no sane one would."""

    def __init__(self, *, parent: OddAuthority | None = None, is_ca: bool = True) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("odd authority" if parent is None else "odd intermediate")
        signer = parent or self
        self._certificate = (
            _builder(self._name, signer._name, self._key, signer._key)
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(_key_usage(signs=True), critical=True)
            .sign(signer._key, hashes.SHA256())
        )

    def write_ca(self, folder: Path) -> Path:
        """Write the authority's own certificate; return its path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "odd-ca.crt"
        path.write_bytes(self._pem())
        return path

    def issue(
        self,
        names: Sequence[x509.GeneralName] = (),
        *,
        common_name: str = "a mail server",
        begins_in: dt.timedelta = -30 * _DAY,
        ends_in: dt.timedelta = 30 * _DAY,
        for_clients: bool = False,
        with_chain: bool = False,
    ) -> ServerCertificate:
        """Sign a certificate; without names it has no subjectAltName at all."""
        key = ec.generate_private_key(ec.SECP256R1())
        use = ExtendedKeyUsageOID.CLIENT_AUTH if for_clients else ExtendedKeyUsageOID.SERVER_AUTH
        builder = _builder(_name(common_name), self._name, key, self._key, begins_in, ends_in)
        builder = builder.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(list(names)), critical=False)
        pem = builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        return ServerCertificate(pem + (self._pem() if with_chain else b""), _key_pem(key))

    def _pem(self) -> bytes:
        return self._certificate.public_bytes(serialization.Encoding.PEM)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    begins_in: dt.timedelta = -30 * _DAY,
    ends_in: dt.timedelta = 30 * _DAY,
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    # RFC 5280 s.4.2.1.1: Python refuses chains without key identifiers since 3.13.
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    signers = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins_in)
        .not_valid_after(now + ends_in)
        .add_extension(own, critical=False)
        .add_extension(signers, critical=False)
    )


def _key_usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
