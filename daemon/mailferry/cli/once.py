"""`mailferry once`: poll all or some maildrops now, and say what came of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from mailferry.cli.loop import run_in_loop
from mailferry.cli.options import ConfigOption, JsonOption, settings_from
from mailferry.cli.screen import print_json, screen

if TYPE_CHECKING:
    from rich.progress import Progress

    from mailferry.cli.once_report import OnceReport
    from mailferry.config import Settings


def once(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Maildrops to poll; all when none is named."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", help="Print nothing; the exit code tells, and warnings are logged."),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log as the configuration says, not only warnings.")
    ] = False,
) -> None:
    """Poll maildrops now, whatever their schedule says, and relay what is there.

    Exit code 0: nothing is left to do; 75: the same command may do the rest later.

    Not while the daemon runs: the ledger has one user.
    """
    settings = settings_from(config)
    chosen = _chosen(settings, names or [])
    report = _poll(settings if verbose else _less_talkative(settings), chosen, show=not (quiet or as_json))
    if as_json:
        print_json(report.document())
    elif not quiet:
        report.show(screen())
    raise typer.Exit(report.exit_code())


def _chosen(settings: Settings, names: Sequence[str]) -> list[str]:
    enabled = [name for name, maildrop in settings.maildrop.items() if maildrop.enabled]
    unknown = [name for name in names if name not in enabled]
    if unknown:
        known = ", ".join(enabled) or "none"
        raise typer.BadParameter(
            f"no such maildrop, or disabled: {', '.join(unknown)}; known are: {known}", param_hint="NAME"
        )
    return list(dict.fromkeys(names)) or enabled


def _less_talkative(settings: Settings) -> Settings:
    level = "error" if settings.daemon.log_level == "error" else "warning"
    daemon = settings.daemon.model_copy(update={"log_level": level, "trace": False})
    return settings.model_copy(update={"daemon": daemon})


def _poll(settings: Settings, names: Sequence[str], *, show: bool) -> OnceReport:
    from mailferry.app import Application
    from mailferry.cli.once_report import OnceReport
    from mailferry.ledger.reader import open_reader
    from mailferry.model import MaildropName
    from mailferry.services.poll import PollReport

    report = OnceReport(settings, names)
    with _progress(show) as progress:
        task = progress.add_task("polling", total=len(names), copies=0)
        # Made here, since a progress bar stands in for stderr to keep log lines above itself.
        application = Application(settings, log_stream=sys.stderr)

        def ended(name: MaildropName, poll: PollReport | None) -> None:
            report.ended(name, poll)
            progress.update(task, advance=1, copies=report.copies)

        def heard() -> None:
            progress.update(task, copies=report.copies)

        application.listen_to_events(report.listener(heard))
        run_in_loop(application.run_once(names, ended))
    with open_reader(settings.ledger_url) as reader:
        report.take_counts(reader.counts())
    return report


def _progress(show: bool) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("maildrops, {task.fields[copies]} deliveries"),
        TimeElapsedColumn(),
        console=screen(stderr=True),
        disable=not (show and sys.stderr.isatty()),
        transient=True,
    )
