"""What `[http]` says about where to serve, who may log in, and who sees mail."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from mailferry.config.models import HttpSettings
from mailferry.config.secrets import Secret


def secret(tmp_path: Path) -> Secret:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text("a token that nobody guesses\n")
    return Secret.from_table({"file": str(path)}, base=tmp_path, environ={})


def test_a_socket_is_neither_an_address_nor_off() -> None:
    http = HttpSettings(listen="unix:/run/mailferry/http.sock")
    assert (http.socket, http.host, http.port) == (Path("/run/mailferry/http.sock"), None, None)
    assert http.is_local
    off = HttpSettings(listen="")
    assert (off.socket, off.host, off.port) == (None, None, None)


@pytest.mark.parametrize("listen", ["unix:", "unix:run", "unix:/", "unix:/run/\n", "unix:/" + 107 * "x"])
def test_what_cannot_be_a_socket_is_refused(listen: str) -> None:
    with pytest.raises(ValidationError):
        HttpSettings(listen=listen)


@pytest.mark.parametrize(
    ("listen", "messages", "shown"),
    [
        ("127.0.0.1:9465", "auto", "always"),
        ("[::1]:9465", "auto", "always"),
        ("unix:/run/http.sock", "auto", "always"),
        ("0.0.0.0:9465", "auto", "login"),
        ("192.0.2.7:9465", "always", "always"),
        ("127.0.0.1:9465", "never", "never"),
    ],
)
def test_mail_is_shown_to_this_machine_only_unless_the_settings_say_otherwise(
    listen: str, messages: str, shown: str
) -> None:
    assert HttpSettings.model_validate({"listen": listen, "messages": messages}).messages_shown == shown


def test_a_token_goes_over_a_network_only_with_permission(tmp_path: Path) -> None:
    token = secret(tmp_path)
    with pytest.raises(ValidationError, match="must be true for a token"):
        HttpSettings(listen="0.0.0.0:9465", token=token)
    assert HttpSettings(listen="0.0.0.0:9465", token=token, allow_cleartext=True).token is token
    assert HttpSettings(listen="unix:/run/http.sock", token=token).token is token


def test_hosts_are_names_without_ports() -> None:
    http = HttpSettings.model_validate({"hosts": ["Mail.Example.org.", "[2001:db8::1]", "192.0.2.1"]})
    assert http.hosts == ("mail.example.org", "2001:db8::1", "192.0.2.1")
