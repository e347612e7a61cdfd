"""From the settings of a server to where it is, how it is protected, and who we are there."""

from __future__ import annotations

from pathlib import Path

from mailferry.config.models import (
    EtrnSettings,
    LmtpDestinationSettings,
    MaildropSettings,
    SmtpDestinationSettings,
)
from mailferry.net.credentials import Credentials
from mailferry.net.endpoint import Endpoint, TlsMode

LinkSettings = MaildropSettings | SmtpDestinationSettings | EtrnSettings


def endpoint_of(settings: LinkSettings) -> Endpoint:
    """Return where to connect to."""
    return Endpoint(
        host=settings.host or "localhost",  # none: it is a socket of this machine
        socket=settings.socket if isinstance(settings, LmtpDestinationSettings) else None,
        port=settings.resolved_port,
        tls=TlsMode(settings.tls),
        ca_file=Path(settings.tls_ca_file) if settings.tls_ca_file else None,
        fingerprint=settings.tls_fingerprint,
        source_address=settings.source_address,
        connect_timeout_seconds=settings.connect_timeout,
        timeout_seconds=settings.timeout,
        certificate=settings.tls_certificate,
        certificate_key=settings.tls_key,
    )


def credentials_of(settings: LinkSettings) -> Credentials | None:
    """Return who we are there; None where nobody logs in."""
    if settings.username is None:
        return None
    token = settings.oauth2_token
    secret = settings.password or token
    return Credentials(
        username=settings.username,
        password=settings.password.reveal if settings.password else None,
        token=token.reveal if token else None,
        changed_at=secret.changed_at if secret else lambda: None,
    )
