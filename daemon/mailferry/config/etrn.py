"""Settings of an ETRN request (RFC 1985): ask a server to send a domain's queued mail."""

from __future__ import annotations

from pydantic import Field, field_validator

from mailferry.config.destination import SmtpLinkSettings
from mailferry.config.kinds import Flag
from mailferry.config.maildrop import CronText, Interval
from mailferry.config.network_kinds import EtrnNodes, Port, resolve_port


class EtrnSettings(SmtpLinkSettings):
    """A server that queues mail for us. Checked in this version, not yet run."""

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
