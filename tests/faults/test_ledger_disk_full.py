"""The disk full in mid-drain, on a real file system of a few megabytes: nothing twice, nothing lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from support.configs import Value
from support.fault_rig import FaultRig
from support.faults import Delay, Fault
from support.figures import record
from support.mailset import make_messages
from support.programs import ProgramLauncher
from support.scripted_smtp import FINAL

ROW = "disk full in mid-drain"
MESSAGES = 250
"""More than may be on their way at once when the disk is full, and those before that."""
EX_IOERR = 74
SIZE = "12m"


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Put a file system of its own under a folder."""
    if os.geteuid() != 0:
        pytest.skip("NO SMALL DISK: to mount a file system needs root")
    options = f"size={SIZE},mode=0700"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"NO SMALL DISK: {mounted.stderr.decode(errors='replace').strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


class Ballast:
    """Takes all free space, at once and as long as it is told to."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "ballast"
        self._task: asyncio.Task[None] | None = None

    def fill(self) -> None:
        with self._path.open("ab", buffering=0) as file:
            for octets in (1 << 20, 1 << 16, 4096, 1):
                with contextlib.suppress(OSError):
                    while file.write(bytes(octets)) == octets:
                        pass

    async def _keep_filling(self) -> None:
        while True:
            self.fill()
            await asyncio.sleep(0.002)

    @contextlib.asynccontextmanager
    async def everywhere(self) -> AsyncIterator[None]:
        """Leave no space to anyone inside the block, then free it all."""
        self.fill()
        task = asyncio.create_task(self._keep_filling())
        try:
            yield
        finally:
            task.cancel()
            self._path.unlink()


async def half_way(rig: FaultRig) -> None:
    async with asyncio.timeout(30):
        while len(rig.smtp.accepted) < MESSAGES // 5:  # noqa: ASYNC110  -- no event tells
            await asyncio.sleep(0.002)


@pytest.mark.parametrize("end", ["by itself", "killed"])
@pytest.mark.parametrize("keep", [True, False])
async def test_a_disk_that_is_full_in_mid_drain(
    launcher: ProgramLauncher, tmp_path: Path, keep: bool, end: str
) -> None:
    mail = make_messages(MESSAGES, seed=71, sizes=(300, 1000))
    one: dict[str, Value] = {"max_sessions": 1}  # each session more can double one more when it is killed
    async with FaultRig(launcher, tmp_path, mail, maildrop={"keep": keep}, destination=one) as rig:
        rig.smtp.faults.add(Fault(FINAL, Delay(0.003)))
        state = tmp_path / "state"
        with small_disk(state):
            ballast = Ballast(state)
            program = rig.start()
            await half_way(rig)
            async with ballast.everywhere():
                if end == "killed":
                    await asyncio.sleep(0.1)
                    program.kill()
                await rig.ended(program)
                if end == "by itself":
                    assert program.code == EX_IOERR, program.tail()
                    assert "free space on that file system" in program.output.read_text()
                accepted = len(rig.smtp.accepted)
                assert accepted < MESSAGES, "the disk was not full in time"
                # As long as no row can be written, nothing is relayed, and the reason is told.
                program = await rig.run()
                assert program.code == EX_IOERR, program.tail()
                assert "free space on that file system" in program.output.read_text()
                assert len(rig.smtp.accepted) == accepted
            rig.behave()
            program = await rig.run()
            verdict = rig.verdict()
            record(ROW, fills=1, doubled=verdict.doubled, lost=verdict.lost, missing=verdict.missing)
            assert program.code == 0, program.tail()
            assert verdict.missing == 0
            # Who is killed between the next hop's word and his own note may double one (RFC 1047).
            assert verdict.doubled <= (end == "killed")
            assert verdict.left == (MESSAGES if keep else 0)
            assert (state / "ledger.sqlite3.reserve").stat().st_size >= 4 << 20  # taken again


async def test_a_disk_that_is_full_before_the_poll(launcher: ProgramLauncher, tmp_path: Path) -> None:
    """The proof before the first message is a real one: not a single message is relayed."""
    mail = make_messages(MESSAGES, seed=72, sizes=(300,))
    async with FaultRig(launcher, tmp_path, mail[:1], maildrop={"keep": True}) as rig:
        state = tmp_path / "state"
        with small_disk(state):
            program = await rig.run()
            assert program.code == 0, program.tail()
            for content in mail[1:]:
                rig.box.append(content)
            rig.mail = mail
            (state / "ledger.sqlite3.reserve").unlink()
            async with Ballast(state).everywhere():
                program = await rig.run()
                assert program.code == EX_IOERR, program.tail()
                assert len(rig.smtp.accepted) == 1
            program = await rig.run()
            assert program.code == 0, program.tail()
            assert rig.verdict().harm == (0, 0, 0)


async def test_copies_leave_the_last_room_to_rows(launcher: ProgramLauncher, tmp_path: Path) -> None:
    """A disk with room for rows but not for a copy: a warning, and mail flows."""
    mail = make_messages(20, seed=73, sizes=(300,))
    async with FaultRig(launcher, tmp_path, mail) as rig:
        state = tmp_path / "state"
        with small_disk(state):
            (state / "ballast").write_bytes(bytes(4 << 20))
            program = await rig.run()
            assert program.code == 0, program.tail()
            (failed, *_) = program.named("ledger.copy_failed")
            assert "too little free space" in failed["error"]
            assert rig.verdict().harm == (0, 0, 0)
            assert not (state / "ledger.sqlite3.copy").exists()
            (state / "ballast").unlink()
            program = await rig.run()
            assert program.code == 0, program.tail()
            assert (state / "ledger.sqlite3.copy").exists()
