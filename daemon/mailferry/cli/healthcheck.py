"""`mailferry healthcheck`: does the daemon on this machine live? For containers, which have no curl.

It asks the HTTP port or socket, or the control socket where HTTP is off. Where they lie the
configuration says, as far as it can be read: one that is wrong by now must not make a daemon
look dead that runs well with the one before it.
"""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Annotated

import typer

from mailferry.cli.exit_codes import ExitCode
from mailferry.cli.options import ConfigOption, places_of
from mailferry.telemetry.redaction import clean_text

_MOST_OCTETS = 64 * 1024
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - to ask, not to listen
_SOCKET_NAME = "control.sock"
_CONTROL_PATH = "/v1/trace"
"""The cheapest question that the control socket answers."""


def healthcheck(
    config: ConfigOption = None,
    ready: Annotated[
        bool,
        typer.Option(
            "--ready", help="Ask whether it does its work: configured, ledger open, schedule running."
        ),
    ] = False,
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout", min=0.1, max=600.0, metavar="SECONDS", help="How long to wait for an answer."
        ),
    ] = 5.0,
) -> None:
    """Ask the running daemon whether it is well: exit code 0 for yes, 1 for no."""
    try:
        well, words = _ask(*_where(config, timeout, "/readyz" if ready else "/healthz"))
    except (OSError, http.client.HTTPException) as error:
        well, words = False, f"no answer: {str(error) or type(error).__name__}"
    typer.echo(words, err=not well)
    raise typer.Exit(ExitCode.OK if well else ExitCode.FAILED)


def _where(config: Path | None, timeout: float, path: str) -> tuple[http.client.HTTPConnection, str]:
    """Return a way to the daemon, and what to ask for there."""
    places = places_of(config)
    host, port = places.http.host, places.http.port
    if host is not None and port is not None:
        return http.client.HTTPConnection(_ANYWHERE.get(host, host), port, timeout=timeout), path
    if places.http.socket is not None:
        return _UnixConnection(places.http.socket, timeout), path
    control = places.daemon.control_socket or places.daemon.state_dir / _SOCKET_NAME
    return _UnixConnection(control, timeout), _CONTROL_PATH


def _ask(connection: http.client.HTTPConnection, path: str) -> tuple[bool, str]:
    """Return whether the daemon is well, and what it says."""
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read(_MOST_OCTETS)
    finally:
        connection.close()
    if answer.status == http.client.OK:
        return True, "ok"
    return False, f"{path}: {answer.status}{_trouble(body)}"


def _trouble(body: bytes) -> str:
    try:
        document = json.loads(body)
    except ValueError:
        return ""
    words = document.get("trouble") if isinstance(document, dict) else None
    return f": {clean_text(words)}" if isinstance(words, str) else ""


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket in place of an address."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
