from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from mailferry.cli.exit_codes import ExitCode
from mailferry.cli.once_report import MOST_REASONS, OnceReport
from mailferry.config import load_settings
from mailferry.errors import (
    AuthenticationRejectedError,
    ConnectError,
    MaildropBusyError,
    RemoteProtocolError,
    StoreError,
    TlsError,
)
from mailferry.events import (
    DaemonStopping,
    MessageDeferred,
    MessageFetchFailed,
    MessageRejected,
    MessageRelayed,
    PollFinished,
    RoutePaused,
    RouteResumed,
)
from mailferry.model import MaildropName, MessageState
from mailferry.services.poll import PollReport

FACTS = ("alice", "p1", "u1", 100, "ann@example.org", "bob@example.net", "Hello")


@pytest.fixture
def report(config: Path) -> OnceReport:
    return OnceReport(load_settings(config, environ={}), ["alice"])


def tell(report: OnceReport, *events) -> None:
    hear = report.listener(lambda: None)
    for event in events:
        hear(event)


def ended(report: OnceReport, failure: Exception | None = None, **numbers) -> None:
    report.ended("alice", PollReport("p1", failure=failure, **numbers))


def shown(report: OnceReport, capsys: pytest.CaptureFixture[str]) -> str:
    report.show(Console(width=160, markup=False, highlight=False))
    return capsys.readouterr().out


def test_all_done_is_0(report) -> None:
    ended(report, listed=3, relayed=3)
    assert report.exit_code() == 0
    assert report.document()["ok"] is True


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (StoreError("full"), ExitCode.STORE),
        (AuthenticationRejectedError("no"), ExitCode.NO_PERMISSION),
        (TlsError("expired"), ExitCode.FAILED),
        (RemoteProtocolError("what?"), ExitCode.FAILED),
        (RuntimeError("bug"), ExitCode.FAILED),
        (ConnectError("refused"), ExitCode.TEMPORARY),
        (MaildropBusyError("locked"), ExitCode.TEMPORARY),
    ],
)
def test_a_failed_poll_gives_its_code(report, failure, code) -> None:
    ended(report, failure)
    assert report.exit_code() == code


def test_the_gravest_failure_gives_the_code(config) -> None:
    report = OnceReport(load_settings(config, environ={}), ["alice", "bob"])
    report.ended("alice", PollReport("p1", failure=ConnectError("refused")))
    report.ended("bob", PollReport("p2", failure=AuthenticationRejectedError("no")))
    assert report.exit_code() == ExitCode.NO_PERMISSION


def test_rejected_mail_wants_a_person(report) -> None:
    ended(report, rejected=1, relayed=2)
    assert report.exit_code() == ExitCode.FAILED


def test_deferred_mail_is_temporary_also_when_it_was_deferred_before(report) -> None:
    ended(report, listed=1, waiting=1)
    assert report.exit_code() == ExitCode.OK
    report.take_counts({(MaildropName("bob"), MessageState.DEFERRED): 7})
    assert report.exit_code() == ExitCode.OK  # another's
    report.take_counts({(MaildropName("alice"), MessageState.DEFERRED): 1})
    assert report.exit_code() == ExitCode.TEMPORARY


def test_a_paused_route_of_ours_is_temporary_until_it_resumes(report) -> None:
    ended(report)
    tell(report, RoutePaused("other", "421", 1, 0.0))
    assert report.exit_code() == ExitCode.OK
    tell(report, RoutePaused("hop", "421", 1, 0.0))
    assert report.exit_code() == ExitCode.TEMPORARY
    assert report.paused_routes() == {"hop": "421"}
    tell(report, RouteResumed("hop", 1))
    assert report.exit_code() == ExitCode.OK


def test_a_signal_is_temporary_and_told(report, capsys) -> None:
    report.ended("alice", None)
    tell(report, DaemonStopping("SIGINT"))
    assert report.exit_code() == ExitCode.TEMPORARY
    assert report.rows()[0].result == "stopped"
    assert "Stopped by SIGINT" in shown(report, capsys)


def test_the_table_and_the_reasons_beneath(report, capsys) -> None:
    tell(
        report,
        MessageRelayed(*FACTS, destination="hop", attempt=1, receipt="250", age_seconds=0.1),
        MessageDeferred(*FACTS, destination="hop", attempt=1, reason="450 grey\x1b[2J", next_attempt_at=0.0),
        MessageDeferred(*FACTS, destination="hop", attempt=1, reason="450 grey\x1b[2J", next_attempt_at=0.0),
        MessageRejected(*FACTS, destination="hop", attempt=1, reason="550 no"),
        MessageFetchFailed("alice", "p1", "u2", 1, "-ERR gone", 0.0),
        PollFinished("alice", "p1", "ok", 1.234),
    )
    ended(report, listed=5, relayed=1, deferred=2, rejected=1, waiting=4)
    assert report.copies == 1
    out = shown(report, capsys)
    row = next(line.split() for line in out.splitlines() if line.strip().startswith("alice  "))
    assert row == ["alice", "ok", "5", "1", "2", "1", "0", "0", "4", "1.23"]
    assert "alice to hop: 2 messages deferred: 450 grey\\x1b[2J" in out
    assert "alice to hop: 1 message rejected: 550 no" in out
    assert "alice: 1 message not fetched: -ERR gone" in out


def test_failures_are_told_in_words_but_bugs_not_in_theirs(report, capsys) -> None:
    ended(report, ConnectError("127.0.0.1:1: cannot connect: refused"))
    assert "alice: connect_failed: 127.0.0.1:1: cannot connect: refused" in shown(report, capsys)
    ended(report, RuntimeError("hunter2"))
    out = shown(report, capsys)
    assert "alice: internal_error: RuntimeError: the log has the traceback" in out
    assert "hunter2" not in out


def test_reasons_that_a_peer_invents_are_bounded(report) -> None:
    for number in range(1000):
        tell(report, MessageFetchFailed("alice", "p1", "u", 1, f"reason {number}", 0.0))
    ended(report)
    troubles = report.document()["troubles"]
    assert isinstance(troubles, list)
    assert len(troubles) == MOST_REASONS + 1
    assert sum(trouble["messages"] for trouble in troubles) == 1000


@pytest.mark.parametrize("name", ["carol", "bob"])
def test_unknown_and_disabled_names_are_usage_errors(command, config, name) -> None:
    ended = command("once", "alice", name, "-c", config)
    assert ended.code == ExitCode.USAGE
    assert name in ended.err
    assert "known are: alice" in " ".join(ended.err.replace("│", " ").split())


def test_the_document_is_json(report) -> None:
    ended(report, ConnectError("refused"), listed=0)
    document = json.loads(json.dumps(report.document()))
    assert document["exit_code"] == 75
    assert document["maildrops"][0]["result"] == "connect_failed"
    assert document["maildrops"][0]["error"] == "refused"
