"""The quarantine with the real program: off the server, octet for octet on the disk, and delivered once after all."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest

from mailferry.quarantine.reader import StoredMessage
from mailferry.quarantine.store import QuarantineStore, quarantine_in
from mailferry.sandbox.maildrop import SandboxMaildrop
from mailferry.sandbox.pop3_server import SandboxPop3Server
from support.configs import PASSWORD, ConfigFolder
from support.daemon import DaemonProcess
from support.fault_rig import FaultRig, doubled_tags
from support.faults import Close, Fault
from support.mailset import fingerprint, make_messages, tag_of
from support.processes import free_port
from support.programs import Prepare, Program, ProgramLauncher
from support.quarantine_kills import POINTS
from support.scripted_smtp import FINAL, ScriptedSmtpServer

MAIL = make_messages(5, seed=11, sizes=(400, 3000))
BAD = MAIL[2]
"""The one that the next hop refuses."""
REFUSAL = Fault(FINAL, reply=b"554 5.7.1 we do not like that\r\n", argument=tag_of(BAD).encode())


# --- with a running daemon -----------------------------------------------------------------


async def test_refused_moved_listed_and_delivered_once_after_all(tmp_path: Path, program: Any) -> None:
    """`program` is `conftest.program`: another process for each command, beside the daemon."""
    folder = ConfigFolder(tmp_path / "mailferry")
    box = SandboxMaildrop(PASSWORD, MAIL)
    pop3, smtp = SandboxPop3Server({"ann": box}), ScriptedSmtpServer(REFUSAL)
    await pop3.start()
    await smtp.start()
    port = free_port()
    config = folder.write(
        {
            "maildrop.ann": folder.maildrop(pop3.port, "ann", rejected="quarantine", every="1s"),
            "destination.hop": folder.smtp(smtp.port),
        },
        http_port=port,
        log_format="json",
    )

    async def command(*words: str) -> Any:
        return await asyncio.to_thread(program, *words, "-c", config)

    try:
        with DaemonProcess(config) as daemon:
            await asyncio.to_thread(daemon.wait_for, lambda: box.messages == [], "empty maildrop")
            (told,) = daemon.named("message.quarantined")
            name = told["entry"]
            assert "554 5.7.1 we do not like that" in told["reason"]

            store = quarantine_in(folder.state)
            (path,) = store.path.glob("new/*")
            assert path.read_bytes() == BAD
            assert "mailferry_quarantine_messages 1.0" in await scraped(port)
            assert "1 message in quarantine" in (await command("status")).out

            (entry,) = (await command("quarantine", "list", "--json")).document["messages"]
            assert (entry["name"], entry["maildrop"], entry["problem"]) == (name, "ann", None)
            assert entry["why"] == ["hop: end of data: 554 5.7.1 we do not like that"]
            shown = (await command("quarantine", "show", name[:6])).out
            assert "hop: rejected after 1 attempt" in shown
            assert f"quarantined as {name}" in (await command("history")).out

            refused = await command("quarantine", "retry", name)
            assert (refused.code, "hop: refused again: " in refused.out) == (1, True)
            smtp.faults.clear()  # the server has changed its mind
            delivered = await command("quarantine", "retry", name)
            assert (delivered.code, delivered.err) == (0, ""), delivered.out
            assert store.all() == []
            (row,) = (await command("history", "--json", told["uidl"])).document["messages"]
            assert [each["state"] for each in row["deliveries"]] == ["accepted"]

            again = await command("quarantine", "retry", "--all")
            assert (again.code, again.out) == (0, "The quarantine is empty.\n")
            polls = len(daemon.named("poll.finished"))
            await asyncio.to_thread(
                daemon.wait_for, lambda: len(daemon.named("poll.finished")) > polls, "another poll"
            )
            assert await asyncio.to_thread(daemon.stop) == 0
        arrived = sorted(fingerprint(message.content) for message in smtp.accepted)
        assert arrived == sorted(fingerprint(message) for message in MAIL)
        assert smtp.violations == []
    finally:
        await pop3.stop()
        await smtp.stop()


async def scraped(port: int) -> str:
    def get() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
            text: bytes = response.read()
            return text.decode()

    return await asyncio.to_thread(get)


# --- killed on the way -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def launcher() -> Iterator[ProgramLauncher]:
    """Forks programs; one for all tests, since its imports take a second."""
    with ProgramLauncher() as started:
        yield started


class Confinement(FaultRig):
    """A maildrop whose refused mail is moved to the quarantine."""

    def __init__(self, launcher: ProgramLauncher, folder: Path, **maildrop: Any) -> None:
        # It is alone: of others in flight at a kill, one whose 250 was not read may rightly come twice.
        super().__init__(launcher, folder, [BAD], maildrop={"rejected": "quarantine", **maildrop})
        self.smtp.faults.add(REFUSAL)
        self.store: QuarantineStore = quarantine_in(folder / "state")

    async def command(self, *words: str, prepare: Prepare | None = None) -> Program:
        """Run a command to its end, and until the servers know of it."""
        output = self._folder / f"command-{len(self.programs)}.txt"
        program = self._launcher.start(output, *words, "-c", str(self._config), prepare=prepare)
        self.programs.append(program)
        await self.ended(program)
        return program

    def entry(self) -> StoredMessage:
        """Return the one message in the quarantine."""
        (stored,) = self.store.all()
        return stored


def dying(point: str, nth: int = 1) -> Prepare:
    return {"support.quarantine_kills:die_at": {"point": point, "nth": nth}}


@dataclass(frozen=True, slots=True)
class Case:
    point: str
    nth: int
    keep: bool = False

    def __str__(self) -> str:
        return f"{self.point} {self.nth}{' keep' if self.keep else ''}"


OUTWARD = list(POINTS).index("answer read, not written down")
INTO = list(POINTS)[:OUTWARD]
OUT_OF = list(POINTS)[OUTWARD:]
TWICE = {"file not written", "file written", "named, folder not synced", "folder synced"}
"""Once for the message, once for its reason."""
ROWS = {"row ordered", "row written, not committed", "row committed, nobody told"}
"""Once for the refusal, once for the row that says where the message is now, then other rows."""


def into_cases() -> list[Case]:
    turns = {**dict.fromkeys(INTO, 1), **dict.fromkeys(TWICE, 2), **dict.fromkeys(ROWS, 4)}
    cases = [Case(point, nth) for point in INTO for nth in range(1, turns[point] + 1)]
    return cases + [
        Case(point, 1, keep=True) for point in ("put ended", "row made", "QUIT confirmed, no row")
    ]


@pytest.mark.parametrize("case", into_cases(), ids=str)
async def test_killed_on_the_way_in(launcher: ProgramLauncher, tmp_path: Path, case: Case) -> None:
    async with Confinement(launcher, tmp_path, keep=case.keep) as rig:
        killed = await rig.run(prepare=dying(case.point, case.nth))
        assert killed.code in (1, -SIGKILL), killed.tail()
        for stored in rig.store.all():  # whatever the moment: nothing half that looks whole
            assert stored.path is not None
            assert stored.path.read_bytes() == BAD
        await rig.run()

        stored = rig.entry()
        assert stored.problem == ""
        assert stored.path is not None
        assert stored.path.read_bytes() == BAD
        assert rig.box.messages == ([BAD] if case.keep else [])
        assert list((rig.store.path / "tmp").glob("*")) == [] or killed.code == -SIGKILL
        assert rig.smtp.accepted == []

        rig.behave()
        retried = await rig.command("quarantine", "retry", "--all")
        assert retried.code == 0, retried.tail()
        assert rig.store.all() == []
        assert (await rig.run()).code == 0
        assert rig.verdict().harm == (0, 0, 0)
        # Some turns come in no run; those that every run takes must have been met.
        assert killed.code == -SIGKILL or case.nth > 2, killed.tail()


def out_cases() -> list[Case]:
    cases = [Case(point, 1) for point in OUT_OF]
    return cases + [Case(point, 1) for point in ("file not written", "file written", *sorted(TWICE)[2:])]


@pytest.mark.parametrize("case", out_cases(), ids=str)
async def test_killed_on_the_way_out(launcher: ProgramLauncher, tmp_path: Path, case: Case) -> None:
    async with Confinement(launcher, tmp_path) as rig:
        await rig.run()
        assert rig.entry().problem == ""
        rig.behave()
        killed = await rig.command("quarantine", "retry", "--all", prepare=dying(case.point))
        assert killed.code == -SIGKILL, killed.tail()
        again = await rig.command("quarantine", "retry", "--all")
        assert again.code == 0, again.tail()
        assert rig.store.all() == []
        doubled = doubled_tags(rig.smtp.accepted)
        # Between the 250 and the end of the write that notes it, nobody can know (RFC 1047).
        gap = {"answer read, not written down", "file not written", "file written"}
        assert dict(doubled) == ({tag_of(BAD): 1} if case.point in gap else {})
        assert rig.verdict().missing == 0


# --- what else a next hop does --------------------------------------------------------------------


async def test_a_link_that_breaks_leaves_the_message_and_says_in_doubt(
    launcher: ProgramLauncher, tmp_path: Path
) -> None:
    async with Confinement(launcher, tmp_path) as rig:
        await rig.run()
        rig.behave()
        rig.smtp.faults.add(Fault(FINAL, Close(), effect=True, times=1))
        ended = await rig.command("quarantine", "retry", "--all")
        assert (ended.code, "in doubt (it may have it; another retry may double it)" in ended.tail()) == (
            75,
            True,
        )
        assert rig.entry().problem == ""
        assert (await rig.command("quarantine", "retry", "--all")).code == 0
        assert doubled_tags(rig.smtp.accepted) == {tag_of(BAD): 1}


async def test_a_next_hop_that_is_down_touches_nothing(launcher: ProgramLauncher, tmp_path: Path) -> None:
    async with Confinement(launcher, tmp_path) as rig:
        await rig.run()
        before = rig.entry()
        await rig.smtp.stop()
        ended = await rig.command("quarantine", "retry", "--all")
        assert (ended.code, "hop: not reached: " in ended.tail()) == (75, True)
        assert rig.entry() == before


async def test_by_default_the_message_stays_and_retry_sends_it_with_the_next_poll(
    launcher: ProgramLauncher, tmp_path: Path
) -> None:
    async with Confinement(launcher, tmp_path, rejected="keep") as rig:
        assert (await rig.run()).code == 1
        await rig.run()
        assert rig.box.messages == [BAD]
        rig.behave()
        told = await rig.command("retry", "--maildrop", "ann", "--json")
        assert json.loads(told.tail()) == {"messages": 1, "postponed": 0, "polling": []}
        assert (await rig.run()).code == 0
        assert rig.verdict().harm == (0, 0, 0)
        assert rig.box.messages == []
        assert rig.store.all() == []
