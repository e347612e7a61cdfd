"""Names and addresses from strangers, and from careless hands: never a second command, never a second header field."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mailferry.config.loading import load_settings
from mailferry.destinations.letter import Envelope
from mailferry.destinations.smtp import SmtpDestination, SmtpLimits
from mailferry.errors import ConfigError, LocalProtocolError
from mailferry.events import MessageRelayed, PollFailed, RoutePaused
from mailferry.model import Deferred, DestinationName
from mailferry.net.credentials import Credentials, LoginMethod
from mailferry.net.endpoint import Endpoint, TlsMode
from mailferry.net.pop3_connector import Pop3Connector, Pop3Settings
from mailferry.net.smtp_connector import SmtpConnector, SmtpSettings
from mailferry.protocol.pop3_commands import Apop, User
from mailferry.sandbox.maildrop import SandboxMaildrop
from support.clients import running
from support.configs import PASSWORD, ConfigFolder, Value
from support.deliveries import Reports
from support.relay import Relay
from support.scripted_pop3 import ScriptedPop3Server
from support.scripted_smtp import ScriptedSmtpServer, SmtpFeatures
from support.wiretap import Wiretap

BODY = b"From: a@example.org\r\nSubject: mail\r\n\r\nhello\r\n"

RETURN_PATHS: dict[str, bytes] = {
    "good": b"<ann@example.org>",
    "null": b"<>",
    "folded into a command": b"<ann@example.org>\r\n RCPT TO:<evil@example.net>",
    "folded within the path": b"<ann@example.org\r\n\t>RCPT TO:<evil@example.net>",
    "bare CR and a command": b"<ann@example.org>\rRCPT TO:<evil@example.net>",
    "bare LF and a command": b"<ann@example.org>\nRCPT TO:<evil@example.net>",
    "LF within the path": b"<ann@example.org\nDATA>",
    "NUL": b"<ann\0@example.org>",
    "escape sequence": b"<ann\x1b[2J@example.org>",
    "C1 control": "<ann\x9b@example.org>".encode(),
    "a space": b"<ann b@example.org>",
    "a parameter": b"<ann@example.org> SIZE=1 BODY=8BITMIME",
    "a parameter within": b"<ann@example.org SIZE=1>",
    "a closing bracket": b"<ann@example.org>RCPT TO:<evil@example.net>>",
    "a quoted bracket": b'<"ann>RCPT TO:<evil"@example.net>',
    "a quoted line end": b'<"ann\\\r\nRCPT TO:<evil"@example.net>',
    "an open quote": b'<"ann@example.org>',
    "two addresses": b"<ann@example.org,evil@example.net>",
    "a source route": b"<@relay.example.org:ann@example.org>",
    "brackets in brackets": b"<<ann@example.org>>",
    "no brackets": b"ann@example.org",
    "no address": b"<RCPT TO:evil>",
    "latin-1": b"<\xe4nn@example.org>",
    "UTF-8": "<änn@example.org>".encode(),
    "right-to-left override": "<ann\u202e@example.org>".encode(),
    "line separator": "<ann\u2028@example.org>".encode(),
    "too long": b"<" + b"a" * 300 + b"@example.org>",
    "far too long": b"<" + b"a" * 100_000 + b"@example.org>",
    "nothing": b"",
}
EXPECTED_SENDERS = {
    "good": b"ann@example.org",
    "a parameter": b"ann@example.org",  # what stands behind the brackets is not looked at
    "a source route": b"ann@example.org",
    "no brackets": b"ann@example.org",
    "UTF-8": "änn@example.org".encode(),
    # The header ends the field at a line end that no white space follows.
    "bare CR and a command": b"ann@example.org",
    "bare LF and a command": b"ann@example.org",
}
ENVELOPE = re.compile(
    rb"EHLO relay\.example\.org|MAIL FROM:<[^<>\s\x00-\x1f\x7f]*>( SIZE=\d+)?( BODY=8BITMIME)?( SMTPUTF8)?"
    rb"|RCPT TO:<all@example\.org>|DATA|BDAT \d+ LAST|QUIT|RSET"
)
RECEIVED = re.compile(
    rb"Received: from \[127\.0\.0\.1\] by relay\.example\.org with POP3 id [0-9a-z]+\r\n"
    rb"\tfor <all@example\.org>;\s+\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d \+0000\r\n"
)


@pytest.mark.parametrize("chunking", [False, True])
@pytest.mark.parametrize("pipelining", [False, True])
async def test_no_return_path_becomes_a_command_or_a_field(
    tmp_path: Path, chunking: bool, pipelining: bool
) -> None:
    mail = [
        b"Return-Path: %s\r\nX-Case: %s\r\n%s" % (path, name.encode(), BODY)
        for name, path in RETURN_PATHS.items()
    ]
    box = SandboxMaildrop(PASSWORD, mail)
    pop3 = ScriptedPop3Server({"ann": box})
    hop = ScriptedSmtpServer(features=SmtpFeatures(chunking=chunking, pipelining=pipelining))
    async with running(pop3), running(hop):
        relay = Relay(tmp_path)
        relay.maildrop(pop3.port)
        relay.destination(hop.port)
        await relay.once()
    assert (box.messages, hop.violations) == ([], [])
    assert [command for command in hop.commands if not ENVELOPE.fullmatch(command)] == []
    assert hop.counts["MAIL"] == hop.counts["RCPT"] == hop.counts["FINAL"] == len(mail)
    senders = {}
    for message in hop.accepted:
        name = re.search(rb"X-Case: (.*)\r\n", message.content)
        assert name
        senders[name[1].decode()] = message.envelope_sender
        assert message.recipients == (b"all@example.org",)
        first = RECEIVED.match(message.content)
        assert first, message.content[:300]
        assert message.content.count(b"Received:") == 1
        assert message.content.endswith(BODY.partition(b"\r\n\r\n")[2])
    assert senders == {name: EXPECTED_SENDERS.get(name, b"") for name in RETURN_PATHS}


async def test_an_address_that_the_next_hop_cannot_take_makes_no_refused_message(tmp_path: Path) -> None:
    """A stranger chooses the Return-Path; without SMTPUTF8 the message must get through all the same."""
    box = SandboxMaildrop(PASSWORD, ["Return-Path: <änn@example.org>\r\n".encode() + BODY])
    pop3, hop = ScriptedPop3Server({"ann": box}), ScriptedSmtpServer(features=SmtpFeatures(smtputf8=False))
    async with running(pop3), running(hop):
        relay = Relay(tmp_path)
        relay.maildrop(pop3.port)
        relay.destination(hop.port)
        await relay.once()
    assert [message.envelope_sender for message in hop.accepted] == [b""]


# -- what the configuration says -------------------------------------------------------

HOSTILE_ADDRESSES = [
    "all@example.org\r\nDATA",
    "all@example.org\nRCPT TO:<evil@example.net>",
    "all@example.org>\r\nRCPT TO:<evil@example.net",
    "all@example.org> NOTIFY=NEVER",
    "all@exam ple.org",
    "all\0@example.org",
    "all\x1b@example.org",
    "all\u202e@example.org",
    "<all@example.org>",
    'a"b@example.org',
    '"ab@example.org',
    "a\\b@example.org",
    "all@example.org,evil@example.net",
    "@relay.example.org:all@example.org",
    "a" * 65 + "@example.org",
    "all@" + "x" * 300,
    "all@",
    "all",
    "",
]


@pytest.mark.parametrize("address", HOSTILE_ADDRESSES)
@pytest.mark.parametrize("key", ["recipients", "sender"])
def test_a_hostile_address_in_the_configuration_is_refused(address: str, key: str, tmp_path: Path) -> None:
    folder = ConfigFolder(tmp_path)
    value: Value = [address] if key == "recipients" else address
    tables = {"maildrop.ann": folder.maildrop(1, "ann"), "destination.hop": folder.smtp(1, **{key: value})}
    with pytest.raises(ConfigError) as caught:
        load_settings(folder.write(tables), environ={})
    (problem,) = caught.value.problems
    assert problem.key.startswith(f"destination.hop.{key}")
    assert str(problem).isprintable()


@pytest.mark.parametrize("address", [a for a in HOSTILE_ADDRESSES if re.search(r"[\s\0<>\x1b]|^$|^\"", a)])
async def test_a_hostile_recipient_that_came_past_the_configuration_is_not_sent(address: str) -> None:
    hop = ScriptedSmtpServer()
    async with running(hop), Wiretap(hop.port).running() as tap:
        endpoint = Endpoint("127.0.0.1", tap.port, TlsMode.NONE)
        connector = SmtpConnector(SmtpSettings(endpoint, "relay.example.org"))
        envelope = Envelope("null", ("good@example.org", address), "relay.example.org")
        destination = SmtpDestination(DestinationName("hop"), connector, envelope, SmtpLimits())
        reports = Reports()
        destination.submit(reports.order())
        await reports.all_done()
        await destination.drain()
    assert isinstance(reports.outcome(), Deferred)
    assert hop.accepted == []
    assert set(tap.heard.split(b"\r\n")) <= {b"EHLO relay.example.org", b"QUIT", b""}


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("maildrop.ann", "username", "ann\r\nDELE 1"),
        ("maildrop.ann", "username", "ann\nDELE 1"),
        ("maildrop.ann", "username", "ann\0"),
        ("maildrop.ann", "username", "ann\u202e"),
        ("maildrop.ann", "username", ""),
        ("maildrop.ann", "host", "127.0.0.1\r\nx"),
        ("maildrop.ann", "host", "pop.example.net\0.evil.example"),
        ("maildrop.ann", "host", "pop.example.net (comment)"),
        ("destination.hop", "host", "mx example.org"),
        ("destination.hop", "host", "mx.example.org>\r\n"),
    ],
)
def test_a_hostile_name_in_the_configuration_is_refused(
    table: str, key: str, value: str, tmp_path: Path
) -> None:
    folder = ConfigFolder(tmp_path)
    tables = {"maildrop.ann": folder.maildrop(1, "ann"), "destination.hop": folder.smtp(1)}
    tables[table] = {**tables[table], key: value}
    with pytest.raises(ConfigError) as caught:
        load_settings(folder.write(tables), environ={})
    assert f"{table}.{key}" in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["relay\r\nQUIT", "relay\nMAIL FROM:<>", "relay evil", "relay\0", "rel\u202eay", "relay>", "", "x" * 300],
)
async def test_a_hostile_name_for_ehlo_is_refused_twice(name: str, tmp_path: Path) -> None:
    folder = ConfigFolder(tmp_path)
    tables = {"maildrop.ann": folder.maildrop(1, "ann"), "destination.hop": folder.smtp(1)}
    with pytest.raises(ConfigError):
        load_settings(folder.write(tables, hostname=name), environ={})
    if name in {"relay>", "x" * 300}:
        return  # ugly, but one word in one line
    hop = ScriptedSmtpServer()
    async with running(hop), Wiretap(hop.port).running() as tap:
        endpoint = Endpoint("127.0.0.1", tap.port, TlsMode.NONE)
        with pytest.raises(LocalProtocolError):
            await SmtpConnector(SmtpSettings(endpoint, name)).open()
    assert tap.heard == b""


# -- user names and passwords ------------------------------------------------------------

WAYS = [LoginMethod.USER, LoginMethod.APOP, LoginMethod.PLAIN, LoginMethod.CRAM_MD5]


@pytest.mark.parametrize("method", WAYS)
@pytest.mark.parametrize("hostile", ["pw\r\nDELE 1", "pw\nQUIT", "pw\0x", "\r\n", "pw\r"])
@pytest.mark.parametrize("part", ["name", "password"])
async def test_a_login_is_one_line_whatever_is_in_it(method: LoginMethod, hostile: str, part: str) -> None:
    name, password = (hostile, PASSWORD) if part == "name" else ("ann", hostile)
    server = ScriptedPop3Server({"ann": SandboxMaildrop(PASSWORD)})
    async with running(server), Wiretap(server.port).running() as tap:
        endpoint = Endpoint("127.0.0.1", tap.port, TlsMode.NONE)
        credentials = Credentials(name, lambda: password)
        with pytest.raises(Exception):  # noqa: B017  which one is not the point here
            await Pop3Connector(Pop3Settings(endpoint, credentials, method, allow_cleartext=True)).open()
    lines = tap.heard.split(b"\r\n")
    assert not {b"DELE 1", b"QUIT", b"x"} & set(lines)
    assert all(b"\n" not in line and b"\r" not in line and b"\0" not in line for line in lines)
    assert len(lines) <= 5  # CAPA, USER or AUTH, PASS or the answer, perhaps a cancelling star


@pytest.mark.parametrize(
    "content", [b"one\r\nDELE 1\r\n", b"one\ntwo", b"\r\n", b"", b"a\0b", b"\xff\xfe", b"one\r\rtwo"]
)
async def test_a_password_file_with_more_than_a_line_stops_the_login(content: bytes, tmp_path: Path) -> None:
    """Also when it was good at the start."""
    box = SandboxMaildrop(PASSWORD, [BODY])
    server, hop = ScriptedPop3Server({"ann": box}), ScriptedSmtpServer()
    async with running(server), running(hop), Wiretap(server.port).running() as tap:
        relay = Relay(tmp_path)
        relay.maildrop(tap.port, auth="user")
        relay.destination(hop.port)
        application = relay.application()
        relay.folder.secret.write_bytes(content)
        await application.run_once([], lambda _name, _report: None)
        with pytest.raises(ConfigError, match=r"maildrop\.ann\.password"):
            relay.application()
    (failed,) = relay.told(PollFailed)
    assert failed.result == "config_error"
    assert "file" in failed.error
    assert set(tap.heard.split(b"\r\n")) <= {b"CAPA", b""}
    assert box.messages == [BODY]


def test_a_name_with_a_space_cannot_be_told_from_the_digest() -> None:
    with pytest.raises(LocalProtocolError):
        Apop("ann evil", "0" * 32).encode()
    assert User("ann evil").encode() == b"USER ann evil\r\n"


# -- what a POP3 server names ----------------------------------------------------------------

UIDLS = [
    b"a\x1b[31mb",
    b"1 DELE 2",
    b'"quoted"',
    b"<angle>",
    b"x" * 1000,
    "\u202eabc".encode(),
    b"\xff\xfe",
    b"a\rb",
    b"%s%n",
]


async def test_no_uidl_becomes_a_command(tmp_path: Path) -> None:
    box = SandboxMaildrop(PASSWORD)
    for number, uidl in enumerate(UIDLS):
        box.append(b"Subject: %d\r\n" % number + BODY, uidl)
    server, hop = ScriptedPop3Server({"ann": box}), ScriptedSmtpServer()
    async with running(server), running(hop):
        relay = Relay(tmp_path)
        relay.maildrop(server.port, keep=True)
        relay.destination(hop.port)
        await relay.once()
        await relay.once()  # known again by the same octets
    assert len(hop.accepted) == len(relay.told(MessageRelayed)) == len(UIDLS)
    assert (relay.told(PollFailed), relay.told(RoutePaused)) == ([], [])
    assert {known.message.uidl for known in relay.rows()} == set(UIDLS)
    words = re.compile(
        rb"(CAPA|STAT|LIST|UIDL|QUIT|AUTH CRAM-MD5|SASL-RESPONSE \S+|(RETR|TOP|DELE) \d+( 0)?)"
    )
    assert [command for command in server.commands if not words.fullmatch(command)] == []
