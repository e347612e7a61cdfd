"""Contexts, pins, and what is said about a failed handshake."""

from __future__ import annotations

import hashlib
import os
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from mailferry.errors import TlsError
from mailferry.net.endpoint import Endpoint, TlsMode
from mailferry.net.tls import check_fingerprint, client_context, explain, own_certificate
from support.certificates import LocalAuthority

ENDPOINT = Endpoint("pop.example.org", 995, TlsMode.IMPLICIT)
PIN = hashlib.sha256(b"certificate").hexdigest()


def refused(code: int, message: str = "why") -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, message
    return error


def handshake_failed(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}]")
    error.reason = reason
    return error


def test_by_default_chain_and_name_are_verified() -> None:
    context = client_context(ENDPOINT)
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.get_ca_certs() or ssl.get_default_verify_paths().capath


def test_a_pin_takes_the_place_of_chain_and_name() -> None:
    context = client_context(replace(ENDPOINT, fingerprint=PIN))
    assert context.verify_mode is ssl.CERT_NONE
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert client_context(ENDPOINT).verify_mode is ssl.CERT_REQUIRED  # the shared one is another


def test_contexts_are_shared() -> None:
    assert client_context(ENDPOINT) is client_context(replace(ENDPOINT, host="other.example.org"))


def test_an_authority_that_was_written_anew_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "ca.crt"
    known = []
    for authority in (LocalAuthority(), LocalAuthority()):
        path.write_bytes(authority.ca_pem)
        os.utime(path, (len(known), len(known)))
        context = client_context(replace(ENDPOINT, ca_file=path))
        assert client_context(replace(ENDPOINT, ca_file=path)) is context
        known.append(context.get_ca_certs(binary_form=True))
    assert known[0] != known[1]


@pytest.mark.parametrize("content", [None, b"not a certificate"])
def test_an_unusable_ca_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ca.crt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TlsError, match=rf"tls_ca_file {path}: cannot be used: "):
        client_context(replace(ENDPOINT, ca_file=path))


def test_a_pin_is_compared_with_the_presented_certificate() -> None:
    check_fingerprint(ENDPOINT, None)
    pinned = replace(ENDPOINT, fingerprint=PIN)
    check_fingerprint(pinned, b"certificate")
    presented = hashlib.sha256(b"another").hexdigest()
    with pytest.raises(TlsError, match=f"fingerprint is {presented}, tls_fingerprint says {PIN}"):
        check_fingerprint(pinned, b"another")
    with pytest.raises(TlsError):
        check_fingerprint(pinned, None)


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (18, "tls_ca_file or pin it with tls_fingerprint"),
        (19, "tls_ca_file or pin it with tls_fingerprint"),
        (20, "tls_ca_file or pin it with tls_fingerprint"),
        (21, "tls_ca_file or pin it with tls_fingerprint"),
        (62, "Use the name that the certificate is for as host"),
        (64, "Use the name that the certificate is for as host"),
        (85, "issued anew as RFC 5280 says"),
        (23, "nothing was sent"),
    ],
)
def test_a_refused_certificate_comes_with_advice(code: int, advice: str) -> None:
    text = explain(ENDPOINT, refused(code))
    assert text.startswith("pop.example.org:995: certificate refused: why. ")
    assert advice in text


@pytest.mark.parametrize(
    ("code", "message", "text"),
    [
        (9, "certificate is not yet valid", "It is not valid yet: check this machine's clock"),
        (
            10,
            "certificate has expired",
            "It has expired: ask the server's operator to renew it, or check this machine's clock",
        ),
    ],
)
def test_a_certificate_out_of_its_time_is_told_once(code: int, message: str, text: str) -> None:
    assert explain(ENDPOINT, refused(code, message)) == f"pop.example.org:995: certificate refused: {text}"


def test_a_reason_that_ends_with_a_full_stop_gets_no_second_one() -> None:
    text = explain(ENDPOINT, refused(62, "Hostname mismatch, certificate is not valid for 'localhost'."))
    assert "'localhost'. Use the name" in text


@pytest.mark.parametrize(
    "reason", ["UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "TLSV1_ALERT_UNSUPPORTED_PROTOCOL"]
)
def test_a_server_with_old_tls_only_is_called_that(reason: str) -> None:
    text = explain(ENDPOINT, handshake_failed(reason))
    assert text == (
        f"pop.example.org:995: TLS handshake failed: {reason}. "
        "The server offers only TLS below 1.2, which is not accepted (RFC 8996)"
    )


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            handshake_failed("WRONG_VERSION_NUMBER"),
            "failed: WRONG_VERSION_NUMBER. Check that port and tls agree",
        ),
        (ConnectionResetError("reset"), "TLS handshake failed: reset"),
        (ConnectionResetError(), "TLS handshake failed: the server closed the connection"),
    ],
)
def test_other_failures_say_what_there_is_to_say(error: Exception, text: str) -> None:
    assert text in explain(ENDPOINT, error)


# --- our own certificate ------------------------------------------------------------------


def own(tmp_path: Path) -> Endpoint:
    certificate, key = LocalAuthority().good().write(tmp_path / "own")
    return replace(ENDPOINT, certificate=certificate, certificate_key=key)


def test_a_renewed_certificate_gets_a_new_context(tmp_path: Path) -> None:
    endpoint = own(tmp_path)
    before = client_context(endpoint)
    assert client_context(replace(endpoint, host="other.example.org")) is before
    assert client_context(ENDPOINT) is not before
    own(tmp_path)
    os.utime(tmp_path / "own" / "server.crt", ns=(1, 1))
    assert client_context(endpoint) is not before


def test_one_file_may_hold_certificate_and_key(tmp_path: Path) -> None:
    good = LocalAuthority().good()
    both = tmp_path / "both.pem"
    both.write_bytes(good.key_pem + good.chain_pem)
    assert client_context(replace(ENDPOINT, certificate=both)).verify_mode is ssl.CERT_REQUIRED
    own_certificate(both, None)


def test_a_certificate_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    endpoint = own(tmp_path)
    missing = tmp_path / "none.key"
    with pytest.raises(
        TlsError, match=r"tls_certificate: .*server\.crt with tls_key .*none\.key cannot be used: No such"
    ):
        client_context(replace(endpoint, certificate_key=missing))
    other = LocalAuthority().good().write(tmp_path / "other")[1]
    with pytest.raises(TlsError, match="KEY_VALUES_MISMATCH"):
        client_context(replace(endpoint, certificate_key=other))
    with pytest.raises(TlsError, match=r"none\.key cannot be used"):
        own_certificate(missing, None)


def test_a_key_with_a_passphrase_asks_nobody(tmp_path: Path) -> None:
    endpoint = own(tmp_path)
    assert endpoint.certificate_key is not None
    key = serialization.load_pem_private_key(endpoint.certificate_key.read_bytes(), None)
    endpoint.certificate_key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"passphrase"),
        )
    )
    with pytest.raises(TlsError, match="has a passphrase"):
        client_context(endpoint)
