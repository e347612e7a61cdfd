"""From `[maildrop.NAME]` to what is polled, and when."""

from __future__ import annotations

from dataclasses import replace

from mailferry.assembly.links import credentials_of, endpoint_of
from mailferry.assembly.making import Making
from mailferry.config.models import MaildropSettings
from mailferry.model import DestinationName, MaildropName
from mailferry.net.credentials import LoginMethod
from mailferry.net.pop3_connector import Pop3Connector, Pop3Settings, SinkMaker
from mailferry.policy.plan import Oversize, Rejected, Retention
from mailferry.runtime.schedule import Timetable
from mailferry.runtime.turn import Maildrop
from mailferry.services.context import MaildropPolicy
from mailferry.telemetry.results import Peer

_REPLY_OVERHEAD_OCTETS = 64 * 1024
"""What a message may exceed its listed size by: servers count line ends differently."""


def make_maildrop(name: MaildropName, settings: MaildropSettings, making: Making) -> Maildrop:
    """Return a maildrop that is ready to be polled."""
    policy = MaildropPolicy(
        maildrop=name,
        server=settings.host,
        destinations=tuple(DestinationName(destination) for destination in settings.deliver),
        retention=_retention(settings.keep),
        prefetch=settings.prefetch,
        max_size_octets=settings.max_size,
        oversize=Oversize(settings.oversize),
        rejected=Rejected(settings.rejected),
        max_hops=settings.max_hops,
        by_host=making.hostname,
    )
    link = replace(pop3_settings(settings, making.spool), watch=making.watch(Peer.MAILDROP, name))
    notes = making.pop3_servers.notes_on(link.endpoint)
    connector = Pop3Connector(link, making.tracer(f"maildrop.{name}"), notes)
    return Maildrop(policy, connector)


def pop3_settings(settings: MaildropSettings, spool: SinkMaker) -> Pop3Settings:
    """Return how to reach and use a maildrop; what is too large for memory goes to `spool`."""
    return Pop3Settings(
        endpoint=endpoint_of(settings),
        credentials=credentials_of(settings),
        method=LoginMethod(settings.auth),
        allow_cleartext=settings.allow_cleartext,
        pipelining=settings.pipelining,
        message_limit_octets=settings.max_size + settings.max_size // 8 + _REPLY_OVERHEAD_OCTETS,
        spool=spool,
    )


def timetable_of(settings: MaildropSettings) -> Timetable:
    """Return when a maildrop is polled."""
    if settings.cron:
        return Timetable(cron=settings.cron, jitter_seconds=settings.resolved_jitter)
    return Timetable(every_seconds=settings.every, jitter_seconds=settings.resolved_jitter)


def _retention(keep: bool | float) -> Retention:
    if isinstance(keep, bool):
        return Retention(None if keep else 0.0)
    return Retention(float(keep))
