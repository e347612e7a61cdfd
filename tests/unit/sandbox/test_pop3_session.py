"""The session on a transport that is a list: no socket, no waiting."""

import asyncio
import base64
import hashlib
import hmac
from collections import Counter

import pytest

from mailferry.sandbox.line_link import MAX_LINE_OCTETS, LineLink
from mailferry.sandbox.maildrop import SandboxFeatures, SandboxMaildrop
from mailferry.sandbox.pop3_session import MAX_LOGIN_FAILURES, Pop3Session


class ListTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.closed = False
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += bytes(data)

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Server:
    """What a session asks of its server."""

    def __init__(self, **features: object) -> None:
        self.maildrops = {"ann": SandboxMaildrop("open sesame", [b"A: b\r\n\r\n.x\r\n", b"C: d\r\n\r\n"])}
        self.features = SandboxFeatures(**features)  # type: ignore[arg-type]  # any feature
        self.greeting = "ready"
        self.can_start_tls = True
        self.implicit_tls = False
        self.counts: Counter[str] = Counter()
        self.room = True
        self.handshakes: list[LineLink] = []

    def opened(self, _link: LineLink) -> bool:
        return self.room

    def closed(self, _link: LineLink) -> None:
        self.counts["closed"] += 1

    def begin_tls(self, link: LineLink) -> None:
        self.handshakes.append(link)


class Client:
    def __init__(self, server: Server) -> None:
        self.transport = ListTransport()
        self.session = Pop3Session(server, idle_timeout_seconds=600)
        self.session.connection_made(self.transport)
        self.greeting = self.heard()

    def heard(self) -> bytes:
        sent, self.transport.sent = self.transport.sent, b""
        return sent

    def say(self, *lines: bytes) -> bytes:
        self.session.data_received(b"".join(line + b"\r\n" for line in lines))
        return self.heard()

    def log_in(self) -> None:
        assert self.say(b"USER ann", b"PASS open sesame").endswith(b"2 messages\r\n")

    def leave(self) -> None:
        self.session.connection_lost(None)


@pytest.fixture
def server() -> Server:
    return Server()


async def test_dialogue_gives_the_same_whole_and_octet_by_octet(server: Server) -> None:
    lines = [b"USER ann", b"PASS open sesame", b"STAT", b"LIST", b"RETR 1", b"TOP 1 0", b"NOOP", b"QUIT"]
    whole = Client(server)
    at_once = whole.say(*lines)
    whole.leave()

    single = Client(server)
    for octet in b"".join(line + b"\r\n" for line in lines):
        single.session.data_received(bytes([octet]))
    assert single.heard() == at_once
    assert b"\r\n..x\r\n.\r\n" in at_once
    assert single.transport.closed
    single.leave()


async def test_passwords_keep_their_spaces_and_wrong_ones_are_refused(server: Server) -> None:
    client = Client(server)

    assert client.say(b"USER ann", b"PASS open").endswith(b"-ERR [AUTH] wrong user name or password\r\n")
    assert client.say(b"PASS open sesame") == b"-ERR USER first\r\n"
    client.log_in()
    client.leave()


async def test_too_many_wrong_passwords_end_the_session(server: Server) -> None:
    client = Client(server)
    for _ in range(MAX_LOGIN_FAILURES):
        assert not client.transport.closed
        client.say(b"USER ann", b"PASS wrong")
    assert client.transport.closed
    client.leave()


async def test_apop(server: Server) -> None:
    client = Client(server)
    stamp = client.greeting.split()[-1]
    digest = hashlib.md5(stamp + b"open sesame").hexdigest().encode()

    assert client.say(b"APOP ann " + digest[::-1]).startswith(b"-ERR [AUTH]")
    assert client.say(b"APOP ann " + digest).startswith(b"+OK")
    client.leave()


async def test_sasl_plain_with_and_without_initial_response(server: Server) -> None:
    response = base64.b64encode(b"\0ann\0open sesame")
    for lines in ([b"AUTH PLAIN " + response], [b"AUTH PLAIN", response]):
        client = Client(server)
        assert client.say(*lines).endswith(b"+OK maildrop has 2 messages\r\n")
        client.leave()


async def test_sasl_cram_md5(server: Server) -> None:
    client = Client(server)
    challenge = base64.b64decode(client.say(b"AUTH CRAM-MD5").split()[1])
    digest = hmac.new(b"open sesame", challenge, "md5").hexdigest().encode()

    assert client.say(base64.b64encode(b"ann " + digest)).startswith(b"+OK")
    client.leave()


@pytest.mark.parametrize("answer", [b"*", b"not base64!", base64.b64encode(b"no-parts"), b"="])
async def test_a_broken_sasl_exchange_ends_and_the_next_command_is_heard(
    server: Server, answer: bytes
) -> None:
    client = Client(server)

    assert client.say(b"AUTH PLAIN", answer).splitlines()[-1].startswith(b"-ERR")
    client.log_in()
    client.leave()


async def test_the_lock_is_exclusive_and_given_back_when_the_link_is_lost(server: Server) -> None:
    first, second = Client(server), Client(server)
    first.log_in()

    assert second.say(b"USER ann", b"PASS open sesame").splitlines()[-1].startswith(b"-ERR [IN-USE]")
    first.leave()
    second.log_in()
    second.leave()


async def test_a_lost_link_deletes_nothing_and_quit_does(server: Server) -> None:
    maildrop = server.maildrops["ann"]
    client = Client(server)
    client.log_in()
    client.say(b"DELE 1")
    client.leave()
    assert len(maildrop.messages) == 2

    client = Client(server)
    client.log_in()
    client.say(b"DELE 1", b"QUIT")
    client.leave()
    assert maildrop.messages == [b"C: d\r\n\r\n"]
    assert server.counts["deleted"] == 1


async def test_login_delay() -> None:
    server = Server(login_delay_seconds=60.0)
    client = Client(server)
    assert b"LOGIN-DELAY 60\r\n" in client.say(b"CAPA")
    client.log_in()
    client.say(b"QUIT")
    client.leave()

    again = Client(server)
    assert again.say(b"USER ann", b"PASS open sesame").splitlines()[-1].startswith(b"-ERR [LOGIN-DELAY]")
    again.leave()


async def test_capabilities_follow_features_and_state(server: Server) -> None:
    client = Client(server)
    offered = client.say(b"CAPA").split(b"\r\n")
    assert {b"TOP", b"UIDL", b"PIPELINING", b"STLS", b"SASL PLAIN CRAM-MD5"} <= set(offered)
    client.log_in()
    assert b"STLS" not in client.say(b"CAPA")
    client.leave()

    poor = Client(Server(has_uidl=False, has_top=False, pipelining=False, resp_codes=False))
    offered = poor.say(b"CAPA").split(b"\r\n")
    assert {b"TOP", b"UIDL", b"PIPELINING", b"RESP-CODES"}.isdisjoint(offered)
    assert poor.say(b"PASS x").startswith(b"-ERR USER")
    poor.leave()

    old = Client(Server(has_capa=False, has_apop=False))
    assert old.greeting == b"+OK ready\r\n"
    assert old.say(b"CAPA").startswith(b"-ERR")
    old.leave()


async def test_response_codes_stay_away_when_they_are_not_offered() -> None:
    client = Client(Server(resp_codes=False))

    assert client.say(b"USER ann", b"PASS no").splitlines()[-1] == b"-ERR wrong user name or password"
    client.leave()


async def test_pipelining_that_was_not_offered_loses_input() -> None:
    server = Server(pipelining=False)
    client = Client(server)

    assert client.say(b"USER ann", b"PASS open sesame") == b"+OK\r\n"
    assert server.counts["discarded"] == 1
    client.leave()


async def test_cleartext_logins_can_be_refused() -> None:
    client = Client(Server(cleartext_login=False))

    for line in (b"USER ann", b"APOP ann 00", b"AUTH PLAIN"):
        assert client.say(line) == b"-ERR [AUTH] use TLS first\r\n"
    client.leave()


async def test_nothing_said_before_tls_is_heard_after_it(server: Server) -> None:
    client = Client(server)

    assert client.say(b"USER ann", b"STLS", b"PASS open sesame").endswith(b"begin TLS negotiation\r\n")
    assert server.handshakes == [client.session]
    protected = ListTransport()
    client.session.tls_started(protected)
    client.transport = protected
    await asyncio.sleep(0)
    assert client.heard() == b""
    assert client.say(b"PASS open sesame") == b"-ERR USER first\r\n"
    assert b"STLS" not in client.say(b"CAPA")
    assert client.say(b"STLS").startswith(b"-ERR")
    client.leave()


async def test_a_client_that_does_not_read_is_not_served_further(server: Server) -> None:
    client = Client(server)
    client.log_in()
    client.session.pause_writing()

    assert client.say(*[b"NOOP"] * 4000) == b""
    assert not client.transport.reading
    client.session.resume_writing()
    await asyncio.sleep(0)
    assert client.heard() == b"+OK\r\n" * 4000
    assert client.transport.reading
    client.leave()


async def test_an_endless_line_ends_the_session(server: Server) -> None:
    client = Client(server)
    client.session.data_received(b"x" * MAX_LINE_OCTETS)

    assert client.heard() == b"-ERR line too long\r\n"
    assert client.transport.closed
    client.leave()


async def test_too_many_sessions_are_turned_away(server: Server) -> None:
    server.room = False
    client = Client(server)

    assert client.greeting.startswith(b"-ERR [SYS/TEMP]")
    assert client.transport.closed
    client.leave()


async def test_the_autologout_timer_drops_the_link_without_update(server: Server) -> None:
    session = Pop3Session(server, idle_timeout_seconds=0)
    transport = ListTransport()
    session.connection_made(transport)
    await asyncio.sleep(0.01)

    assert transport.closed
    session.connection_lost(None)
