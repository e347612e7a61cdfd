"""TLS contexts: verified by default, at least 1.2 (RFC 8314 s.4, RFC 8996).

A pinned fingerprint replaces the chain and the name, since it says more than both.
"""

from __future__ import annotations

import hashlib
import hmac
import ssl
from functools import lru_cache
from pathlib import Path

from mailferry.errors import TlsError
from mailferry.net.endpoint import Endpoint


def client_context(endpoint: Endpoint) -> ssl.SSLContext:
    """Return the context for an endpoint; contexts are shared, loading authorities is slow.

    Raises:
        TlsError: the CA file, or our own certificate, cannot be used.
    """
    own = (endpoint.certificate, endpoint.certificate_key)
    # Authorities and client certificates are renewed while we run: a new file means a new context.
    stamps = tuple(_stamp(path) for path in (endpoint.ca_file, *own))
    return _context(endpoint.ca_file, endpoint.fingerprint is not None, own, stamps)


def _stamp(path: Path | None) -> tuple[int, int] | None:
    try:
        status = path.stat() if path else None
    except OSError:
        return None  # loading it says what is wrong
    return (status.st_mtime_ns, status.st_ino) if status else None


@lru_cache(maxsize=64)
def _context(
    ca_file: Path | None,
    pinned: bool,
    own: tuple[Path | None, Path | None],
    _stamps: tuple[tuple[int, int] | None, ...],
) -> ssl.SSLContext:
    context = _new_context(ca_file, pinned)
    certificate, key = own
    if certificate is not None:
        _load_own(context, certificate, key)
    return context


def own_certificate(certificate: Path, key: Path | None) -> None:
    """Look whether a certificate of our own and its key can be used.

    Raises:
        TlsError: they cannot; the text begins with the setting's name.
    """
    _load_own(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), certificate, key)


def _load_own(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    try:
        context.load_cert_chain(certificate, key, password=_no_passphrase)
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        where = f"{certificate} with tls_key {key}" if key else str(certificate)
        raise TlsError(f"tls_certificate: {where} cannot be used: {reason}") from error


def _no_passphrase() -> str:
    """Stop OpenSSL from asking the terminal, where nobody sits."""
    raise ValueError("the key has a passphrase; give it without one, readable for the daemon only")


def _new_context(ca_file: Path | None, pinned: bool) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise TlsError(f"tls_ca_file {ca_file}: cannot be used: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # RFC 9525 s.2: only a subjectAltName names the host; Python still takes the common name where there is none.
    context.hostname_checks_common_name = False
    if pinned:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # check_fingerprint does it after the handshake
    return context


def check_fingerprint(endpoint: Endpoint, certificate: bytes | None) -> None:
    """Compare the peer's certificate (DER) with the pinned fingerprint, if there is one.

    Raises:
        TlsError: it is another one.
    """
    if endpoint.fingerprint is None:
        return
    presented = hashlib.sha256(certificate or b"").hexdigest()
    if not hmac.compare_digest(presented, endpoint.fingerprint):
        raise TlsError(
            f"{endpoint}: the certificate's SHA-256 fingerprint is {presented}, "
            f"tls_fingerprint says {endpoint.fingerprint}: another server, or a renewed certificate"
        )


def explain(endpoint: Endpoint, error: Exception) -> str:
    """Say what a failed handshake means and what to do about it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{endpoint}: certificate refused: {_refusal(error)}"
    if isinstance(error, ssl.SSLError):
        reason = error.reason or str(error)
        return f"{endpoint}: TLS handshake failed: {reason}. {_handshake_advice(reason)}"
    reason = str(error) or "the server closed the connection"
    # Some servers hang up in place of the alert that would tell why.
    too_old = "a server with only TLS below 1.2 is not accepted (RFC 8996)"
    return f"{endpoint}: TLS handshake failed: {reason}. {_PORT_ADVICE}; {too_old}"


_PORT_ADVICE = 'Check that port and tls agree ("implicit" on 995/465, "starttls" on 110/25/587)'


def _handshake_advice(reason: str) -> str:
    # UNSUPPORTED_PROTOCOL when the server chose a version below ours, TLSV1_ALERT_PROTOCOL_VERSION
    # when it refused ours (RFC 8446 s.6.2).
    if "PROTOCOL_VERSION" in reason or "UNSUPPORTED_PROTOCOL" in reason:
        return "The server offers only TLS below 1.2, which is not accepted (RFC 8996)"
    return _PORT_ADVICE


# OpenSSL's X509_V_ERR_* numbers.
_NOT_YET_VALID = 9
_EXPIRED = 10
_SELF_SIGNED = (18, 19)
_UNKNOWN_ISSUER = (20, 21)
_WRONG_NAME = (62, 64)
_UNTIDY = range(83, 94)
"""What RFC 5280 asks of a certificate's extensions, and Python demands since 3.13 (VERIFY_X509_STRICT)."""


def _refusal(error: ssl.SSLCertVerificationError) -> str:
    advice = _advice(error)
    if error.verify_code in (_NOT_YET_VALID, _EXPIRED):
        return advice  # which says it all: OpenSSL's words would say it twice
    return f"{error.verify_message.rstrip('. ')}. {advice}"


def _advice(error: ssl.SSLCertVerificationError) -> str:
    code = error.verify_code
    if code == _NOT_YET_VALID:
        return "It is not valid yet: check this machine's clock"
    if code == _EXPIRED:
        return "It has expired: ask the server's operator to renew it, or check this machine's clock"
    if code in _SELF_SIGNED or code in _UNKNOWN_ISSUER:
        return "If it is the right server, give its authority in tls_ca_file or pin it with tls_fingerprint"
    if code in _WRONG_NAME:
        return (
            "Use the name that the certificate is for as host, or pin it with tls_fingerprint; "
            "a name that is only its common name does not count (RFC 9525)"
        )
    if code in _UNTIDY:
        return (
            "Python refuses this since 3.13, and took it before: have it issued anew as RFC 5280 says "
            "(OpenSSL 3 does so by itself), or pin it with tls_fingerprint"
        )
    return "The server's operator can tell why; nothing was sent"
