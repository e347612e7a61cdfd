"""`mailferry probe` and `check --live`, as far as they get without a server; and what they print."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from mailferry.cli.exit_codes import ExitCode
from mailferry.cli.probe_facts import days_left, opening_document, opening_facts
from mailferry.cli.probe_prompt import Pop3Prompt, SmtpPrompt
from mailferry.cli.probe_report import MOST_LINES, Peer, ProbeReport
from mailferry.cli.probe_words import advice_on, exit_code_of, refusal_document
from mailferry.errors import (
    AuthenticationRejectedError,
    ConnectTimeoutError,
    HopAuthenticationError,
    HopClosedError,
    HopError,
    MaildropBusyError,
    RefusedCommand,
    RefusedReply,
    RemoteProtocolError,
    SecretError,
    TlsError,
)
from mailferry.model import Summary, Uidl
from mailferry.net.by_hand import HandAnswer
from mailferry.net.certificates import CertificateFacts, TlsFacts
from mailferry.net.endpoint import Endpoint, TlsMode
from mailferry.net.opening import Moment, Opening, Stage
from mailferry.net.pop3_probe import Glance, GlancedMessage
from mailferry.protocol.pop3_commands import Dele, Retr, Stat
from support.closed_doors import refusing
from support.configs import ConfigFolder

NOW = 1_800_000_000.0
DAY = 86_400.0
EVIL = "\x1b[2J\x1b]0;owned\x07\u202emoc.live\r\nreply: +OK forged"
CERTIFICATE = CertificateFacts(
    "CN=mx.example.org",
    "CN=Example CA",
    ("mx.example.org", "*.example.org"),
    NOW - DAY,
    NOW + 30.5 * DAY,
    "ab" * 32,
)


@pytest.fixture
def path(folder: ConfigFolder) -> Path:
    etrn = {"host": "127.0.0.1", "port": 1, "tls": "none", "nodes": ["a.example.org"]}
    return folder.write(
        {
            "maildrop.alice": folder.maildrop(1, "alice"),
            "destination.hop": folder.smtp(1),
            "destination.both": folder.smtp(1),
            "destination.vault": {"type": "maildir", "path": folder.folder / "vault"},
            "etrn.both": etrn,
        }
    )


def report() -> tuple[ProbeReport, io.StringIO]:
    stream = io.StringIO()
    console = Console(file=stream, width=120, markup=False, emoji=False, highlight=False)
    endpoint = Endpoint("pop.example.net", 995, TlsMode.IMPLICIT)
    return ProbeReport(Peer("pop3", "alice", endpoint, "alice"), console), stream


def harmless(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


# -- the command line -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("pop3", "nobody"), "no such maildrop: nobody; known are: alice"),
        (("pop3", "alice", "--do", "DELE 1"), "--allow-delete"),
        (("pop3", "alice", "--do", "dele 1"), "--allow-delete"),
        (("pop3", "alice", "--do", "PASS x"), "cannot be sent by hand"),
        (("pop3", "alice", "--do", "QUIT"), "cannot be sent by hand"),
        (("pop3", "alice", "--limit", "1001"), "--limit"),
        (("smtp", "vault"), "no such SMTP server"),
        (("smtp", "both"), "destination.both, destination.hop, etrn.both"),
        (("smtp", "hop", "--do", "AUTH PLAIN secret-word"), "AUTH is done while the session is opened"),
        (("smtp", "hop", "--do", "DATA"), "never by hand"),
    ],
)
def test_what_makes_no_sense_connects_nowhere(command, path, words, complaint) -> None:
    ended = command("probe", *words, "-c", path)
    assert (ended.code, ended.out) == (ExitCode.USAGE, "")
    # A terminal's frame may break the line anywhere.
    assert complaint.replace(" ", "") in "".join(ended.err.split()).replace("│", "")
    assert "secret-word" not in ended.err


@pytest.mark.parametrize("name", ["destination.both", "etrn.both", "hop", "destination.hop"])
def test_a_server_that_is_away(command, path, name) -> None:
    ended = command("probe", "smtp", name, "--json", "-c", path)
    assert ended.code == ExitCode.TEMPORARY
    document = json.loads(ended.out)
    assert document["error"]["stage"] == "connect"
    assert document["error"]["kind"] == "ConnectRefusedError"
    assert "Nothing listens there" in document["error"]["text"]
    assert document["commands"] == []
    assert {line["direction"] for line in document["dialogue"]} <= {"note"}


def test_a_maildrop_that_is_away_touches_no_ledger(command, folder) -> None:
    with refusing() as port:
        path = folder.write(
            {"maildrop.alice": folder.maildrop(port, "alice"), "destination.hop": folder.smtp(1)}
        )
        ended = command("probe", "pop3", "alice", "-c", path)
    assert ended.code == ExitCode.TEMPORARY
    assert "failed at connecting" in ended.out
    assert list(folder.state.iterdir()) == []


def test_check_live_tells_of_each_peer(command, path, folder) -> None:
    ended = command("check", "--live", "--json", "-c", path)
    assert ended.code == ExitCode.FAILED
    document = json.loads(ended.out)
    assert document["ok"] is False
    live = {row["peer"]: row for row in document["live"]}
    assert {peer: row["state"] for peer, row in live.items()} == {
        "maildrop.alice": "failed",
        "destination.hop": "failed",
        "destination.both": "failed",
        "destination.vault": "ok",
        "etrn.both": "failed",
    }
    assert live["maildrop.alice"]["failed_at"] == "connect"
    assert not (folder.folder / "vault").exists()
    shown = command("check", "--live", "-c", path)
    assert shown.code == ExitCode.FAILED
    assert "4 of 5 peers cannot be used." in shown.out


def test_check_live_connects_nowhere_with_a_bad_configuration(command, folder) -> None:
    ended = command("check", "--live", "-c", folder.write({"maildrop.alice": folder.maildrop(1, "alice")}))
    assert ended.code == ExitCode.CONFIG


# -- what is printed ----------------------------------------------------------------------------


def test_nothing_that_a_server_says_steers_the_terminal() -> None:
    made, stream = report()
    opening = Opening(stage=Stage.READY, peer="192.0.2.1:995", local="10.0.0.1:5", greeting=f"+OK {EVIL}")
    opening.offers[Moment.FIRST] = {"UIDL": "", f"X{EVIL}": EVIL}
    evil_certificate = CertificateFacts(f"CN={EVIL}", f"CN={EVIL}", (EVIL,), None, None, "ab" * 32)
    opening.tls = TlsFacts("TLSv1.3", "A", 256, (evil_certificate,))
    made.trace("reply", f"+OK {EVIL}")
    made.opened(opening, [EVIL])
    body = EVIL.encode() + b"\xff\x9b2J\r\n"
    made.answered(HandAnswer("RETR 1", "RETR", ok=True, reply=EVIL, body=body, octets=len(body)))
    made.not_sent("X", EVIL)
    message = GlancedMessage(1, 2, Uidl(EVIL.encode()), None, EVIL)
    made.glanced(Glance(1, 2, (message,)))
    made.failed(RemoteProtocolError(EVIL), opening)
    shown = stream.getvalue()
    assert harmless(shown)
    assert "\nreply: +OK forged" not in shown
    assert "\\x1b[2J" in shown
    json.dumps(made.document())


def test_a_listing_is_shown_decoded() -> None:
    made, stream = report()
    summary = Summary("Иван <ivan@example.ru>", "alice@example.org", "Привет")
    messages = (GlancedMessage(41, 1_234_567, Uidl(b"u41"), summary), GlancedMessage(42, 5, None, summary))
    made.glanced(Glance(42, 9_999_999, messages))
    shown = stream.getvalue()
    assert "the newest 2 of 42 messages, 9,999,999 octets in all" in shown
    assert "Иван <ivan@example.ru>" in shown
    assert "1,234,567" in shown
    assert "none" in shown
    assert made.document()["maildrop"]["shown"][1]["uidl"] is None


def test_a_long_body_is_cut_on_the_terminal() -> None:
    made, stream = report()
    body = b"line\r\n" * (MOST_LINES + 5)
    made.answered(HandAnswer("RETR 1", "RETR", ok=True, reply="+OK", body=body, octets=len(body)))
    lines = stream.getvalue().splitlines()
    assert len(lines) == MOST_LINES + 1
    assert lines[-1].strip() == f"... {len(body)} octets in all"


def test_a_secret_that_comes_back_in_a_body_is_masked() -> None:
    made, stream = report()
    made.opened(Opening(masked=lambda text: text.replace("correct horse", "***")))
    body = b"your password is correct horse\r\n"
    made.answered(HandAnswer("XINFO", "XINFO", ok=True, reply="+OK", body=body, octets=len(body)))
    assert "horse" not in stream.getvalue()
    assert "horse" not in json.dumps(made.document())


def test_capabilities_are_printed_once() -> None:
    made, stream = report()
    made.answered(HandAnswer("CAPA", "CAPA", ok=True, reply="+OK", body=b"TOP\r\n", octets=5))
    assert stream.getvalue() == ""
    assert made.document()["commands"][0]["body"] == "TOP\r\n"


def test_the_facts_of_a_session() -> None:
    opening = Opening(stage=Stage.READY, peer="192.0.2.1:995", local="10.0.0.1:5", greeting="+OK hi")
    opening.offers = {
        Moment.FIRST: {"STLS": "", "SASL": "PLAIN"},
        Moment.UNDER_TLS: {"SASL": "PLAIN EXTERNAL", "TOP": ""},
        Moment.LOGGED_IN: {"SASL": "PLAIN EXTERNAL", "TOP": ""},
    }
    opening.tls = TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256, (CERTIFICATE,))
    opening.method = "PLAIN"
    facts = list(opening_facts(opening, "alice", pinned=False, now=NOW))
    assert ("TLS", "TLSv1.3, TLS_AES_256_GCM_SHA384 (256 bits), verified") in facts
    assert ("certificate", "CN=mx.example.org, until 2027-02-14 (30 days left)") in facts
    assert ("issued by", "CN=Example CA (not sent along)") in facts
    assert ("offers", "at first: STLS; SASL PLAIN") in facts
    assert ("", "under TLS: + SASL PLAIN EXTERNAL; + TOP; - STLS") in facts
    assert ("", "logged in: the same") in facts
    assert ("login", "PLAIN as alice") in facts
    pinned = dict(opening_facts(opening, "alice", pinned=True, now=NOW))
    assert pinned["TLS"].endswith("pinned by tls_fingerprint")
    document = opening_document(opening, pinned=False, now=NOW)
    assert document["tls"]["chain"][0]["days_left"] == 30
    assert document["tls"]["accepted"] is True


@pytest.mark.parametrize(
    ("keyword", "value", "word"),
    [
        ("LOGIN-DELAY", "900 USER", "900 s between two logins"),
        ("EXPIRE", "NEVER", "never deletes"),
        ("EXPIRE", "30", "after 30 days"),
        ("EXPIRE", "0", "when the session ends"),
        ("SIZE", "209715200", "209,715,200 octets"),
    ],
)
def test_what_a_server_allows_is_said_in_words(keyword: str, value: str, word: str) -> None:
    opening = Opening(offers={Moment.FIRST: {keyword: value}})
    assert any(word in text for _, text in opening_facts(opening, None, pinned=False, now=NOW))


@pytest.mark.parametrize("value", ["", "x", "9" * 5000, "-1", "\u0663"])
def test_what_makes_no_sense_is_not_said_in_words(value: str) -> None:
    opening = Opening(offers={Moment.FIRST: dict.fromkeys(("LOGIN-DELAY", "EXPIRE", "SIZE"), value)})
    labels = [label for label, _ in opening_facts(opening, None, pinned=False, now=NOW)]
    assert labels == ["offers"]


def test_a_certificate_that_was_not_accepted_is_shown_as_such() -> None:
    opening = Opening(refused_tls=TlsFacts("TLSv1.3", "A", 256, (CERTIFICATE,)))
    assert dict(opening_facts(opening, None, pinned=False, now=NOW))["TLS"].endswith("NOT accepted")
    assert opening_document(opening, pinned=False, now=NOW)["tls"]["accepted"] is False


@pytest.mark.parametrize(("seconds", "days"), [(DAY, 1), (DAY - 1, 0), (-1.0, -1), (None, None)])
def test_days_left(seconds: float | None, days: int | None) -> None:
    ends = None if seconds is None else NOW + seconds
    assert days_left(CertificateFacts("", "", (), None, ends, ""), NOW) == days


# -- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (AuthenticationRejectedError("no"), ExitCode.NO_PERMISSION),
        (HopAuthenticationError("no"), ExitCode.NO_PERMISSION),
        (MaildropBusyError("later"), ExitCode.TEMPORARY),
        (ConnectTimeoutError("late"), ExitCode.TEMPORARY),
        (HopClosedError("x", refused=RefusedReply("", 421, None, "bye")), ExitCode.TEMPORARY),
        (HopError("x", refused=RefusedReply("", 554, "5.7.1", "no")), ExitCode.FAILED),
        (TlsError("no"), ExitCode.FAILED),
        (RemoteProtocolError("no"), ExitCode.FAILED),
        (SecretError("no"), ExitCode.CONFIG),
    ],
)
def test_exit_codes(error: Exception, code: ExitCode) -> None:
    made, _ = report()
    made.failed(error, Opening())
    assert made.exit_code() == exit_code_of(error) == code


def test_what_the_server_said_is_kept_apart() -> None:
    busy = MaildropBusyError("x", refused=RefusedCommand("PASS", "IN-USE", "locked"))
    assert refusal_document(busy) == {"verb": "PASS", "response_code": "IN-USE", "text": "locked"}
    assert "locks its maildrop" in advice_on(busy)
    assert refusal_document(TlsError("x")) is None


def test_a_tls_failure_is_told_as_one_wherever_it_comes() -> None:
    made, stream = report()
    made.failed(TlsError("certificate refused"), Opening(stage=Stage.CONNECT))
    assert "failed at TLS: certificate refused" in stream.getvalue()


@pytest.mark.parametrize(("asks", "code"), [(False, ExitCode.FAILED), (True, ExitCode.OK)])
def test_a_refused_command_counts_where_a_script_asked(asks: bool, code: ExitCode) -> None:
    made, _ = report()
    made.refusals_count = not asks
    made.answered(HandAnswer("UIDL 9", "UIDL", ok=False, reply="-ERR"))
    assert made.exit_code() == code


# -- the prompt -----------------------------------------------------------------------------------


class Typist:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
        self.said: list[str] = []
        self.sent: list[object] = []
        self.listed: list[int] = []
        self._lines = iter(lines)
        monkeypatch.setattr("builtins.input", self._input)

    def _input(self, _prompt: str) -> str:
        try:
            return next(self._lines)
        except StopIteration:
            raise EOFError from None

    def send(self, command: object) -> bool:
        self.sent.append(command)
        return True

    def pop3(self) -> None:
        Pop3Prompt(self.said.append, self.send, self.listed.append, lambda: True).run()


def test_the_prompt_takes_commands_until_quit(monkeypatch: pytest.MonkeyPatch) -> None:
    typist = Typist(
        monkeypatch, "stat", "", "help", "top 1", "messages 3", "messages", "messages x", "quit", "noop"
    )
    typist.pop3()
    assert typist.sent == [Stat()]
    assert typist.listed == [3, 10]
    assert "TOP: 2 numbers follow it" in typist.said
    assert "messages: a number follows it, or nothing" in typist.said
    assert any("!LINE" in said for said in typist.said)


def test_the_prompt_deletes_only_after_a_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    typist = Typist(monkeypatch, "DELE 1", "y", "dele 2", "yes", "!dele 3", "no", "retr 1", "dele 4")
    typist.pop3()
    assert typist.sent == [Dele(2), Retr(1)]


def test_a_mark_sends_a_line_as_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    typist = Typist(monkeypatch, "!HELP", "!messages", "!PASS x", "!")
    typist.pop3()
    assert [command.trace for command in typist.sent] == ["HELP", "messages"]
    smtp = Typist(monkeypatch, "!HELP", "vrfy a", "AUTH PLAIN x")
    SmtpPrompt(smtp.said.append, smtp.send, lambda: True).run()
    assert [command.trace for command in smtp.sent] == ["HELP", "VRFY a"]
