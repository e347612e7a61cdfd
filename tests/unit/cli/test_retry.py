from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mailferry.cli.exit_codes import ExitCode
from mailferry.ledger.reader import open_reader
from mailferry.model import MaildropName, MessageState, Uidl
from support.configs import ConfigFolder
from support.quarantined import refused


@pytest.fixture
def refusals(remember) -> None:
    """Two refused messages of alice, one of bob, and one that is delivered."""
    rows = []
    for number, maildrop in ((1, "alice"), (2, "alice"), (3, "bob"), (4, "alice")):
        given = refused(number=number, maildrop=maildrop)
        record = replace(given.record, state=MessageState.ACCEPTED) if number == 4 else given.record
        rows += [record, *given.deliveries]
    odd = refused(number=5)
    rows.append(replace(odd.record, uidl=Uidl(b"odd\xff"), state=MessageState.REJECTED))
    remember(rows)


def waiting(folder: ConfigFolder) -> set[bytes]:
    with open_reader(f"sqlite:///{folder.state / 'ledger.sqlite3'}") as reader:
        known = [reader.known_messages(MaildropName(name)) for name in ("alice", "bob")]
    return {
        uidl
        for messages in known
        for uidl, each in messages.items()
        if each.message.state is MessageState.DEFERRED
    }


@pytest.mark.parametrize(
    ("choice", "uidls"),
    [
        (["--all"], {b"uid-1", b"uid-2", b"uid-3", b"odd\xff"}),
        (["--maildrop", "bob"], {b"uid-3"}),
        (["--uidl", "uid-2"], {b"uid-2"}),
        (["--uidl", "odd\\xff"], {b"odd\xff"}),
        (["--maildrop", "bob", "--uidl", "uid-2"], set()),
        (["--uidl", "uid-4"], set()),
    ],
)
def test_those_that_are_meant_are_tried_again(command, config, folder, refusals, choice, uidls) -> None:
    ended = command("retry", *choice, "--json", "-c", config)
    assert (ended.code, json.loads(ended.out)) == (
        0,
        {"messages": len(uidls), "postponed": 0, "polling": []},
    )
    assert waiting(folder) == uidls


def test_it_says_how_many(command, config: Path, refusals) -> None:
    assert (
        command("retry", "-m", "bob", "-c", config).out
        == "1 message that had been refused will be tried with the next poll.\n"
    )
    again = command("retry", "-m", "bob", "-c", config)
    assert (again.code, again.out) == (
        0,
        "No message that fits waits or was refused, and is still on its server.\n",
    )


def test_those_that_wait_are_due_at_once(command, config: Path, remember) -> None:
    given = refused(number=1)
    later = replace(given.record, state=MessageState.DEFERRED, next_fetch_at=4e9)
    remember([later])
    ended = command("retry", "alice", "-c", config)
    assert (ended.code, ended.out) == (0, "1 message that waited will be tried with the next poll.\n")


@pytest.mark.parametrize(
    "choice",
    [
        [],
        ["--all", "--maildrop", "bob"],
        ["--all", "--uidl", "x"],
        ["-m", "eve"],
        ["eve"],
        ["alice", "-m", "bob"],
    ],
)
def test_a_choice_that_makes_no_sense(command, config, folder, refusals, choice) -> None:
    ended = command("retry", *choice, "-c", config)
    assert (ended.code, ended.out) == (ExitCode.USAGE, "")
    assert waiting(folder) == set()


def test_without_a_ledger_it_says_what_to_do(command, config: Path) -> None:
    ended = command("retry", "--all", "-c", config)
    assert (ended.code, ended.out) == (ExitCode.STORE, "")
    assert "no ledger yet" in ended.err
