"""Settings of an ETRN request (RFC 1985): ask a server to send a domain's queued mail."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from mailferry.config.destination import SmtpLinkSettings
from mailferry.config.kinds import Flag, count, seconds
from mailferry.config.maildrop import CronText, Interval
from mailferry.config.network_kinds import EhloName, EtrnNodes, HostAndPort, Port, resolve_port


class EtrnSettings(SmtpLinkSettings):
    """A server that queues mail for us, and is asked to send it."""

    port: Port | None = Field(
        None, description='Number or service name ("smtp"); unset: 465 implicit, 25 otherwise.'
    )
    nodes: EtrnNodes = Field(
        description='What to ask for: a domain, "@domain" for its subdomains too, or "#queue" (RFC 1985 s.5.2).'
    )
    every: Interval = Field(1800.0, description="Time between two requests.")
    cron: CronText | None = Field(
        None,
        description="Ask at these times instead: minute, hour, day of the month, month, day of the week.",
    )
    on_start: Flag = Field(True, description="Ask soon after the start, too.")
    min_gap: Annotated[float, seconds(0, 86400)] = Field(
        300.0, description="Least time between two requests for one node, also on demand."
    )
    nodes_per_session: Annotated[int, count(1, 100)] = Field(
        8, description="Nodes asked for in one session; Exim drops a session after ten."
    )
    check_listener: HostAndPort | None = Field(
        None,
        description="Where our own server takes mail: if nobody listens there, nothing is asked; unset: not looked at.",
    )
    helo_name: EhloName | None = Field(None, description="Name in EHLO; unset: `hostname` in `[daemon]`.")
    enabled: Flag = Field(
        True, description="false: keep the settings, ask nothing; the secrets are not looked for."
    )

    @property
    def resolved_port(self) -> int:
        """The port's number: where servers of other sites take mail, and ETRN with it."""
        return resolve_port(self.port if self.port is not None else 465 if self.tls == "implicit" else 25)

    @field_validator("nodes")
    @classmethod
    def _some_node(cls, nodes: tuple[str, ...]) -> tuple[str, ...]:
        if not nodes:
            raise ValueError("must name at least one domain or queue")
        return nodes
