"""From `[etrn.NAME]` with `mode = "odmr"` to what asks its provider and takes the mail in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mailferry.assembly.etrn import etrn_policy, etrn_smtp_settings
from mailferry.assembly.making import Making
from mailferry.config.models import Settings
from mailferry.model import DestinationName
from mailferry.net.odmr_connector import SmtpOdmrConnector
from mailferry.receiver.session import SmtpSession
from mailferry.receiver.sessions import ReceiverSessions
from mailferry.runtime.clock import steady_seconds
from mailferry.services.context import Surroundings
from mailferry.services.odmr import OdmrServer, OpenWays
from mailferry.telemetry.results import Peer


def odmr_server(
    name: str, settings: Settings, making: Making, around: Surroundings, sessions: ReceiverSessions
) -> OdmrServer:
    """Return a provider that is configured, whose mail goes where its table says.

    Args:
        sessions: makes the server side of connections that have turned round.
    """
    etrn = settings.etrn[name]
    deliver = [DestinationName(destination) for destination in etrn.deliver]

    def server_for(domains: Sequence[str], protected: bool) -> SmtpSession:
        wanted = [domain.lower() for domain in domains]
        return sessions.protocol(
            domains=wanted, deliver=deliver, origin=name, guarded=False, protected=protected
        )

    return OdmrServer(
        policy=etrn_policy(name, etrn, settings.receiver),
        connector=SmtpOdmrConnector(
            replace(etrn_smtp_settings(etrn, making.hostname), watch=making.watch(Peer.ETRN, name)),
            server_for,
            making.tracer(f"etrn.{name}"),
        ),
        listener=OpenWays(around.destinations, deliver),
        steady=steady_seconds,
        emit=around.emit,
    )
