"""`mailferry sandbox --demo`: the whole main job, run for real, shown and checked.

The daemon is the real one, as a process of its own. All that is claimed at the
end was compared: what the sink took, what the archive holds, what the maildrops
kept, what the daemon's exit code was.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from prometheus_client.samples import Sample
from rich.console import Console
from rich.filesize import decimal

from mailferry.cli.demo_daemon import DemoDaemon
from mailferry.cli.demo_proof import (
    archive_problems,
    as_fetched,
    as_relayed,
    below_trace,
    maildrop_problems,
    sink_problems,
)
from mailferry.cli.exit_codes import ExitCode
from mailferry.cli.sandbox import own_command
from mailferry.cli.screen import table
from mailferry.cli.wording import counted
from mailferry.message.headers import split_header
from mailferry.message.summary import summarise
from mailferry.sandbox import Sandbox, SandboxPorts, SinkMessage

PATIENCE_SECONDS = 30.0
"""For all to arrive, and again for the second polls."""
STEP_SECONDS = 0.1
EMPTIED = "sandbox-emptied"
"""The maildrop whose messages are to be deleted after delivery."""

SHOWN_METRICS = (
    "mailferry_polls_total",
    "mailferry_messages_total",
    "mailferry_message_octets_total",
    "mailferry_deliveries_total",
    "mailferry_waiting_messages",
    "mailferry_route_up",
    "mailferry_ledger_records_total",
    "mailferry_memory_in_use_bytes",
)
_ALWAYS_SHOWN = frozenset({"mailferry_waiting_messages", "mailferry_memory_in_use_bytes"})


class DemoFailedError(Exception):
    """Something is not as it must be; the text says what."""


async def run_demo(console: Console, folder: Path, ports: SandboxPorts, *, stays: bool) -> ExitCode:
    """Run the demonstration; `stays` keeps it up for a look until Enter or Ctrl-C."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    sandbox = Sandbox()
    await sandbox.start(pop_port=ports.pop, smtp_port=ports.smtp)
    try:
        config = sandbox.write_config(folder, http_port=ports.http)
        await _Demo(console, sandbox, config, ports.http).play(stays=stays)
    except DemoFailedError as failure:
        console.print(f"\nThe demonstration FAILED: {failure}", soft_wrap=True)
        return ExitCode.FAILED
    finally:
        await sandbox.stop()
    return ExitCode.OK


class _Demo:
    """The acts of the demonstration, in their order."""

    def __init__(self, console: Console, sandbox: Sandbox, config: Path, http_port: int) -> None:
        self._console = console
        self._sandbox = sandbox
        self._config = config
        self._archive = config.parent / "state" / "archive" / "new"
        self._held = {name: list(drop.messages) for name, drop in sandbox.maildrops.items()}
        self._samples = [message for messages in self._held.values() for message in messages]
        self._daemon = DemoDaemon(config, http_port, columns=console.width)

    async def play(self, *, stays: bool) -> None:
        """Run all acts.

        Raises:
            DemoFailedError: something is not as it must be.
        """
        self._say(
            f"A sandbox with {counted(len(self._samples), 'message')} in {counted(len(self._held), 'maildrop')}; "
            "now the daemon is started."
        )
        async with self._daemon:
            await self._wait("everything to arrive", self._all_arrived)
            self._show_arrivals()
            self._say("Every maildrop is polled again, to show that nothing is doubled.")
            before = await self._polls()
            await self._wait("a second poll of every maildrop", lambda: self._polled_since(before))
            self._check()
            await self._show_metrics()
            await self._show_status()
            self._say(self._verdict())
            if stays:
                await self._stay()
            code = await self._daemon.stop()
        if code != 0:
            raise DemoFailedError(f"the daemon ended with exit code {code}: {self._daemon.log_tail()}")
        self._say("The daemon was stopped by SIGTERM and ended with exit code 0.")

    def _say(self, words: str) -> None:
        self._console.print(f"\n{words}", style="bold", soft_wrap=True)

    # Waiting

    async def _wait(self, what: str, come: Callable[[], Awaitable[bool]]) -> None:
        deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        with self._console.status(f"Waiting for {what}"):
            while not await come():
                if self._daemon.exit_code is not None:
                    code = self._daemon.exit_code
                    raise DemoFailedError(
                        f"the daemon ended with exit code {code}: {self._daemon.log_tail()}"
                    )
                if asyncio.get_running_loop().time() > deadline:
                    raise DemoFailedError(
                        f"waited {PATIENCE_SECONDS:g} s for {what} in vain; the daemon's log ends with: "
                        f"{self._daemon.log_tail()}"
                    )
                await asyncio.sleep(STEP_SECONDS)

    async def _all_arrived(self) -> bool:
        if self._sandbox.sink.accepted_count < len(self._samples):
            return False
        polls = await self._polls()
        return all(polls.get(name) for name in self._held)

    async def _polled_since(self, before: dict[str, float]) -> bool:
        # A maildrop's polls never overlap, so one that ends now has begun after the first.
        polls = await self._polls()
        return all(polls.get(name, 0) > before[name] for name in self._held)

    async def _polls(self) -> dict[str, float]:
        return {
            sample.labels["maildrop"]: sample.value
            for sample in await self._daemon.scrape()
            if sample.name == "mailferry_polls_total" and sample.labels["result"] == "ok"
        }

    # Checking

    def _check(self) -> None:
        kept = {name: [] if name == EMPTIED else messages for name, messages in self._held.items()}
        problems = [
            *sink_problems(self._samples, (message.content for message in self._sandbox.sink.received)),
            *archive_problems(self._samples, self._archived().values()),
            *maildrop_problems(kept, {name: drop.messages for name, drop in self._sandbox.maildrops.items()}),
        ]
        if problems:
            raise DemoFailedError("\n".join(["not as it was sent:", *problems]))

    def _archived(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self._archive.iterdir()}

    def _verdict(self) -> str:
        files = counted(len(set(map(as_fetched, self._samples))), "different one")
        return (
            f"All {len(self._samples)} messages arrived by SMTP once, octet for octet, and the archive has each "
            f"of the {files}; the second polls relayed nothing."
        )

    # Showing

    def _show_arrivals(self) -> None:
        shown = table(("From", "Subject", "size", "where"), numbers=("size",), title="What arrived")
        names = {as_relayed(content): name for name, content in self._archived().items()}
        for message in self._sandbox.sink.received:
            shown.add_row(*_arrival(message, names))
        self._console.print(shown)

    async def _show_metrics(self) -> None:
        samples = await self._daemon.scrape()
        lines = [_metric_line(sample) for sample in samples if _is_interesting(sample)]
        self._say(f"From {self._daemon.metrics_url} (those that are not 0):")
        self._console.print("\n".join(lines), soft_wrap=True)

    async def _show_status(self) -> None:
        code, output = await self._daemon.ask("status")
        self._say("mailferry status says:")
        self._console.print(output.rstrip("\n"), soft_wrap=True)
        if code != 0:
            raise DemoFailedError(f"mailferry status ended with exit code {code}")

    async def _stay(self) -> None:
        command = own_command()
        self._say("It stays up for a look. In another terminal:")
        lines = [f"  {command} {words} -c {self._config}" for words in ("status", "history", "history dots")]
        lines += [f"  curl {self._daemon.metrics_url}", f"  less {self._daemon.log}"]
        self._console.print("\n".join(lines), soft_wrap=True)
        self._say("Enter or Ctrl-C ends it.")
        await _enter_or_interrupt()


def _arrival(message: SinkMessage, archive_names: dict[bytes, str]) -> Sequence[str]:
    bare = below_trace(message.content)
    summary = summarise(split_header(message.content)[0])
    name = archive_names.get(bare or b"", "")
    where = f"SMTP {message.number}, archive {name[:12]}" if name else f"SMTP {message.number}"
    return summary.sender or "(none)", summary.subject or "(none)", decimal(len(message.content)), where


def _is_interesting(sample: Sample) -> bool:
    return sample.name in SHOWN_METRICS and (bool(sample.value) or sample.name in _ALWAYS_SHOWN)


def _metric_line(sample: Sample) -> str:
    labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
    name = f"{sample.name}{{{labels}}}" if labels else sample.name
    return f"  {name} {sample.value:.15g}"


async def _enter_or_interrupt() -> None:
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_reader(sys.stdin, over.set)
    loop.add_signal_handler(signal.SIGINT, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(sys.stdin)
        loop.remove_signal_handler(signal.SIGINT)
