"""Our own certificate, read again when its file changes: certificates are renewed every few weeks."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from pathlib import Path

from mailferry.errors import TlsError

_log = logging.getLogger(__name__)

_Stamps = tuple[tuple[int, int] | None, ...]


class ServerTls:
    """Gives the context for a handshake.

    Args:
        tell: called for each certificate that is in use from now on, with the client's side of
            a handshake that had it shown.
    """

    def __init__(
        self, certificate: Path, key: Path | None, tell: Callable[[ssl.SSLObject], None] = lambda _: None
    ) -> None:
        """Read the certificate.

        Raises:
            TlsError: it cannot be used.
        """
        self._certificate = certificate
        self._key = key
        self._tell = tell
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
        self._tell(_shown_by(context))
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


def _shown_by(context: ssl.SSLContext) -> ssl.SSLObject:
    """Return a client's view of the certificates, after a handshake in memory."""
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    asking.check_hostname = False
    asking.verify_mode = ssl.CERT_NONE
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = asking.wrap_bio(down, up)
    server = context.wrap_bio(up, down, server_side=True)
    for _ in range(4):  # flights of a handshake; as many as TLS 1.2 takes
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return client
