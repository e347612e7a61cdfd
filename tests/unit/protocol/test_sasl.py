from __future__ import annotations

import pytest

from mailferry.errors import CleartextRefusedError, LocalProtocolError, RemoteProtocolError
from mailferry.protocol.sasl import (
    SMTP_AUTH_OCTETS,
    AuthenticationExchangeError,
    ChannelBinding,
    CramMd5,
    External,
    LinkFacts,
    Login,
    Mechanism,
    OAuthBearer,
    Plain,
    XOAuth2,
    apop_digest,
    choose_mechanism,
    create_mechanism,
    fits_initial_response,
    require_protection,
)

PLUS = frozenset({"SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"})
TOKEN = frozenset({"XOAUTH2", "OAUTHBEARER"})
PASSWORD = frozenset({"PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"})
ALL = PASSWORD | PLUS | TOKEN | {"EXTERNAL", "GSSAPI"}
UNIQUE = ChannelBinding("tls-unique", b"finished")
EXPORTER = ChannelBinding("tls-exporter", b"exported")
END_POINT = ChannelBinding("tls-server-end-point", b"hash of the certificate")


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


@pytest.mark.parametrize("make", [Plain, Login, CramMd5, XOAuth2, OAuthBearer])
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


def test_oauthbearer() -> None:
    # RFC 7628 s.4.1's message, without the "base64 of" and with our own names in it.
    facts = LinkFacts(host="server.example.com", port=143)
    bearer = OAuthBearer("user@example.com", "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==", facts)
    message = (
        b"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01"
        b"auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01"
    )
    assert bearer.initial() == message
    assert bearer.respond(b"") == message
    with pytest.raises(AuthenticationExchangeError):
        bearer.respond(b"")


def test_a_refused_token_is_explained_and_the_explanation_is_answered() -> None:
    bearer = OAuthBearer("a", "t")
    assert bearer.initial() == b"n,a=a,\x01auth=Bearer t\x01\x01"
    explanation = b'{"status":"invalid_token","scope":"example_scope"}'  # RFC 7628 s.3.2.2
    assert bearer.respond(explanation) == b"\x01"  # AQ== on the wire
    assert bearer.failure == explanation
    with pytest.raises(AuthenticationExchangeError):
        bearer.respond(b"more")


def test_a_name_cannot_break_out_of_its_field() -> None:
    assert OAuthBearer("a,b=c", "t").initial() == b"n,a=a=2Cb=3Dc,\x01auth=Bearer t\x01\x01"
    for name, token, host in (("a\x01", "t", "h"), ("a", "t\x01x", "h"), ("a", "t", "h\x01auth=Bearer x")):
        with pytest.raises(LocalProtocolError):
            OAuthBearer(name, token, LinkFacts(host=host, port=1))


def test_external() -> None:
    assert External("alice").initial() == b"alice"
    external = External("")
    assert external.initial() == b""
    assert external.respond(b"") == b""
    with pytest.raises(AuthenticationExchangeError):
        external.respond(b"")
    with pytest.raises(AuthenticationExchangeError):
        External("alice").respond(b"who?")


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
        (TOKEN | {"GSSAPI", "EXTERNAL"}, True, None),
        (frozenset(), True, None),
    ],
)
def test_choice_with_a_password(offered: frozenset[str], protected: bool, chosen: str | None) -> None:
    assert choose_mechanism(LinkFacts(offered=offered), protected=protected) == chosen


@pytest.mark.parametrize(
    ("offered", "binding", "chosen"),
    [
        (ALL, UNIQUE, "SCRAM-SHA-256-PLUS"),
        (ALL, EXPORTER, "SCRAM-SHA-256-PLUS"),
        (ALL - {"SCRAM-SHA-256-PLUS"}, UNIQUE, "SCRAM-SHA-1-PLUS"),
        (ALL - PLUS, UNIQUE, "SCRAM-SHA-256"),
        (ALL, None, "SCRAM-SHA-256"),
        # Most servers do not know it, and a refusal would count as a wrong password.
        (ALL, END_POINT, "SCRAM-SHA-256"),
        (PLUS, END_POINT, None),
    ],
)
def test_a_bound_proof_is_chosen_where_every_server_knows_the_binding(
    offered: frozenset[str], binding: ChannelBinding | None, chosen: str | None
) -> None:
    assert choose_mechanism(LinkFacts(offered=offered, binding=binding), protected=True) == chosen


@pytest.mark.parametrize(
    ("offered", "protected", "chosen"),
    [
        (ALL, True, "OAUTHBEARER"),
        (ALL - {"OAUTHBEARER"}, True, "XOAUTH2"),
        (ALL, False, None),
        (ALL - TOKEN, True, None),
    ],
)
def test_choice_with_a_token(offered: frozenset[str], protected: bool, chosen: str | None) -> None:
    assert choose_mechanism(LinkFacts(offered=offered), protected=protected, has_token=True) == chosen


def test_cleartext_only_by_permission() -> None:
    facts = LinkFacts(offered=frozenset({"PLAIN"}))
    assert choose_mechanism(facts, protected=False, allow_cleartext=True) == "PLAIN"


@pytest.mark.parametrize("name", sorted(ALL - {"GSSAPI"}))
def test_what_can_be_chosen_can_be_made(name: str) -> None:
    mechanism: Mechanism = create_mechanism(name.lower(), "alice", "secret", LinkFacts(binding=UNIQUE))
    assert mechanism.name == name
    assert mechanism.failure == b""
    require_protection(mechanism, protected=True)
    require_protection(mechanism, protected=False, allow_cleartext=True)
    if mechanism.secure_without_tls:
        require_protection(mechanism, protected=False)
    else:
        with pytest.raises(CleartextRefusedError, match=name):
            require_protection(mechanism, protected=False)


@pytest.mark.parametrize("name", sorted(PLUS))
def test_a_bound_proof_needs_something_to_be_bound_to(name: str) -> None:
    with pytest.raises(LocalProtocolError, match="channel binding"):
        create_mechanism(name, "alice", "secret")


@pytest.mark.parametrize(
    ("offered", "binding", "word"),
    [
        (frozenset({"SCRAM-SHA-256"}), UNIQUE, b"y,,"),  # we could; the server does not, or somebody says so
        (frozenset({"SCRAM-SHA-256"}), END_POINT, b"y,,"),
        (frozenset({"SCRAM-SHA-256"}), None, b"n,,"),
        (ALL, END_POINT, b"n,,"),  # the server could, and we chose not to: no accusation
        (ALL, UNIQUE, b"n,,"),
        (frozenset({"SCRAM-SHA-256", "SCRAM-SHA-1-PLUS"}), UNIQUE, b"n,,"),
        (frozenset(), UNIQUE, b"n,,"),  # it told nothing: nothing to conclude
    ],
)
def test_a_proof_without_binding_says_what_could_have_been(
    offered: frozenset[str], binding: ChannelBinding | None, word: bytes
) -> None:
    facts = LinkFacts(offered=offered, binding=binding)
    for name in ("SCRAM-SHA-256", "SCRAM-SHA-1"):
        assert (create_mechanism(name, "alice", "secret", facts).initial() or b"").startswith(word)


def test_an_unknown_mechanism_cannot_be_made() -> None:
    with pytest.raises(LocalProtocolError):
        create_mechanism("GSSAPI", "alice", "secret")


@pytest.mark.parametrize("make", [Plain, Login, CramMd5, XOAuth2, OAuthBearer])
def test_the_servers_yes_is_enough_where_it_proves_nothing(make: type[Plain]) -> None:
    make("alice", "secret").finish()
