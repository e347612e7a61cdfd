from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

from mailferry.cli.exit_codes import ExitCode
from mailferry.model import (
    RECEIVER,
    MaildropName,
    MessageId,
    MessageRecord,
    MessageState,
    StandingKind,
    StandingRecord,
    Uidl,
)
from mailferry.quarantine.store import quarantine_in
from support.configs import ConfigFolder
from support.quarantined import refused


def drop(name: str = "alice", **more) -> StandingRecord:
    return StandingRecord(StandingKind.MAILDROP, name, **more)


def hop(**more) -> StandingRecord:
    return StandingRecord(StandingKind.DESTINATION, "hop", **more)


def message(number: int, state: MessageState) -> MessageRecord:
    now = time.time()
    return MessageRecord(
        MessageId(number), MaildropName("alice"), Uidl(b"u%d" % number), state, 100, now, now
    )


def test_all_is_well(command, config: Path, remember) -> None:
    now = time.time()
    remember(
        [drop(last_success_at=now - 180), hop(last_success_at=now - 7200), message(1, MessageState.ACCEPTED)]
    )
    ended = command("status", "-c", config)
    assert ended.code == 0
    assert "3 min ago" in ended.out
    assert "2 h ago" in ended.out
    assert ended.out.endswith("All is well with 1 maildrop.\n")


def test_a_failing_maildrop_is_told_with_its_error(command, config: Path, remember) -> None:
    now = time.time()
    failing = drop(
        last_success_at=now - 86400 * 3,
        last_error_at=now - 60,
        last_error="auth_rejected: -ERR \x1b[2Jno",
        consecutive_failures=4,
        not_before=now + 3600.4,
    )
    remember([failing, hop(last_success_at=now)])
    ended = command("status", "-c", config)
    assert ended.code == ExitCode.FAILED
    assert "alice: auth_rejected: -ERR \\x1b[2Jno (60 s ago; tried again in 60 min)" in ended.out
    assert ended.out.endswith("1 of 1 maildrop not well.\n")


def test_a_paused_route_and_waiting_mail_are_told(command, config: Path, remember) -> None:
    now = time.time()
    paused = hop(last_error_at=now, last_error="421 busy", consecutive_failures=1, not_before=now + 30)
    states = (MessageState.DEFERRED, MessageState.DEFERRED, MessageState.REJECTED, MessageState.GONE)
    remember([drop(last_success_at=now), paused, *(message(n, s) for n, s in enumerate(states))])
    ended = command("status", "-c", config)
    assert ended.code == ExitCode.FAILED
    assert "hop: 421 busy (just now; tried again in 30 s)" in ended.out
    assert ended.out.endswith("1 destination paused; 2 messages deferred; 1 message rejected.\n")


def test_mail_that_waits_is_no_failure(command, config: Path, remember) -> None:
    remember([drop(last_success_at=time.time()), message(1, MessageState.DEFERRED)])
    ended = command("status", "-c", config)
    assert ended.code == 0
    assert ended.out.endswith("All is well with 1 maildrop; 1 message deferred.\n")


def test_silence_is_visible(command, config: Path, remember) -> None:
    remember([drop(last_success_at=time.time() - 3600)])
    ended = command("status", "-c", config)
    assert ended.code == ExitCode.FAILED
    assert "late" in ended.out
    assert "is the daemon running?" in ended.out


def test_a_maildrop_that_was_never_polled_is_not_well(command, config: Path, remember) -> None:
    remember([hop(last_success_at=time.time())])
    ended = command("status", "-c", config)
    assert ended.code == ExitCode.FAILED
    assert "never polled" in ended.out


def test_json(command, config: Path, remember) -> None:
    remember([drop(last_success_at=1_700_000_000.25), hop(), message(1, MessageState.SKIPPED)])
    ended = command("status", "--json", "-c", config)
    document = json.loads(ended.out)
    alice, bob = document["maildrops"]
    assert (ended.code, document["ok"], alice["state"], alice["well"]) == (1, False, "late", False)
    assert alice["last_success_at"] == "2023-11-14T22:13:20.250Z"
    assert (alice["skipped"], alice["deferred"]) == (1, 0)
    assert (bob["state"], bob["well"]) == ("disabled", True)
    assert document["destinations"][0]["state"] == "untried"


def test_messages_in_quarantine_are_told(command, config: Path, folder: ConfigFolder, remember) -> None:
    remember([drop(last_success_at=time.time())])
    given = refused()
    store = quarantine_in(folder.state)
    store._put(given.message, given.record, given.deliveries)
    ended = command("status", "-c", config)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.endswith("All is well with 1 maildrop; 1 message in quarantine.\n")
    assert json.loads(command("status", "--json", "-c", config).out)["quarantined"] == 1


def test_a_quarantine_that_cannot_be_read_hides_nothing_else(
    command, config: Path, folder: ConfigFolder, remember
) -> None:
    remember([drop(last_success_at=time.time())])
    (folder.state / "quarantine").write_bytes(b"")
    ended = command("status", "--json", "-c", config)
    assert (ended.code, json.loads(ended.out)["quarantined"]) == (0, None)
    assert "the quarantine cannot be read: " in ended.err


def test_without_a_ledger_it_says_what_to_do(command, config: Path) -> None:
    ended = command("status", "-c", config)
    assert (ended.code, ended.out) == (ExitCode.STORE, "")
    assert "no ledger yet: start the daemon once" in ended.err


def test_received_mail_that_is_not_at_its_goal_is_told(command, config: Path, remember) -> None:
    now = time.time()
    received = [
        replace(message(number, state), maildrop=RECEIVER)
        for number, state in enumerate((MessageState.DEFERRED, MessageState.GONE, MessageState.REJECTED))
    ]
    remember([drop(last_success_at=now), hop(last_success_at=now), *received])
    ended = command("status", "-c", config)
    assert ended.out.endswith("All is well with 1 maildrop; 1 message deferred; 1 message rejected.\n")
    document = json.loads(command("status", "--json", "-c", config).out)
    assert document["received"] == {"deferred": 1, "rejected": 1}
