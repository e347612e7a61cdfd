"""Settings of the places where messages go, and of the SMTP link that ETRN shares."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator

from mailferry.config.kinds import FilePath, Flag, Table, Text, choice, count, seconds
from mailferry.config.logins import SmtpWay, check_certificate, check_key, check_password, check_token
from mailferry.config.maildrop import CLEARTEXT_HELP, TlsMode, Wait
from mailferry.config.network_kinds import (
    CaFile,
    Fingerprint,
    Host,
    IpAddress,
    Port,
    Recipients,
    Sender,
    is_loopback,
    resolve_port,
)
from mailferry.config.secrets import Secret

ReplyWait = Annotated[float, seconds(0.1, 3600)]

DESTINATION_TYPES = ("smtp", "lmtp", "maildir")


class SmtpLinkSettings(Table):
    """How to reach an SMTP server."""

    host: Host = Field(description="The SMTP server.")
    port: Port | None = Field(None, description="Port number or service name.")
    tls: TlsMode = Field(
        "starttls",
        description="How the link is protected: TLS from the first octet, the STARTTLS command, or not at all.",
    )
    allow_cleartext: Flag = Field(
        False,
        validate_default=True,
        description='Permission in words for `tls = "none"` to a host other than this machine.',
    )
    tls_ca_file: CaFile | None = Field(
        None, description="CA certificates (PEM) that vouch for the server, instead of the system's."
    )
    tls_fingerprint: Fingerprint | None = Field(
        None, description="The only certificate to accept, whoever signed it; colons are optional."
    )
    source_address: IpAddress | None = Field(None, description="Address of this machine to connect from.")
    username: Text | None = Field(None, description="Name to log in with; unset: no login.")
    auth: SmtpWay = Field(
        "auto",
        validate_default=True,
        description="How to log in; auto takes the strongest way that the server offers, never external.",
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
    oauth2_token: Secret | None = Field(
        None,
        validate_default=True,
        description="Where the OAuth2 access token lies, for `oauthbearer` and `xoauth2`.",
    )
    password: Secret | None = Field(None, validate_default=True, description="Where the password lies.")
    connect_timeout: Wait = Field(30.0, description="Longest wait for a connection and its TLS handshake.")
    timeout: ReplyWait = Field(
        300.0, description="Longest wait for a reply (RFC 5321 s.4.5.3.2 wants 5 minutes)."
    )

    @property
    def cleartext_allowed(self) -> bool:
        """Whether a password may go unencrypted: by permission, or because it stays on this machine."""
        host: str | None = self.host  # none: a socket of this machine
        return self.allow_cleartext or host is None or is_loopback(host)

    @field_validator("allow_cleartext")
    @classmethod
    def _cleartext_in_words(cls, allowed: bool, info: ValidationInfo) -> bool:
        host = info.data.get("host")
        if info.data.get("tls") == "none" and host is not None and not allowed and not is_loopback(host):
            raise ValueError(CLEARTEXT_HELP.format(what="mail (and a password)"))
        return allowed

    @field_validator("tls_certificate")
    @classmethod
    def _certificate_fits(cls, certificate: Path | None, info: ValidationInfo) -> Path | None:
        check_certificate(info.data.get("auth"), certificate)
        return certificate

    @field_validator("tls_key")
    @classmethod
    def _key_with_certificate(cls, key: Path | None, info: ValidationInfo) -> Path | None:
        if "tls_certificate" in info.data:
            check_key(info.data["tls_certificate"], key)
        return key

    @field_validator("oauth2_token", "password")
    @classmethod
    def _only_with_a_username(cls, secret: Secret | None, info: ValidationInfo) -> Secret | None:
        if secret is not None and info.data.get("username", "") is None:
            raise ValueError("needs a username beside it")
        return secret

    @field_validator("oauth2_token")
    @classmethod
    def _token_fits(cls, token: Secret | None, info: ValidationInfo) -> Secret | None:
        if info.data.get("username") is not None:
            check_token(info.data.get("auth"), token)
        return token

    @field_validator("password")
    @classmethod
    def _password_fits(cls, password: Secret | None, info: ValidationInfo) -> Secret | None:
        if info.data.get("username") is not None and "oauth2_token" in info.data:
            check_password(info.data.get("auth"), password, info.data["oauth2_token"])
        return password


class SmtpDestinationSettings(SmtpLinkSettings):
    """An SMTP server that takes messages: a smarthost or the recipients' own."""

    port: Port | None = Field(
        None,
        description='Number or service name ("submission"); unset: 465 implicit, 587 starttls, 25 none.',
    )
    type: Annotated[Literal["smtp"], choice(Literal["smtp"])] = Field(
        "smtp", description="What sort of destination this is."
    )
    sender: Sender = Field(
        "original",
        description="Envelope sender: that of the message (from Return-Path), the null sender `<>`, or a fixed address.",
    )
    recipients: Recipients = Field(
        description='Envelope recipients (the header\'s To is never touched), or "original": those that a message came with by SMTP.'
    )
    final_timeout: ReplyWait = Field(
        600.0,
        description="Longest wait for the reply to the final dot (RFC 5321 s.4.5.3.2.6 wants 10 minutes).",
    )
    max_sessions: Annotated[int, count(1, 1000)] = Field(8, description="Sessions at once, at most.")
    messages_per_session: Annotated[int, count(1, 1_000_000)] = Field(
        1000, description="Messages after which a session is closed and a new one opened."
    )
    pipelining: Flag = Field(
        True, description="Send several commands at once when the server offers it (RFC 2920)."
    )
    chunking: Flag = Field(True, description="Send messages with BDAT when the server offers it (RFC 3030).")
    enabled: Flag = Field(
        True,
        description="false: keep the settings; no maildrop may name it, and its secrets are not looked for.",
    )

    @property
    def resolved_port(self) -> int:
        """The port's number."""
        by_mode = {"implicit": 465, "starttls": 587, "none": 25}
        return resolve_port(self.port if self.port is not None else by_mode[self.tls])

    @property
    def where(self) -> str:
        """The server's place, for people to read."""
        return f"{self.host}:{self.resolved_port}"


class LmtpDestinationSettings(SmtpDestinationSettings):
    """An LMTP server (RFC 2033), which answers for each recipient by itself: a mail store."""

    type: Annotated[Literal["lmtp"], choice(Literal["lmtp"])] = Field(  # type: ignore[assignment]
        description="What sort of destination this is."
    )
    host: Host | None = Field(None, description="The LMTP server; or set `socket`.")  # type: ignore[assignment]
    socket: FilePath | None = Field(
        None, validate_default=True, description="The server's Unix socket, on this machine."
    )
    port: Port | None = Field(None, description='Number or service name ("lmtp"); unset: 24.')
    tls: TlsMode = Field(
        "none",
        description="How the link is protected: TLS from the first octet, the STARTTLS command, or not at all.",
    )

    @property
    def resolved_port(self) -> int:
        """The port's number; RFC 2033 s.5 forbids 25."""
        return resolve_port(self.port if self.port is not None else 24)

    @property
    def where(self) -> str:
        """The server's place, for people to read; with a socket that."""
        return str(self.socket) if self.socket is not None else f"{self.host}:{self.resolved_port}"

    @field_validator("socket")
    @classmethod
    def _one_of_two(cls, socket: Path | None, info: ValidationInfo) -> Path | None:
        if "host" in info.data and (socket is None) == (info.data["host"] is None):
            raise ValueError("must be set, or host; not both")
        if socket is not None and info.data.get("tls", "none") != "none":
            raise ValueError('needs tls = "none": what goes over it stays on this machine')
        return socket


class MaildirDestinationSettings(Table):
    """A Maildir on this machine, as an archive or a mailbox."""

    type: Annotated[Literal["maildir"], choice(Literal["maildir"])] = Field(
        description="What sort of destination this is."
    )
    path: FilePath = Field(description="The Maildir; it and its parents are created when first used.")
    enabled: Flag = Field(True, description="false: keep the settings; no maildrop may name it.")

    @field_validator("path")
    @classmethod
    def _directory_or_new(cls, path: Path) -> Path:
        try:
            is_other = path.exists() and not path.is_dir()
        except PermissionError:  # a folder above it may not be entered
            raise ValueError(
                "cannot be looked at: permission denied; the daemon's user must be able to enter its folders"
            ) from None
        except OSError as error:
            raise ValueError(f"cannot be looked at: {error.strerror}") from None
        if is_other:
            raise ValueError("must be a directory, or not exist yet")
        return path


def _type_of(value: object) -> str | None:
    if isinstance(value, SmtpDestinationSettings | MaildirDestinationSettings):  # LMTP is the former, too
        return value.type
    found = value.get("type", "smtp") if isinstance(value, dict) else "smtp"
    return str(found) if isinstance(found, str) and found in DESTINATION_TYPES else None


DestinationSettings = Annotated[
    Annotated[SmtpDestinationSettings, Tag("smtp")]
    | Annotated[LmtpDestinationSettings, Tag("lmtp")]
    | Annotated[MaildirDestinationSettings, Tag("maildir")],
    Discriminator(_type_of),
]
