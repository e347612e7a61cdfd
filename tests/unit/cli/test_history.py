from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mailferry.cli.exit_codes import ExitCode
from mailferry.model import (
    DeliveryRecord,
    DeliveryState,
    DestinationName,
    MaildropName,
    MessageId,
    MessageRecord,
    MessageState,
    Uidl,
)

DAY = 86400.0


@pytest.fixture
def mail(remember) -> list[MessageRecord]:
    """Three messages: relayed today, deferred an hour ago, rejected three days ago."""
    now = time.time()
    first = MessageRecord(
        message_id=MessageId(1),
        maildrop=MaildropName("alice"),
        uidl=Uidl(b"0001-\xff"),
        state=MessageState.ACCEPTED,
        size_octets=2_200_000,
        first_seen_at=now - 5,
        updated_at=now - 5,
        sender="Анна <ann@example.org>",
        recipient="bob@example.net",
        subject="Отчёт [bold] \x1b[2J\u202e",
        accepted_at=now - 5,
    )
    second = replace(
        first, message_id=MessageId(2), uidl=Uidl(b"0002"), state=MessageState.DEFERRED,
        updated_at=now - 3600, accepted_at=None, subject="waiting", maildrop=MaildropName("bob"),
    )  # fmt: skip
    third = replace(
        first, message_id=MessageId(3), uidl=Uidl(b"0003"), state=MessageState.SKIPPED,
        updated_at=now - 3 * DAY, accepted_at=None, subject="huge", reason="larger than max_size",
    )  # fmt: skip
    to_hop = DeliveryRecord(
        MessageId(1),
        DestinationName("hop"),
        DeliveryState.ACCEPTED,
        1,
        0.0,
        now,
        receipt="250 2.0.0 Ok: queued as 4XYZ",
    )
    later = DeliveryRecord(
        MessageId(2),
        DestinationName("hop"),
        DeliveryState.DEFERRED,
        3,
        now + 600,
        now,
        error="450 greylisted\x07",
    )
    remember([first, second, third, to_hop, later])
    return [first, second, third]


def subjects(command, config: Path, *words: str) -> list[str]:
    ended = command("history", *words, "--json", "-c", config)
    assert ended.code == 0
    return [entry["subject"].split()[0] for entry in json.loads(ended.out)["messages"]]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ((), ["Отчёт", "waiting", "huge"]),
        (("ОТЧЁТ",), ["Отчёт"]),
        (("4xyz",), ["Отчёт"]),
        (("--maildrop", "bob"), ["waiting"]),
        (("--state", "skipped"), ["huge"]),
        (("--since", "2d"), ["Отчёт", "waiting"]),
        (("--since", "90m"), ["Отчёт", "waiting"]),
        (("--since", "30m"), ["Отчёт"]),
        (("--since", "2001-01-01"), ["Отчёт", "waiting", "huge"]),
        (("--since", "2001-01-01T10:00+03:00"), ["Отчёт", "waiting", "huge"]),
        (("--since", "2990-01-01"), []),
        (("--limit", "1"), ["Отчёт"]),
        (("nothing like it",), []),
    ],
)
def test_messages_are_found(command, config, mail, words, found) -> None:
    assert subjects(command, config, *words) == found


def test_the_table_tells_what_became_of_them(command, config, mail) -> None:
    out = command("history", "-c", config).out
    assert "hop: accepted: 250 2.0.0 Ok: queued as 4XYZ" in " ".join(out.split())
    assert "after 3 attempts, tried again in 10 min" in " ".join(out.split())
    assert "2.2 MB" in out
    assert "larger than max_size" in " ".join(out.split())
    assert out.endswith("3 messages.\n")


def test_what_peers_wrote_steers_nothing(command, config, mail) -> None:
    out = command("history", "-c", config).out
    assert all(character.isprintable() or character == "\n" for character in out)
    assert "[bold]" in out
    assert "\\x1b[2J" in out


def test_json_has_times_uidl_and_deliveries(command, config, mail) -> None:
    ended = command("history", "--json", "--limit", "2", "-c", config)
    first, second = json.loads(ended.out)["messages"]
    assert first["uidl"] == "0001-\\xff"
    assert first["subject"] == mail[0].subject
    assert first["updated_at"].endswith("Z")
    assert first["deliveries"][0]["receipt"] == "250 2.0.0 Ok: queued as 4XYZ"
    assert first["deliveries"][0]["next_attempt_at"] is None
    assert second["deliveries"][0]["next_attempt_at"] is not None


def test_a_cut_is_told(command, config, mail) -> None:
    assert command("history", "-n", "1", "-c", config).out.endswith("\n1 message, the last that changed.\n")
    assert command("history", "-n", "2", "-c", config).out.endswith(
        "\n2 messages, those that changed last.\n"
    )


def test_nothing_found_is_no_error(command, config, mail) -> None:
    ended = command("history", "nothing like it", "-c", config)
    assert (ended.code, ended.out) == (0, "No message fits.\n")


@pytest.mark.parametrize(
    "words", [("--since", "yesterday"), ("--state", "lost"), ("--limit", "0"), ("--limit", "10001")]
)
def test_senseless_filters_are_usage_errors(command, config, words) -> None:
    ended = command("history", *words, "-c", config)
    assert (ended.code, ended.out) == (ExitCode.USAGE, "")
    assert words[0] in ended.err


def test_a_maildrop_that_nobody_knows_is_a_usage_error(command, config, mail) -> None:
    ended = command("history", "--maildrop", "alcie", "-c", config)
    said = " ".join(ended.err.replace("│", " ").split())
    assert (ended.code, ended.out) == (ExitCode.USAGE, "")
    assert "no such maildrop: alcie; known are: alice, bob" in said


def test_a_maildrop_of_former_times_has_its_history(command, config, remember, mail) -> None:
    remember([replace(mail[0], message_id=MessageId(9), maildrop=MaildropName("former"), uidl=Uidl(b"9"))])
    assert subjects(command, config, "--maildrop", "former") == ["Отчёт"]


@pytest.mark.parametrize("name", ["status", "history"])
def test_commands_that_only_look_need_no_secret(command, folder, config, mail, name) -> None:
    for secret in folder.folder.rglob("*password*"):
        secret.unlink()
    assert command("check", "-c", config).code == ExitCode.CONFIG
    assert command(name, "-c", config).code in {0, ExitCode.FAILED}


def test_a_state_that_there_is_not_is_told_in_our_words(command, config) -> None:
    said = " ".join(command("history", "--state", "bogus", "-c", config).err.replace("│", " ").split())
    assert (
        "--state: must be one of deferred, accepted, delete-pending, rejected, skipped, missing, gone" in said
    )


def test_a_narrow_screen_gets_a_block_for_each_message(command, config, mail, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    first, second, third, last = command("history", "-c", config).out.split("\n\n")
    assert first.splitlines()[0].endswith("  accepted  alice")
    assert first.splitlines()[1:] == [
        "  Анна <ann@example.org>: Отчёт [bold] \\x1b[2J\\u202e (2.2 MB)",
        "  hop: accepted: 250 2.0.0 Ok: queued as 4XYZ",
    ]
    assert second.splitlines()[2].startswith("  hop: deferred after 3 attempts, tried again in 10 min: 450")
    assert third.splitlines()[2:] == ["  larger than max_size"]
    assert last == "3 messages.\n"


@pytest.mark.parametrize(("columns", "compact"), [("119", True), ("120", False)])
def test_a_wide_screen_gets_a_table(command, config, mail, monkeypatch, columns, compact) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert ("destinations" not in command("history", "-c", config).out) is compact
