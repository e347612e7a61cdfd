from __future__ import annotations

import pytest

from mailferry.policy.login import LoginRefusal, classify_login_refusal

BUSY, DELAYED = LoginRefusal.BUSY, LoginRefusal.DELAYED
CREDENTIALS, UNAVAILABLE = LoginRefusal.CREDENTIALS, LoginRefusal.UNAVAILABLE
FAULT = LoginRefusal.FAULT


@pytest.mark.parametrize("auth_resp_code", [False, True])
@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        ("IN-USE", BUSY),
        ("LOGIN-DELAY", DELAYED),
        ("AUTH", CREDENTIALS),
        ("SYS/TEMP", UNAVAILABLE),
        ("SYS/PERM", FAULT),
        ("SYS/PERM/ACCOUNT", FAULT),
        ("SYS", UNAVAILABLE),
        ("SYS/TEMP/DISK", UNAVAILABLE),
        ("SYS/NEW", UNAVAILABLE),
        ("IN-USE/ELSEWHERE", BUSY),
    ],
)
def test_a_response_code_outranks_the_words(
    code: str, meaning: LoginRefusal, *, auth_resp_code: bool
) -> None:
    for text in ("", "maildrop already locked", "too many logins", "invalid password"):
        assert classify_login_refusal(code, text, auth_resp_code=auth_resp_code) is meaning


@pytest.mark.parametrize("code", [None, "ALERT", "X/Y"])
@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("maildrop already locked", BUSY),  # RFC 1939's own example
        ("Unable to lock maildrop: mailbox is already open", BUSY),
        ("mailbox in use", BUSY),
        ("Mailbox is busy", BUSY),
        ("Your maildrop is locked by another session", BUSY),
        ("login limit exceeded", DELAYED),
        ("Login delay not over", DELAYED),
        ("login too frequent", DELAYED),
        ("Too many logins in the last minute", DELAYED),
        ("too frequent login attempts", DELAYED),
        ("Too many concurrent connections", DELAYED),
        ("too many connections; login failed", DELAYED),
        ("minimum interval between checks is 10 minutes", DELAYED),
        ("invalid user name or password", CREDENTIALS),
        ("Too many failed login attempts", CREDENTIALS),
        ("Too many login failures", CREDENTIALS),
        ("too many recent bad logins", CREDENTIALS),
        ("Mailbox is locked because of too many failed login attempts", CREDENTIALS),
        ("maildrop locked: 5 unsuccessful logins", CREDENTIALS),
        ("too many connections with a wrong password", CREDENTIALS),
        ("Too many login attempts failed, minimum interval applies", CREDENTIALS),
        ("", CREDENTIALS),
    ],
)
def test_words_of_servers_without_a_telling_code(code: str | None, text: str, meaning: LoginRefusal) -> None:
    assert classify_login_refusal(code, text, auth_resp_code=False) is meaning


def test_with_auth_resp_code_only_its_code_speaks_of_credentials() -> None:
    """RFC 3206 s.6: such a server says [AUTH] when it means the password."""
    assert classify_login_refusal(None, "authentication failed", auth_resp_code=True) is UNAVAILABLE
    assert classify_login_refusal(None, "already locked", auth_resp_code=True) is BUSY


def test_a_long_hostile_text_takes_no_time() -> None:
    for word in ("too many ", "minimum ", "maildrop ", "login too ", "failed a ", "auth b ", "wrong "):
        assert classify_login_refusal(None, word * 500, auth_resp_code=True) is UNAVAILABLE
