"""The daemon as the demonstration runs it: a process of its own, asked over HTTP and by signal."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from aiohttp import ClientError, ClientSession, ClientTimeout
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

STOP_SECONDS = 25.0
_TAIL_OCTETS = 3000
_SCRAPE_SECONDS = 5.0


class DemoDaemon:
    """`mailferry run` as a child process; use it as an async context manager."""

    def __init__(self, config: Path, http_port: int, *, columns: int) -> None:
        self.metrics_url = f"http://127.0.0.1:{http_port}/metrics"
        self.log = config.with_name("daemon.log")
        self._config = config
        # A variable of the caller's must not change the demonstration's configuration.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAILFERRY_")}
        self._environment = {**inherited, "COLUMNS": str(columns)}
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        with self.log.open("wb") as log:
            self._process = await self._spawn("run", output=log.fileno())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.exit_code is None:
            await self.stop()

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.returncode if self._process is not None else None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid if self._process is not None else 0

    def log_tail(self) -> str:
        """Return the end of its log."""
        return self.log.read_bytes()[-_TAIL_OCTETS:].decode("utf-8", "replace")

    async def scrape(self) -> list[Sample]:
        """Ask for its metrics as Prometheus does; nothing when it does not answer (yet)."""
        timeout = ClientTimeout(total=_SCRAPE_SECONDS)
        try:
            async with ClientSession(timeout=timeout) as session, session.get(self.metrics_url) as response:
                text = await response.text()
        except (ClientError, TimeoutError):
            return []
        return [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    async def ask(self, command: str) -> tuple[int, str]:
        """Run another command on the same configuration; return its exit code and all it printed."""
        process = await self._spawn(command, output=asyncio.subprocess.PIPE)
        output, _ = await process.communicate()
        return process.returncode or 0, output.decode("utf-8", "replace")

    async def stop(self) -> int:
        """Send SIGTERM, wait, and return the exit code; SIGKILL when it does not end."""
        assert self._process is not None, "not started"
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(self._process.wait(), STOP_SECONDS)
        except TimeoutError:
            self._process.kill()
            return await self._process.wait()

    async def _spawn(self, command: str, *, output: int) -> asyncio.subprocess.Process:
        words: Sequence[str] = (sys.executable, "-m", "mailferry", command, "-c", str(self._config))
        return await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            env=self._environment,
            start_new_session=True,  # Ctrl-C is for us; the daemon is stopped in its turn
        )
