"""Settings of a POP3 maildrop, and the defaults that all maildrops inherit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from mailferry.config.cron import parse_cron
from mailferry.config.kinds import (
    EnvText,
    FilePath,
    Flag,
    Kind,
    Table,
    Text,
    choice,
    count,
    octets,
    seconds,
)
from mailferry.config.logins import MaildropWay, check_certificate, check_key, check_password, check_token
from mailferry.config.network_kinds import CaFile, Fingerprint, Host, IpAddress, Names, Port, resolve_port
from mailferry.config.secrets import Secret
from mailferry.config.units import DURATION_PATTERN, format_duration, parse_duration

Tls = Literal["implicit", "starttls", "none"]
Oversize = Literal["skip", "headers"]
Rejected = Literal["keep", "quarantine"]

TlsMode = Annotated[Tls, choice(Tls)]
Wait = Annotated[float, seconds(0.1, 3600)]
Interval = Annotated[float, seconds(1, 366 * 86400)]
CronText = Annotated[str, Kind("five cron fields", parse_cron, {"type": "string"})]

CLEARTEXT_HELP = 'must be true when tls = "none", because {what} would travel unencrypted; better set tls = "implicit" or "starttls"'

_KEEP_HELP = (
    'must be false (delete after delivery), true (keep for ever) or an age with its unit such as "14d"'
)


def parse_keep(value: object) -> bool | float:
    """Return True, False or an age in seconds.

    A number without a unit is refused: who writes 14 means days, and reading it
    as seconds would delete mail.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, EnvText) and value.lower() in {"true", "false"}:
        return value.lower() == "true"
    if not isinstance(value, str) or value.strip().isdecimal():
        raise ValueError(_KEEP_HELP)
    try:
        age = parse_duration(value)
    except ValueError:
        raise ValueError(_KEEP_HELP) from None
    if age <= 0:
        raise ValueError("must be false, not an age of nothing, to delete after delivery")
    return age


def _show_keep(value: bool | float) -> str:
    return json.dumps(value) if isinstance(value, bool) else f'"{format_duration(value)}"'


_keep_schema = {"anyOf": [{"type": "boolean"}, {"type": "string", "pattern": DURATION_PATTERN}]}
Keep = Annotated[bool | float, Kind("true, false or age", parse_keep, _keep_schema, _show_keep)]


class MaildropDefaults(Table):
    """What every maildrop inherits unless it says otherwise."""

    tls: TlsMode = Field(
        "implicit",
        description="How the link is protected: TLS from the first octet, the STLS command, or not at all.",
    )
    allow_cleartext: Flag = Field(
        False, validate_default=True, description='Permission in words for `tls = "none"`.'
    )
    tls_ca_file: CaFile | None = Field(
        None, description="CA certificates (PEM) that vouch for the server, instead of the system's."
    )
    tls_fingerprint: Fingerprint | None = Field(
        None, description="The only certificate to accept, whoever signed it; colons are optional."
    )
    source_address: IpAddress | None = Field(None, description="Address of this machine to connect from.")
    connect_timeout: Wait = Field(30.0, description="Longest wait for a connection and its TLS handshake.")
    timeout: Wait = Field(60.0, description="Longest wait for the server's next reply.")
    every: Interval = Field(
        300.0,
        description="Time between two polls. Setting `every` or `cron` in a maildrop hides both defaults.",
    )
    cron: CronText | None = Field(
        None,
        description="Poll at these times instead: minute, hour, day of the month, month, day of the week.",
    )
    jitter: Annotated[float, seconds(0, 86400)] | None = Field(
        None,
        description="Each poll is moved by up to this time, at most `every`; unset: a tenth of `every`, nothing with `cron`.",
    )
    keep: Keep = Field(
        False,
        description="Delete after delivery (false), keep for ever (true), or delete this long after delivery.",
    )
    deliver: Names = Field(
        (), validate_default=True, description="Destinations, all of which must accept a message."
    )
    max_size: Annotated[int, octets(1 << 10, 1 << 32)] = Field(
        50 << 20, description="Largest message to fetch; `oversize` says what becomes of larger ones."
    )
    oversize: Annotated[Oversize, choice(Oversize)] = Field(
        "skip",
        description="Leave larger messages on the server, or relay their headers with a note of the size.",
    )
    rejected: Annotated[Rejected, choice(Rejected)] = Field(
        "keep",
        description="Leave a message that a destination refused for good on the server, or move it to the quarantine.",
    )
    max_hops: Annotated[int, count(5, 1000)] = Field(
        100, description="Received fields from which on a message is taken to run in a loop and is refused."
    )
    auth: MaildropWay = Field(
        "auto",
        description="How to log in; auto takes the strongest way that the server offers, never rpop or external.",
    )
    tls_certificate: FilePath | None = Field(
        None,
        validate_default=True,
        description="Our own certificate chain (PEM), shown to a server that asks for it.",
    )
    tls_key: FilePath | None = Field(
        None,
        validate_default=True,
        description="The certificate's key (PEM), without a passphrase; unset: in the same file.",
    )
    pipelining: Flag = Field(
        True, description="Send several commands at once when the server offers it (RFC 2449)."
    )
    prefetch: Annotated[int, count(1, 1000)] = Field(
        128,
        description="Messages fetched ahead of their delivery, at most; `memory_budget` bounds them, too.",
    )

    @field_validator("tls_key")
    @classmethod
    def _key_with_certificate(cls, key: Path | None, info: ValidationInfo) -> Path | None:
        if "tls_certificate" in info.data:
            check_key(info.data["tls_certificate"], key)
        return key


class MaildropSettings(MaildropDefaults):
    """One POP3 maildrop; inherits what `[defaults]` says."""

    host: Host = Field(description="The POP3 server.")
    port: Port | None = Field(
        None,
        description='Number or service name ("pop3s"); unset: 995 with implicit TLS, 110 otherwise.',
    )
    username: Text = Field(description="Name to log in with.")
    oauth2_token: Secret | None = Field(
        None,
        validate_default=True,
        description="Where the OAuth2 access token lies, for `oauthbearer` and `xoauth2`.",
    )
    password: Secret | None = Field(None, validate_default=True, description="Where the password lies.")
    enabled: Flag = Field(
        True, description="false: keep the settings, poll nothing; the secrets are not looked for."
    )

    @property
    def resolved_port(self) -> int:
        """The port's number."""
        return resolve_port(self.port if self.port is not None else 995 if self.tls == "implicit" else 110)

    @property
    def resolved_jitter(self) -> float:
        """The jitter in seconds."""
        if self.jitter is not None:
            return self.jitter
        return 0.0 if self.cron else self.every / 10

    # Checks of one field against an earlier one stand at the field that must
    # change; a check of the whole model would only run once all fields are right.

    @field_validator("allow_cleartext")
    @classmethod
    def _cleartext_in_words(cls, allowed: bool, info: ValidationInfo) -> bool:
        if info.data.get("tls") == "none" and not allowed:
            raise ValueError(CLEARTEXT_HELP.format(what="password and mail"))
        return allowed

    @field_validator("jitter")
    @classmethod
    def _jitter_within_interval(cls, jitter: float | None, info: ValidationInfo) -> float | None:
        every = info.data.get("every")
        if jitter is not None and every is not None and info.data.get("cron") is None and jitter > every:
            raise ValueError(
                f"must not be longer than every, which is {format_duration(every)}, the time between two polls"
            )
        return jitter

    @field_validator("deliver")
    @classmethod
    def _some_destination(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names:
            raise ValueError("must name at least one destination, here or in [defaults]")
        return names

    @field_validator("tls_certificate")
    @classmethod
    def _certificate_fits(cls, certificate: Path | None, info: ValidationInfo) -> Path | None:
        check_certificate(info.data.get("auth"), certificate)
        return certificate

    @field_validator("oauth2_token")
    @classmethod
    def _token_fits(cls, token: Secret | None, info: ValidationInfo) -> Secret | None:
        check_token(info.data.get("auth"), token)
        return token

    @field_validator("password")
    @classmethod
    def _password_fits(cls, password: Secret | None, info: ValidationInfo) -> Secret | None:
        if "oauth2_token" in info.data:  # it has an error of its own otherwise
            check_password(info.data.get("auth"), password, info.data["oauth2_token"])
        return password
