"""Nothing that may block is done on the event loop while mail is relayed: counted, not timed."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from mailferry.sandbox.maildrop import SandboxMaildrop
from mailferry.services.poll import Poll
from support.clients import running
from support.configs import PASSWORD, Value
from support.relay import Relay
from support.scripted_pop3 import ScriptedPop3Server
from support.scripted_smtp import ScriptedSmtpServer

BLOCKING = frozenset(
    [
        "open",
        "os.listdir",
        "os.scandir",
        "os.mkdir",
        "os.remove",
        "os.rename",
        "os.rmdir",
        "os.link",
        "os.symlink",
        "os.truncate",
        "os.utime",
        "os.chmod",
        "os.chown",
        "os.fork",
        "os.posix_spawn",
        "os.system",
        "subprocess.Popen",
        "shutil.copyfile",
        "shutil.rmtree",
        "tempfile.mkstemp",
        "sqlite3.connect",
        "socket.getaddrinfo",
        "socket.gethostbyname",
        "socket.gethostbyaddr",
        "socket.getnameinfo",
        "time.sleep",
    ]
)
"""Audit events (PEP 578) of what waits for a disk, another process or a name server."""

MESSAGES = [b"Subject: %d\r\n\r\n" % number + b"text\r\n" * 100 for number in range(60)]
LARGE = [b"Subject: %d\r\n\r\n" % number + b"text\r\n" * 12_000 for number in range(5)]


class Watch:
    """Counts what may block, on one thread, while it is on; an audit hook can never be removed again."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.on = False
        self._thread = threading.get_ident()
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self.on or event not in BLOCKING or threading.get_ident() != self._thread:
            return
        if not str(arguments[:1]).endswith(".py',)"):  # asyncio's debug mode reads sources, to show them
            self.seen[f"{event} {arguments[:1]!r}"] += 1


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    """A watch that is on while maildrops are polled, not while the program starts or ends."""
    found = Watch()
    monkeypatch.setattr("mailferry.services.poll.Poll._visit", _watched(found))
    return found


def _watched(watch: Watch) -> Callable[[Poll], Awaitable[None]]:
    visit = Poll._visit

    async def watched(poll: Poll) -> None:
        watch.on = True
        try:
            await visit(poll)
        finally:
            watch.on = False

    return watched


async def drain(folder: Path, messages: Sequence[bytes], **daemon: Value) -> None:
    pop3 = ScriptedPop3Server({"ann": SandboxMaildrop(PASSWORD, messages)})
    smtp = ScriptedSmtpServer()
    async with running(pop3), running(smtp):
        relay = Relay(folder)
        relay.maildrop(pop3.port)
        relay.destination(smtp.port)
        relay.daemon.update(daemon)
        async with asyncio.timeout(30):
            await relay.once()
    assert len(smtp.accepted) == len(messages)


async def test_a_drain_does_nothing_on_the_loop_that_may_block(tmp_path: Path, watch: Watch) -> None:
    await drain(tmp_path, MESSAGES)
    assert watch.seen == Counter()


async def test_messages_that_lie_in_files_are_counted(tmp_path: Path, watch: Watch) -> None:
    """They are written as they come, so that octets from the network never wait in memory: one file each."""
    await drain(tmp_path, LARGE, spool_threshold="64K")
    assert 0 < sum(watch.seen.values()) <= 3 * len(LARGE)
