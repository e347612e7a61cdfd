"""Certificates for tests: the right one, and each wrong one that a client must refuse."""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """A certificate chain with its key, in PEM."""

    chain_pem: bytes
    key_pem: bytes

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the server's own certificate (DER), lower-case hexadecimal without colons."""
        leaf = x509.load_pem_x509_certificate(self.chain_pem)
        return hashlib.sha256(leaf.public_bytes(serialization.Encoding.DER)).hexdigest()

    def write(self, folder: Path, name: str = "server") -> tuple[Path, Path]:
        """Write `NAME.crt` and `NAME.key`; return their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        chain, key = folder / f"{name}.crt", folder / f"{name}.key"
        chain.write_bytes(self.chain_pem)
        key.touch(mode=0o600)
        key.write_bytes(self.key_pem)
        return chain, key

    def server_context(self, folder: Path, name: str = "server") -> ssl.SSLContext:
        """Return a context for a server; ssl wants files, so they are written to the folder."""
        chain, key = self.write(folder, name)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(chain, key)
        return context


class LocalAuthority:
    """A certificate authority that only tests trust."""

    def __init__(self) -> None:
        self._ca = trustme.CA(key_type=trustme.KeyType.ECDSA)

    @property
    def ca_pem(self) -> bytes:
        """The authority's own certificate."""
        return self._ca.cert_pem.bytes()

    def write_ca(self, folder: Path) -> Path:
        """Write `ca.crt`; return its path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "ca.crt"
        path.write_bytes(self.ca_pem)
        return path

    def client_context(self) -> ssl.SSLContext:
        """Return a context for a client that trusts this authority and nobody else."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self.ca_pem.decode("ascii"))
        return context

    def good(self) -> ServerCertificate:
        """Issue a certificate for loopback by its names and addresses."""
        return self._issue(*NAMES)

    def with_common_name(self) -> ServerCertificate:
        """Issue a certificate for loopback that also has a common name, for clients of old that want one."""
        leaf = self._ca.issue_cert(*NAMES, common_name=NAMES[0], key_type=trustme.KeyType.ECDSA)
        chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
        return ServerCertificate(chain, leaf.private_key_pem.bytes())

    def wrong_host(self) -> ServerCertificate:
        """Issue a certificate for another host."""
        return self._issue("elsewhere.example.org")

    def expired(self) -> ServerCertificate:
        """Issue a certificate that ended yesterday."""
        return self._issue(*NAMES, not_after=_now() - dt.timedelta(days=1))

    def client(self, name: str) -> ServerCertificate:
        """Issue a certificate that a client shows, with its user's name as the common name."""
        # Python refuses a subjectAltName without entries since 3.13 (RFC 5280 s.4.2.1.6).
        leaf = self._ca.issue_cert(f"{name}@example.org", common_name=name, key_type=trustme.KeyType.ECDSA)
        chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
        return ServerCertificate(chain, leaf.private_key_pem.bytes())

    def _issue(self, *names: str, not_after: dt.datetime | None = None) -> ServerCertificate:
        start = _now() - dt.timedelta(days=30)
        leaf = self._ca.issue_cert(
            *names, not_before=start, not_after=not_after, key_type=trustme.KeyType.ECDSA
        )
        chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
        return ServerCertificate(chain, leaf.private_key_pem.bytes())


def self_signed() -> ServerCertificate:
    """Make a certificate for loopback that only vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    addresses = [x509.IPAddress(ipaddress.ip_address(each)) for each in NAMES[1:]]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_now() - dt.timedelta(days=1))
        .not_valid_after(_now() + dt.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost"), *addresses]), critical=False)
        .sign(key, hashes.SHA256())
    )
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return ServerCertificate(certificate.public_bytes(serialization.Encoding.PEM), key_pem)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
