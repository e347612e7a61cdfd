"""What only a process of its own can show: its death, its limits, its imports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from mailferry.events import Event, LedgerRecovered
from mailferry.ledger import open_ledger
from support.ledger_contract import ALICE

PRELUDE = """
import asyncio, os, resource, sys
from pathlib import Path
from mailferry.errors import StoreError
from mailferry.ledger import open_ledger
from support.ledger_contract import ALICE, delivery, message
directory = Path(sys.argv[1])
def opened(emit=lambda event: None):
    return open_ledger(f"sqlite:///{directory}/ledger.sqlite3", journal_path=directory / "ledger.journal", emit=emit)
"""

NOTES_UNTIL_KILLED = """
async def main():
    ledger = await opened()
    number = 0
    while True:
        for _ in range(20):
            number += 1
            records = message(number), delivery(number)
            ledger.note(records)
            os.write(1, b"%d\\n" % number)
            ledger.commit(records, lambda error: None)
        await asyncio.sleep(0)
asyncio.run(main())
"""

MEETS_A_FULL_DISK = """
async def main():
    failed = []
    ledger = await opened(lambda event: failed.append(event) if event.name == "ledger.failed" else None)
    assert "alembic" not in sys.modules
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    number = 0
    try:
        while number < 10_000:
            number += 100
            records = [message(n) for n in range(number - 99, number + 1)]
            ledger.note(records[:1])
            await ledger.save(records)
    except StoreError as error:
        print(error)
    assert failed, number
    ledger.note([message(77777), delivery(77777)])  # the space for it was there before
    try:
        await ledger.known_messages(ALICE)
    except StoreError as error:
        print("unknown")
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    known = await ledger.known_messages(ALICE)
    assert b"uidl-%d" % (number - 99) in known  # the noted one of the order that failed
    assert len(known) == number - 99, (len(known), number)
    await ledger.save([message(77777), delivery(77777)])
    await ledger.close()
    print("well")
asyncio.run(main())
"""


def child(code: str, directory: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PRELUDE + code, str(directory)],
        stdout=subprocess.PIPE,
        env=environment,
    )


async def test_kill_9_loses_no_receipt(state_dir: Path) -> None:
    with child(NOTES_UNTIL_KILLED, state_dir) as process:
        assert process.stdout is not None
        noted = [process.stdout.readline() for _ in range(3000)]
        process.kill()
        noted += process.stdout.readlines()
    last = int(noted[-1])
    assert last >= 3000
    events: list[Event] = []
    ledger = await open_ledger(
        f"sqlite:///{state_dir}/ledger.sqlite3",
        journal_path=state_dir / "ledger.journal",
        emit=events.append,
    )
    known = await ledger.known_messages(ALICE)
    assert set(known) >= {b"uidl-%d" % number for number in range(1, last + 1)}
    assert all(len(message.deliveries) == 1 for message in known.values())
    assert all(isinstance(event, LedgerRecovered) for event in events)
    await ledger.close()


def test_a_full_disk_loses_no_receipt_and_passes(state_dir: Path) -> None:
    with child(MEETS_A_FULL_DISK, state_dir) as process:
        output = process.communicate(timeout=30)[0].decode()
    assert process.returncode == 0, output
    assert output.splitlines()[1:] == ["unknown", "well"]
    assert "ledger.sqlite3: " in output
    assert "free space" in output
