"""The channel binding of a TLS connection, for SCRAM's -PLUS forms (RFC 5929, RFC 9266).

Which one follows from the version of TLS. `tls-unique` is for TLS 1.2, where Python
gives it; for TLS 1.3 it is not defined, though Python gives something all the same
(RFC 8446 app. C.5). `tls-exporter` is its successor, and no Python has it yet: it is
used once the ssl module lists it. Until then TLS 1.3 is bound to the server's
certificate, which the standard knows and most mail servers do not.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterator
from types import MappingProxyType

from mailferry.protocol.sasl_exchange import ChannelBinding

# The signature algorithms of certificates, by their DER-encoded identifiers, and the hash that
# RFC 5929 s.4.1 has the certificate taken with: MD5 and SHA-1 are replaced by SHA-256. What
# signs without a hash of its own (Ed25519, Ed448) gives no binding.
_HASHES = MappingProxyType(
    {
        bytes.fromhex("2a864886f70d010104"): "sha256",  # md5WithRSAEncryption
        bytes.fromhex("2a864886f70d010105"): "sha256",  # sha1WithRSAEncryption
        bytes.fromhex("2a864886f70d01010e"): "sha224",
        bytes.fromhex("2a864886f70d01010b"): "sha256",
        bytes.fromhex("2a864886f70d01010c"): "sha384",
        bytes.fromhex("2a864886f70d01010d"): "sha512",
        bytes.fromhex("2a8648ce3d0401"): "sha256",  # ecdsa-with-SHA1
        bytes.fromhex("2a8648ce3d040301"): "sha224",
        bytes.fromhex("2a8648ce3d040302"): "sha256",
        bytes.fromhex("2a8648ce3d040303"): "sha384",
        bytes.fromhex("2a8648ce3d040304"): "sha512",
        bytes.fromhex("2a8648ce380403"): "sha256",  # dsa-with-sha1
        bytes.fromhex("608648016503040302"): "sha256",  # dsa-with-sha256
    }
)
_RSA_PSS = bytes.fromhex("2a864886f70d01010a")
# What RSASSA-PSS names as its hash (RFC 4055 s.2.1); without a name it is SHA-1.
_PSS_HASHES = MappingProxyType(
    {
        bytes.fromhex("608648016503040204"): "sha224",
        bytes.fromhex("608648016503040201"): "sha256",
        bytes.fromhex("608648016503040202"): "sha384",
        bytes.fromhex("608648016503040203"): "sha512",
    }
)
_SEQUENCE, _OBJECT_IDENTIFIER, _FIRST_PARAMETER = 0x30, 0x06, 0xA0


def channel_binding(tls: ssl.SSLObject | None) -> ChannelBinding | None:
    """Return the best channel binding of a connection, None when it has none."""
    if tls is None:
        return None
    kind = "tls-exporter" if tls.version() == "TLSv1.3" else "tls-unique"
    if kind in ssl.CHANNEL_BINDING_TYPES:
        data = tls.get_channel_binding(kind)
        if data:
            return ChannelBinding(kind, data)
    return end_point_binding(tls.getpeercert(binary_form=True) or b"")


def end_point_binding(certificate: bytes) -> ChannelBinding | None:
    """Return `tls-server-end-point` (RFC 5929 s.4.1), None for a certificate whose hash is not known."""
    try:
        name = _signature_hash(certificate)
    except (ValueError, IndexError):  # OpenSSL took it, so it is well-formed; if not, there is no binding
        return None
    if name is None:
        return None
    return ChannelBinding("tls-server-end-point", hashlib.new(name, certificate).digest())


def _signature_hash(certificate: bytes) -> str | None:
    # RFC 5280 s.4.1: Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signature }
    (_, whole), *_ = der_elements(certificate)
    _, (_, algorithm), *_ = der_elements(whole)
    (tag, identifier), *parameters = der_elements(algorithm)
    if tag != _OBJECT_IDENTIFIER:
        return None
    if identifier == _RSA_PSS:
        return _pss_hash(parameters)
    return _HASHES.get(identifier)


def _pss_hash(parameters: list[tuple[int, bytes]]) -> str | None:
    for tag, explicit in der_elements(parameters[0][1]) if parameters else ():
        if tag == _FIRST_PARAMETER:
            (_, algorithm), *_ = der_elements(explicit)
            (_, identifier), *_ = der_elements(algorithm)
            return _PSS_HASHES.get(identifier)
    return "sha256"  # SHA-1 by default, which is replaced


def der_elements(octets: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the DER elements that stand side by side: tag and content.

    Raises:
        ValueError: they are cut short.
    """
    at = 0
    while at < len(octets):
        tag, length = octets[at], octets[at + 1]
        at += 2
        if length & 0x80:
            count = length & 0x7F
            length = int.from_bytes(octets[at : at + count], "big")
            at += count
        if at + length > len(octets):
            raise ValueError("a DER element is cut short")
        yield tag, octets[at : at + length]
        at += length
