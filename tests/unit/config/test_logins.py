"""Which secret belongs to which way to log in, for POP3 and SMTP alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from mailferry.assembly.links import credentials_of, endpoint_of
from mailferry.config import Settings
from mailferry.config.logins import MaildropAuth, SmtpAuth
from mailferry.config.models import SmtpDestinationSettings
from mailferry.net.credentials import LoginMethod

from .conftest import DESTINATION, MAILDROP, VALID

Load = Callable[..., Settings]
BARE_MAILDROP = MAILDROP.replace('password = { file = "secrets/alice" }\n', "")


def office(settings: Settings) -> SmtpDestinationSettings:
    destination = settings.destination["office"]
    assert isinstance(destination, SmtpDestinationSettings)
    return destination


def test_every_way_is_one_that_the_program_knows() -> None:
    assert set(get_args(MaildropAuth)) == {method.value for method in LoginMethod}
    assert set(get_args(SmtpAuth)) == set(get_args(MaildropAuth)) - {"user", "apop", "rpop"}


def test_a_certificate_takes_the_place_of_a_password(load: Load, directory: Path) -> None:
    own = 'tls_certificate = "own.crt"\ntls_key = "own.key"\nauth = "external"\n'
    settings = load(DESTINATION + 'username = "carol"\n' + own + BARE_MAILDROP + own)
    for link in (settings.maildrop["alice"], office(settings)):
        endpoint, credentials = endpoint_of(link), credentials_of(link)
        assert (endpoint.certificate, endpoint.certificate_key) == (
            directory / "own.crt",
            directory / "own.key",
        )
        assert credentials is not None
        assert credentials.password is None


def test_a_certificate_may_stand_for_all_maildrops(load: Load, directory: Path) -> None:
    settings = load(
        '[defaults]\ntls_certificate = "own.pem"\nauth = "external"\n' + DESTINATION + BARE_MAILDROP
    )
    assert settings.maildrop["alice"].tls_certificate == directory / "own.pem"


def test_rpop_needs_nothing_but_a_name(load: Load) -> None:
    assert load(DESTINATION + BARE_MAILDROP + 'auth = "rpop"\n').maildrop["alice"].auth == "rpop"


@pytest.mark.parametrize("auth", ["auto", "xoauth2", "oauthbearer"])
def test_a_token_logs_in_to_an_smtp_server_too(load: Load, auth: str) -> None:
    token = f'username = "carol"\nauth = "{auth}"\noauth2_token = {{ file = "secrets/relay" }}\n'
    credentials = credentials_of(office(load(VALID.replace(DESTINATION, DESTINATION + token))))
    assert credentials is not None
    assert credentials.password is None
    assert credentials.token is not None
    assert credentials.token() == "battery staple"


def test_no_username_means_no_login(load: Load) -> None:
    assert credentials_of(office(load(VALID))) is None
