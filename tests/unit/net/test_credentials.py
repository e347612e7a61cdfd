"""Which way to log in, and where secrets come from."""

from __future__ import annotations

import threading

import pytest

from mailferry.errors import LocalProtocolError, RemoteProtocolError, SecretError
from mailferry.net.credentials import Credentials, LoginMethod, SecretMask
from mailferry.net.pop3_login import choose_method
from mailferry.net.trace import no_trace, octets_note
from mailferry.protocol.sasl_exchange import ChannelBinding, LinkFacts

EVERYTHING = frozenset({"PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256", "XOAUTH2"})
PLUS = frozenset({"SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS"})
UNIQUE = ChannelBinding("tls-unique", b"finished")


@pytest.mark.parametrize(
    ("offered", "protected", "has_timestamp", "has_token", "chosen"),
    [
        (EVERYTHING, True, True, True, LoginMethod.XOAUTH2),
        (EVERYTHING | {"OAUTHBEARER"}, True, True, True, LoginMethod.OAUTHBEARER),
        (frozenset(), False, True, True, LoginMethod.XOAUTH2),  # a token is no password: no way round it
        (EVERYTHING, True, True, False, LoginMethod.SCRAM_SHA_256),
        (EVERYTHING, False, True, False, LoginMethod.SCRAM_SHA_256),
        (frozenset({"PLAIN", "SCRAM-SHA-1"}), True, True, False, LoginMethod.SCRAM_SHA_1),
        (frozenset({"PLAIN", "CRAM-MD5"}), True, True, False, LoginMethod.PLAIN),
        (frozenset({"CRAM-MD5"}), True, True, False, LoginMethod.USER),
        (frozenset(), True, True, False, LoginMethod.USER),
        (frozenset({"EXTERNAL"}), True, True, False, LoginMethod.USER),
        (frozenset({"PLAIN", "CRAM-MD5"}), False, True, False, LoginMethod.CRAM_MD5),
        (frozenset({"PLAIN"}), False, True, False, LoginMethod.APOP),
        (frozenset({"PLAIN"}), False, False, False, LoginMethod.USER),
    ],
)
def test_auto_sends_no_password_where_a_proof_will_do(
    offered: frozenset[str], protected: bool, has_timestamp: bool, has_token: bool, chosen: LoginMethod
) -> None:
    facts = LinkFacts(offered=offered)
    assert (
        choose_method(facts, protected=protected, has_timestamp=has_timestamp, has_token=has_token) is chosen
    )


@pytest.mark.parametrize(
    ("offered", "binding", "chosen"),
    [
        (EVERYTHING | PLUS, UNIQUE, LoginMethod.SCRAM_SHA_256_PLUS),
        (EVERYTHING | {"SCRAM-SHA-1-PLUS"}, UNIQUE, LoginMethod.SCRAM_SHA_1_PLUS),
        (EVERYTHING | PLUS, None, LoginMethod.SCRAM_SHA_256),
        (
            EVERYTHING | PLUS,
            ChannelBinding("tls-server-end-point", b"certificate"),
            LoginMethod.SCRAM_SHA_256,
        ),
    ],
)
def test_auto_binds_the_proof_to_the_link_where_that_must_work(
    offered: frozenset[str], binding: ChannelBinding | None, chosen: LoginMethod
) -> None:
    facts = LinkFacts(offered=offered, binding=binding)
    assert choose_method(facts, protected=True, has_timestamp=False, has_token=False) is chosen


async def test_secrets_are_read_when_needed_and_not_on_the_loops_thread() -> None:
    threads: list[threading.Thread] = []

    def secret() -> str:
        threads.append(threading.current_thread())
        return f"secret-{len(threads)}"

    credentials = Credentials("ann", secret, secret)
    assert not threads
    assert await credentials.read_password() == "secret-1"
    assert (await credentials.mechanism("plain")).initial() == b"\0ann\0secret-2"
    assert b"secret-3" in ((await credentials.mechanism("xoauth2")).initial() or b"")
    assert threading.current_thread() not in threads


@pytest.mark.parametrize(
    ("name", "what"), [("plain", "password"), ("xoauth2", "oauth2_token"), ("oauthbearer", "oauth2_token")]
)
async def test_a_secret_that_is_not_configured_is_named(name: str, what: str) -> None:
    with pytest.raises(LocalProtocolError, match=f"no {what} is configured for ann"):
        await Credentials("ann").mechanism(name)


async def test_a_secret_that_cannot_be_read_says_so() -> None:
    def broken() -> str:
        raise SecretError("command pass: exit code 1")

    with pytest.raises(SecretError, match="exit code 1"):
        await Credentials("ann", broken).mechanism("plain")


async def test_what_needs_no_secret_reads_none() -> None:
    mechanism = await Credentials("ann").mechanism("external")
    assert mechanism.initial() == b"ann"


@pytest.mark.parametrize("name", ["user", "apop", "rpop", "auto", "ntlm"])
async def test_what_is_no_sasl_mechanism_is_refused(name: str) -> None:
    with pytest.raises(LocalProtocolError, match="no such SASL mechanism here"):
        await Credentials("ann", lambda: "pw").mechanism(name)


def test_message_data_is_told_as_a_count() -> None:
    assert octets_note(5) == "<5 octets>"
    no_trace("send", "anything")


def test_an_echoed_secret_is_taken_out_of_an_error_and_of_its_cause() -> None:
    mask = SecretMask()
    watched = mask.watching(Credentials("ann", lambda: "it's\\se\u00fcret"))
    assert watched.password is not None
    watched.password()
    line = "PASS it's\\se\u00fcret".encode()
    error = RemoteProtocolError("neither +OK nor -ERR", line)
    error.__cause__ = ValueError("it's\\se\u00fcret", 7)
    mask.scrub(error)
    assert str(error).startswith("neither +OK nor -ERR: b")
    for text in (str(error), error.line.decode("latin-1"), str(error.__cause__)):
        assert "se" not in text.partition("PASS")[2], text
    assert error.__cause__.args == ("***", 7)


def test_an_error_that_came_from_itself_is_scrubbed_once() -> None:
    """A failed handshake was raised from itself, and scrubbing it stood the whole program still."""
    mask = SecretMask()
    first, second = RemoteProtocolError("no"), ValueError("no")
    first.__cause__, second.__context__ = second, first
    mask.scrub(first)
    first.__cause__ = first
    mask.scrub(first)


def test_no_trace_stays_no_trace() -> None:
    """The SMTP core is spared the work when nobody looks."""
    assert SecretMask().trace(no_trace) is no_trace
