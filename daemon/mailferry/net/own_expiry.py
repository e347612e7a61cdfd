"""When a certificate of our own ends; Python reads only those that a peer has shown."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path

from mailferry.net.channel_binding import der_elements

_UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x17, 0x18, 0xA0
_END = "-----END CERTIFICATE-----"


def file_expiry(path: Path) -> float:
    """Return when the first certificate of a PEM file ends, in seconds since the epoch.

    Raises:
        OSError: the file cannot be read.
        ValueError: there is no certificate in it.
    """
    _, found, rest = path.read_text("ascii", "replace").partition("-----BEGIN CERTIFICATE-----")
    if not found:
        raise ValueError(f"{path}: holds no certificate")
    return certificate_end(ssl.PEM_cert_to_DER_cert(f"{found}{rest.partition(_END)[0]}{_END}"))


def certificate_end(certificate: bytes) -> float:
    """Return when a certificate (DER) ends (RFC 5280 s.4.1.2.5).

    Raises:
        ValueError: it is none.
    """
    try:
        ((_, whole),) = der_elements(certificate)
        (_, body), *_ = der_elements(whole)
        parts = [each for each in der_elements(body) if each[0] != _VERSION]
        _serial, _algorithm, _issuer, (_, validity), *_ = parts
        _, (tag, end) = der_elements(validity)
    except IndexError as error:
        raise ValueError("a certificate is cut short") from error
    return _moment(tag, end.decode("ascii"))


def _moment(tag: int, text: str) -> float:
    if tag == _UTC_TIME:  # RFC 5280 s.4.1.2.5.1: two digits of the year, and 50 is 1950
        text = ("19" if text >= "5" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("a certificate that does not end")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
