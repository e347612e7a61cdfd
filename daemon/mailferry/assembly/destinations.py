"""From `[destination.NAME]` to what delivers there."""

from __future__ import annotations

from dataclasses import replace

from mailferry.assembly.links import credentials_of, endpoint_of
from mailferry.assembly.making import Making
from mailferry.config.models import (
    LmtpDestinationSettings,
    MaildirDestinationSettings,
    SmtpDestinationSettings,
)
from mailferry.destinations.letter import Envelope
from mailferry.destinations.maildir import MaildirDestination
from mailferry.destinations.smtp import SmtpDestination, SmtpLimits
from mailferry.model import DestinationName
from mailferry.net.credentials import LoginMethod
from mailferry.net.smtp_connector import SmtpConnector, SmtpSettings
from mailferry.ports import Destination
from mailferry.telemetry.results import Peer


def make_destination(
    name: DestinationName,
    settings: SmtpDestinationSettings | MaildirDestinationSettings,
    making: Making,
) -> Destination:
    """Return what delivers to a destination; nothing is opened before its first message."""
    if isinstance(settings, MaildirDestinationSettings):
        return MaildirDestination(name, settings.path)
    link = replace(smtp_settings(settings, making.hostname), watch=making.watch(Peer.DESTINATION, name))
    return SmtpDestination(
        name,
        SmtpConnector(link, making.tracer(f"destination.{name}")),
        Envelope(settings.sender, tuple(settings.recipients), making.hostname),
        SmtpLimits(settings.max_sessions, settings.messages_per_session),
        making.spool,
    )


def smtp_settings(settings: SmtpDestinationSettings, hostname: str) -> SmtpSettings:
    """Return how to reach and use the server of a destination."""
    return SmtpSettings(
        endpoint=endpoint_of(settings),
        helo_name=hostname,
        credentials=credentials_of(settings),
        method=LoginMethod(settings.auth),
        allow_cleartext=settings.cleartext_allowed,
        final_timeout_seconds=settings.final_timeout,
        pipelining=settings.pipelining,
        chunking=settings.chunking,
        lmtp=isinstance(settings, LmtpDestinationSettings),
    )
