"""Settings of the embedded SMTP server, which takes mail for our own domains and nobody else's."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from mailferry.config.kinds import FilePath, Table, count, octets
from mailferry.config.network_kinds import Domains, ListenAddress, Names, Networks, split_listen


class ReceiverSettings(Table):
    """The SMTP server that takes the mail which ETRN releases."""

    listen: ListenAddress = Field("", description='Address and port to take mail on; "" switches it off.')
    domains: Domains = Field(
        (),
        validate_default=True,
        description='Domains whose mail is taken; ".example.org" stands for the subdomains. Mail for any other is refused.',
    )
    deliver: Names = Field(
        (), validate_default=True, description="Destinations, all of which must accept a message."
    )
    allow_from: Networks = Field((), description="Networks that may connect; empty: any.")
    max_size: Annotated[int, octets(1 << 10, 1 << 32)] = Field(
        50 << 20, description="Largest message to take, told in EHLO (RFC 1870)."
    )
    max_sessions: Annotated[int, count(1, 1000)] = Field(
        20, description="Sessions at once, at most; one address may have half of them."
    )
    messages_per_minute: Annotated[int, count(1, 100_000)] = Field(
        600,
        description="Messages from one address per minute, at most; what is above is asked to come later.",
    )
    tls_certificate: FilePath | None = Field(
        None, description="Certificate chain (PEM); set, STARTTLS is offered."
    )
    tls_key: FilePath | None = Field(
        None, validate_default=True, description="The certificate's key (PEM); unset: in the same file."
    )

    @property
    def address(self) -> tuple[str, int] | None:
        """Address and port to listen on; None when it is off."""
        return split_listen(self.listen)

    @field_validator("domains")
    @classmethod
    def _some_domain(cls, domains: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if info.data.get("listen") and not domains:
            raise ValueError("must name the domains whose mail is taken, or listen be empty")
        return domains

    @field_validator("deliver")
    @classmethod
    def _some_destination(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if info.data.get("listen") and not names:
            raise ValueError("must name at least one destination, or listen be empty")
        return names

    @field_validator("tls_key")
    @classmethod
    def _key_with_certificate(cls, key: object, info: ValidationInfo) -> object:
        if key is not None and info.data.get("tls_certificate") is None:
            raise ValueError("needs tls_certificate beside it")
        return key
