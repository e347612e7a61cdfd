"""What the two ends of a TLS connection have in common; handshakes in memory, no socket."""

from __future__ import annotations

import datetime as dt
import hashlib
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import NameOID

from mailferry.net.channel_binding import channel_binding, end_point_binding
from support.certificates import LocalAuthority

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def certificate(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey,
    algorithm: hashes.SHA224 | hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None,
    pss: padding.PSS | None = None,
) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pop.example.org")])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=1))
    )
    signed = builder.sign(key, algorithm, rsa_padding=pss) if pss else builder.sign(key, algorithm)
    return signed.public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize("key", [RSA_KEY, EC_KEY], ids=["RSA", "ECDSA"])
@pytest.mark.parametrize("algorithm", [hashes.SHA224(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
def test_a_certificate_is_taken_with_the_hash_of_its_signature(
    key: rsa.RSAPrivateKey, algorithm: hashes.SHA256
) -> None:
    der = certificate(key, algorithm)
    binding = end_point_binding(der)
    assert binding is not None
    assert binding.kind == "tls-server-end-point"
    assert binding.data == hashlib.new(algorithm.name, der).digest()


@pytest.mark.parametrize("algorithm", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
def test_rsassa_pss_names_its_hash_in_its_parameters(algorithm: hashes.SHA256) -> None:
    der = certificate(RSA_KEY, algorithm, padding.PSS(padding.MGF1(algorithm), algorithm.digest_size))
    binding = end_point_binding(der)
    assert binding is not None
    assert binding.data == hashlib.new(algorithm.name, der).digest()


def made_by_hand(algorithm: str) -> bytes:
    """A certificate's outer shape: an empty body, this algorithm, an empty signature."""
    content = b"\x30\x00" + bytes.fromhex(algorithm) + b"\x03\x01\x00"
    return b"\x30" + bytes([len(content)]) + content


@pytest.mark.parametrize(
    "algorithm",
    [
        "300d06092a864886f70d0101040500",  # md5WithRSAEncryption
        "300d06092a864886f70d0101050500",  # sha1WithRSAEncryption
        "300906072a8648ce3d0401",  # ecdsa-with-SHA1
        "300d06092a864886f70d01010a3000",  # RSASSA-PSS without parameters: SHA-1
        "300b06092a864886f70d01010a",
    ],
)
def test_md5_and_sha1_are_replaced(algorithm: str) -> None:
    der = made_by_hand(algorithm)
    binding = end_point_binding(der)
    assert binding is not None
    assert binding.data == hashlib.sha256(der).digest()


def test_a_signature_without_a_hash_of_its_own_gives_no_binding() -> None:
    assert end_point_binding(certificate(ed25519.Ed25519PrivateKey.generate(), None)) is None


@pytest.mark.parametrize("cut", [0, 1, 2, 3, 5, 40, -1, -40])
def test_what_is_no_certificate_gives_no_binding(cut: int) -> None:
    der = certificate(EC_KEY, hashes.SHA256())
    assert end_point_binding(der[:cut]) is None
    assert end_point_binding(b"\x30\x80" + der) is None


def connected(tmp_path: Path, version: ssl.TLSVersion) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Return the two ends of a TLS connection, client first."""
    authority = LocalAuthority()
    server_context = authority.good().server_context(tmp_path)
    server_context.maximum_version = version
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = authority.client_context().wrap_bio(down, up, server_hostname="localhost")
    server = server_context.wrap_bio(up, down, server_side=True)
    for _ in range(10):
        for end in (client, server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert client.version() is not None
    return client, server


def test_below_tls_1_3_both_ends_have_the_first_finished_message(tmp_path: Path) -> None:
    client, server = connected(tmp_path, ssl.TLSVersion.TLSv1_2)
    binding = channel_binding(client)
    assert binding is not None
    assert (binding.kind, binding.data) == ("tls-unique", server.get_channel_binding("tls-unique"))
    assert binding.is_common


def test_tls_unique_is_not_used_with_tls_1_3_though_python_gives_something(tmp_path: Path) -> None:
    client, _ = connected(tmp_path, ssl.TLSVersion.TLSv1_3)
    binding = channel_binding(client)
    assert binding is not None
    assert client.get_channel_binding("tls-unique") != binding.data
    if "tls-exporter" in ssl.CHANNEL_BINDING_TYPES:  # of a Python to come
        assert binding.kind == "tls-exporter"
        return
    assert binding == end_point_binding(client.getpeercert(binary_form=True) or b"")
    assert not binding.is_common


def test_two_connections_have_two_bindings(tmp_path: Path) -> None:
    first, _ = connected(tmp_path, ssl.TLSVersion.TLSv1_2)
    second, _ = connected(tmp_path, ssl.TLSVersion.TLSv1_2)
    assert channel_binding(first) != channel_binding(second)


def test_without_tls_there_is_none() -> None:
    assert channel_binding(None) is None


class Exporting:
    """A TLS 1.3 connection of a Python that gives `tls-exporter`."""

    def version(self) -> str:
        return "TLSv1.3"

    def get_channel_binding(self, kind: str) -> bytes:
        assert kind == "tls-exporter"
        return b"exported"


def test_tls_exporter_is_used_once_python_lists_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssl, "CHANNEL_BINDING_TYPES", ["tls-unique", "tls-exporter"])
    binding = channel_binding(Exporting())  # type: ignore[arg-type]
    assert binding is not None
    assert (binding.kind, binding.data, binding.is_common) == ("tls-exporter", b"exported", True)
