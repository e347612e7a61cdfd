"""Where to connect and how to protect it: plain values, checked by the configuration."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class TlsMode(StrEnum):
    """How a link is protected (RFC 8314 prefers implicit)."""

    IMPLICIT = "implicit"
    STARTTLS = "starttls"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One peer: address, protection and patience.

    Attributes:
        ca_file: PEM file to trust instead of the system's authorities.
        fingerprint: SHA-256 of the peer's certificate in lower-case hex; when set,
            it is the only thing that is checked, so a self-signed one will do.
        certificate: PEM chain that we show when the server asks for a client certificate.
        certificate_key: its key (PEM); None when it is in the same file.
        source_address: local address to connect from.
        connect_timeout_seconds: for the connection, and again for the handshake.
        timeout_seconds: for a reply; see `Link` for what may stretch it.
        socket: a Unix socket of this machine to connect to, instead of host and port.
    """

    host: str
    port: int
    tls: TlsMode
    ca_file: Path | None = None
    fingerprint: str | None = None
    source_address: str | None = None
    connect_timeout_seconds: float = 30.0
    timeout_seconds: float = 60.0
    certificate: Path | None = None
    certificate_key: Path | None = None
    socket: Path | None = None

    @property
    def certified_name(self) -> str:
        """The name that the certificate must be for, and that SNI tells: without the root's dot (RFC 6066 s.3)."""
        return self.host.removesuffix(".")

    def __str__(self) -> str:
        """Format as `host:port`, brackets around an IPv6 address; or as the socket's path."""
        if self.socket is not None:
            return str(self.socket)
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"
