"""What other tests lean on: certificates, mail, a real Dovecot and a real Postfix."""

import asyncio
import poplib
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mailferry.sandbox import (
    SandboxPop3Server,
)
from support.certificates import LocalAuthority, ServerCertificate, self_signed
from support.clients import (
    HOST,
    MESSAGE,
    SECONDS,
    allow_long_lines,
    drain,
    log_in,
    running,
    send_raw,
    smtp,
    with_pop3,
)
from support.dovecot import PrivateDovecot
from support.mailset import fingerprint, make_messages, normalised, tag_of
from support.postfix import PrivatePostfix
from support.processes import Child, require


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (LocalAuthority.expired, "certificate has expired"),
        (LocalAuthority.wrong_host, "Hostname mismatch"),
        (lambda _authority: self_signed(), "self.signed certificate"),
    ],
)
async def test_wrong_certificates_are_wrong(
    authority: LocalAuthority,
    tmp_path: Path,
    make: Callable[[LocalAuthority], ServerCertificate],
    complaint: str,
) -> None:
    certificate = make(authority)
    server = SandboxPop3Server({}, tls=certificate.server_context(tmp_path), implicit_tls=True)
    async with running(server):
        with pytest.raises(ssl.SSLCertVerificationError, match=complaint):
            await asyncio.to_thread(with_pop3, server.port, poplib.POP3.noop, authority.client_context())
    assert len(certificate.fingerprint) == 64


def test_made_messages_are_varied_and_repeatable() -> None:
    messages = make_messages(200, seed=3)

    assert messages == make_messages(200, seed=3)
    assert len({tag_of(message) for message in messages}) == 200
    assert len({fingerprint(message) for message in messages}) == 200
    assert any(b"\r\n.\r\n" in message for message in messages)
    assert any(not message.isascii() for message in messages)
    assert any(b"one\n.two\n" in message for message in messages)
    assert any(not message.endswith(b"\n") for message in messages)


def test_fingerprint_ignores_trace_and_line_ends_but_no_other_octet() -> None:
    message = make_messages(1)[0]

    assert fingerprint(b"Received: from here\r\n" + message) == fingerprint(message)
    assert fingerprint(message.replace(b"\r\n", b"\n")) == fingerprint(message)
    assert fingerprint(message + b".") != fingerprint(message)
    assert fingerprint(message.replace(b"Ann", b"ann")) != fingerprint(message)


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        (None, pytest.skip.Exception),
        ("CI", pytest.fail.Exception),
        ("MAILFERRY_REQUIRE_SERVERS", pytest.fail.Exception),
    ],
)
def test_a_missing_server_is_a_skip_here_and_a_failure_where_it_must_not_be(
    monkeypatch: pytest.MonkeyPatch, variable: str | None, expected: type[BaseException]
) -> None:
    for name in ("CI", "MAILFERRY_REQUIRE_SERVERS"):
        monkeypatch.delenv(name, raising=False)
    if variable is not None:
        monkeypatch.setenv(variable, "1")
    with pytest.raises(expected, match="NO REAL SERVER: no-such-program is not installed"):
        require("no-such-program")


def test_a_child_that_ends_early_says_why(tmp_path: Path) -> None:
    child = Child([require("sh"), "-c", "echo out of luck >&2; exit 3"], tmp_path / "out")
    with pytest.raises(RuntimeError, match="ended with 3: out of luck"):
        child.wait_ready(lambda: False, "the shell")
    assert child.stop() == 3


@pytest.mark.real_server
@pytest.mark.parametrize("mode", ["plain", "stls", "implicit"])
def test_dovecot_serves_and_deletes(dovecot: PrivateDovecot, mode: str) -> None:
    messages = make_messages(40)
    dovecot.add_user("ann", "pw", messages)
    trust = dovecot.authority.client_context()

    def converse(client: poplib.POP3) -> list[bytes]:
        if mode == "stls":
            client.stls(trust)
        return drain(client)

    port = dovecot.tls_port if mode == "implicit" else dovecot.port
    allow_long_lines()
    contents = with_pop3(port, converse, trust if mode == "implicit" else None)
    assert [fingerprint(content) for content in contents] == [fingerprint(message) for message in messages]
    assert dovecot.messages_left("ann") == []


@pytest.mark.real_server
def test_dovecot_keeps_mail_and_unique_ids_over_a_restart(dovecot: PrivateDovecot) -> None:
    dovecot.add_user("ann", "pw", [MESSAGE])

    def unique_ids(client: poplib.POP3) -> list[bytes]:
        log_in(client)
        try:
            return client.uidl()[1]
        finally:
            client.quit()

    before = with_pop3(dovecot.port, unique_ids)
    dovecot.stop()
    dovecot.start()
    dovecot.add_message("ann", b"Subject: late\r\n\r\n")
    after = with_pop3(dovecot.port, unique_ids)

    assert after[:1] == before
    assert len(after) == 2
    assert dovecot.messages_left("ann")[0] == MESSAGE


@pytest.mark.real_server
def test_dovecot_refuses_a_wrong_password_at_once(dovecot: PrivateDovecot) -> None:
    dovecot.add_user("ann", "other")
    begun = time.monotonic()
    with pytest.raises(poplib.error_proto, match=r"\[AUTH\]"):
        with_pop3(dovecot.port, log_in)
    assert time.monotonic() - begun < 1


@pytest.mark.real_server
def test_postfix_delivers_what_it_was_given(postfix: PrivatePostfix, authority: LocalAuthority) -> None:
    messages = [normalised(message) for message in make_messages(40)]
    with smtp(postfix.port, authority.client_context()) as client:
        assert {"8bitmime", "pipelining", "chunking", "size", "etrn"} <= client.esmtp_features.keys()
        for message in messages:
            assert send_raw(client, message)[0] == 250

    delivered = {tag_of(content): fingerprint(content) for content in postfix.wait_delivered(len(messages))}
    assert delivered == {tag_of(message): fingerprint(message) for message in messages}


@pytest.mark.real_server
def test_postfix_sends_nothing_away(postfix: PrivatePostfix) -> None:
    with smtp(postfix.port) as client:
        client.mail("ann@example.org")
        assert client.rcpt("somebody@elsewhere.example.com")[0] == 550


@pytest.mark.real_server
def test_two_instances_of_postfix_do_not_meet(postfix: PrivatePostfix, tmp_path: Path) -> None:
    with PrivatePostfix(tmp_path / "second") as second:
        assert second.port != postfix.port
        assert second.running
    assert not second.running
    assert postfix.running
    with socket.create_connection((HOST, postfix.port), timeout=SECONDS) as link:
        assert link.recv(100).startswith(b"220")
