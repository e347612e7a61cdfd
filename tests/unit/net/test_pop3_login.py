"""One attempt to log in, over a fake wire: each way, what it sends, and what it makes of a refusal."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest

from mailferry.errors import LocalProtocolError, LoginUnavailableError, RemoteProtocolError
from mailferry.net.credentials import Credentials, LoginMethod
from mailferry.net.pop3_dialogue import Pop3Dialogue
from mailferry.net.pop3_login import Login, Verdict
from mailferry.protocol.pop3 import Pop3Limits
from mailferry.protocol.pop3_listings import Capabilities, parse_capabilities
from mailferry.protocol.sasl_exchange import ChannelBinding, LinkFacts
from support.fake_net import FakeWire
from support.scram_server import ScramServer

GREETING = b"+OK <1896.697170952@dbc.mtview.ca.us>\r\n"
BINDING = ChannelBinding("tls-unique", b"finished")
Answer = Callable[[bytes], bytes]


def encoded(octets: bytes) -> bytes:
    return base64.b64encode(octets)


async def attempt(
    answer: Answer,
    method: LoginMethod,
    *,
    name: str = "mrose",
    password: str = "tanstaaf",
    capa: bytes | None = b"",
    greeting: bytes = GREETING,
    binding: ChannelBinding | None = None,
    port: int = 995,
) -> tuple[Verdict, list[bytes]]:
    wire = FakeWire(answer, greeting=greeting)
    dialogue = Pop3Dialogue(wire.link, limits=Pop3Limits())
    credentials = Credentials(
        name,
        lambda: password,
        (lambda: "token") if method in (LoginMethod.XOAUTH2, LoginMethod.OAUTHBEARER) else None,
    )
    capabilities: Capabilities | None = None if capa is None else parse_capabilities(capa)
    offered = capabilities.sasl_mechanisms if capabilities else frozenset()
    facts = LinkFacts("pop.example.org", port, binding, offered)
    login = Login(dialogue, credentials, method, await dialogue.greeting(), capabilities, facts)
    try:
        verdict = await login.attempt()
    finally:
        wire.link.close()
    return verdict, wire.lines


def yes(_line: bytes) -> bytes:
    return b"+OK\r\n"


async def test_user_and_pass() -> None:
    verdict, lines = await attempt(yes, LoginMethod.USER)
    assert verdict.reply.ok
    assert lines == [b"USER mrose", b"PASS tanstaaf"]


async def test_a_refused_user_is_asked_for_no_password() -> None:
    verdict, lines = await attempt(lambda _line: b"-ERR never heard of you\r\n", LoginMethod.USER)
    assert (verdict.reply.ok, lines) == (False, [b"USER mrose"])


async def test_apop_with_the_rfcs_own_digest() -> None:
    _, lines = await attempt(yes, LoginMethod.APOP)
    assert lines == [b"APOP mrose c4c9334bac560ecc979e58001b3e22fb"]  # RFC 1939 s.7


async def test_apop_without_a_timestamp_says_so() -> None:
    with pytest.raises(LoginUnavailableError, match="no timestamp"):
        await attempt(yes, LoginMethod.APOP, greeting=b"+OK hello\r\n")


async def test_rpop_sends_names_and_no_secret() -> None:
    verdict, lines = await attempt(yes, LoginMethod.RPOP)
    assert verdict.reply.ok
    assert lines == [b"USER mrose", b"RPOP mrose"]


@pytest.mark.parametrize("method", [LoginMethod.RPOP, LoginMethod.EXTERNAL])
async def test_what_is_insecure_or_needs_a_certificate_is_never_chosen_by_itself(method: LoginMethod) -> None:
    _, lines = await attempt(yes, LoginMethod.AUTO, capa=b"SASL EXTERNAL\r\nUSER\r\n", greeting=b"+OK\r\n")
    assert lines == [b"USER mrose", b"PASS tanstaaf"]
    assert method.value.upper().encode() not in b" ".join(lines)


async def test_external_sends_whom_to_act_as() -> None:
    _, lines = await attempt(yes, LoginMethod.EXTERNAL)
    assert lines == [b"AUTH EXTERNAL " + encoded(b"mrose")]


async def test_oauthbearer_names_the_server() -> None:
    _, lines = await attempt(yes, LoginMethod.OAUTHBEARER)
    message = b"n,a=mrose,\x01host=pop.example.org\x01port=995\x01auth=Bearer token\x01\x01"
    assert lines == [b"AUTH OAUTHBEARER " + encoded(message)]


@pytest.mark.parametrize(
    ("method", "dummy"), [(LoginMethod.OAUTHBEARER, b"AQ=="), (LoginMethod.XOAUTH2, b"")]
)
async def test_a_refused_token_is_explained(method: LoginMethod, dummy: bytes) -> None:
    explanation = b'{"status":"invalid_token",\n"x":"\x1b[31m"}'

    def answer(line: bytes) -> bytes:
        if line.startswith(b"AUTH"):
            return b"+ " + encoded(explanation) + b"\r\n"
        return b"-ERR [AUTH] no\r\n"

    verdict, lines = await attempt(answer, method)
    assert lines[1:] == [dummy]
    assert verdict.explanation == '{"status":"invalid_token", "x":" [31m"}'
    assert verdict.reply.response_code == "AUTH"


async def test_an_explanation_without_end_is_cut() -> None:
    def answer(line: bytes) -> bytes:
        return b"+ " + encoded(b"x" * 5000) + b"\r\n" if line.startswith(b"AUTH") else b"-ERR [AUTH] no\r\n"

    verdict, _ = await attempt(answer, LoginMethod.XOAUTH2)
    assert verdict.explanation == "x" * 200


@pytest.mark.parametrize(("octets", "with_the_command"), [(180, True), (181, False)])
async def test_an_initial_response_goes_along_only_if_the_line_has_room(
    octets: int, with_the_command: bool
) -> None:
    """RFC 5034 s.4: 255 octets with CRLF."""

    def answer(line: bytes) -> bytes:
        return b"+ \r\n" if line == b"AUTH PLAIN" else b"+OK\r\n"

    password = "p" * (octets - len("mrose") - 2)
    _, lines = await attempt(answer, LoginMethod.PLAIN, password=password)
    assert (len(lines) == 1) == with_the_command
    assert all(len(line) + 2 <= 255 for line in lines[:1])
    assert lines[-1].endswith(encoded(f"\0mrose\0{password}".encode()))


# --- SCRAM and the link ---------------------------------------------------------------


def scram_answers(server: ScramServer) -> Answer:
    def answer(line: bytes) -> bytes:
        if line.startswith(b"AUTH"):
            return b"+ " + encoded(server.first(base64.b64decode(line.split()[2]))) + b"\r\n"
        if line:
            return b"+ " + encoded(server.last(base64.b64decode(line))) + b"\r\n"
        return b"+OK\r\n" if server.accepted else b"-ERR [AUTH] no\r\n"

    return answer


PLUS_TOO = b"SASL PLAIN SCRAM-SHA-256 SCRAM-SHA-256-PLUS SCRAM-SHA-1 SCRAM-SHA-1-PLUS\r\n"


@pytest.mark.parametrize(
    ("method", "mechanism", "digest"),
    [
        (LoginMethod.AUTO, b"SCRAM-SHA-256-PLUS", "sha256"),
        (LoginMethod.SCRAM_SHA_256_PLUS, b"SCRAM-SHA-256-PLUS", "sha256"),
        (LoginMethod.SCRAM_SHA_1_PLUS, b"SCRAM-SHA-1-PLUS", "sha1"),
        (LoginMethod.SCRAM_SHA_256, b"SCRAM-SHA-256", "sha256"),
        (LoginMethod.SCRAM_SHA_1, b"SCRAM-SHA-1", "sha1"),
    ],
)
async def test_scram_against_a_server_that_checks_everything(
    method: LoginMethod, mechanism: bytes, digest: str
) -> None:
    server = ScramServer(digest, "tanstaaf", binding=BINDING, offers_plus=True)
    verdict, lines = await attempt(scram_answers(server), method, capa=PLUS_TOO, binding=BINDING)
    assert verdict.reply.ok
    assert lines[0].split()[1] == mechanism


async def test_one_who_stands_in_between_is_found_out() -> None:
    """He relays all octets faithfully between two TLS connections of his own."""
    server = ScramServer("sha256", "tanstaaf", binding=BINDING, offers_plus=True)
    ours = ChannelBinding("tls-unique", b"the connection to him")
    verdict, _ = await attempt(scram_answers(server), LoginMethod.AUTO, capa=PLUS_TOO, binding=ours)
    assert not verdict.reply.ok
    assert verdict.explanation == "channel-bindings-dont-match"


async def test_an_offer_taken_away_is_seen_by_the_server() -> None:
    """RFC 5802 s.6: the "y" says that we saw no -PLUS."""
    server = ScramServer("sha256", "tanstaaf", binding=BINDING, offers_plus=True)
    verdict, _ = await attempt(
        scram_answers(server), LoginMethod.AUTO, capa=b"SASL PLAIN SCRAM-SHA-256\r\n", binding=BINDING
    )
    assert not verdict.reply.ok
    assert verdict.explanation == "server-does-support-channel-binding"


async def test_asked_for_by_name_a_bound_form_is_not_replaced_by_another() -> None:
    with pytest.raises(LoginUnavailableError, match="does not offer SCRAM-SHA-256-PLUS"):
        await attempt(
            yes, LoginMethod.SCRAM_SHA_256_PLUS, capa=b"SASL PLAIN SCRAM-SHA-256\r\n", binding=BINDING
        )


async def test_a_bound_form_without_a_binding_sends_nothing() -> None:
    with pytest.raises(LocalProtocolError, match="no channel binding"):
        await attempt(yes, LoginMethod.SCRAM_SHA_256_PLUS, capa=PLUS_TOO)


async def test_a_yes_without_proof_is_not_believed() -> None:
    with pytest.raises(RemoteProtocolError, match="did not prove"):
        await attempt(yes, LoginMethod.SCRAM_SHA_256)


# --- names and passwords beyond ASCII (RFC 6856 s.2.2) ------------------------------------


async def test_utf8_user_lets_user_and_pass_carry_utf8() -> None:
    _, lines = await attempt(
        yes, LoginMethod.AUTO, name="jörg", password="geheim", capa=b"UTF8 USER\r\n", greeting=b"+OK\r\n"
    )
    assert lines == ["USER jörg".encode(), b"PASS geheim"]


async def test_with_apop_name_and_password_are_prepared() -> None:
    composed, decomposed = "j\u00f6rg", "jo\u0308rg"
    _, lines = await attempt(
        yes, LoginMethod.APOP, name=decomposed, password=decomposed, capa=b"UTF8 USER\r\n"
    )
    _, expected = await attempt(
        yes, LoginMethod.APOP, name=composed, password=composed, capa=b"UTF8 USER\r\n"
    )
    assert lines == expected
    assert lines[0].startswith(b"APOP " + composed.encode() + b" ")


@pytest.mark.parametrize("capa", [None, b"", b"UTF8\r\n"])
@pytest.mark.parametrize(("name", "password"), [("jörg", "geheim"), ("joerg", "geheim\u00fc")])
async def test_auto_keeps_utf8_from_who_did_not_say_that_he_takes_it(
    capa: bytes | None, name: str, password: str
) -> None:
    for greeting in (GREETING, b"+OK\r\n"):
        with pytest.raises(LoginUnavailableError, match="RFC 6856") as caught:
            await attempt(yes, LoginMethod.AUTO, name=name, password=password, capa=capa, greeting=greeting)
        assert "geheim" not in str(caught.value)


async def test_asked_for_by_name_user_sends_the_octets_that_there_are() -> None:
    _, lines = await attempt(yes, LoginMethod.USER, name="jörg", password="ü")
    assert lines == ["USER jörg".encode(), "PASS ü".encode()]


async def test_sasl_carries_utf8_anywhere() -> None:
    _, lines = await attempt(yes, LoginMethod.PLAIN, name="jörg", password="ü")
    assert lines == [b"AUTH PLAIN " + encoded("\0jörg\0ü".encode())]
