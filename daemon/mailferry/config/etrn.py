"""Settings of an ETRN request (RFC 1985) or an ATRN session (RFC 2645): have a domain's queued mail sent."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from mailferry.config.destination import SmtpLinkSettings
from mailferry.config.kinds import Flag, choice, count, seconds
from mailferry.config.maildrop import CronText, Interval
from mailferry.config.network_kinds import EhloName, EtrnNodes, HostAndPort, Names, Port, resolve_port

EtrnMode = Literal["etrn", "odmr"]


class EtrnSettings(SmtpLinkSettings):
    """A server that queues mail for us, and is asked to send it."""

    mode: Annotated[EtrnMode, choice(EtrnMode)] = Field(
        "etrn",
        description="etrn: the server sends on connections of its own; odmr: over this one, for those without a fixed address (RFC 2645).",
    )
    port: Port | None = Field(
        None, description='Number or service name ("smtp"); unset: 366 with odmr, 465 implicit, 25 otherwise.'
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
    silent_after: Annotated[float, seconds(10, 86400)] = Field(
        1800.0,
        description="Time after an accepted request in which the receiver waits for mail; then `etrn.accepted_but_silent`.",
    )
    helo_name: EhloName | None = Field(None, description="Name in EHLO; unset: `hostname` in `[daemon]`.")
    deliver: Names = Field(
        (), validate_default=True, description="With odmr: destinations, all of which must accept a message."
    )
    enabled: Flag = Field(
        True, description="false: keep the settings, ask nothing; the secrets are not looked for."
    )

    @property
    def resolved_port(self) -> int:
        """The port's number; without odmr where servers of other sites take mail, and ETRN with it."""
        if self.port is None and self.mode == "odmr":
            return 366
        return resolve_port(self.port if self.port is not None else 465 if self.tls == "implicit" else 25)

    @field_validator("nodes")
    @classmethod
    def _some_node(cls, nodes: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if not nodes:
            raise ValueError("must name at least one domain or queue")
        if info.data.get("mode") == "odmr":
            if any(node.startswith(("@", "#")) for node in nodes):
                raise ValueError("must be domains with odmr: ATRN knows neither @ nor # (RFC 2645 s.5.2.1)")
            if info.data.get("username", "") is None:
                raise ValueError("need a username beside them with odmr (RFC 2645 s.5.2.1)")
        return nodes

    @field_validator("check_listener")
    @classmethod
    def _no_listener_with_odmr(cls, where: str | None, info: ValidationInfo) -> str | None:
        if where is not None and info.data.get("mode") == "odmr":
            raise ValueError("is used only with etrn; with odmr the mail comes over the connection that asks")
        return where

    @field_validator("deliver")
    @classmethod
    def _only_odmr_delivers(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if info.data.get("mode") == "odmr" and not names:
            raise ValueError("must name at least one destination with odmr")
        if info.data.get("mode") == "etrn" and names:
            raise ValueError("is used only with odmr; mail that ETRN releases comes through [receiver]")
        return names
