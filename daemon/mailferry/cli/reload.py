"""`mailferry reload`: let the running daemon read its configuration again."""

from __future__ import annotations

import typer

from mailferry.cli.control import daemon_of
from mailferry.cli.exit_codes import ExitCode
from mailferry.cli.options import ConfigOption, JsonOption
from mailferry.cli.screen import print_json

PATIENCE_SECONDS = 3700.0
"""A reload waits for sessions under the old settings as long as a stop would, an hour at the most."""
_KINDS = ("added", "changed", "removed", "renewed")


def reload(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Let the running daemon read its configuration again, and put in force what changed.

    All or nothing: a configuration with a problem changes nothing, and every problem is told. Returns
    when the new one is in force. Exit code 78 when it was refused.
    """
    from mailferry.telemetry.redaction import clean_text

    report = daemon_of(config).post("reload", patience_seconds=PATIENCE_SECONDS)
    if as_json:
        print_json(report)
    elif report["accepted"]:
        _show(report)
    else:
        for problem in report["problems"]:
            typer.echo(clean_text(problem), err=True)
        typer.echo("mailferry: the configuration was refused; the former one stays in force", err=True)
    raise typer.Exit(ExitCode.OK if report["accepted"] else ExitCode.CONFIG)


def _show(report: dict[str, list[str]]) -> None:
    for kind in _KINDS:
        for name in report[kind]:
            typer.echo(f"{kind}: {name}")
    if not any(report[kind] for kind in (*_KINDS, "needs_restart")):
        typer.echo("Nothing has changed.")
    if report["needs_restart"]:
        typer.echo(f"Counts after a restart only: {', '.join(report['needs_restart'])}")
    if report["finishing"]:
        typer.echo(f"Still at work under the former settings: {', '.join(report['finishing'])}")
