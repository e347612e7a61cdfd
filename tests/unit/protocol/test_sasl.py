from __future__ import annotations

import pytest

from mailferry.errors import CleartextRefusedError, LocalProtocolError, RemoteProtocolError
from mailferry.protocol.sasl import (
    SMTP_AUTH_OCTETS,
    AuthenticationExchangeError,
    CramMd5,
    Login,
    Mechanism,
    Plain,
    XOAuth2,
    apop_digest,
    choose_mechanism,
    create_mechanism,
    fits_initial_response,
    require_protection,
)

ALL = frozenset({"PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", "XOAUTH2", "GSSAPI"})


def test_plain() -> None:
    assert Plain("tim", "tanstaaftanstaaf").initial() == b"\0tim\0tanstaaftanstaaf"  # RFC 4616 s.4
    plain = Plain("grüße", "p")
    assert plain.respond(b"") == "\0grüße\0p".encode()
    with pytest.raises(AuthenticationExchangeError):
        plain.respond(b"")
    with pytest.raises(AuthenticationExchangeError):
        Plain("a", "b").respond(b"say it")


def test_login() -> None:
    login = Login("alice", "secret")
    assert login.initial() is None
    assert login.respond(b"Username:") == b"alice"
    assert login.respond(b"whatever") == b"secret"
    with pytest.raises(AuthenticationExchangeError):
        login.respond(b"more")


def test_cram_md5() -> None:
    cram = CramMd5("tim", "tanstaaftanstaaf")  # RFC 2195 s.2
    assert cram.initial() is None
    assert (
        cram.respond(b"<1896.697170952@postoffice.reston.mci.net>") == b"tim b913a602c7eda7a495b4e6e7334d3890"
    )
    with pytest.raises(AuthenticationExchangeError):
        cram.respond(b"<1896.697170952@postoffice.reston.mci.net>")
    with pytest.raises(AuthenticationExchangeError):
        CramMd5("tim", "secret").respond(b"")


def test_xoauth2() -> None:
    message = b"user=someuser@example.com\x01auth=Bearer vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg==\x01\x01"
    oauth = XOAuth2("someuser@example.com", "vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg==")
    assert oauth.initial() == message
    assert oauth.respond(b"") == message
    assert oauth.failure == b""
    assert oauth.respond(b'{"status":"400"}') == b""
    assert oauth.failure == b'{"status":"400"}'
    with pytest.raises(AuthenticationExchangeError):
        oauth.respond(b"again")


def test_xoauth2_is_not_asked_twice() -> None:
    oauth = XOAuth2("a", "t")
    oauth.respond(b"")
    with pytest.raises(AuthenticationExchangeError):
        oauth.respond(b"")


def test_the_exchange_error_is_the_servers_fault() -> None:
    assert issubclass(AuthenticationExchangeError, RemoteProtocolError)


@pytest.mark.parametrize("make", [Plain, Login, CramMd5, XOAuth2])
@pytest.mark.parametrize("bad", ["nul\0", "lone \ud800 surrogate"])
def test_what_cannot_be_carried_is_refused_without_being_shown(make: type[Plain], bad: str) -> None:
    for arguments in (("alice", bad), (bad, "secret")):
        with pytest.raises(LocalProtocolError) as caught:
            make(*arguments)
        assert bad not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_xoauth2_refuses_its_own_separator() -> None:
    with pytest.raises(LocalProtocolError):
        XOAuth2("a\x01auth=Bearer stolen", "t")


def test_apop_digest() -> None:
    digest = apop_digest("<1896.697170952@dbc.mtview.ca.us>", "tanstaaf")  # RFC 1939 s.7
    assert digest == "c4c9334bac560ecc979e58001b3e22fb"


def test_fits_initial_response() -> None:
    # "AUTH PLAIN " and CRLF leave 242 octets: 60 groups of base64, 180 octets.
    assert fits_initial_response("AUTH PLAIN", b"x" * 180)
    assert not fits_initial_response("AUTH PLAIN", b"x" * 181)
    assert fits_initial_response("AUTH PLAIN", b"x" * 181, SMTP_AUTH_OCTETS)
    assert fits_initial_response("x" * 251, b"")
    assert not fits_initial_response("x" * 252, b"")


@pytest.mark.parametrize(
    ("offered", "protected", "chosen"),
    [
        (ALL, True, "SCRAM-SHA-256"),
        (ALL - {"SCRAM-SHA-256"}, True, "SCRAM-SHA-1"),
        (frozenset({"PLAIN", "CRAM-MD5"}), True, "CRAM-MD5"),
        (frozenset({"PLAIN", "LOGIN"}), True, "PLAIN"),
        (frozenset({"LOGIN", "XOAUTH2"}), True, "LOGIN"),
        (frozenset({"PLAIN", "LOGIN", "CRAM-MD5"}), False, "CRAM-MD5"),
        (frozenset({"PLAIN", "LOGIN"}), False, None),
        (frozenset({"XOAUTH2", "GSSAPI"}), True, None),
        (frozenset(), True, None),
    ],
)
def test_choice_with_a_password(offered: frozenset[str], protected: bool, chosen: str | None) -> None:
    assert choose_mechanism(offered, protected=protected) == chosen


def test_choice_with_a_token() -> None:
    assert choose_mechanism(ALL, protected=True, has_token=True) == "XOAUTH2"
    assert choose_mechanism(ALL, protected=False, has_token=True) is None
    assert choose_mechanism(ALL - {"XOAUTH2"}, protected=True, has_token=True) is None


def test_cleartext_only_by_permission() -> None:
    assert choose_mechanism(frozenset({"PLAIN"}), protected=False, allow_cleartext=True) == "PLAIN"


@pytest.mark.parametrize("name", sorted(ALL - {"GSSAPI"}))
def test_what_can_be_chosen_can_be_made(name: str) -> None:
    mechanism: Mechanism = create_mechanism(name.lower(), "alice", "secret")
    assert mechanism.name == name
    require_protection(mechanism, protected=True)
    require_protection(mechanism, protected=False, allow_cleartext=True)
    if mechanism.secure_without_tls:
        require_protection(mechanism, protected=False)
    else:
        with pytest.raises(CleartextRefusedError, match=name):
            require_protection(mechanism, protected=False)


def test_an_unknown_mechanism_cannot_be_made() -> None:
    with pytest.raises(LocalProtocolError):
        create_mechanism("GSSAPI", "alice", "secret")


@pytest.mark.parametrize("make", [Plain, Login, CramMd5, XOAuth2])
def test_the_servers_yes_is_enough_where_it_proves_nothing(make: type[Plain]) -> None:
    make("alice", "secret").finish()
