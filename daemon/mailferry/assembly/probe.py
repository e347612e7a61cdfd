"""From the configuration to sessions that are driven by hand: the links are the daemon's own."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from mailferry.assembly.destinations import smtp_settings
from mailferry.assembly.etrn import etrn_smtp_settings
from mailferry.assembly.maildrops import pop3_settings
from mailferry.config.models import Settings, SmtpDestinationSettings
from mailferry.net.endpoint import Endpoint
from mailferry.net.pop3_connector import Pop3Settings
from mailferry.net.pop3_probe import HeadKeeper
from mailferry.net.smtp_connector import SmtpSettings


@dataclass(frozen=True, slots=True)
class ProbeChanges:
    """In what a session by hand differs from the daemon's.

    Attributes:
        log_in: whether to log in where the daemon would.
        timeout_seconds: the longest wait for the connection and for each reply; None: as configured.
    """

    log_in: bool = True
    timeout_seconds: float | None = None


AS_THE_DAEMON = ProbeChanges()


def pop3_link(name: str, settings: Settings, changes: ProbeChanges = AS_THE_DAEMON) -> Pop3Settings:
    """Return how a maildrop is reached."""
    link = pop3_settings(settings.maildrop[name], HeadKeeper())
    credentials = link.credentials if changes.log_in else None
    return replace(link, endpoint=_endpoint(link.endpoint, changes), credentials=credentials)


def smtp_link(
    table: str, settings: Settings, hostname: str, changes: ProbeChanges = AS_THE_DAEMON
) -> SmtpSettings:
    """Return how the server of `destination.NAME` or `etrn.NAME` is reached."""
    kind, _, name = table.partition(".")
    if kind == "etrn":
        link = etrn_smtp_settings(settings.etrn[name], hostname)
    else:
        destination = settings.destination[name]
        assert isinstance(destination, SmtpDestinationSettings), f"{table} is no SMTP server"
        link = smtp_settings(destination, hostname)
    credentials = link.credentials if changes.log_in else None
    return replace(link, endpoint=_endpoint(link.endpoint, changes), credentials=credentials)


def smtp_tables(settings: Settings) -> dict[str, str]:
    """Return what SMTP servers may be called: the table's whole name, and its last part if no other has it."""
    destinations = settings.destination.items()
    tables = [
        ("destination", name) for name, each in destinations if isinstance(each, SmtpDestinationSettings)
    ]
    tables += [("etrn", name) for name in settings.etrn]
    counts = Counter(name for _, name in tables)
    short = {name: f"{kind}.{name}" for kind, name in tables if counts[name] == 1}
    return {f"{kind}.{name}": f"{kind}.{name}" for kind, name in tables} | short


def _endpoint(endpoint: Endpoint, changes: ProbeChanges) -> Endpoint:
    seconds = changes.timeout_seconds
    if seconds is None:
        return endpoint
    return replace(endpoint, connect_timeout_seconds=seconds, timeout_seconds=seconds)
