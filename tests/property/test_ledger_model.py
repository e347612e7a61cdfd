"""A ledger under notes, commits, crashes and restarts equals a dictionary."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailferry.ledger import HistoryFilter, SqlLedger, open_ledger
from mailferry.ledger.rows import RecordKey, record_key
from mailferry.model import LedgerRecord, MessageState
from support.ledger_contract import ALICE, delivery, message

# (what, which message, with its delivery?); the clock rises with every step.
STEP = st.tuples(
    st.sampled_from(["note", "save", "note and save", "order", "kill", "restart", "gone", "prune"]),
    st.integers(1, 4),
    st.booleans(),
)


@dataclass
class Model:
    """What must be there now, and what must be there after a crash."""

    rows: dict[RecordKey, LedgerRecord] = field(default_factory=dict)
    noted: dict[RecordKey, LedgerRecord] = field(default_factory=dict)
    held: list[Sequence[LedgerRecord]] = field(default_factory=list)
    """Orders that the stopped thread has not seen."""

    def write(self, records: Sequence[LedgerRecord]) -> None:
        self.rows |= {record_key(record): record for record in records}

    def note(self, records: Sequence[LedgerRecord]) -> None:
        self.noted |= {record_key(record): record for record in records}

    def go_on(self) -> None:
        for records in self.held:
            self.write(records)
        self.held.clear()

    def recover(self) -> None:
        """Forget orders, keep receipts: the clock rises, so the later of two is the newer."""
        self.held.clear()
        for key, record in self.noted.items():
            stored = self.rows.get(key)
            if stored is None or record.updated_at >= stored.updated_at:  # type: ignore[union-attr]  # no standings here
                self.rows[key] = record
        self.noted.clear()


class Rig:
    """A ledger whose thread stands still on command, so that its files can be copied."""

    def __init__(self, directory: Path, model: Model) -> None:
        self.directory = directory
        self.model = model
        self.gate = threading.Event()
        self.gate.set()
        self.held: asyncio.Future[bool] | None = None
        self.ledger: SqlLedger

    async def start(self) -> None:
        self.ledger = await open_ledger(
            f"sqlite:///{self.directory}/ledger.sqlite3",
            journal_path=self.directory / "ledger.journal",
            emit=lambda event: None,
        )

    async def hold(self) -> None:
        if self.held is None:
            self.gate.clear()
            assert self.ledger._worker is not None
            self.held = asyncio.ensure_future(self.ledger._worker.call(self.gate.wait))
            await asyncio.sleep(0)

    async def go_on(self) -> None:
        self.gate.set()
        if self.held is not None:
            await self.held
            self.held = None
        self.model.go_on()

    async def kill(self) -> None:
        """Copy the files while the thread stands still, then start from the copy."""
        await self.hold()
        copy = Path(tempfile.mkdtemp(dir=self.directory.parent))
        for file in self.directory.glob("ledger.*"):
            if not file.name.endswith("-shm"):
                shutil.copy(file, copy)
        self.gate.set()
        await self.ledger.close()
        self.held, self.directory = None, copy
        self.model.recover()
        await self.start()

    async def restart(self) -> None:
        await self.go_on()
        await self.ledger.close()
        self.model.recover()
        await self.start()

    async def step(self, what: str, records: Sequence[LedgerRecord]) -> None:
        if what in {"kill", "restart"}:
            await (self.kill() if what == "kill" else self.restart())
        elif what == "prune":
            await self.go_on()
            assert await self.ledger.prune(0.0) == 0
        elif what == "order":
            await self.hold()
            self.ledger.commit(records, lambda error: None)
            self.model.held.append(records)
        else:
            await self.write(what, records)

    async def write(self, what: str, records: Sequence[LedgerRecord]) -> None:
        if what.startswith("note"):
            self.ledger.note(records)
            self.model.note(records)
        if what != "note":
            await self.go_on()
            await self.ledger.save(records)
            self.model.write(records)

    async def check(self) -> None:
        await self.go_on()
        found = await self.ledger.history(HistoryFilter())
        rows: list[LedgerRecord] = []
        for known in found:
            rows += [known.message, *known.deliveries]
        assert {record_key(record): record for record in rows} == self.model.rows
        there = await self.ledger.known_messages(ALICE)
        assert {entry.message.message_id for entry in there.values()} == {
            key
            for key, record in self.model.rows.items()
            if isinstance(key, int) and record.state is not MessageState.GONE  # type: ignore[union-attr]  # a message
        }


async def play(steps: list[tuple[str, int, bool]], empty_ledger: Path) -> None:
    with tempfile.TemporaryDirectory() as base:
        directory = Path(base) / "first"
        directory.mkdir()
        for file in empty_ledger.parent.glob("ledger.sqlite3*"):
            shutil.copy(file, directory)
        rig = Rig(directory, Model())
        await rig.start()
        for time, (what, number, with_delivery) in enumerate(steps, 1):
            records: list[LedgerRecord] = [message(number, updated_at=float(time))]
            if what == "gone":
                records = [replace(message(number, updated_at=float(time)), state=MessageState.GONE)]
            if with_delivery:
                records.append(delivery(number, updated_at=float(time)))
            await rig.step(what, records)
        await rig.check()
        await rig.kill()
        await rig.check()
        await rig.ledger.close()


@pytest.fixture(scope="module")
def empty_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("ledger")

    async def create() -> None:
        rig = Rig(directory, Model())
        await rig.start()
        await rig.ledger.close()

    asyncio.run(create())
    return directory / "ledger.sqlite3"


@settings(max_examples=25, deadline=None)
@given(steps=st.lists(STEP, max_size=12))
def test_a_ledger_equals_a_dictionary(steps: list[tuple[str, int, bool]], empty_ledger: Path) -> None:
    asyncio.run(play(steps, empty_ledger))
