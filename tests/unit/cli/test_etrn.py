"""`mailferry etrn`, as far as it gets without a server; and how `status` shows the nodes."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from mailferry.assembly.standing import EtrnStanding, overview
from mailferry.cli.exit_codes import ExitCode
from mailferry.config import load_settings
from mailferry.ledger import open_reader
from mailferry.model import StandingKind, StandingRecord
from support.closed_doors import refusing
from support.configs import ConfigFolder, Value

A, B = "a.example.org", "@b.example.org"
NOW = 1_000_000.0


def etrn_table(port: int, **more: Value) -> dict[str, Value]:
    return {"host": "127.0.0.1", "port": port, "tls": "none", "nodes": [A, B], **more}


def written(folder: ConfigFolder, port: int = 1, **more: Value) -> Path:
    return folder.write(
        {
            "destination.hop": folder.smtp(1),
            "etrn.office": etrn_table(port, **more),
            "etrn.off": etrn_table(1, enabled=False),
        }
    )


def node(name: str = A, **more) -> StandingRecord:
    return StandingRecord(StandingKind.ETRN, f"office/{name}", **more)


def server(**more) -> StandingRecord:
    return StandingRecord(StandingKind.ETRN, "office", **more)


# -- the command -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("nobody",), "no such server"),
        (("off",), "or disabled: off; known are: office"),
        (("office", "c.example.org"), "not among the nodes of etrn.office: c.example.org"),
    ],
)
def test_what_is_not_configured_is_not_asked(command, folder, words, complaint) -> None:
    ended = command("etrn", *words, "-c", written(folder))
    assert ended.code == ExitCode.USAGE
    # A terminal's frame may break the line anywhere.
    assert complaint.replace(" ", "") in "".join(ended.err.split()).replace("│", "")


def test_a_server_that_is_away_is_told_and_needs_no_ledger(command, folder) -> None:
    with refusing() as port:
        ended = command("etrn", "office", "--json", "-c", written(folder, port))
    assert ended.code == ExitCode.TEMPORARY
    document = json.loads(ended.out)
    assert "Nothing listens there" in document["error"]
    assert [row["result"] for row in document["nodes"]] == ["connect_failed", "connect_failed"]
    assert list(folder.state.iterdir()) == []  # nothing was made that the daemon would have to take over


def test_the_ledger_is_told(command, folder, remember) -> None:
    remember([node(last_attempt_at=time.time() - 125)])
    with refusing() as port:
        path = written(folder, port)
        ended = command("etrn", "office", "-c", path)
    assert ended.code == ExitCode.TEMPORARY
    assert "not asked: asked 2 min ago" in ended.out
    with open_reader(f"sqlite:///{folder.state}/ledger.sqlite3") as reader:
        stored = reader.standings()[StandingKind.ETRN, "office"]
    assert stored.consecutive_failures == 1


def test_nothing_is_asked_when_all_is_too_soon(command, folder, remember) -> None:
    remember([node(each, last_attempt_at=time.time()) for each in (A, B)])
    ended = command("etrn", "office", "-c", written(folder))  # nobody listens at port 1
    assert ended.code == ExitCode.TEMPORARY
    assert ended.out.count("not asked") == 2
    assert "no connection" not in ended.out


# -- status ------------------------------------------------------------------------------


def seen(folder: ConfigFolder, *rows: StandingRecord, now: float = NOW, **more: Value) -> EtrnStanding:
    settings = load_settings(written(folder, **more), environ={})
    standings = {(row.kind, row.name): row for row in rows}
    return overview(settings, standings, {}, now).etrn[0]


@pytest.mark.parametrize(
    ("rows", "state", "well"),
    [
        ((), "never asked", False),
        ((node(last_attempt_at=NOW - 60, last_success_at=NOW - 60),), "ok", True),
        ((node(last_attempt_at=NOW - 5400, last_success_at=NOW - 5400),), "ok", True),
        ((node(last_attempt_at=NOW - 5401, last_success_at=NOW - 5401),), "late", False),
        ((node(last_attempt_at=NOW, last_error="unable: 458 no", consecutive_failures=1),), "failing", False),
        ((node(last_attempt_at=NOW, last_error="silent: nothing"),), "silent", True),
        (
            (node(last_attempt_at=NOW), server(last_error="timeout: x", consecutive_failures=2)),
            "failing",
            False,
        ),
        (
            (node(last_attempt_at=NOW), server(last_error="postponed: x", consecutive_failures=2)),
            "postponed",
            False,
        ),
    ],
)
def test_the_states_of_a_node(folder, rows, state, well) -> None:
    found = seen(folder, *rows)
    assert (found.state, found.well) == (state, well)


def test_a_servers_trouble_is_its_nodes_trouble(folder) -> None:
    away = server(last_error="timeout: x", last_error_at=NOW - 5, consecutive_failures=2, not_before=NOW + 60)
    found = seen(folder, node(last_attempt_at=NOW - 60), away)
    assert (found.last_error, found.failures, found.due_at) == ("timeout: x", 2, NOW + 60)
    refused = node(last_attempt_at=NOW, last_error="refused: 459", consecutive_failures=7, not_before=NOW + 9)
    found = seen(folder, refused, away)
    assert (found.last_error, found.failures, found.due_at) == ("refused: 459", 7, NOW + 60)


def test_when_a_node_is_due(folder) -> None:
    asked = node(last_attempt_at=NOW - 100, not_before=NOW + 200)
    assert seen(folder, asked).due_at == NOW + 1700
    assert seen(folder, asked, every="4m").due_at == NOW + 200
    assert seen(folder, asked, cron="0 * * * *").due_at is None
    assert seen(folder).due_at is None


def test_status_shows_the_nodes(command, folder, remember) -> None:
    now = time.time()
    remember(
        [
            node(last_attempt_at=now - 60, last_success_at=now - 60, last_reply="250 2.0.0 Queuing started"),
            node(
                B,
                last_attempt_at=now - 60,
                last_error_at=now - 125,
                last_error="refused: 459 no",
                last_reply="459 no",
                consecutive_failures=2,
                not_before=now + 3600,
            ),
            server(last_success_at=now - 60),
        ]
    )
    path = written(folder)
    ended = command("status", "-c", path)
    assert ended.code == ExitCode.FAILED
    assert "250 2.0.0 Queuing started" in ended.out
    assert f"office/{B}: refused: 459 no (2 min ago; tried again in 60 min)" in ended.out
    assert ended.out.endswith("1 ETRN node not well.\n")
    first, second, *off = json.loads(command("status", "--json", "-c", path).out)["etrn"]
    assert (first["etrn"], first["node"], first["state"], first["well"]) == ("office", A, "ok", True)
    assert first["last_attempt_at"].endswith("Z")
    assert (second["last_reply"], second["failures"]) == ("459 no", 2)
    assert {each["state"] for each in off} == {"disabled"}


def test_silence_is_shown_and_is_no_failure(command, folder, remember) -> None:
    now = time.time()
    quiet = {"last_attempt_at": now, "last_success_at": now, "last_error_at": now - 120}
    remember([node(last_error="silent: accepted, and no mail came since", **quiet), node(B, **quiet)])
    ended = command("status", "-c", written(folder))
    assert ended.code == 0
    assert f"office/{A}: accepted, and no mail came since (noticed 2 min ago)" in ended.out
    assert ended.out.endswith("All is well with 0 maildrops and 2 ETRN nodes.\n")
