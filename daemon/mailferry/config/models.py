"""The whole configuration as one frozen object."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from mailferry.config.across import prepare
from mailferry.config.destination import (
    DestinationSettings,
    LmtpDestinationSettings,
    MaildirDestinationSettings,
    SmtpDestinationSettings,
    SmtpLinkSettings,
)
from mailferry.config.etrn import EtrnSettings
from mailferry.config.kinds import (
    FilePath,
    Flag,
    Kind,
    Table,
    choice,
    count,
    octets,
    plain_text,
    rate,
    seconds,
)
from mailferry.config.maildrop import MaildropDefaults, MaildropSettings
from mailferry.config.network_kinds import (
    LONGEST_SOCKET_OCTETS,
    EhloName,
    HttpHosts,
    HttpListen,
    MailAddress,
    TableName,
    is_loopback,
    split_listen,
    unix_path,
)
from mailferry.config.receiver import ReceiverSettings
from mailferry.config.secrets import Secret

__all__ = [
    "DaemonSettings",
    "DestinationSettings",
    "EtrnSettings",
    "HttpSettings",
    "LedgerSettings",
    "LmtpDestinationSettings",
    "MaildirDestinationSettings",
    "MaildropDefaults",
    "MaildropSettings",
    "NoticeSettings",
    "ReceiverSettings",
    "Settings",
    "SmtpDestinationSettings",
    "SmtpLinkSettings",
]

LogFormat = Literal["auto", "console", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]
ShowMessages = Literal["auto", "always", "login", "never"]

DEFAULT_STATE_DIR = Path("/var/lib/mailferry")

_LEDGER_HELP = 'must be "sqlite:////absolute/path"; this version knows no other store'


def _ledger_url(value: object) -> str:
    # The text does not repeat the value: a URL for another store may hold a password.
    if not isinstance(value, str) or not value.startswith("sqlite:////"):
        raise ValueError(_LEDGER_HELP)
    url = plain_text(value)
    if "?" in url or url.endswith("/"):
        raise ValueError(f"{_LEDGER_HELP}, of a file and without options")
    return url


LedgerUrl = Annotated[
    str, Kind("URL", _ledger_url, {"type": "string", "pattern": "^sqlite:////"}, json.dumps)
]


class DaemonSettings(Table):
    """The daemon as a whole."""

    state_dir: FilePath = Field(
        DEFAULT_STATE_DIR,
        description="Where the ledger lies; under systemd with `StateDirectory=` its directory is the default.",
    )
    hostname: EhloName | None = Field(
        None,
        description="Name of this machine in EHLO and Received; unset: its fully qualified name.",
    )
    max_sessions: Annotated[int, count(1, 10_000)] = Field(64, description="POP3 sessions at once, at most.")
    max_sessions_per_host: Annotated[int, count(1, 1000)] = Field(
        4, description="POP3 sessions at once to one server, at most."
    )
    memory_budget: Annotated[int, octets(1 << 20, 1 << 40)] = Field(
        256 << 20,
        description="Fetched messages in memory, all maildrops together, at most; those in files count in part.",
    )
    spool_threshold: Annotated[int, octets(1 << 16, 1 << 40)] = Field(
        4 << 20,
        description="Messages larger than this lie in a file in `state_dir` while they are under way, not in memory.",
    )
    start_rate: Annotated[float, rate(0.01, 10_000)] = Field(
        20.0, description="First polls per second after the start, so that not all maildrops begin at once."
    )
    stop_timeout: Annotated[float, seconds(1, 3600)] = Field(
        20.0, description="Time for messages under way to reach a safe point when the daemon is told to stop."
    )
    log_format: Annotated[LogFormat, choice(LogFormat)] = Field(
        "auto", description="auto: readable text on a terminal, JSON lines otherwise."
    )
    log_level: Annotated[LogLevel, choice(LogLevel)] = Field("info", description="Least level to log.")
    history: Annotated[float, seconds(3600, 100 * 366 * 86400)] = Field(
        30 * 86400.0, description="How long the ledger remembers messages that have left their maildrop."
    )
    control_socket: FilePath | None = Field(
        None,
        description="Unix socket for the commands that talk to the daemon; unset: `control.sock` in `RUNTIME_DIRECTORY` or `state_dir`.",
    )
    watch_config: Flag = Field(
        False,
        description="Look every few seconds whether the configuration's files have changed, and reload them then.",
    )
    trace: Flag = Field(
        False,
        description="Log every line of every dialogue; passwords and mail are masked, addresses are not.",
    )

    @field_validator("control_socket")
    @classmethod
    def _fits_a_socket(cls, path: Path | None) -> Path | None:
        if path is not None and len(os.fsencode(path)) > LONGEST_SOCKET_OCTETS:
            raise ValueError(f"must not name a socket with more than {LONGEST_SOCKET_OCTETS} octets")
        return path


class HttpSettings(Table):
    """Metrics, health and the status page over HTTP."""

    listen: HttpListen = Field(
        "127.0.0.1:9465",
        description='Address and port, or socket, to serve on; "" switches it off. Reading needs no login: keep it on loopback.',
    )
    page: Flag = Field(
        True, description="Whether there is a status page; metrics and health are there anyway."
    )
    token: Secret | None = Field(
        None,
        description="Where the password of the status page lies, at least 16 characters; unset: it only shows, and nobody can log in.",
    )
    allow_cleartext: Flag = Field(
        False,
        validate_default=True,
        description="Permission in words for `token` on an address other than loopback: HTTP is not encrypted.",
    )
    messages: Annotated[ShowMessages, choice(ShowMessages)] = Field(
        "auto",
        description="Who sees senders and subjects on the page: everybody, who has logged in, or nobody; auto: everybody on loopback or a socket, else who has logged in.",
    )
    hosts: HttpHosts = Field(
        (),
        description="Names under which the page may be asked for, such as that of a proxy; on loopback its own names are always allowed and no others, on other addresses any while this is empty.",
    )
    metrics_per_maildrop: Flag = Field(
        True,
        description="Whether each maildrop has metrics of its own, some 35 series; false counts all together, for sites with thousands.",
    )

    @property
    def host(self) -> str | None:
        """The address without brackets, None when HTTP is off or on a socket."""
        where = split_listen(self.listen)
        return where[0] if where else None

    @property
    def port(self) -> int | None:
        """The port, None when HTTP is off or on a socket; 0 lets the system choose."""
        where = split_listen(self.listen)
        return where[1] if where else None

    @property
    def socket(self) -> Path | None:
        """The path of the Unix socket, None when HTTP is off or on an address."""
        return unix_path(self.listen)

    @property
    def is_local(self) -> bool:
        """Whether only programs on this machine can connect."""
        return self.host is None or is_loopback(self.host)

    @property
    def messages_shown(self) -> Literal["always", "login", "never"]:
        """Who sees messages, with `auto` resolved."""
        if self.messages == "auto":
            return "always" if self.is_local else "login"
        return self.messages

    @field_validator("allow_cleartext")
    @classmethod
    def _cleartext_in_words(cls, allowed: bool, info: ValidationInfo) -> bool:
        where = split_listen(info.data.get("listen", ""))
        reachable = where is not None and not is_loopback(where[0])
        if info.data.get("token") is not None and reachable and not allowed:
            raise ValueError(
                "must be true for a token on an address that others can reach, because it would travel "
                "unencrypted; better listen on loopback or a socket, behind a proxy with TLS"
            )
        return allowed

    @field_validator("messages")
    @classmethod
    def _login_needs_a_token(cls, shown: str, info: ValidationInfo) -> str:
        if shown == "login" and "token" in info.data and info.data["token"] is None:
            raise ValueError('"login" needs token beside it')
        return shown


class NoticeSettings(Table):
    """A summary by mail for the operator: what was refused, quarantined, in doubt or cannot be polled."""

    to: MailAddress | None = Field(None, description="Who gets the summary; unset: nobody.")
    destination: TableName | None = Field(
        None, validate_default=True, description="The SMTP destination whose server takes the summary."
    )
    every: Annotated[float, seconds(60, 366 * 86400)] = Field(
        3600.0, description="At most one summary in this time, and none when there is nothing to tell."
    )

    @field_validator("destination")
    @classmethod
    def _both_or_neither(cls, name: str | None, info: ValidationInfo) -> str | None:
        if "to" in info.data and (name is None) != (info.data["to"] is None):
            raise ValueError("must be set together with to: the summary needs a reader and a way")
        return name


class LedgerSettings(Table):
    """The ledger, which remembers every message."""

    url: LedgerUrl | None = Field(None, description="Where it lies; unset: `ledger.sqlite3` in `state_dir`.")


class Settings(BaseSettings):
    """The whole configuration.

    Nothing is read from the process's environment behind the caller's back:
    `load_settings` hands over the layers, pydantic-settings lays them over one another.
    """

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=False
    )

    checks_secrets: ClassVar[bool] = True
    """Whether secrets must be there when the settings are made."""

    daemon: DaemonSettings = Field(DaemonSettings(), description="The daemon as a whole.")
    http: HttpSettings = Field(HttpSettings(), description="Metrics, health and the status page over HTTP.")
    notice: NoticeSettings = Field(
        NoticeSettings(), description="A summary by mail for the operator: what needs a person."
    )
    receiver: ReceiverSettings = Field(
        ReceiverSettings(), description="The SMTP server that takes the mail which ETRN releases."
    )
    ledger: LedgerSettings = Field(LedgerSettings(), description="The ledger, which remembers every message.")
    defaults: MaildropDefaults = Field(
        MaildropDefaults(), description="What every maildrop inherits unless it says otherwise."
    )
    maildrop: dict[TableName, MaildropSettings] = Field({}, description="The POP3 maildrops, by name.")
    destination: dict[TableName, DestinationSettings] = Field(
        {}, description="The places where messages go, by name."
    )
    etrn: dict[TableName, EtrnSettings] = Field({}, description="ETRN requests, by name.")

    @classmethod
    def from_layers(cls, layers: Sequence[PydanticBaseSettingsSource]) -> Settings:
        """Lay the layers over one another, the highest first, and validate the result.

        Raises:
            pydantic.ValidationError: something is wrong; see `mailferry.config.problems`.
        """
        return cls(layers=layers)  # type: ignore[call-arg]  # taken out again below

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the library's interface
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take the layers of the caller and none of the library's own."""
        layers = (
            init_settings.init_kwargs.pop("layers", ())
            if isinstance(init_settings, InitSettingsSource)
            else ()
        )
        return (init_settings, *layers)

    @model_validator(mode="before")
    @classmethod
    def _across(cls, data: object) -> object:
        return prepare(data, check_secrets=cls.checks_secrets) if isinstance(data, Mapping) else data

    @field_validator("maildrop", "etrn", "destination", mode="before")
    @classmethod
    def _whole_table(cls, value: Any) -> Any:  # Any: whatever stood in the file
        if not isinstance(value, dict):
            raise ValueError("must hold tables with a name, such as [maildrop.alice]")  # noqa: TRY004 - as above
        return value

    @property
    def ledger_url(self) -> str:
        """The ledger's URL."""
        return self.ledger.url or f"sqlite:///{(self.daemon.state_dir / 'ledger.sqlite3').absolute()}"

    @property
    def journal_path(self) -> Path:
        """The receipt journal's name; its two segments add a number."""
        return self.daemon.state_dir / "receipts.journal"

    @property
    def hostname(self) -> str:
        """The name to give in EHLO and Received fields.

        May ask the resolver when it is not configured: call it once, at the start.
        """
        return self.daemon.hostname or socket.getfqdn()


class SettingsWithoutSecrets(Settings):
    """Settings for commands that log in nowhere: where secrets lie is noted, not looked at."""

    checks_secrets: ClassVar[bool] = False
