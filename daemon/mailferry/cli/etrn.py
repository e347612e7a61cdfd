"""`mailferry etrn NAME [NODE...]`: ask a server for queued mail now, and say what it said.

It works beside a running daemon and without one: it needs no lock, and what was said is
written into the ledger, where the daemon reads it before it asks by itself.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from mailferry.cli.exit_codes import ExitCode
from mailferry.cli.loop import run_in_loop
from mailferry.cli.options import ConfigOption, JsonOption, settings_from
from mailferry.cli.screen import print_json, screen
from mailferry.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

    from mailferry.config import Settings
    from mailferry.model import StandingRecord
    from mailferry.services.etrn_by_hand import HandReport, Standings

_ODMR_PATIENCE_SECONDS = 3 * 3600.0
"""As long as a provider may take for its answer and its mail, and some more."""


def etrn(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The server, as in [etrn.NAME].")],
    nodes: Annotated[
        list[str] | None,
        typer.Argument(metavar="NODE", help="Nodes to ask for; all that are configured when none is named."),
    ] = None,
    *,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    force: Annotated[
        bool,
        typer.Option("--force", "-f", help="Ask before min_gap is over, and though check_listener fails."),
    ] = False,
    insist: Annotated[
        bool, typer.Option("--insist", help="Ask even if the server does not offer ETRN.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the dialogue on stderr, secrets masked.")
    ] = False,
) -> None:
    """Ask a server for queued mail now (ETRN), whatever its schedule and its pauses say.

    Exit code 0: every node was accepted, which does not say that mail comes; 75: the same
    command may succeed later; 1: a person must act; 77: the login was refused.

    Works beside a running daemon and without one. With mode = "odmr" it is the running daemon that
    asks, and takes the mail in.
    """
    from mailferry.cli.etrn_report import EtrnReport

    settings = settings_from(config)
    chosen = _chosen(settings, name, nodes or [])
    table = settings.etrn[name]
    report = EtrnReport(name, chosen, table.min_gap, odmr=table.mode == "odmr")
    if table.mode == "odmr":
        report.take(_ask_the_daemon(config, name, chosen, force=force, insist=insist))
    else:
        asking = _ask(_with_log(settings, verbose), name, chosen, force=force, insist=insist)
        report.take(run_in_loop(asking))
    problem = _remember(settings, report.standings)
    if as_json:
        print_json(report.document())
    else:
        report.show(screen())
    if problem:
        typer.echo(f"mailferry: the ledger was not told: {problem}", err=True)
    code = report.exit_code()
    raise typer.Exit(ExitCode.STORE if problem and code is ExitCode.OK else code)


def _chosen(settings: Settings, name: str, nodes: Sequence[str]) -> list[str]:
    from mailferry.assembly.etrn import etrn_settings

    tables = dict(etrn_settings(settings))
    if name not in tables:
        known = ", ".join(tables) or "none"
        raise typer.BadParameter(
            f"no such server that is asked with ETRN, or disabled: {name}; known are: {known}",
            param_hint="NAME",
        )
    configured = tables[name].nodes
    unknown = [node for node in nodes if node not in configured]
    if unknown:
        raise typer.BadParameter(
            f"not among the nodes of etrn.{name}: {', '.join(unknown)}; known are: {', '.join(configured)}",
            param_hint="NODE",
        )
    return list(dict.fromkeys(nodes)) or list(configured)


def _with_log(settings: Settings, verbose: bool) -> Settings:
    changes = {"log_level": "debug" if verbose else "warning", "trace": verbose}
    return settings.model_copy(update={"daemon": settings.daemon.model_copy(update=changes)})


async def _ask(
    settings: Settings, name: str, nodes: Sequence[str], *, force: bool, insist: bool
) -> HandReport:
    from mailferry.app import Application
    from mailferry.services.etrn_by_hand import HandRequest

    server = Application(settings, log_stream=sys.stderr).etrn_server(name)
    server = replace(server, policy=replace(server.policy, insist=insist))
    request = HandRequest(server, _standings(settings), time.time, random.random, force=force)
    return await request.run(nodes)


def _ask_the_daemon(
    config: Path | None, name: str, nodes: Sequence[str], *, force: bool, insist: bool
) -> HandReport:
    """Let the daemon ask: with ODMR the mail comes at once, and only the daemon can take it in."""
    from mailferry.assembly.asking import report_of
    from mailferry.cli.control import daemon_of

    wish = {"name": f"etrn.{name}", "nodes": list(nodes), "force": force, "insist": insist}
    return report_of(daemon_of(config).post("ask", wish, patience_seconds=_ODMR_PATIENCE_SECONDS))


def _standings(settings: Settings) -> Standings:
    """Return what the ledger knows; nothing before the daemon's first start."""
    from mailferry.ledger.reader import open_reader

    if not _has_ledger(settings):
        return {}
    with open_reader(settings.ledger_url) as reader:
        return reader.standings()


def _remember(settings: Settings, standings: Sequence[StandingRecord]) -> str:
    """Write what was said; return why that was not possible, empty when it was."""
    from mailferry.ledger.writer import open_writer

    if not standings or not _has_ledger(settings):
        return ""
    try:
        with open_writer(settings.ledger_url) as ledger:
            ledger.remember(standings)
    except StoreError as error:
        return str(error)
    return ""


def _has_ledger(settings: Settings) -> bool:
    from mailferry.ledger.location import database_path

    return database_path(settings.ledger_url).exists()
