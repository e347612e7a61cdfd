"""A ledger under notes, commits, crashes, losses and restarts equals a dictionary, whatever the clock does."""

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

WHAT = ["note", "save", "note and save", "order", "kill", "restart", "gone", "prune", "copy"]
LOSSES = {"the ledger is lost": ("", "-wal"), "its log is lost": ("-wal",), "its file is lost": ("",)}
# (what, which message, with its delivery?, what the clock says: it jumps both ways).
STEP = st.tuples(
    st.sampled_from([*WHAT, *LOSSES]), st.integers(1, 4), st.booleans(), st.integers(1, 9).map(float)
)


@dataclass
class Model:
    """What must be there now, and what must be there after a crash."""

    rows: dict[RecordKey, LedgerRecord] = field(default_factory=dict)
    noted: dict[RecordKey, tuple[int, LedgerRecord]] = field(default_factory=dict)
    held: list[tuple[int, Sequence[LedgerRecord]]] = field(default_factory=list)
    """Orders that the stopped thread has not seen."""
    notes: int = 0
    knows: dict[RecordKey, int] = field(default_factory=dict)
    """How many notes there had been when the row was ordered."""

    def write(self, records: Sequence[LedgerRecord], notes: int | None = None) -> None:
        for record in records:
            self.rows[record_key(record)] = record
            self.knows[record_key(record)] = self.notes if notes is None else notes

    def note(self, records: Sequence[LedgerRecord]) -> None:
        self.notes += 1
        self.noted |= {record_key(record): (self.notes, record) for record in records}

    def hold(self, records: Sequence[LedgerRecord]) -> None:
        self.held.append((self.notes, records))

    def go_on(self) -> None:
        for notes, records in self.held:
            self.write(records, notes)
        self.held.clear()

    def recover(self) -> None:
        """Forget orders, keep receipts that are younger than the row; no clock is asked."""
        self.held.clear()
        for key, (number, record) in self.noted.items():
            if key not in self.rows or number > self.knows[key]:
                self.write([record], number)
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

    async def kill(self, lost: Sequence[str] = ()) -> None:
        """Copy the files while the thread stands still, lose some, then start from the rest."""
        await self.hold()
        copy = Path(tempfile.mkdtemp(dir=self.directory.parent))
        for file in self.directory.glob("ledger.*"):
            if not file.name.endswith("-shm"):
                shutil.copy(file, copy)
        for suffix in lost:
            (copy / f"ledger.sqlite3{suffix}").unlink(missing_ok=True)
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
        if what == "restart":
            await self.restart()
        elif what == "kill" or what in LOSSES:
            await self.kill(LOSSES.get(what, ()))
        elif what == "copy":
            await self.go_on()
            assert self.ledger._worker is not None
            await self.ledger._keeper.make(self.ledger._worker)
        elif what == "prune":
            await self.go_on()
            assert await self.ledger.prune(0.0) == 0
        elif what == "order":
            await self.hold()
            self.ledger.commit(records, lambda error: None)
            self.model.hold(records)
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


async def play(steps: list[tuple[str, int, bool, float]], empty_ledger: Path) -> None:
    with tempfile.TemporaryDirectory() as base:
        directory = Path(base) / "first"
        directory.mkdir()
        for file in empty_ledger.parent.glob("ledger.sqlite3*"):
            shutil.copy(file, directory)
        rig = Rig(directory, Model())
        await rig.start()
        for turn, (what, number, with_delivery, time) in enumerate(steps):
            state = MessageState.GONE if what == "gone" else MessageState.ACCEPTED
            records: list[LedgerRecord] = [message(number, state=state, updated_at=time)]
            if with_delivery:
                records.append(replace(delivery(number, updated_at=time), receipt=f"{turn}"))
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
def test_a_ledger_equals_a_dictionary(steps: list[tuple[str, int, bool, float]], empty_ledger: Path) -> None:
    asyncio.run(play(steps, empty_ledger))
