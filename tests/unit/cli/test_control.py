"""The commands that talk to the daemon: what they ask, print, and end with."""

from __future__ import annotations

import errno
import json
import time
from pathlib import Path
from typing import Any

import pytest

from mailferry.cli.control import Daemon, _checked, _not_connected
from mailferry.cli.exit_codes import ExitCode
from mailferry.errors import (
    ControlDeniedError,
    ControlError,
    MailferryError,
    NoDaemonError,
    UnknownTargetError,
)
from mailferry.telemetry.rendering import iso_time

POLLED = {
    "maildrop": "alice", "state": "ended", "result": "ok", "error": "", "poll_id": "bc6953d0", "listed": 3,
    "relayed": 2, "deferred": 0, "rejected": 0, "skipped": 0, "deleted": 0, "waiting": 0,
}  # fmt: skip
RELOADED: dict[str, Any] = {
    "accepted": True, "problems": [], "added": [], "changed": [], "removed": [], "renewed": [], "needs_restart": [],
    "finishing": [],
}  # fmt: skip


class FakeDaemon:
    """Answers what a test has put in; notes what is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        self.answer: dict[str, Any] | MailferryError = {}

    def __call__(self, method: str, operation: str, body: bytes | None, _patience: float) -> dict[str, Any]:
        self.asked.append((method, operation, json.loads(body) if body is not None else None))
        if isinstance(self.answer, MailferryError):
            raise self.answer
        return self.answer


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> FakeDaemon:
    fake = FakeDaemon()
    monkeypatch.setattr(Daemon, "_ask", fake)
    return fake


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 0),
        ({"deferred": 1}, ExitCode.TEMPORARY),
        ({"rejected": 1}, ExitCode.FAILED),
        ({"result": "auth_rejected", "error": "-ERR no"}, ExitCode.NO_PERMISSION),
        ({"result": "connect_failed", "error": "nobody"}, ExitCode.TEMPORARY),
        ({"result": "tls_failed", "error": "expired"}, ExitCode.FAILED),
        ({"result": "store_failed", "error": "disk"}, ExitCode.STORE),
        ({"state": "under way"}, ExitCode.TEMPORARY),
        ({"state": "paused"}, ExitCode.FAILED),
        ({"state": "cancelled"}, ExitCode.TEMPORARY),
    ],
)
def test_poll_waits_and_its_code_tells_the_gravest(command, config, daemon, changes, code) -> None:
    daemon.answer = {"polls": [POLLED, {**POLLED, "maildrop": "bob", **changes}]}
    ended = command("poll", "alice", "bob", "--wait", "-c", config)
    assert ended.code == code
    assert daemon.asked == [("POST", "poll", {"names": ["alice", "bob"], "wait_seconds": 3600.0})]
    if "error" in changes:
        assert f"bob: {changes['error']}\n" in ended.out


def test_poll_without_waiting_says_that_it_has_begun(command, config, daemon) -> None:
    daemon.answer = {"polls": [{"maildrop": "alice", "state": "under way"}]}
    ended = command("poll", "--all", "-c", config)
    assert (ended.code, ended.out) == (0, "alice: polling\n")
    assert daemon.asked == [("POST", "poll", {"all": True})]


def test_pause_says_until_when(command, config, daemon) -> None:
    daemon.answer = {"paused": ["maildrop.alice"], "ends_at": iso_time(time.time() + 7200.5)}
    ended = command("pause", "alice", "--for", "2h", "-c", config)
    assert (ended.code, ended.out.endswith(", in 2 h\n")) == (0, True)
    assert daemon.asked == [("POST", "pause", {"names": ["alice"], "seconds": 7200.0})]
    daemon.answer = {"paused": ["destination.hop"], "ends_at": None}
    assert command("pause", "hop", "-c", config).out == "destination.hop: paused until it is resumed\n"
    assert daemon.asked[-1][2] == {"names": ["hop"], "seconds": None}


def test_resume_says_what_was_paused(command, config, daemon) -> None:
    daemon.answer = {"resumed": ["maildrop.alice"]}
    assert command("resume", "--all", "-c", config).out == "maildrop.alice: resumed\n"
    daemon.answer = {"resumed": []}
    assert command("resume", "hop", "-c", config).out == "Nothing of that was paused by hand.\n"
    assert daemon.asked == [("POST", "resume", {"all": True}), ("POST", "resume", {"names": ["hop"]})]


def test_reload_tells_what_changed(command, config, daemon) -> None:
    daemon.answer = RELOADED
    assert command("reload", "-c", config).out == "Nothing has changed.\n"
    changes = {
        "changed": ["maildrop.alice"],
        "needs_restart": ["http.listen"],
        "finishing": ["maildrop.alice"],
    }
    daemon.answer = {**RELOADED, **changes}
    assert command("reload", "-c", config).out == (
        "changed: maildrop.alice\n"
        "Counts after a restart only: http.listen\n"
        "Still at work under the former settings: maildrop.alice\n"
    )


def test_a_reload_that_was_refused_ends_as_check_does(command, folder, daemon) -> None:
    broken = folder.folder / "broken.toml"
    broken.write_text("[maildrop.alice\n")
    daemon.answer = {**RELOADED, "accepted": False, "problems": ["broken.toml:1: \x1b[2Jno"]}
    ended = command("reload", "-c", broken)
    assert (ended.code, ended.out) == (ExitCode.CONFIG, "")
    assert ended.err.startswith("broken.toml:1: \\x1b[2Jno\n")
    assert "the former one stays in force" in ended.err
    assert daemon.asked == [("POST", "reload", {})]


def test_trace_is_switched_and_listed(command, config, daemon) -> None:
    on = {"name": "maildrop.alice", "ends_at": iso_time(time.time() + 600.5), "lines": 0, "left_out": 0}
    daemon.answer = on
    ended = command("trace", "alice", "on", "--for", "10m", "-c", config)
    assert (ended.out.startswith("maildrop.alice: traced until "), ended.out.endswith(", in 10 min\n")) == (
        True,
        True,
    )
    daemon.answer = {"always": False, "traces": [{**on, "lines": 1, "left_out": 2}]}
    assert command("trace", "-c", config).out.endswith(", 1 line so far, 2 left out\n")
    daemon.answer = {"name": "maildrop.alice", "was_on": True}
    assert command("trace", "alice", "off", "-c", config).out == "maildrop.alice: not traced any more\n"
    assert daemon.asked == [
        ("POST", "trace", {"name": "alice", "on": True, "seconds": 600.0}),
        ("GET", "trace", None),
        ("POST", "trace", {"name": "alice", "on": False, "seconds": None}),
    ]
    daemon.answer = {"always": True, "traces": []}
    assert command("trace", "-c", config).out == "Everything is traced: [daemon] trace = true\n"


@pytest.mark.parametrize(
    "words",
    [
        ("poll",), ("poll", "alice", "--all"), ("pause",), ("pause", "alice", "--for", "soon"),
        ("pause", "alice", "--for", "0s"), ("resume",), ("trace", "alice"), ("trace", "alice", "maybe"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_asks_nobody(command, config, daemon, words) -> None:
    ended = command(*words, "-c", config)
    assert (ended.code, ended.out, daemon.asked) == (ExitCode.USAGE, "", [])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NoDaemonError("nobody there"), ExitCode.UNAVAILABLE),
        (ControlDeniedError("not for you"), ExitCode.NO_PERMISSION),
        (UnknownTargetError("no such name"), ExitCode.USAGE),
        (ControlError("is stopping"), ExitCode.FAILED),
    ],
)
@pytest.mark.parametrize(
    "words", [("poll", "alice"), ("pause", "alice"), ("resume", "alice"), ("reload",), ("trace",)]
)
def test_each_way_to_fail_has_a_code(command, config, daemon, words, error, code) -> None:
    daemon.answer = error
    ended = command(*words, "-c", config)
    assert (ended.code, ended.out, ended.err) == (code, "", f"mailferry: {error}\n")


def live_status(**changes: Any) -> dict[str, Any]:
    now = time.time()
    common = {"last_error_at": None, "last_error": "", "failures": 0, "not_before": None, "well": True}
    by_hand = {"paused_by_hand": False, "pause_ends_at": None, "traced": False}
    drop = {
        "name": "alice", "state": "ok", "last_success_at": iso_time(now - 100), **common, "deferred": 0, "rejected": 0,
        "skipped": 0, "kept": 0, "polling": False, "next_poll_at": iso_time(now + 200.5), "waiting": 0, **by_hand,
    }  # fmt: skip
    place = {"name": "hop", "state": "open", "last_success_at": None, **common, **by_hand}
    about = {
        "version": "1.2", "pid": 77, "started_at": iso_time(now - 3600), "uptime_seconds": 10800.0, "stopping": False,
        "pop3_sessions": 2, "polls_waiting": 0, "mail_octets": 1_200_000, "mail_limit_octets": 1 << 28,
        "resident_octets": 98_000_000, "schedule_lag_seconds": 0.0,
    }  # fmt: skip
    drop |= changes
    lists = {"maildrops": [drop], "destinations": [place], "etrn": [], "quarantined": 0}
    received = {"deferred": 0, "rejected": 0}
    return {"source": "daemon", "ok": drop["well"], "daemon": about, "received": received, **lists}


def test_status_is_the_daemons_when_it_runs(command, config, daemon) -> None:
    daemon.answer = live_status()
    ended = command("status", "-c", config)
    assert ended.code == 0
    assert ended.out.splitlines()[0] == (
        "mailferry 1.2, process 77, running for 3 h: 2 POP3 sessions, 1.2 MB of mail under way, 98.0 MB of memory."
    )
    assert "in 3 min" in ended.out
    assert ended.out.endswith("All is well with 1 maildrop.\n")
    assert daemon.asked == [("GET", "status", None)]
    document = json.loads(command("status", "--json", "-c", config).out)
    assert (document["source"], document["daemon"]["pid"]) == ("daemon", 77)


def test_status_does_not_let_a_pause_be_forgotten(command, config, daemon) -> None:
    daemon.answer = live_status(
        state="paused by hand", well=False, paused_by_hand=True, next_poll_at=None, traced=True
    )
    ended = command("status", "-c", config)
    assert ended.code == ExitCode.FAILED
    assert "alice: paused by hand until it is resumed; its sessions are traced\n" in ended.out
    assert ended.out.endswith("1 of 1 maildrop not well.\n")


@pytest.mark.parametrize(
    ("error", "remark"), [(NoDaemonError("nobody"), False), (ControlDeniedError("not for you"), True)]
)
def test_status_is_the_ledgers_when_nobody_answers(command, config, daemon, remember, error, remark) -> None:
    remember([])
    daemon.answer = error
    ended = command("status", "--json", "-c", config)
    assert json.loads(ended.out)["source"] == "ledger"
    assert ("the daemon was not asked: not for you" in ended.err) == remark
    daemon.asked.clear()
    command("status", "--offline", "-c", config)
    assert daemon.asked == []


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOENT, NoDaemonError),
        (errno.ECONNREFUSED, NoDaemonError),
        (errno.EACCES, ControlDeniedError),
        (errno.EAGAIN, ControlError),
    ],
)
def test_why_there_is_no_connection_is_told_apart(number: int, kind: type[ControlError]) -> None:
    error = _not_connected(Path("/run/control.sock"), OSError(number, "words"))
    assert type(error) is kind
    assert "/run/control.sock" in str(error)


@pytest.mark.parametrize("text", [b"", b"[]", b"<html>"])
def test_an_answer_that_is_none_is_refused(text: bytes) -> None:
    with pytest.raises(ControlError, match="is not the daemon's"):
        _checked(200, text, Path("/run/control.sock"))
