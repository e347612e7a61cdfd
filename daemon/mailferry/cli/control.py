"""How commands talk to the daemon that runs: HTTP over its control socket, and its answers in words.

The standard library's client does: a command asks one question, and the libraries of the
daemon's own HTTP side take longer to import than it takes to answer.
"""

from __future__ import annotations

import errno
import http.client
import json
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from mailferry.cli.options import places_of
from mailferry.errors import ControlDeniedError, ControlError, NoDaemonError, UnknownTargetError

PATIENCE_SECONDS = 15.0
"""For an answer that waits for nothing; the daemon may be busy."""
MAX_ANSWER_OCTETS = 256 * 1024 * 1024
"""The status of a hundred thousand maildrops is not larger."""

Document = dict[str, Any]  # Any: whatever JSON holds


class Daemon:
    """The daemon of a configuration, whether it runs or not."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def get(self, question: str) -> Document:
        """Ask something.

        Raises:
            NoDaemonError: nobody listens.
            ControlDeniedError: the system does not let us.
            ControlError: there is no answer, or it is a refusal.
        """
        return self._ask("GET", question, None, PATIENCE_SECONDS)

    def post(
        self,
        operation: str,
        body: Mapping[str, object] | None = None,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> Document:
        """Have something done; raises as `get` does."""
        return self._ask("POST", operation, json.dumps(body or {}).encode(), patience_seconds)

    def _ask(self, method: str, operation: str, body: bytes | None, patience_seconds: float) -> Document:
        connection = _UnixConnection(self.path, patience_seconds)
        try:
            connection.request(method, f"/v1/{operation}", body, {"Connection": "close"})
            answer = connection.getresponse()
            text = answer.read(MAX_ANSWER_OCTETS)
        except TimeoutError as error:
            raise ControlError(f"{self.path}: no answer within {patience_seconds:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise ControlError(
                f"{self.path}: the daemon broke off: {error or type(error).__name__}"
            ) from error
        finally:
            connection.close()
        return _checked(answer.status, text, self.path)


def daemon_of(config: Path | None) -> Daemon:
    """Return the daemon that a configuration belongs to."""
    from mailferry.assembly.control_place import control_path

    return Daemon(control_path(places_of(config).daemon))


def names_or_all(names: Sequence[str] | None, every: bool) -> Document:
    """Return the choice as the daemon takes it.

    Raises:
        typer.BadParameter: it is none, or both.
    """
    if every and names:
        raise typer.BadParameter("means all: give no names", param_hint="--all")
    if not every and not names:
        raise typer.BadParameter("say which, or --all", param_hint="NAME")
    return {"all": True} if every else {"names": list(names or [])}


def span_seconds(text: str | None) -> float | None:
    """Return how long `--for` says.

    Raises:
        typer.BadParameter: it is no span.
    """
    from mailferry.config.units import parse_duration

    if text is None:
        return None
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--for") from None
    if seconds <= 0:
        raise typer.BadParameter("must be longer than nothing", param_hint="--for")
    return seconds


def moment(text: str | None) -> float | None:
    """Return a time of the daemon's in seconds since the epoch; None for none."""
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp() if text else None


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket in place of an address."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(os.fspath(self._path))
        except OSError as error:
            raise _not_connected(self._path, error) from error


def _not_connected(path: Path, error: OSError) -> ControlError:
    if error.errno in {errno.EACCES, errno.EPERM}:
        return ControlDeniedError(f"{path}: permission denied: run this as the daemon's user or as root")
    if error.errno in {errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR}:
        return NoDaemonError(f"{path}: no daemon listens there: is it running, with this configuration?")
    if error.errno is None or error.errno == errno.ENAMETOOLONG:  # Python's own: sun_path is short
        return NoDaemonError(f"{path}: too long for a Unix socket: set a shorter [daemon] control_socket")
    return ControlError(f"{path}: {error.strerror or error}")


def _checked(status: int, text: bytes, path: Path) -> Document:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ControlError(f"{path}: the answer is not the daemon's") from error
    if not isinstance(document, dict):
        raise ControlError(f"{path}: the answer is not the daemon's")
    if status == http.client.OK:
        return document
    words = str(document.get("error", status))
    raise UnknownTargetError(words) if status == http.client.NOT_FOUND else ControlError(words)
