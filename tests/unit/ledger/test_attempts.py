"""What a standing keeps of requests: new columns, and what was written before there were any."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, text

import mailferry.ledger.migrate as migrating
from mailferry.ledger import open_ledger, open_reader, open_writer
from mailferry.ledger.frames import Frame, build_frame, read_change, read_frames, read_note
from mailferry.ledger.rows import record_time
from mailferry.model import StandingKind, StandingRecord

NODE = StandingRecord(
    StandingKind.ETRN,
    "head-office/rnd.example.org",
    10.0,
    20.0,
    "unable: 458 no",
    2,
    30.0,
    last_attempt_at=25.0,
    last_reply="458 no",
)
BEFORE = StandingRecord(StandingKind.MAILDROP, "alice", 1.0, 2.0, "timeout: x", 3, 4.0, 5.0)
OLD_FIELDS = ["s", "maildrop", "alice", 1.0, 2.0, "timeout: x", 3, 4.0, 5.0]


def _upgrade(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrating.__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _make_version_0002(database: Path) -> None:
    engine = create_engine(f"sqlite:///{database}")
    with engine.begin() as connection:
        _upgrade(connection, "0002")
        connection.execute(
            text("INSERT INTO standing VALUES ('maildrop', 'alice', 1.0, 2.0, 'timeout: x', 3, 4.0, 5.0, 0)")
        )
    engine.dispose()


def test_a_frame_of_the_program_before_is_read() -> None:
    assert read_note(Frame(1, json.dumps([OLD_FIELDS]).encode())).records == (BEFORE,)
    assert read_change(Frame(1, json.dumps([[7, *OLD_FIELDS]]).encode()))[0].record == BEFORE


def test_a_frame_keeps_the_attempt_and_the_reply() -> None:
    (frame,) = read_frames(build_frame(b"atoken!!", 1, [NODE]))
    assert read_note(frame).records == (NODE,)


@pytest.mark.parametrize(
    ("record", "time"),
    [
        (NODE, 25.0),
        (replace(NODE, last_error_at=26.0), 26.0),
        (StandingRecord(StandingKind.ETRN, "x"), 0.0),
    ],
)
def test_an_attempt_is_a_fact_with_a_time(record: StandingRecord, time: float) -> None:
    assert record_time(record) == time


async def test_a_ledger_of_the_version_before_is_brought_up(tmp_path: Path) -> None:
    database = tmp_path / "ledger.sqlite3"
    _make_version_0002(database)
    ledger = await open_ledger(f"sqlite:///{database}", journal_path=tmp_path / "j", emit=lambda _: None)
    await ledger.save([NODE])
    found = await ledger.standings()
    await ledger.close()
    assert found == {(StandingKind.MAILDROP, "alice"): BEFORE, (StandingKind.ETRN, NODE.name): NODE}


async def test_a_command_remembers_beside_the_daemon(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.sqlite3"
    ledger = await open_ledger(url, journal_path=tmp_path / "j", emit=lambda _: None)
    with open_writer(url) as writer:
        writer.remember([NODE])
    assert (await ledger.standings())[StandingKind.ETRN, NODE.name] == NODE
    newer = replace(NODE, last_attempt_at=99.0, last_reply="250 yes")
    await ledger.save([newer])  # the daemon's word after that counts, and is kept
    await ledger.close()
    with open_reader(url) as reader:
        assert reader.standings()[StandingKind.ETRN, NODE.name] == newer
