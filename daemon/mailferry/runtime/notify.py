"""Tells the service manager how the daemon fares: systemd's protocol, sd_notify(3).

One datagram for each word, to the socket that `$NOTIFY_SOCKET` names; where there is
none (a container, a terminal) nothing is sent. A datagram that cannot be sent is told in
the log once: the mail does not wait for whoever watches it. What the manager waits for goes before the next word.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping

_log = logging.getLogger("mailferry")

_LONGEST_STATUS = 400
"""Characters; a datagram could hold more, a line of `systemctl status` could not."""

_WAITED_FOR = frozenset({"READY=1", "STOPPING=1"})
"""Without the first one a start would count as failed; a manager that is busy may not take it at once."""


class ServiceManager:
    """Whoever started the daemon and waits for its words.

    Attributes:
        watchdog_seconds: in which time `alive` must be called; None when nobody counts.
    """

    def __init__(self, address: str | None, watchdog_seconds: float | None = None) -> None:
        """Take the address of a Unix datagram socket, as `$NOTIFY_SOCKET` has it, or None."""
        self.watchdog_seconds = watchdog_seconds if address else None
        self._address = _socket_address(address)
        self._socket: socket.socket | None = None
        self._failed = False
        self._owed: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> ServiceManager:
        """Read `$NOTIFY_SOCKET`, `$WATCHDOG_USEC` and `$WATCHDOG_PID`."""
        return cls(environ.get("NOTIFY_SOCKET"), _watchdog_seconds(environ))

    @property
    def listens(self) -> bool:
        """Whether there is anybody."""
        return self._address is not None

    def ready(self, status: str) -> None:
        """Tell that the configuration is in force, at the start or after a reload."""
        self._send("READY=1", f"STATUS={_one_line(status)}")

    def reloading(self) -> None:
        """Tell that a reload begins; `ready` ends it, however it went."""
        # sd_notify(3): the time lets systemd tell this reload from one that was asked for later.
        now_microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now_microseconds}")

    def stopping(self) -> None:
        """Tell that the end has begun."""
        self._send("STOPPING=1", "STATUS=finishing what is under way")

    def status(self, status: str) -> None:
        """Say in words what the daemon does."""
        self._send(f"STATUS={_one_line(status)}")

    def alive(self) -> None:
        """Tell the watchdog that all is well."""
        self._send("WATCHDOG=1")

    def extend(self, seconds: float) -> None:
        """Ask for so many more seconds, from now on, to start or to stop."""
        self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *assignments: str) -> None:
        if self._address is None:
            return
        try:
            if self._owed:
                self._put(self._address, self._owed)
                self._owed = ()
            self._put(self._address, assignments)
        except OSError as error:
            if assignments[0] in _WAITED_FOR:
                self._owed = assignments
            if not self._failed:
                self._failed = True
                _log.warning("the service manager cannot be told %s: %s", assignments[0], error)

    def _put(self, address: str, assignments: tuple[str, ...]) -> None:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
        self._socket.sendto("\n".join(assignments).encode(), address)


def _socket_address(text: str | None) -> str | None:
    """Return the address for the socket module; None for kinds other than Unix sockets."""
    if not text or text[0] not in "/@" or len(text) < 2:
        if text:
            _log.warning("NOTIFY_SOCKET is no Unix socket, so nobody is told: %s", text[:100])
        return None
    return "\0" + text[1:] if text[0] == "@" else text  # the kernel's abstract names begin with a NUL


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """Return the watchdog's time if it is meant for this process (sd_watchdog_enabled(3))."""
    microseconds, process = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID")
    if process is not None and process != str(os.getpid()):
        return None
    if not (microseconds.isascii() and microseconds.isdigit()) or int(microseconds) == 0:
        return None
    return int(microseconds) / 1e6


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_LONGEST_STATUS]
