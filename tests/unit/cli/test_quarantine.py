from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from mailferry.cli.exit_codes import ExitCode
from mailferry.cli.quarantine_report import RetryReport
from mailferry.cli.screen import screen
from mailferry.ledger.reader import open_reader
from mailferry.ledger.writer import LedgerWriter
from mailferry.model import DeliveryRecord, DestinationName, MaildropName
from mailferry.quarantine.redelivery import Answer, Answered, Retried
from mailferry.quarantine.store import QuarantineStore, quarantine_in
from support.configs import ConfigFolder
from support.quarantined import CONTENT, REFUSAL, Refused, refused

HOSTILE = b"From: \x1b[2J<x@example.org>\r\nSubject: =?utf-8?q?=1b=5d0=3bpwned=07_=e2=80=ae?=\r\nX: \x9b\x1b[31m\r\n\r\nbody"


@pytest.fixture
def config(folder: ConfigFolder) -> Path:
    """Two archives as destinations: they need no network."""
    return folder.write(
        {
            "maildrop.alice": folder.maildrop(1, "alice", deliver=["hop", "vault"]),
            "destination.hop": {"type": "maildir", "path": folder.folder / "hop"},
            "destination.vault": {"type": "maildir", "path": folder.folder / "vault"},
        }
    )


@pytest.fixture
def store(folder: ConfigFolder) -> QuarantineStore:
    return quarantine_in(folder.state)


@pytest.fixture
def put(store: QuarantineStore) -> Callable[[Refused], str]:
    return lambda given: store._put(given.message, given.record, given.deliveries)


def arrived(folder: ConfigFolder, hop: str = "hop") -> list[bytes]:
    return [path.read_bytes() for path in (folder.folder / hop).glob("new/*")]


# --- list ------------------------------------------------------------------------


def test_an_empty_quarantine(command, config: Path, folder: ConfigFolder) -> None:
    assert command("quarantine", "list", "-c", config).out == "The quarantine is empty.\n"
    assert json.loads(command("quarantine", "list", "--json", "-c", config).out) == {
        "messages": [],
        "foreign_files": 0,
    }
    assert command("quarantine", "retry", "--all", "-c", config).out == "The quarantine is empty.\n"
    assert command("quarantine", "drop", "--all", "-c", config).out == "0 messages deleted.\n"


@pytest.mark.parametrize("columns", ["100", "200"])
def test_the_list_says_which_and_why(command, config: Path, put, columns: str, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    name = put(refused())
    ended = command("quarantine", "list", "-c", config)
    assert ended.code == 0
    for words in (name, "alice", "Ann", "Привет", "just now", f"hop: {REFUSAL}"):
        assert words in ended.out
    assert ended.out.endswith("1 message.\n")


@pytest.mark.parametrize("columns", ["100", "200"])
@pytest.mark.parametrize("what", [("list",), ("show", "--headers")])
def test_hostile_text_commands_no_terminal(command, config: Path, put, columns, what, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    name = put(refused(HOSTILE))
    ended = command("quarantine", *what, *([name] if "show" in what else []), "-c", config)
    assert ended.code == 0
    assert "pwned" in ended.out
    assert not set(ended.out) & set("\x1b\x9b\x07\u202e\r")


def test_what_is_damaged_is_listed_as_such(command, config: Path, put, store: QuarantineStore) -> None:
    broken, whole = put(refused()), put(refused(number=2))
    (store.path / "reasons" / f"{broken}.json").write_bytes(b"{")
    (store.path / "cur" / "somebody.elses").write_bytes(b"x")
    ended = command("quarantine", "list", "-c", config)
    assert ended.code == 0
    assert broken in ended.out
    assert whole in ended.out
    assert "damaged" in ended.out
    assert "2 messages.\n1 file in " in ended.out
    assert "Traceback" not in ended.err
    first, second = json.loads(command("quarantine", "list", "--json", "-c", config).out)["messages"]
    assert "damaged" in (first["problem"] or second["problem"])
    shown = command("quarantine", "show", broken, "-c", config)
    assert "Problem:" in shown.out
    tried = command("quarantine", "retry", broken, "-c", config)
    assert (tried.code, "not delivered" in tried.out) == (ExitCode.FAILED, True)
    assert command("quarantine", "drop", broken, "--yes", "-c", config).code == 0
    assert store.names() == {whole}


# --- show ------------------------------------------------------------------------------


def test_show_tells_all_facts(command, config: Path, put) -> None:
    name = put(refused(hops=("hop", "vault")))
    ended = command("quarantine", "show", name[:5], "-c", config)
    assert ended.code == 0
    for words in (
        name,
        "alice at pop.example.org (POP3S)",
        "uid-1",
        "<ann@example.org>",
        f"{len(CONTENT)} octets",
        "vault: rejected after 1 attempt",
        f"  {REFUSAL}",
    ):
        assert words in ended.out
    assert "octets without an end" not in ended.out
    headers = command("quarantine", "show", name, "--headers", "-c", config).out
    assert "  Return-Path: <ann@example.org>\n" in headers
    assert "octets without an end" not in headers


def test_show_as_json(command, config: Path, put) -> None:
    name = put(refused())
    document = json.loads(command("quarantine", "show", name, "--json", "--headers", "-c", config).out)
    assert (document["name"], document["uidl"], document["subject"]) == (name, "uid-1", "Привет")
    assert document["deliveries"][0]["error"] == REFUSAL
    assert document["header"][0] == "Return-Path: <ann@example.org>"
    assert Path(document["file"]).read_bytes() == CONTENT


def test_raw_is_the_message_octet_for_octet(command, config: Path, put, monkeypatch) -> None:
    content = CONTENT * 30_000  # more than one piece
    name = put(refused(content))
    output = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdout", output)
    assert command("quarantine", "show", name, "--raw", "-c", config).code == 0
    assert output.buffer.getvalue() == content  # type: ignore[attr-defined]


@pytest.mark.parametrize("also", ["--headers", "--json"])
def test_raw_is_alone(command, config: Path, put, also: str) -> None:
    ended = command("quarantine", "show", put(refused()), "--raw", also, "-c", config)
    assert (ended.code, ended.out) == (ExitCode.USAGE, "")


# --- which ---------------------------------------------------------------------------------


@pytest.mark.parametrize("what", [("show",), ("retry",), ("drop", "--yes")])
def test_a_name_that_means_none_or_many(command, config: Path, put, store: QuarantineStore, what) -> None:
    names = {put(refused(number=number)) for number in range(40)}
    first = next(name[0] for name in names if sum(other[0] == name[0] for other in names) > 1)
    ended = command("quarantine", *what, first, "-c", config)
    assert (ended.code, ended.out) == (ExitCode.USAGE, "")
    assert "can mean" in ended.err
    ended = command("quarantine", *what, "nothing", "-c", config)
    assert ended.code == ExitCode.USAGE
    assert "no such message" in ended.err
    assert store.names() == names


@pytest.mark.parametrize("what", ["retry", "drop"])
def test_all_or_some_must_be_said(command, config: Path, put, store: QuarantineStore, what: str) -> None:
    name = put(refused())
    assert command("quarantine", what, "-c", config).code == ExitCode.USAGE
    assert command("quarantine", what, name, "--all", "-c", config).code == ExitCode.USAGE
    assert store.names() == {name}


@pytest.mark.parametrize("what", [("retry",), ("drop", "--yes")])
def test_one_command_at_a_time(command, config: Path, put, store: QuarantineStore, what) -> None:
    put(refused())
    with store.exclusive():
        ended = command("quarantine", *what, "--all", "-c", config)
    assert (ended.code, ended.out) == (ExitCode.STORE, "")
    assert "another command" in ended.err
    assert store.count() == 1


# --- retry ---------------------------------------------------------------------------------


def test_retry_delivers_removes_and_tells_the_ledger(
    command, config: Path, put, folder: ConfigFolder, store: QuarantineStore, remember
) -> None:
    given = refused(hops=("hop", "vault"))
    remember([given.record, *given.deliveries])
    name = put(given)
    ended = command("quarantine", "retry", name[:6], "-c", config)
    assert (ended.code, ended.err) == (0, "")
    assert f"{name}  Ann <ann@example.org>: Привет\n  hop: accepted: " in ended.out
    assert ended.out.endswith("1 message has reached every destination.\n")
    assert arrived(folder) == arrived(folder, "vault") == [CONTENT]
    assert store.all() == []
    with open_reader(f"sqlite:///{folder.state / 'ledger.sqlite3'}") as reader:
        (known,) = reader.known_messages(MaildropName("alice")).values()
    assert [each.state.value for each in known.deliveries] == ["accepted", "accepted"]


def test_the_ledger_is_told_on_the_way(command, config: Path, put, remember, monkeypatch) -> None:
    """A command that is killed leaves little that `history` does not know."""
    for number in range(1, 4):
        given = refused(number=number)
        remember([given.record, *given.deliveries])
        put(given)
    told: list[int] = []
    record = LedgerWriter.record

    def recorded(writer: LedgerWriter, deliveries: Sequence[DeliveryRecord]) -> None:
        told.append(len(deliveries))
        record(writer, deliveries)

    monkeypatch.setattr(LedgerWriter, "record", recorded)
    monkeypatch.setattr("mailferry.cli.quarantine.TOLD_TOGETHER", 2)
    assert command("quarantine", "retry", "--all", "-c", config).code == 0
    assert told == [2, 1]


def test_to_one_destination(
    command, config: Path, put, folder: ConfigFolder, store: QuarantineStore, remember
) -> None:
    given = refused(hops=("hop", "vault"))
    remember([given.record, *given.deliveries])
    name = put(given)
    put(refused(number=2))
    ended = command("quarantine", "retry", name, "--to", "vault", "-c", config)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.endswith("0 messages have reached every destination; 1 stays in the quarantine.\n")
    assert (arrived(folder), arrived(folder, "vault")) == ([], [CONTENT])
    unknown = command("quarantine", "retry", name, "--to", "office", "-c", config)
    assert (unknown.code, "known are: hop, vault" in unknown.err) == (ExitCode.USAGE, True)
    assert store.count() == 2


def test_without_a_ledger_the_message_is_delivered_all_the_same(
    command, config: Path, put, folder: ConfigFolder
) -> None:
    put(refused())
    ended = command("quarantine", "retry", "--all", "-c", config)
    assert arrived(folder) == [CONTENT]
    assert ended.code == ExitCode.STORE
    assert "The ledger could not be told" in ended.out


def test_a_destination_that_is_down_is_told_once_for_each_and_nothing_is_removed(
    command, config: Path, put, folder: ConfigFolder, store: QuarantineStore
) -> None:
    names = {put(refused()), put(refused(number=2))}
    (folder.folder / "hop").mkdir()
    (folder.folder / "hop" / "new").write_bytes(b"in the way")
    ended = command("quarantine", "retry", "--all", "--json", "-c", config)
    document = json.loads(ended.out)
    assert (ended.code, document["ok"]) == (ExitCode.TEMPORARY, False)
    assert {each["name"] for each in document["messages"]} == store.names() == names
    assert [each["answers"][0]["answer"] for each in document["messages"]] == ["not-reached"] * 2


@pytest.mark.parametrize(
    ("answers", "problem", "code"),
    [
        ([Answer.ACCEPTED], "", ExitCode.OK),
        ([Answer.ACCEPTED, Answer.DEFERRED], "", ExitCode.TEMPORARY),
        ([Answer.IN_DOUBT], "", ExitCode.TEMPORARY),
        ([Answer.REFUSED, Answer.DEFERRED], "", ExitCode.FAILED),
        ([Answer.UNKNOWN], "", ExitCode.FAILED),
        ([], "damaged", ExitCode.FAILED),
    ],
)
def test_the_gravest_answer_gives_the_exit_code(answers, problem, code) -> None:
    report = RetryReport(screen(), silent=True)
    told = tuple(Answered(DestinationName("hop"), answer, "words") for answer in answers)
    report._retried.append(Retried("name", told, removed=not problem, problem=problem))
    assert report.exit_code() is code


# --- drop ----------------------------------------------------------------------------------


def test_drop_needs_a_yes(command, config: Path, put, store: QuarantineStore, monkeypatch) -> None:
    name = put(refused())
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))  # no terminal: an answer there is no answer
    ended = command("quarantine", "drop", name, "-c", config)
    assert (ended.code, "--yes" in ended.err) == (ExitCode.USAGE, True)
    assert store.names() == {name}


@pytest.mark.parametrize(("answer", "left"), [("n\n", 1), ("\n", 1), ("y\n", 0)])
def test_drop_asks_on_a_terminal(command, config: Path, put, store, monkeypatch, *, answer, left) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    name = put(refused())
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    ended = command("quarantine", "drop", name, "-c", config)
    assert f"Delete {name} for good?" in ended.err
    assert (ended.code == 0) == (left == 0)
    assert store.count() == left


def test_drop_deletes_for_good(command, config: Path, put, store: QuarantineStore) -> None:
    name, other = put(refused()), put(refused(number=2))
    ended = command("quarantine", "drop", name, name[:8], "--yes", "--json", "-c", config)
    assert json.loads(ended.out) == {"dropped": [name]}
    assert store.names() == {other}
    assert command("quarantine", "drop", "--all", "-y", "-c", config).out == "1 message deleted.\n"
    assert store.all() == []
