"""What `mailferry etrn` says of each answer, and with which code it ends."""

from __future__ import annotations

import json

import pytest
from rich.console import Console

from mailferry.cli.etrn_report import _WORDS, EtrnReport
from mailferry.cli.exit_codes import ExitCode
from mailferry.errors import ConnectError, EtrnNotOfferedError, HopAuthenticationError
from mailferry.policy.etrn import EtrnAnswer, EtrnResult, failure_result, judge
from mailferry.protocol.smtp_replies import make_reply
from mailferry.services.etrn import NodeOutcome
from mailferry.services.etrn_by_hand import HandReport, RoundFailure

NODES = ("a.example.org", "b.example.org")
A, B = NODES


def said(node: str, line: str) -> dict[str, NodeOutcome]:
    reply = make_reply(int(line[:3]), (line[4:],))
    return {node: NodeOutcome(node, 1.0, judge(reply, protected=True, logged_in=True), line)}


def report(made: HandReport, *nodes: str) -> EtrnReport:
    found = EtrnReport("office", nodes or NODES, 300.0)
    found.take(made)
    return found


def shown(found: EtrnReport, capsys: pytest.CaptureFixture[str]) -> str:
    found.show(Console(width=160, markup=False, highlight=False))
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("250 ok", ExitCode.OK),
        ("251 none", ExitCode.OK),
        ("253 3 pending", ExitCode.OK),
        ("458 busy", ExitCode.TEMPORARY),
        ("450 busy", ExitCode.TEMPORARY),
        ("459 no", ExitCode.FAILED),
        ("502 no", ExitCode.FAILED),
        ("503 no", ExitCode.TEMPORARY),
    ],
)
def test_the_exit_code_is_the_gravest(line: str, code: ExitCode) -> None:
    made = HandReport(outcomes={**said(A, "250 ok"), **said(B, line)})
    assert report(made).exit_code() is code


@pytest.mark.parametrize(
    ("failure", "code", "word"),
    [
        (ConnectError("refused"), ExitCode.TEMPORARY, "connect_failed"),
        (EtrnNotOfferedError("none here"), ExitCode.FAILED, "not_offered"),
        (HopAuthenticationError("535 no"), ExitCode.NO_PERMISSION, "auth_rejected"),
    ],
)
def test_a_server_that_was_not_asked(failure: Exception, code: ExitCode, word: str) -> None:
    found = report(HandReport(failure=RoundFailure(failure_result(failure), str(failure))))
    assert found.exit_code() is code
    document = found.document()
    assert (document["ok"], document["exit_code"], document["error"]) == (False, code, str(failure))
    assert [row["result"] for row in document["nodes"]] == [word, word]  # type: ignore[attr-defined]


def test_words_and_advice(capsys: pytest.CaptureFixture[str]) -> None:
    made = HandReport(outcomes={**said(A, "253 14 pending"), **said(B, "459 no \x1b[2J")})
    text = shown(report(made), capsys)
    assert "accepted: 14 messages on the way" in text
    assert "459 no \\x1b[2J" in text
    assert "b.example.org: the server does not queue mail for this node" in text
    assert "Accepted is not sent" in text


def test_a_refusal_alone_says_nothing_of_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Accepted" not in shown(report(HandReport(outcomes=said(A, "459 no")), A), capsys)


def test_what_was_not_asked_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    found = report(HandReport(too_soon={A: 260.0}, outcomes=said(B, "250 ok")))
    text = shown(found, capsys)
    assert "not asked: asked 40 s ago, and min_gap is 5 min" in text
    assert "--force" in text
    assert found.exit_code() is ExitCode.TEMPORARY


def test_nobody_for_the_mail(capsys: pytest.CaptureFixture[str]) -> None:
    found = report(HandReport(postponed="mx:25: cannot connect"))
    text = shown(found, capsys)
    assert "nobody would take the mail: mx:25: cannot connect" in text
    assert found.exit_code() is ExitCode.TEMPORARY


def test_a_lost_answer_has_no_reply() -> None:
    answer = EtrnAnswer(EtrnResult.CONNECTION_LOST)
    lost = {A: NodeOutcome(A, 1.0, answer, "mx: connection lost", answered=False)}
    (row,) = report(HandReport(outcomes=lost), A).rows()
    assert (row.asked, row.accepted, row.reply, row.result) == (True, False, "", "connection_lost")


def test_the_document_can_be_printed() -> None:
    document = report(HandReport(outcomes={**said(A, "253 2 pending"), **said(B, "458 no")})).document()
    first, second = json.loads(json.dumps(document))["nodes"]
    assert first == {
        "node": A,
        "result": "started",
        "accepted": True,
        "asked": True,
        "words": "accepted: 2 messages on the way",
        "reply": "253 2 pending",
        "pending": 2,
        "advice": "",
    }
    assert (second["result"], second["accepted"]) == ("unable", False)


def test_every_result_has_words() -> None:
    assert set(_WORDS) == set(EtrnResult)


def test_odmr_has_words_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    made = HandReport(outcomes={**said(A, "250 ok"), **said(B, "502 no")})
    found = EtrnReport("home", (A, B), 300.0, odmr=True)
    found.take(made)
    text = shown(found, capsys)
    assert "the mail came with the answer" in text
    assert "ATRN is not offered" in text
    assert "Accepted is not sent" not in text
