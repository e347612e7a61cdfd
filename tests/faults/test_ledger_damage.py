"""The state file truncated, garbled, removed: nothing is relayed twice and nothing is stuck.

Each time all mail is kept on its server, so that a ledger that forgot anything would relay it again.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from mailferry.sandbox.line_link import LineLink
from support.fault_rig import FaultRig
from support.faults import Fault, Halt
from support.figures import record, seeds
from support.mailset import make_messages
from support.programs import ProgramLauncher
from support.scripted_smtp import FINAL

ROW = "state file truncated, garbled, removed"
MESSAGES = 100
MAIL = make_messages(MESSAGES, seed=61, sizes=(300, 1000))
NEW = make_messages(110, seed=62, sizes=(300, 1000))[MESSAGES:]
EX_IOERR = 74


def ledger_of(folder: Path) -> Path:
    return folder / "state" / "ledger.sqlite3"


def listed(folder: Path, pattern: str) -> list[Path]:
    return sorted((folder / "state").glob(pattern))


def cut(part: float) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * part)])

    return damage


def garble(seed: int, octets: int) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        chance = random.Random(seed)
        at = chance.randrange(len(content) - octets)
        content[at : at + octets] = chance.randbytes(octets)
        path.write_bytes(content)

    return damage


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def emptied_tables(path: Path) -> None:
    """A database without a fault, and without a row."""
    connection = sqlite3.connect(path)
    for table in ("message", "delivery", "ledger_position"):
        connection.execute(f"DELETE FROM {table}")
    connection.commit()
    connection.close()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "removed": Path.unlink,
    "empty": cut(0),
    "cut to a third": cut(0.33),
    "cut at the end": cut(0.999),
    "zeros": zeros,
    "without rows": emptied_tables,
    "its head garbled": lambda path: path.write_bytes(b"x" * 100 + path.read_bytes()[100:]),
}


class Kept(FaultRig):
    """A rig whose maildrop keeps all mail, with what the damage did counted."""

    folder: Path

    def check(self, row: str, *, kills: int = 0, new: int = 0) -> None:
        verdict = self.verdict()
        stuck = MESSAGES + new - len(self.smtp.accepted) + verdict.doubled
        record(row, damages=1, kills=kills, doubled=verdict.doubled, stuck=stuck)
        assert verdict.doubled == 0
        assert verdict.missing == 0
        assert len(self.smtp.accepted) == MESSAGES + new


@pytest.fixture
async def rig(launcher: ProgramLauncher, tmp_path: Path) -> AsyncIterator[Kept]:
    async with Kept(launcher, tmp_path, MAIL, maildrop={"keep": True}) as kept:
        kept.folder = tmp_path
        yield kept


async def relay_new(rig: Kept) -> None:
    """New mail flows, and once more nothing is doubled."""
    for content in NEW:
        rig.box.append(content)
    rig.mail += NEW
    program = await rig.run()
    assert program.code == 0, program.tail()


@pytest.mark.parametrize("damage", DAMAGES)
async def test_damaged_while_stopped(rig: Kept, damage: str) -> None:
    program = await rig.run()
    assert program.code == 0, program.tail()
    DAMAGES[damage](ledger_of(rig.folder))
    program = await rig.run()
    assert program.code == 0, program.tail()
    assert len(program.named("ledger.restored")) == 1, program.tail()
    rig.check(ROW)
    await relay_new(rig)
    rig.check(ROW, new=len(NEW))
    if damage != "removed":
        assert listed(rig.folder, "ledger.sqlite3.damaged-*"), "the damaged file was not kept"


@pytest.mark.parametrize("seed", seeds(4))
async def test_octets_garbled_anywhere(rig: Kept, seed: int) -> None:
    program = await rig.run()
    assert program.code == 0, program.tail()
    garble(seed, (16, 512, 4096, 20_000)[seed % 4])(ledger_of(rig.folder))
    program = await rig.run()
    assert program.code == 0, program.tail()
    rig.check(ROW)
    await relay_new(rig)
    rig.check(ROW, new=len(NEW))


@pytest.mark.parametrize("what", ["ledger", "write-ahead log", "both"])
@pytest.mark.parametrize("damage", ["removed", "cut to a third", "zeros", "its head garbled"])
async def test_damaged_after_kill(rig: Kept, damage: str, what: str) -> None:
    """In mid-drain, with half of what happened in the write-ahead log only."""
    reached = asyncio.Event()

    def stop_here(link: LineLink) -> None:
        rig.held.append(link)
        reached.set()

    rig.smtp.faults.add(Fault(FINAL, Halt(stop_here), nth=MESSAGES // 2, times=1))
    program = rig.start()
    await reached.wait()
    await rig.quiet()  # what was accepted before has its rows now
    program.kill()
    await rig.ended(program)
    under_way = len(rig.smtp.accepted)
    ledger = ledger_of(rig.folder)
    log = ledger.with_name("ledger.sqlite3-wal")
    assert log.stat().st_size
    for path in {"ledger": [ledger], "write-ahead log": [log], "both": [ledger, log]}[what]:
        DAMAGES[damage](path)
    program = await rig.run()
    assert program.code == 0, program.tail()
    verdict = rig.verdict()
    # What the next hop had accepted and not told yet comes again (RFC 1047), and nothing else.
    told = len({event["uidl"] for event in rig.told("message.relayed")})
    assert verdict.missing == 0
    assert verdict.doubled <= 1, (under_way, told, program.tail())
    doubled = verdict.doubled
    await relay_new(rig)
    verdict = rig.verdict()
    record(ROW, damages=1, kills=1, doubled=0, stuck=verdict.missing)
    assert (verdict.missing, verdict.doubled) == (0, doubled)


async def test_damaged_again_and_again(rig: Kept) -> None:
    program = await rig.run()
    for damage in ("zeros", "removed", "cut to a third"):
        DAMAGES[damage](ledger_of(rig.folder))
        program = await rig.run()
        assert program.code == 0, program.tail()
        rig.check(ROW)


async def test_both_bad_is_refused_in_words_and_not_a_start_from_nothing(rig: Kept) -> None:
    program = await rig.run()
    for path in (ledger_of(rig.folder), *listed(rig.folder, "ledger.sqlite3.copy*")):
        path.write_bytes(b"")
    program = await rig.run()
    assert program.code == EX_IOERR, program.tail()
    for words in ("ledger.sqlite3", "mailferry ledger restore FILE", "relays again", "move these files away"):
        assert words in program.output.read_text()
    rig.check("state file and its copy bad: refused")
    # To begin anew is possible, and takes somebody who says so.
    for path in listed(rig.folder, "*"):
        if path.is_file():
            path.unlink()
    program = await rig.run()
    assert program.code == 0, program.tail()
    assert rig.verdict().doubled == MESSAGES


async def test_a_removed_state_is_refused_also_by_its_journal_alone(rig: Kept) -> None:
    program = await rig.run()
    for path in listed(rig.folder, "ledger.sqlite3*"):
        path.unlink()
    program = await rig.run()
    assert program.code == EX_IOERR, program.tail()
    assert "receipts.journal.0" in program.output.read_text()
    rig.check("state file and its copy bad: refused")
