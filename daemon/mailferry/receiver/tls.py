"""Our own certificate, read again when its file changes: certificates are renewed every few weeks."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from mailferry.errors import TlsError

_log = logging.getLogger(__name__)

_Stamps = tuple[tuple[int, int] | None, ...]


class ServerTls:
    """Gives the context for a handshake."""

    def __init__(self, certificate: Path, key: Path | None) -> None:
        """Read the certificate.

        Raises:
            TlsError: it cannot be used.
        """
        self._certificate = certificate
        self._key = key
        self._stamps = self._look()
        self._context = self._load()

    def context(self) -> ssl.SSLContext:
        """Return the context; of a changed file that cannot be used the old content stays in force."""
        stamps = self._look()
        if stamps != self._stamps:
            self._stamps = stamps
            try:
                self._context = self._load()
            except TlsError as error:
                _log.error("the former certificate stays in use: %s", error)
        return self._context

    def _look(self) -> _Stamps:
        return tuple(_stamp(path) for path in (self._certificate, self._key))

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996
        try:
            context.load_cert_chain(self._certificate, self._key, password=_no_passphrase)
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
            raise TlsError(
                f"receiver.tls_certificate: {self._certificate} cannot be used: {reason}"
            ) from error
        return context


def _stamp(path: Path | None) -> tuple[int, int] | None:
    try:
        status = path.stat() if path else None
    except OSError:
        return None  # loading it says what is wrong
    return (status.st_mtime_ns, status.st_ino) if status else None


def _no_passphrase() -> str:
    """Stop OpenSSL from asking the terminal, where nobody sits."""
    raise ValueError("the key has a passphrase; give it without one, readable for the daemon only")
