"""Child processes and ports: started by us, waited for with a bound, ended by their own pid."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

NO_REAL_SERVER = "NO REAL SERVER"
"""How the reason of every such skip begins."""
START_SECONDS = 15.0
STOP_SECONDS = 10.0
_STEP_SECONDS = 0.02
_SYSTEM_FOLDERS = "/usr/local/sbin:/usr/sbin:/sbin:/usr/lib/dovecot"


def must_have_servers() -> bool:
    """Tell whether a missing real server is a failure (CI, or asked for) and not a skip."""
    return bool(os.environ.get("CI")) or os.environ.get("MAILFERRY_REQUIRE_SERVERS") == "1"


def unavailable(reason: str) -> NoReturn:
    """Skip the test aloud, or fail it where real servers are a must."""
    text = f"{NO_REAL_SERVER}: {reason}"
    if must_have_servers():
        pytest.fail(text)
    pytest.skip(text)


def require(program: str) -> str:
    """Return a program's path; skip or fail the test when it is not installed."""
    folders = os.pathsep.join((os.environ.get("PATH", os.defpath), _SYSTEM_FOLDERS))
    path = shutil.which(program, path=folders)
    if path is None:
        unavailable(f"{program} is not installed")
    return path


def require_root(what: str) -> None:
    """Skip or fail the test when it does not run as root."""
    if os.geteuid() != 0:
        unavailable(f"{what} needs root")


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def greets(port: int, greeting: bytes, host: str = "127.0.0.1") -> bool:
    """Tell whether somebody listens and begins with these octets."""
    try:
        with socket.create_connection((host, port), timeout=5) as link:
            return link.recv(512).startswith(greeting)
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    """Wait for a condition.

    Raises:
        TimeoutError: it did not come true in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(_STEP_SECONDS)


class Child:
    """A child process in a session of its own, its output in a file."""

    def __init__(
        self, command: Sequence[str | Path], output: Path, *, env: Mapping[str, str] | None = None
    ) -> None:
        self.output = output
        with output.open("ab") as sink:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env=None if env is None else dict(env),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def tail(self, octets: int = 2000) -> str:
        """Return the end of what it wrote."""
        return self.output.read_bytes()[-octets:].decode("utf-8", "replace")

    def wait_ready(self, ready: Callable[[], bool], what: str) -> None:
        """Wait until it is ready.

        Raises:
            RuntimeError: it ended instead.
            TimeoutError: it took too long.
        """

        def ended_or_ready() -> bool:
            return not self.running or ready()

        wait_until(ended_or_ready, what)
        if not self.running:
            raise RuntimeError(f"{what} ended with {self._process.returncode}: {self.tail()}")

    def kill(self) -> None:
        """End it at once, as a crash would (SIGKILL to this process only)."""
        self._process.kill()
        self._process.wait(STOP_SECONDS)

    def stop(self, seconds: float = STOP_SECONDS) -> int:
        """Ask it to end (SIGTERM), insist after a while; return its exit code."""
        if self.running:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._process.returncode
