"""Commands and the daemon that they talk to, as processes."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import pytest

from mailferry.cli.control import Daemon
from mailferry.errors import ControlError, NoDaemonError
from mailferry.sandbox.maildrop import SandboxMaildrop
from mailferry.web.control import ControlOperations, ControlServer
from mailferry.web.unix_socket import UnixSocket
from support.configs import PASSWORD, ConfigFolder, Value
from support.daemon import DaemonProcess
from support.faults import Fault
from support.mailset import make_messages
from support.scripted_pop3 import ScriptedPop3Server
from support.scripted_smtp import ScriptedSmtpServer

ALICE = "maildrop.alice"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name: that of a test's own may be too long for a socket."""
    with TemporaryDirectory(prefix="mf-") as name:
        yield Path(name)


class Town:
    """A maildrop, a next hop, the daemon between them, and its control socket."""

    def __init__(self, folder: Path, *faults: Fault) -> None:
        self.box = SandboxMaildrop(PASSWORD, make_messages(1))
        self.pop3 = ScriptedPop3Server({"alice": self.box})
        self.smtp = ScriptedSmtpServer(*faults)
        self.configs = ConfigFolder(folder)
        self.config = folder / "mailferry.toml"
        self.control = Daemon(self.configs.state / "control.sock")

    @asynccontextmanager
    async def open(self, every: str = "1h", **daemon: Value) -> AsyncIterator[DaemonProcess]:
        await self.pop3.start()
        await self.smtp.start()
        self.configs.write(
            {
                "maildrop.alice": self.configs.maildrop(self.pop3.port, "alice", every=every, auth="user"),
                "destination.hop": self.configs.smtp(self.smtp.port),
            },
            log_format="json",
            **daemon,
        )
        try:
            with DaemonProcess(self.config) as process:
                yield process
                assert await asyncio.to_thread(process.stop) == 0
        finally:
            await self.pop3.stop()
            await self.smtp.stop()

    async def get(self, question: str) -> Any:
        return await asyncio.to_thread(self.control.get, question)

    async def post(self, operation: str, **body: Any) -> Any:
        return await asyncio.to_thread(self.control.post, operation, body, patience_seconds=60)

    async def up(self, process: DaemonProcess) -> None:
        """Wait until commands are answered and the first poll is over."""
        await asyncio.to_thread(process.wait_for, self.control.path.exists, "control socket")

        def polled() -> bool:
            drop = self.control.get("status")["maildrops"][0]
            return drop["last_success_at"] is not None and not drop["polling"]

        await asyncio.to_thread(process.wait_for, polled, "first poll")

    @property
    def logins(self) -> int:
        return sum(command.startswith(b"PASS") for command in self.pop3.commands)


async def test_a_daemon_is_watched_and_steered_by_commands(folder: Path, program) -> None:
    town = Town(folder)

    async def run(*arguments: str | Path) -> Any:
        return await asyncio.to_thread(program, *arguments, "-c", town.config)

    async with town.open() as process:
        await town.up(process)
        assert stat.S_IMODE(town.control.path.stat().st_mode) == 0o600

        seen = await town.get("status")
        assert (seen["source"], seen["daemon"]["pid"]) == ("daemon", process.process.pid)
        drop = seen["maildrops"][0]
        assert (drop["state"], drop["polling"], drop["waiting"]) == ("ok", False, 0)
        assert drop["next_poll_at"] > drop["last_success_at"]

        town.box.append(make_messages(1, seed=2)[0])
        (polled,) = (await town.post("poll", names=["alice"], wait_seconds=30))["polls"]
        assert (polled["result"], polled["relayed"], len(town.smtp.accepted)) == ("ok", 1, 2)

        await town.post("pause", names=["alice"], seconds=7200)
        town.box.append(make_messages(1, seed=3)[0])
        (refused,) = (await town.post("poll", names=["alice"], wait_seconds=30))["polls"]
        assert refused["state"] == "paused"
        held = await run("status")
        assert held.code == 1
        assert "alice: paused by hand until" in held.out
        assert (await run("resume", "alice")).out == "maildrop.alice: resumed\n"
        await asyncio.to_thread(process.wait_for, lambda: len(town.smtp.accepted) == 3, "third message")

        # Those who come second harm nothing.
        second = await asyncio.to_thread(program, "run", "-c", town.config)
        assert (second.code, "has it" in second.err or "lock" in second.err.lower()) == (74, True)
        other = ConfigFolder(folder / "other")
        tables = {"maildrop.alice": other.maildrop(1, "alice"), "destination.hop": other.smtp(1)}
        config = other.write(tables, control_socket=town.control.path, log_format="json")
        third = await asyncio.to_thread(program, "run", "-c", config)
        assert third.code == 69
        assert "another mailferry answers there" in third.err
        assert (await town.get("status"))["daemon"]["pid"] == process.process.pid

    assert not town.control.path.exists()
    alone = await run("poll", "alice")
    assert (alone.code, "no daemon listens there" in alone.err) == (69, True)


@pytest.mark.parametrize(
    "octets",
    [
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
        b"POST /v1/poll HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
    ],
    ids=["long line", "TLS", "no gzip"],
)
async def test_what_is_no_request_is_refused_and_not_in_the_log(
    folder: Path, octets: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    place = UnixSocket(folder / "control.sock")
    server = ControlServer(place, cast("ControlOperations", None), print)  # nothing gets as far as that
    await server.start()
    try:
        reader, writer = await asyncio.open_unix_connection(place.path)
        writer.write(octets)
        async with asyncio.timeout(5):
            assert b" 400 " in await reader.readuntil(b"\r\n")
        writer.close()
        await writer.wait_closed()
    finally:
        await server.stop()
    assert not [record for record in caplog.records if record.name != "asyncio"]


async def test_what_is_traced_is_logged_at_any_level_and_without_secrets(folder: Path) -> None:
    town = Town(folder)
    async with town.open(log_level="error") as process:
        await town.up(process)
        assert (await town.post("trace", name="alice", on=True, seconds=600))["name"] == ALICE
        await town.post("trace", name="hop", on=True, seconds=600)
        town.box.append(make_messages(1, seed=2)[0])
        await town.post("poll", names=["alice"], wait_seconds=30)
        listed = await town.get("trace")
        assert [each["name"] for each in listed["traces"]] == ["destination.hop", ALICE]

        def dialogue(peer: str) -> list[tuple[str, str]]:
            lines = [event for event in process.named("wire.traced") if event["peer"] == peer]
            assert {event["level"] for event in lines} <= {"info"}
            return [(event["direction"], event["text"]) for event in lines]

        await asyncio.to_thread(process.wait_for, lambda: ("send", "QUIT") in dialogue(ALICE), "QUIT")
        assert ("note", f"connecting to 127.0.0.1:{town.pop3.port}") in dialogue(ALICE)
        assert ("send", "PASS ***") in dialogue(ALICE)
        assert any(text.startswith("RCPT TO:<all@example.org>") for _, text in dialogue("destination.hop"))
        # The name of the poll stands in both, so that one is found by the other.
        assert (
            len({event["session"] for event in process.named("wire.traced") if event["peer"] == ALICE}) == 1
        )

        assert (await town.post("trace", name="alice", on=False))["was_on"]
        before = len(dialogue(ALICE))
        await town.post("poll", names=["alice"], wait_seconds=30)
        assert len(dialogue(ALICE)) == before
        with pytest.raises(ControlError, match="no such name in force: eve"):
            await town.post("trace", name="eve", on=True)
    text = "".join(process.raw)
    assert PASSWORD not in text
    assert len(town.smtp.accepted) == 2


async def test_a_pause_stops_the_schedule_and_outlives_a_reload(folder: Path) -> None:
    town = Town(folder)
    async with town.open(every="1s") as process:
        await town.up(process)
        assert (await town.post("pause", all=True))["paused"] == [ALICE]
        assert (await town.post("reload"))["accepted"]
        before = town.logins
        await asyncio.sleep(2.2)
        assert town.logins == before
        assert (await town.get("status"))["maildrops"][0]["state"] == "paused by hand"
        assert (await town.post("resume", all=True)) == {"resumed": [ALICE]}
        await asyncio.to_thread(process.wait_for, lambda: town.logins > before + 1, "polls by schedule")


async def test_messages_that_wait_are_tried_when_somebody_says_so(folder: Path, program) -> None:
    town = Town(folder, Fault(b"RCPT", reply=b"450 4.2.0 later\r\n", times=1))
    async with town.open() as process:
        await asyncio.to_thread(process.wait_for, lambda: bool(process.named("message.deferred")), "deferral")
        await asyncio.to_thread(
            process.wait_for, lambda: bool(process.named("poll.finished")), "end of the poll"
        )
        tried = await asyncio.to_thread(program, "retry", "alice", "--json", "-c", town.config)
        assert tried.document == {"messages": 0, "postponed": 1, "polling": ["alice"]}
        await asyncio.to_thread(process.wait_for, lambda: len(town.smtp.accepted) == 1, "message")


async def test_a_daemon_whose_socket_would_have_too_long_a_name_carries_mail_all_the_same(
    folder: Path,
) -> None:
    town = Town(folder / ("x" * 100))
    async with town.open() as process:
        await asyncio.to_thread(process.wait_for, lambda: len(town.smtp.accepted) == 1, "message")
        (missing,) = process.named("control.unavailable")
        assert "too long" in missing["reason"]
    with pytest.raises(NoDaemonError, match="too long for a Unix socket"):
        town.control.get("status")


async def test_a_link_in_the_state_directory_leads_to_the_runtime_directory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = folder / "run"
    runtime.mkdir()
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(runtime))
    town = Town(folder / "here")
    async with town.open() as process:
        await town.up(process)
        assert stat.S_ISSOCK((runtime / "control.sock").lstat().st_mode)
        assert town.control.path.is_symlink()
    assert list(runtime.iterdir()) == []
    assert not town.control.path.is_symlink()
