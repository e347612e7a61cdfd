"""The ways to log in, and which of them wants which secret."""

from __future__ import annotations

from typing import Annotated, Literal

from mailferry.config.kinds import choice
from mailferry.config.secrets import Secret

MaildropAuth = Literal[
    "auto",
    "user",
    "apop",
    "rpop",
    "plain",
    "login",
    "cram-md5",
    "scram-sha-1",
    "scram-sha-1-plus",
    "scram-sha-256",
    "scram-sha-256-plus",
    "xoauth2",
    "oauthbearer",
    "external",
]
SmtpAuth = Literal[
    "auto",
    "plain",
    "login",
    "cram-md5",
    "scram-sha-1",
    "scram-sha-1-plus",
    "scram-sha-256",
    "scram-sha-256-plus",
    "xoauth2",
    "oauthbearer",
    "external",
]
MaildropWay = Annotated[MaildropAuth, choice(MaildropAuth)]
SmtpWay = Annotated[SmtpAuth, choice(SmtpAuth)]

_WITH_TOKEN = ("xoauth2", "oauthbearer")
_WITHOUT_SECRET = ("external", "rpop")
"""TLS, or the address from which we come, says who we are."""


def check_token(auth: str | None, token: Secret | None) -> None:
    """Raise `ValueError` for a token that is missing, or that the way to log in does not use.

    Args:
        auth: None when it has an error of its own.
        token: what is configured.
    """
    if auth in _WITH_TOKEN and token is None:
        raise ValueError(f'is missing; auth = "{auth}" needs it')
    if token is not None and auth is not None and auth not in {*_WITH_TOKEN, "auto"}:
        raise ValueError('is used only with auth = "xoauth2", "oauthbearer" or "auto"')


def check_password(auth: str | None, password: Secret | None, token: Secret | None) -> None:
    """Raise `ValueError` for a password that is missing, or that the way to log in does not use."""
    if auth in _WITHOUT_SECRET:
        if password is not None:
            raise ValueError(f'is not used with auth = "{auth}"')
        return
    if password is None and token is None:
        raise ValueError('is missing; set it, or oauth2_token, such as password = { file = "/path" }')
    if password is not None and token is not None:
        raise ValueError("must not be set together with oauth2_token")


def check_certificate(auth: str | None, certificate: object) -> None:
    """Raise `ValueError` when the login wants a client certificate and there is none."""
    if auth == "external" and certificate is None:
        raise ValueError('is missing; auth = "external" needs it')


def check_key(certificate: object, key: object) -> None:
    """Raise `ValueError` for a key without its certificate."""
    if key is not None and certificate is None:
        raise ValueError("needs tls_certificate beside it")
