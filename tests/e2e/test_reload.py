"""The configuration changes while mail flows: all of it or nothing, and nothing that is not named."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mailferry.sandbox.maildrop import SandboxMaildrop
from mailferry.sandbox.pop3_server import SandboxPop3Server
from support.configs import PASSWORD, ConfigFolder, Value
from support.daemon import DaemonProcess
from support.faults import Delay, Fault
from support.mailset import fingerprint, make_messages
from support.scripted_smtp import FINAL, ScriptedSmtpServer

Tables = dict[str, dict[str, Value]]


class Town:
    """Maildrops, a next hop, and the daemon between them."""

    def __init__(self, folder: Path, boxes: dict[str, SandboxMaildrop], smtp: ScriptedSmtpServer) -> None:
        self.boxes = boxes
        self.smtp = smtp
        self.pop3 = SandboxPop3Server(boxes)
        self.folder = ConfigFolder(folder)
        self.tables: Tables = {}
        self.settings: dict[str, Value] = {"log_format": "json"}
        self.http_port = free_port()
        self._daemon: DaemonProcess | None = None

    @property
    def daemon(self) -> DaemonProcess:
        assert self._daemon is not None
        return self._daemon

    @asynccontextmanager
    async def open(self, *polled: str, every: str = "1s") -> AsyncIterator[DaemonProcess]:
        await self.pop3.start()
        await self.smtp.start()
        for name in polled:
            self.tables[f"maildrop.{name}"] = self.folder.maildrop(self.pop3.port, name, every=every)
        self.tables["destination.hop"] = self.folder.smtp(self.smtp.port)
        try:
            with DaemonProcess(self.write()) as self._daemon:
                yield self._daemon
                assert await asyncio.to_thread(self._daemon.stop) == 0
        finally:
            await self.pop3.stop()
            await self.smtp.stop()

    def write(self) -> Path:
        return self.folder.write(self.tables, http_port=self.http_port, **self.settings)

    async def metrics(self) -> str:
        """Scrape."""

        def scrape() -> str:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/metrics", timeout=20) as answer:
                text: str = answer.read().decode()
                return text

        return await asyncio.to_thread(scrape)

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        await asyncio.to_thread(self.daemon.wait_for, condition, what)

    async def reload(self) -> dict[str, Any]:
        """SIGHUP; return the event that tells how it ended."""
        endings = ("config.reloaded", "config.unchanged", "config.reload_failed", "config.restart_needed")
        before = {name: len(self.daemon.named(name)) for name in endings}
        self.daemon.process.send_signal(signal.SIGHUP)

        def news() -> list[dict[str, Any]]:
            return [event for name in endings for event in self.daemon.named(name)[before[name] :]]

        await self.until(lambda: bool(news()), "end of the reload")
        return news()[0]

    def polls(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.daemon.named("poll.finished") if event["maildrop"] == name]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def box(*messages: bytes) -> SandboxMaildrop:
    return SandboxMaildrop(PASSWORD, list(messages))


async def test_a_reload_in_mid_drain_loses_nothing_and_leaves_others_alone(tmp_path: Path) -> None:
    mail = make_messages(120, seed=7, sizes=(300, 3000))
    late = make_messages(3, seed=8, sizes=(300, 400))
    boxes = {"ann": box(*mail[:60]), "bob": box(*mail[60:]), "eve": box(), "kim": box(*late)}
    town = Town(tmp_path, boxes, ScriptedSmtpServer(Fault(FINAL, Delay(0.02))))
    new_hop = ScriptedSmtpServer()
    async with serving(new_hop), town.open("ann", "bob", "eve") as daemon:
        await town.until(lambda: len(daemon.named("message.relayed")) >= 10, "mail under way")
        town.tables["maildrop.bob"]["every"] = "2s"
        del town.tables["maildrop.eve"]
        town.tables["maildrop.kim"] = town.folder.maildrop(town.pop3.port, "kim", every="1s")
        # Another next hop of the same name: the former one finishes what it has.
        town.tables["destination.hop"] = town.folder.smtp(new_hop.port)
        town.write()
        under_way = set(sessions(daemon)) - {event["poll_id"] for event in daemon.named("poll.finished")}
        told = await town.reload()
        assert told["event"] == "config.reloaded"
        assert (told["added"], told["removed"]) == ("maildrop.kim", "maildrop.eve")
        assert told["changed"] == "maildrop.bob, destination.hop"
        await town.until(
            lambda: not any(boxes[name].messages for name in ("ann", "bob", "kim")), "empty maildrops"
        )
        polls_of_eve = len(town.polls("eve"))
        await town.until(lambda: len(town.polls("kim")) >= 2, "polls of the new maildrop")
        await town.until(lambda: bool(town.polls("ann")), "end of the session that was under way")
        assert len(town.polls("eve")) == polls_of_eve, "a removed maildrop is polled no more"
        metrics = await town.metrics()
        assert 'maildrop="eve"' not in metrics
        assert 'mailferry_polls_total{maildrop="kim",result="ok"}' in metrics
        first_of_ann = town.polls("ann")[0]
        assert first_of_ann["relayed"] == 60, "its session went on through the reload"
        assert under_way
        arrived = [message.content for message in (*town.smtp.accepted, *new_hop.accepted)]
        assert Counter(map(fingerprint, arrived)) == Counter(map(fingerprint, (*mail, *late)))
        assert new_hop.accepted
        assert town.smtp.accepted


@asynccontextmanager
async def serving(server: ScriptedSmtpServer) -> AsyncIterator[None]:
    await server.start()
    try:
        yield
    finally:
        await server.stop()


def sessions(daemon: DaemonProcess) -> list[str]:
    return [event["poll_id"] for event in daemon.named("message.relayed")]


async def test_a_bad_file_leaves_everything_running_and_says_what_is_wrong(tmp_path: Path) -> None:
    town = Town(tmp_path, {"ann": box()}, ScriptedSmtpServer())
    async with town.open("ann") as daemon:
        await town.until(lambda: bool(town.polls("ann")), "poll")
        town.tables["maildrop.ann"]["every"] = "soon"
        town.tables["maildrop.bob"] = town.folder.maildrop(town.pop3.port, "bob", deliver=["nowhere"])
        town.write()
        told = await town.reload()
        assert (told["event"], told["problems"]) == ("config.reload_failed", 2)
        problems = [event["problem"] for event in daemon.named("config.problem_found")]
        assert "maildrop.ann.every: must be" in problems[0]
        assert "names no destination" in problems[1]
        assert "mailferry_config_last_reload_successful 0.0" in await town.metrics()
        polls = len(town.polls("ann"))
        await town.until(lambda: len(town.polls("ann")) > polls + 1, "polls after the reload")
        del town.tables["maildrop.bob"]
        town.tables["maildrop.ann"]["every"] = "1s"
        town.write()
        assert (await town.reload())["event"] == "config.unchanged"
        assert "mailferry_config_last_reload_successful 1.0" in await town.metrics()


async def test_what_cannot_change_is_told_and_what_can_counts_at_once(tmp_path: Path) -> None:
    town = Town(tmp_path, {"ann": box()}, ScriptedSmtpServer())
    async with town.open("ann") as daemon:
        await town.until(lambda: bool(town.polls("ann")), "poll")
        town.settings |= {"log_level": "debug", "hostname": "other.example.org"}
        town.write()
        told = await town.reload()
        assert (told["event"], told["changed"]) == ("config.reloaded", "daemon.log_level")
        await town.until(lambda: bool(daemon.named("config.restart_needed")), "word about the restart")
        assert daemon.named("config.restart_needed")[0]["keys"] == "daemon.hostname"
        await town.until(lambda: bool(daemon.named("poll.started")), "events of the level debug")


async def test_a_password_that_was_written_anew_ends_a_pause(tmp_path: Path) -> None:
    town = Town(tmp_path, {"ann": box(*make_messages(1, seed=3, sizes=(300, 400)))}, ScriptedSmtpServer())
    town.folder.secret.write_text("wrong\n")
    async with town.open("ann", every="1h") as daemon:
        await town.until(lambda: bool(daemon.named("maildrop.auth_rejected")), "refusal")
        town.folder.secret.write_text(PASSWORD + "\n")
        os.utime(town.folder.secret, (1, 1))  # as a restored file: it does not look newer than the refusal
        told = await town.reload()
        assert (told["event"], told["renewed"]) == ("config.reloaded", "maildrop.ann")
        await town.until(lambda: bool(daemon.named("message.relayed")), "relayed message")


async def test_files_are_watched_when_the_configuration_says_so(tmp_path: Path) -> None:
    town = Town(tmp_path, {"ann": box(), "bob": box()}, ScriptedSmtpServer())
    town.settings["watch_config"] = True
    async with town.open("ann") as daemon:
        await town.until(lambda: bool(town.polls("ann")), "poll")
        drop_ins = tmp_path / "conf.d"
        drop_ins.mkdir()
        town.tables["maildrop.bob"] = town.folder.maildrop(town.pop3.port, "bob", every="1s")
        town.write()
        await town.until(lambda: bool(daemon.named("config.reloaded")), "reload by itself")
        await town.until(lambda: bool(town.polls("bob")), "poll of the new maildrop")
