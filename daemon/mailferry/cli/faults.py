"""From an exception to words on stderr and an exit code.

What an administrator can mend is told in one text without a traceback. What only
we can mend is told by its kind and place: the text of a foreign exception may
quote a value, and a value may be a secret.
"""

from __future__ import annotations

import errno
import os
import traceback
from pathlib import Path

import typer

from mailferry.cli.exit_codes import ExitCode
from mailferry.errors import (
    ConfigError,
    ControlDeniedError,
    ControlSocketError,
    MailferryError,
    NoDaemonError,
    QuarantineError,
    SecretError,
    StoreError,
    UnknownTargetError,
)

DEBUG_VARIABLE = "MAILFERRY_DEBUG"


def report(error: Exception) -> ExitCode:
    """Tell of an error on stderr; return the exit code for it."""
    if os.environ.get(DEBUG_VARIABLE, "") not in {"", "0"}:
        for part in traceback.format_exception(error):
            for line in part.splitlines():  # an error may quote a peer's words
                typer.echo(_clean(line), err=True)
    lines, code = _words(error)
    for line in lines:
        typer.echo(line, err=True)
    return code


def _words(error: Exception) -> tuple[list[str], ExitCode]:
    if isinstance(error, ConfigError):
        return [_clean(str(problem)) for problem in error.problems], ExitCode.CONFIG
    if isinstance(error, MailferryError):
        return [_clean(f"mailferry: {error}")], _code(error)
    if isinstance(error, OSError):
        return [_clean(f"mailferry: {_system_words(error)}")], _system_code(error)
    return [_clean(_internal_words(error))], ExitCode.SOFTWARE


def _code(error: MailferryError) -> ExitCode:
    codes: tuple[tuple[type[MailferryError], ExitCode], ...] = (
        (ControlSocketError, ExitCode.UNAVAILABLE),
        (NoDaemonError, ExitCode.UNAVAILABLE),
        (ControlDeniedError, ExitCode.NO_PERMISSION),
        (UnknownTargetError, ExitCode.USAGE),
        (StoreError, ExitCode.STORE),
        (QuarantineError, ExitCode.STORE),
        (SecretError, ExitCode.CONFIG),
    )
    found = next((code for kind, code in codes if isinstance(error, kind)), None)
    if found is not None:
        return found
    from mailferry.web.server import WebError  # the HTTP side's libraries take a quarter of a second

    return ExitCode.UNAVAILABLE if isinstance(error, WebError) else ExitCode.FAILED


def _system_words(error: OSError) -> str:
    what = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {what}" if error.filename else what


def _system_code(error: OSError) -> ExitCode:
    if error.errno in {errno.EADDRINUSE, errno.EADDRNOTAVAIL}:
        return ExitCode.UNAVAILABLE
    return ExitCode.NO_PERMISSION if isinstance(error, PermissionError) else ExitCode.SYSTEM


def _internal_words(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    return (
        f"mailferry: internal error: {type(error).__name__}{place}: "
        f"please report it, with what {DEBUG_VARIABLE}=1 shows"
    )


def _clean(text: str) -> str:
    from mailferry.telemetry.redaction import clean_text

    return clean_text(text)
