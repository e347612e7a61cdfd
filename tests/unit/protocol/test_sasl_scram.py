from __future__ import annotations

from dataclasses import dataclass

import pytest

from mailferry.errors import LocalProtocolError
from mailferry.protocol.sasl_exchange import AuthenticationExchangeError, ChannelBinding
from mailferry.protocol.scram import (
    MAX_ITERATIONS,
    Scram,
    ScramSha1,
    ScramSha1Plus,
    ScramSha256,
    ScramSha256Plus,
    saslprep,
)
from support.scram_server import ScramServer


@dataclass(frozen=True)
class Vector:
    make: type[Scram]
    nonce: str
    client_first: bytes
    server_first: bytes
    client_final: bytes
    server_final: bytes

    def exchange(self, password: str = "pencil") -> Scram:
        return self.make("user", password, self.nonce)


RFC_5802 = Vector(
    ScramSha1,
    "fyko+d2lbbFgONRv9qkxdawL",
    b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
    b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
    b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
    b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
)
RFC_7677 = Vector(
    ScramSha256,
    "rOprNGfwEbeRWgbNEkqO",
    b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
)
VECTORS = pytest.mark.parametrize("vector", [RFC_5802, RFC_7677], ids=["RFC 5802 s.5", "RFC 7677 s.3"])


@VECTORS
def test_the_rfcs_own_exchange(vector: Vector) -> None:
    scram = vector.exchange()
    assert scram.initial() == vector.client_first
    assert scram.respond(vector.server_first) == vector.client_final
    assert scram.respond(vector.server_final) == b""
    scram.finish()


@VECTORS
def test_the_first_message_may_come_late(vector: Vector) -> None:
    scram = vector.exchange()
    assert scram.respond(b"") == vector.client_first
    assert scram.respond(vector.server_first) == vector.client_final


def test_a_yes_without_proof_is_not_believed() -> None:
    scram = RFC_7677.exchange()
    with pytest.raises(AuthenticationExchangeError):
        scram.finish()
    scram.respond(RFC_7677.server_first)
    with pytest.raises(AuthenticationExchangeError):
        scram.finish()


@pytest.mark.parametrize(
    "final", [b"", b"v=", b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=", b"v=%%%", b"x=1", b"v=\xff", b"v=caf\xc3\xa9"]
)
def test_a_wrong_signature_is_not_believed(final: bytes) -> None:
    scram = RFC_7677.exchange()
    scram.respond(RFC_7677.server_first)
    with pytest.raises(AuthenticationExchangeError):
        scram.respond(final)
    with pytest.raises(AuthenticationExchangeError):
        scram.finish()


def test_the_signature_is_bound_to_the_password() -> None:
    scram = RFC_7677.exchange("another")
    assert scram.respond(RFC_7677.server_first) != RFC_7677.client_final
    with pytest.raises(AuthenticationExchangeError):
        scram.respond(RFC_7677.server_final)


def test_a_refusal_is_left_to_the_protocols_own_reply() -> None:
    scram = RFC_7677.exchange()
    scram.respond(RFC_7677.server_first)
    assert scram.respond(b"e=invalid-proof,x=y") == b""
    assert scram.failure == b"invalid-proof"
    with pytest.raises(AuthenticationExchangeError):
        scram.finish()
    with pytest.raises(AuthenticationExchangeError):
        scram.respond(RFC_7677.server_final)


@pytest.mark.parametrize(
    "server_first",
    [
        b"r=otherX,s=QSXCR+Q6sek8bf92,i=4096",
        b"r=nonce,s=QSXCR+Q6sek8bf92,i=4096",
        b"r=nonce" + b"x" * 1024 + b",s=QSXCR+Q6sek8bf92,i=4096",
        b"m=ext,r=nonceX,s=QSXCR+Q6sek8bf92,i=4096",
        b"r=nonceX,s=,i=4096",
        b"r=nonceX,s=QSXCR+Q6sek8bf9,i=4096",
        b"r=nonceX,i=4096,s=QSXCR+Q6sek8bf92",
        b"r=nonceX,s=QSXCR+Q6sek8bf92",
        b"r=nonceX,s=QSXCR+Q6sek8bf92,i=4095",
        b"r=nonceX,s=QSXCR+Q6sek8bf92,i=-4096",
        b"r=nonceX,s=QSXCR+Q6sek8bf92,i=04096",
        b"r=nonceX,s=QSXCR+Q6sek8bf92,i=%d" % (MAX_ITERATIONS + 1),
        b"r=nonceX,s=QSXCR+Q6sek8bf92,i=4096junk",
        b"r=nonce\xff,s=QSXCR+Q6sek8bf92,i=4096",
        b"",
    ],
)
def test_a_first_message_that_cannot_be_right(server_first: bytes) -> None:
    scram = ScramSha256("user", "pencil", "nonce")
    scram.respond(b"")
    with pytest.raises(AuthenticationExchangeError):
        scram.respond(server_first)


def test_unknown_extensions_after_the_count_are_signed_and_ignored() -> None:
    scram = ScramSha256("user", "pencil", "nonce")
    assert scram.respond(b"r=nonceX,s=QSXCR+Q6sek8bf92,i=4096,x=y").startswith(b"c=biws,r=nonceX,p=")


def test_names_are_escaped_and_nonces_fresh() -> None:
    first = ScramSha256("a=b,c", "secret").initial()
    assert first.startswith(b"n,,n=a=3Db=2Cc,r=")
    assert first != ScramSha256("a=b,c", "secret").initial()
    with pytest.raises(LocalProtocolError):
        ScramSha256("a", "b", "with,comma")


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),  # RFC 4013 s.3, all five
        ("pass\u00a0word", "pass word"),
        ("\u0627\u0628", "\u0627\u0628"),
        ("\U0001f40e", "\U0001f40e"),  # newer than Unicode 3.2: unassigned, allowed in a query
    ],
)
def test_saslprep(text: str, prepared: str) -> None:
    assert saslprep(text) == prepared


@pytest.mark.parametrize("text", ["\u0007", "\u06271", "", "\u00ad", "a\u0627", "a\x7f", "\ufffd", "\ue000"])
def test_saslprep_refuses(text: str) -> None:
    with pytest.raises(LocalProtocolError):
        saslprep(text)


def test_a_refusal_may_come_in_place_of_the_first_message() -> None:
    scram = ScramSha256("user", "pencil", "nonce")
    scram.initial()
    assert scram.respond(b"").startswith(b"n,,")
    assert scram.respond(b"e=unknown-user") == b""
    assert scram.failure == b"unknown-user"
    with pytest.raises(AuthenticationExchangeError):
        scram.finish()


def test_a_stored_string_holds_nothing_that_unicode_3_2_did_not_assign() -> None:
    assert saslprep("\u00aa", stored=True) == "a"
    with pytest.raises(LocalProtocolError):
        saslprep("\U0001f40e", stored=True)


# --- channel binding -------------------------------------------------------------

BINDING = ChannelBinding("tls-unique", b"\x00\x01finished\xff")


@pytest.mark.parametrize(("make", "digest"), [(ScramSha256Plus, "sha256"), (ScramSha1Plus, "sha1")])
@pytest.mark.parametrize("kind", ["tls-unique", "tls-exporter", "tls-server-end-point"])
def test_a_bound_proof_is_believed_at_the_other_end_of_the_same_link(
    make: type[Scram], digest: str, kind: str
) -> None:
    binding = ChannelBinding(kind, b"the same at both ends")
    server = ScramServer(digest, "pencil", binding=binding, offers_plus=True)
    scram = make("user", "pencil", binding=binding)
    first = scram.initial()
    assert first.startswith(f"p={kind},,n=user,r=".encode())
    assert scram.respond(server.last(scram.respond(server.first(first)))) == b""
    scram.finish()


def test_a_bound_proof_is_worth_nothing_on_another_link() -> None:
    """RFC 5802 s.9: who stands in between has two links, and they differ."""
    server = ScramServer(
        "sha256", "pencil", binding=ChannelBinding("tls-unique", b"his link"), offers_plus=True
    )
    scram = ScramSha256Plus("user", "pencil", binding=ChannelBinding("tls-unique", b"our link"))
    final = scram.respond(server.first(scram.initial()))
    assert server.last(final) == b"e=channel-bindings-dont-match"
    assert scram.respond(b"e=channel-bindings-dont-match") == b""
    assert scram.failure == b"channel-bindings-dont-match"
    with pytest.raises(AuthenticationExchangeError):
        scram.finish()


def test_a_server_that_binds_sees_that_its_offer_was_taken_away() -> None:
    """RFC 5802 s.6: with "y" the client says that it saw no -PLUS, and the server knows better."""
    scram = ScramSha256("user", "pencil", binding=BINDING, offers_plus=False)
    first = scram.initial()
    assert first.startswith(b"y,,")
    assert ScramServer("sha256", "pencil", offers_plus=True).first(first) == (
        b"e=server-does-support-channel-binding"
    )


@pytest.mark.parametrize("word", [b"y,,", b"n,,"])
def test_the_word_about_binding_cannot_be_changed_on_the_way(word: bytes) -> None:
    scram = ScramSha256("user", "pencil", binding=BINDING, offers_plus=word == b"n,,")
    server = ScramServer("sha256", "pencil", offers_plus=False)
    other = b"n,," if scram.initial().startswith(b"y") else b"y,,"
    forged = other + scram.initial()[3:]
    assert server.last(scram.respond(server.first(forged))) == b"e=channel-bindings-dont-match"


@pytest.mark.parametrize("make", [ScramSha256Plus, ScramSha1Plus])
def test_a_bound_form_without_a_binding_cannot_be_made(make: type[Scram]) -> None:
    with pytest.raises(LocalProtocolError, match="channel binding"):
        make("user", "pencil")


def test_the_octets_of_a_binding_are_in_no_repr() -> None:
    assert "finished" not in repr(BINDING)
