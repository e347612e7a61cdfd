"""Run the command that prints a secret: no shell, a deadline, a bound on its output."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from typing import IO

from mailferry.errors import SecretError

TIMEOUT_SECONDS = 10.0


def run_for_secret(argv: Sequence[str], limit_octets: int, timeout_seconds: float = TIMEOUT_SECONDS) -> bytes:
    """Return what the command prints, at most `limit_octets` and one more.

    What it writes to stderr is thrown away, because it may hold the secret. The
    command and its children are killed when the time is over.

    Raises:
        SecretError: it cannot be run, fails, or takes too long.
    """
    try:
        process = subprocess.Popen(  # noqa: S603 - the administrator's own command, and no shell
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a group of its own, so that all of it can be killed
        )
    except OSError as error:
        raise SecretError(f"cannot be run: {error.strerror}") from None
    with process:
        try:
            return _output(process, limit_octets, time.monotonic() + timeout_seconds)
        except TimeoutError:
            raise SecretError(f"gave no answer within {timeout_seconds:g} seconds") from None
        finally:
            _end(process)


def _output(process: subprocess.Popen[bytes], limit_octets: int, deadline: float) -> bytes:
    assert process.stdout is not None  # PIPE was asked for
    octets = _read_until(process.stdout, limit_octets, deadline)
    if len(octets) > limit_octets:
        return octets
    try:
        status = process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise TimeoutError from None
    if status != 0:
        raise SecretError(f"failed (exit status {status}); run it by hand as the daemon's user to see why")
    return octets


def _read_until(pipe: IO[bytes], limit_octets: int, deadline: float) -> bytes:
    collected = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while len(collected) <= limit_octets:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            chunk = os.read(pipe.fileno(), limit_octets + 1 - len(collected))
            if not chunk:
                break
            collected += chunk
    return bytes(collected)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the command's whole group, unless its leader has ended and been waited for.

    Asked is `returncode`, not `poll()`: a leader that was not waited for keeps
    its number, so no stranger's group can be hit.
    """
    if process.returncode is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return  # it ended between the two calls
