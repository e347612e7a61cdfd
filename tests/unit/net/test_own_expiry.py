"""When a certificate of our own ends."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from mailferry.net.own_expiry import certificate_end, file_expiry
from support.certificates import LocalAuthority, ServerCertificate, self_signed


@pytest.mark.parametrize("which", ["good", "expired", "self-signed"])
def test_the_first_certificate_of_a_file_counts(tmp_path: Path, which: str) -> None:
    authority = LocalAuthority()
    certificate = {"good": authority.good, "expired": authority.expired, "self-signed": self_signed}[which]()
    leaf = x509.load_pem_x509_certificate(certificate.chain_pem)
    with_key = ServerCertificate(certificate.key_pem + certificate.chain_pem, certificate.key_pem)
    for each in (certificate, with_key):
        chain, _ = each.write(tmp_path)
        assert file_expiry(chain) == leaf.not_valid_after_utc.timestamp()


def test_of_a_far_year_the_other_kind_of_time_is_read(tmp_path: Path) -> None:
    authority = tmp_path / "ca.crt"
    authority.write_bytes(LocalAuthority().ca_pem)
    leaf = x509.load_pem_x509_certificate(authority.read_bytes())
    assert file_expiry(authority) == leaf.not_valid_after_utc.timestamp()


def test_what_is_no_certificate_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("nothing")
    with pytest.raises(ValueError, match="holds no certificate"):
        file_expiry(path)
    der = x509.load_pem_x509_certificate(LocalAuthority().ca_pem).public_bytes(serialization.Encoding.DER)
    for cut in range(0, len(der), 7):
        with pytest.raises(ValueError):
            certificate_end(der[:cut])
