"""The command line's entry point, and the list of commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from mailferry.cli.check import check
from mailferry.cli.etrn import etrn
from mailferry.cli.faults import report
from mailferry.cli.healthcheck import healthcheck
from mailferry.cli.history import history
from mailferry.cli.ledger import COMMANDS as LEDGER_COMMANDS
from mailferry.cli.ledger import HELP as LEDGER_HELP
from mailferry.cli.once import once
from mailferry.cli.pause import pause, resume
from mailferry.cli.poll import poll
from mailferry.cli.probe import COMMANDS as PROBE_COMMANDS
from mailferry.cli.probe import HELP as PROBE_HELP
from mailferry.cli.quarantine import COMMANDS as QUARANTINE_COMMANDS
from mailferry.cli.reload import reload
from mailferry.cli.retry import retry
from mailferry.cli.run import run
from mailferry.cli.sandbox import sandbox
from mailferry.cli.schema import schema
from mailferry.cli.status import status
from mailferry.cli.trace import trace
from mailferry.cli.version import version


class _FlagsWithoutType:
    """Help that shows `--json`, not `--json <bool>`: some versions of typer take a flag's type for its value."""

    def get_params(self, ctx: Any) -> list[Any]:  # Any: typer brings its own click or uses the public one
        """Return the parameters, with nothing to show behind flags."""
        parameters: list[Any] = super().get_params(ctx)  # type: ignore[misc]  # of the class beside it
        for parameter in parameters:
            if getattr(parameter, "is_flag", False) and parameter.metavar is None:
                parameter.metavar = ""
        return parameters


class _Command(_FlagsWithoutType, TyperCommand):
    """One command."""


class _Group(_FlagsWithoutType, TyperGroup):
    """The program with its commands."""


app = typer.Typer(
    name="mailferry",
    cls=_Group,
    no_args_is_help=True,
    # typer's own tracebacks show code, and could show local variables: see `faults`.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)
for _command in (
    *(run, once, etrn, check, status, history, retry),
    *(poll, pause, resume, reload, trace),
    *(schema, sandbox, healthcheck, version),
):
    app.command(cls=_Command)(_command)
_quarantine = typer.Typer(
    name="quarantine",
    cls=_Group,
    no_args_is_help=True,
    help="Look after messages that were refused for good and taken off their server.",
)
for _name, _work in QUARANTINE_COMMANDS.items():
    _quarantine.command(_name, cls=_Command)(_work)
app.add_typer(_quarantine)
_ledger = typer.Typer(name="ledger", cls=_Group, no_args_is_help=True, help=LEDGER_HELP)
for _name, _work in LEDGER_COMMANDS.items():
    _ledger.command(_name, cls=_Command)(_work)
app.add_typer(_ledger)
_probe = typer.Typer(name="probe", cls=_Group, no_args_is_help=True, help=PROBE_HELP)
for _name, _work in PROBE_COMMANDS.items():
    _probe.command(_name, cls=_Command)(_work)
app.add_typer(_probe)


def _print_version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@app.callback()
def mailferry(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Ferry mail from POP3 maildrops to SMTP.

    MAILFERRY_CONFIG names the configuration, MAILFERRY_DEBUG=1 shows where an error comes from.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process with an exit code."""
    _print_anything()
    try:
        get_command(app)(args=arguments, prog_name="mailferry")
    except Exception as error:  # noqa: BLE001 - the last place where it can be said in words
        code: str | int | None = report(error)
    except SystemExit as end:
        code = end.code
    _flush()
    sys.exit(code)


def _print_anything() -> None:
    """Let no subject fail a command: what the encoding lacks is shown as an escape."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller (`>&-`)
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - for good
        reconfigure = getattr(getattr(sys, name), "reconfigure", None)  # a test's stream may have none
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read has seen enough (`mailferry history | head`); the interpreter
        # would fail once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
