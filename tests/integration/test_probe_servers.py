"""`mailferry probe` and `check --live` as commands, against a real Dovecot and a real Postfix."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.certificates import LocalAuthority
from support.configs import PASSWORD, ConfigFolder
from support.dovecot import PrivateDovecot
from support.postfix import PrivatePostfix
from support.terminal import OnTerminal, run_command

pytestmark = pytest.mark.real_server

CYRILLIC = "From: Иван <ivan@example.ru>\r\nTo: alice@example.org\r\nSubject: сырой заголовок\r\n\r\n".encode(
    "cp1251"
)
MESSAGES = (
    b"From: =?koi8-r?B?6dfBzg==?= <ivan@example.ru>\r\nTo: alice@example.org\r\nSubject: =?koi8-r?B?8NLJ18XU?=\r\n\r\nhi\r\n",
    b"From: mallory@example.net\r\nTo: alice@example.org\r\nSubject: evil \x1b[2J\x1b]0;owned\x07\r\n\r\nx\r\n",
    CYRILLIC + b"y" * 100_000 + b"\r\n",
)


@pytest.fixture(scope="module")
def dovecot(tmp_path_factory: pytest.TempPathFactory, authority: LocalAuthority) -> Iterator[PrivateDovecot]:
    with PrivateDovecot(tmp_path_factory.mktemp("dovecot"), authority=authority) as server:
        server.add_user("alice", PASSWORD, MESSAGES)
        server.add_user("carol", PASSWORD, MESSAGES)
        yield server


@pytest.fixture(scope="module")
def postfix(tmp_path_factory: pytest.TempPathFactory, authority: LocalAuthority) -> Iterator[PrivatePostfix]:
    settings = {
        "relay_domains": "rnd.example.org",
        "fast_flush_domains": "rnd.example.org",
        "smtpd_error_sleep_time": "0",
    }
    folder = tmp_path_factory.mktemp("postfix")
    with PrivatePostfix(folder, certificate=authority.good(), settings=settings) as server:
        yield server


@pytest.fixture
def configs(tmp_path: Path) -> ConfigFolder:
    return ConfigFolder(tmp_path)


@pytest.fixture
def maildrops(configs: ConfigFolder, dovecot: PrivateDovecot, authority: LocalAuthority) -> Path:
    """A configuration with Dovecot's maildrops only."""
    ca = authority.write_ca(configs.folder)
    secure = {"host": "localhost", "tls_ca_file": ca}
    return configs.write(
        {
            "maildrop.alice": configs.maildrop(dovecot.tls_port, "alice", tls="implicit", **secure),
            "maildrop.carol": configs.maildrop(dovecot.port, "carol", tls="starttls", **secure),
            "destination.hop": configs.smtp(1),
        }
    )


@pytest.fixture
def servers(configs: ConfigFolder, postfix: PrivatePostfix, authority: LocalAuthority) -> Path:
    """A configuration with Postfix only."""
    ca = authority.write_ca(configs.folder)
    secure = {"host": "localhost", "tls": "starttls", "tls_ca_file": ca}
    etrn = {"port": postfix.port, "nodes": ["rnd.example.org"], **secure}
    return configs.write(
        {
            "destination.hop": configs.smtp(postfix.port, **secure),
            "destination.vault": {"type": "maildir", "path": configs.folder / "vault"},
            "etrn.office": etrn,
        }
    )


def test_a_maildrop_for_scripts(maildrops: Path, dovecot: PrivateDovecot, configs: ConfigFolder) -> None:
    commands = ("TOP 1 0", "RETR 2", "UIDL 9", "XFOO")
    words = [word for line in commands for word in ("--do", line)]
    ended = run_command("probe", "pop3", "carol", "--json", "--list", *words, "-c", maildrops)
    assert (ended.code, ended.err) == (1, "")  # two commands were refused
    document = ended.document
    assert document["greeting"].startswith("+OK Dovecot")
    assert "STLS" in document["offers"]["first"]
    assert "STLS" not in document["offers"]["under-tls"]
    assert "TOP" in document["offers"]["logged-in"]
    assert document["tls"]["version"] == "TLSv1.3"
    assert document["tls"]["accepted"] is True
    assert document["tls"]["chain"][0]["sha256"] == dovecot.certificate.fingerprint
    assert "localhost" in document["tls"]["chain"][0]["names"]
    assert document["tls"]["chain"][0]["days_left"] > 1
    assert document["login_method"] == "SCRAM-SHA-256"
    shown = document["maildrop"]["shown"]
    assert [(each["number"], each["subject"]) for each in shown] == [
        (1, "Привет"),
        (2, "evil [2J]0;owned"),
        (3, "сырой заголовок"),
    ]
    assert shown[0]["from"] == shown[2]["from"] == "Иван <ivan@example.ru>"
    assert [each["ok"] for each in document["commands"]] == [True, True, False, False]
    assert document["commands"][0]["body"].startswith("From: =?koi8-r?")
    assert "\\u001b[2J" in ended.out  # as JSON writes it, never as it is
    assert "\x1b" not in ended.out
    assert document["ended_with_quit"] is True
    sent = [line["text"] for line in document["dialogue"] if line["direction"] == "send"]
    assert sent[-2:] == ["RSET", "QUIT"]
    assert "RETR 3" not in sent
    assert PASSWORD not in ended.out
    assert len(dovecot.messages_left("carol")) == 3
    assert list(configs.state.iterdir()) == []


def test_check_live_of_maildrops(maildrops: Path) -> None:
    ended = run_command("check", "--live", "--json", "-c", maildrops)
    assert ended.code == 1
    rows = {row["peer"]: row for row in ended.document["live"]}
    assert {peer: row["state"] for peer, row in rows.items()} == {
        "maildrop.alice": "ok",
        "maildrop.carol": "ok",
        "destination.hop": "failed",
    }
    assert rows["maildrop.alice"]["login_method"] == "SCRAM-SHA-256"
    assert "Nothing listens there" in rows["destination.hop"]["error"]


def test_a_certificate_that_nobody_vouches_for(configs: ConfigFolder, dovecot: PrivateDovecot) -> None:
    table = configs.maildrop(dovecot.tls_port, "alice", tls="implicit", host="localhost")
    path = configs.write({"maildrop.alice": table, "destination.hop": configs.smtp(1)})
    ended = run_command("probe", "pop3", "alice", "-c", path)
    assert ended.code == 1
    assert "failed at TLS" in ended.out
    assert "NOT accepted" in ended.out
    assert dovecot.certificate.fingerprint in ended.out
    assert "send:" not in ended.out


def test_a_wrong_password(maildrops: Path, configs: ConfigFolder) -> None:
    configs.secret.write_text("battery staple\n")
    ended = run_command("probe", "pop3", "carol", "-c", maildrops)
    assert ended.code == 77
    assert "failed at the login" in ended.out
    assert "battery" not in ended.out


def test_a_next_hop(servers: Path, postfix: PrivatePostfix) -> None:
    lines = ("VRFY postmaster@example.org", "EXPN staff", "ETRN rnd.example.org", "ETRN #slow", "NOOP")
    words = [word for line in lines for word in ("--do", line)]
    ended = run_command("probe", "smtp", "etrn.office", *words, "-c", servers)
    assert (ended.code, ended.err) == (1, "")
    assert "TLSv1.3" in ended.out
    assert "send:  VRFY postmaster@example.org\nreply: 252 2.0.0" in ended.out
    assert "send:  EXPN staff\nreply: 50" in ended.out  # Postfix knows no EXPN
    assert "send:  ETRN rnd.example.org\nreply: 250 Queuing started" in ended.out
    assert "send:  ETRN #slow\nreply: 459" in ended.out
    assert "reply: 221" in ended.out
    document = run_command("probe", "smtp", "hop", "--json", "-c", servers).document
    assert "STARTTLS" in document["offers"]["first"]
    assert "STARTTLS" not in document["offers"]["under-tls"]
    assert document["offers"]["under-tls"]["SIZE"]
    assert postfix.delivered() == []


def test_a_recipient_can_be_tried_and_nothing_is_sent(servers: Path, postfix: PrivatePostfix) -> None:
    lines = ("MAIL FROM:<a@example.net>", "RCPT TO:<b@example.org>", "RCPT TO:<c@elsewhere.invalid>")
    words = [word for line in lines for word in ("--do", line)]
    commands = run_command("probe", "smtp", "hop", "--json", *words, "-c", servers).document["commands"]
    assert [each["reply"][:3] for each in commands][:2] == ["250", "250"]
    assert postfix.delivered() == []


def test_check_live_of_all(servers: Path, configs: ConfigFolder) -> None:
    ended = run_command("check", "--live", "-c", servers)
    assert ended.code == 0
    assert "3 peers can be used." in ended.out
    for peer in ("destination.hop", "destination.vault", "etrn.office"):
        assert peer in ended.out
    assert not (configs.folder / "vault").exists()


def test_the_prompt_on_a_terminal(maildrops: Path, dovecot: PrivateDovecot) -> None:
    with OnTerminal("probe", "pop3", "alice", "-c", maildrops) as terminal:
        first = terminal.wait_for("pop3> ")
        assert "Привет" in first
        assert "IN-USE" in first
        terminal.type("stat")
        assert "+OK 3 " in terminal.wait_for("pop3> ")
        terminal.press(b"\x1b[A\n")  # the line before, from readline's memory
        assert "+OK 3 " in terminal.wait_for("pop3> ")
        terminal.type("dele 1")
        terminal.wait_for("Type yes: ")
        terminal.type("n")
        assert "not sent" in terminal.wait_for("pop3> ")
        terminal.type("top 2 0")
        assert "evil \\x1b[2J" in terminal.wait_for("pop3> ")
        terminal.type("quit")
        assert terminal.end() == 0
    assert "send:  RSET" in terminal.shown
    assert "send:  DELE" not in terminal.shown
    assert len(dovecot.messages_left("alice")) == 3


def test_a_prompt_that_is_left_in_a_hurry_deletes_nothing(maildrops: Path, dovecot: PrivateDovecot) -> None:
    with OnTerminal("probe", "pop3", "carol", "-c", maildrops) as terminal:
        terminal.wait_for("pop3> ")
        terminal.type("dele 1")
        terminal.wait_for("Type yes: ")
        terminal.type("yes")
        terminal.wait_for("pop3> ")
        assert terminal.interrupt() == 130
    assert "send:  DELE 1" in terminal.shown
    assert "send:  QUIT" not in terminal.shown
    assert len(dovecot.messages_left("carol")) == 3
