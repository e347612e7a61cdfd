"""The servers between which mail is measured: a private Dovecot, the sink, and two lines with latency."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from benchmarks.tools import tool
from support.certificates import LocalAuthority
from support.dovecot import PrivateDovecot
from support.processes import free_port, greets, wait_until

PASSWORD = "battery-staple"  # noqa: S105  invented
POP3_ROUND_TRIP_MS = 50
SMTP_ROUND_TRIP_MS = 20
_GRACE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class SinkPorts:
    """The ports of the sink: with DATA alone, with BDAT too, and one that acknowledges segments late."""

    data: int
    chunking: int
    lazy: int


@dataclass(frozen=True, slots=True)
class Ends:
    """Where a contender fetches and delivers."""

    pop3: int
    smtp: SinkPorts


class Site:
    """Everything that stands around a contender; a context manager.

    Attributes:
        folder: where files go; removed by whoever made it.
        near: the servers themselves; `far` the same behind latency.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = ExitStack()
        self._known_users: set[str] = set()
        self._authority = LocalAuthority()
        certificate = self._authority.with_common_name()
        self._dovecot = PrivateDovecot(folder / "dovecot", authority=self._authority, certificate=certificate)
        self.near = Ends(self._dovecot.port, SinkPorts(free_port(), free_port(), free_port()))
        self.far = Ends(free_port(), SinkPorts(free_port(), free_port(), free_port()))

    @property
    def pop3s_port(self) -> int:
        """Where Dovecot speaks TLS from the first octet."""
        return self._dovecot.tls_port

    @property
    def ca_file(self) -> Path:
        """The certificate that vouches for Dovecot."""
        return self._authority.write_ca(self.folder)

    def __enter__(self) -> Self:
        """Start all servers."""
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End all servers."""
        self._stack.close()

    def _start(self) -> None:
        self._stack.enter_context(self._dovecot)
        near, far = self.near, self.far
        sink = [tool("sink"), f"{near.smtp.data}", f"{near.smtp.chunking}c", f"{near.smtp.lazy}d"]
        self._start_server(sink, [near.smtp.data], b"220")
        self._start_delay(POP3_ROUND_TRIP_MS, [(far.pop3, near.pop3)], b"+OK")
        pairs = [(far.smtp.data, near.smtp.data), (far.smtp.chunking, near.smtp.chunking)]
        self._start_delay(SMTP_ROUND_TRIP_MS, pairs, b"220")

    def _start_delay(self, round_trip_ms: int, pairs: Sequence[tuple[int, int]], greeting: bytes) -> None:
        words = [f"{listens}:{target}" for listens, target in pairs]
        one_way_us = round_trip_ms * 500
        self._start_server([tool("delay"), str(one_way_us), *words], [pairs[0][0]], greeting)

    def _start_server(self, command: Sequence[str], ports: Sequence[int], greeting: bytes) -> None:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self._stack.callback(_end, process)
        for port in ports:
            wait_until(lambda port=port: greets(port, greeting), f"port {port}")  # type: ignore[misc]

    # Maildrops

    def maildir_of(self, user: str) -> Path:
        """Return a user's Maildir; the user is made when first asked for."""
        if user not in self._known_users:
            self._dovecot.add_user(user, PASSWORD)
            self._known_users.add(user)
        return self._dovecot.maildir_of(user)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(_GRACE_SECONDS)
