"""Where the control socket lies: for the daemon that makes it, and for commands that look for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mailferry.config.models import DaemonSettings
from mailferry.web.unix_socket import UnixSocket

SOCKET_NAME = "control.sock"


def control_path(daemon: DaemonSettings) -> Path:
    """Return where commands look for the daemon."""
    return daemon.control_socket or daemon.state_dir / SOCKET_NAME


def control_place(daemon: DaemonSettings, environ: Mapping[str, str]) -> UnixSocket:
    """Return where the daemon listens.

    Under systemd with `RuntimeDirectory=` that is there, where nothing outlives a boot; commands
    know nothing of it, so a link in the state directory leads to it.
    """
    pointer = control_path(daemon)
    runtime = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if daemon.control_socket is not None or not runtime:
        return UnixSocket(pointer)
    return UnixSocket(Path(runtime) / SOCKET_NAME, pointer)
