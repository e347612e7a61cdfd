"""`mailferry retry`: messages on their server that wait, or were refused for good, are tried at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mailferry.cli.control import daemon_of
from mailferry.cli.options import ConfigOption, JsonOption, settings_from
from mailferry.cli.screen import print_json
from mailferry.cli.wording import counted
from mailferry.errors import ControlDeniedError, NoDaemonError

if TYPE_CHECKING:
    from pathlib import Path

    from mailferry.config import Settings

PATIENCE_SECONDS = 120.0
"""A ledger of many rows is changed in many small steps."""


def retry(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="All of this maildrop, as --maildrop.")
    ] = None,
    maildrop: Annotated[
        str | None, typer.Option("--maildrop", "-m", metavar="NAME", help="All of this maildrop.")
    ] = None,
    uidl: Annotated[
        str | None,
        typer.Option("--uidl", metavar="UIDL", help="The one with this unique-id, as `history` shows it."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All of every maildrop.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let messages that wait for their next attempt, or were refused for good, be tried at once.

    They must still be on their server; destinations that have accepted one are not asked again. The
    running daemon polls their maildrops now; without one it is done with the next poll. For
    messages that have been taken off their server see `mailferry quarantine retry`.
    """
    if name is not None and maildrop not in (None, name):
        raise typer.BadParameter("two maildrops", param_hint="--maildrop")
    maildrop = name if name is not None else maildrop
    _check_choice(maildrop, uidl, every)
    settings = settings_from(config, check_secrets=False)
    if maildrop is not None and maildrop not in settings.maildrop:
        known = ", ".join(settings.maildrop) or "none"
        raise typer.BadParameter(f"no such maildrop: {maildrop}; known are: {known}", param_hint="NAME")
    document = _retry(settings, config, maildrop, uidl)
    if as_json:
        print_json(document)
    else:
        typer.echo(_words(document))


def _check_choice(maildrop: str | None, uidl: str | None, every: bool) -> None:
    if every and (maildrop is not None or uidl is not None):
        raise typer.BadParameter("means all of every maildrop: give no other choice", param_hint="--all")
    if not every and maildrop is None and uidl is None:
        raise typer.BadParameter("say which: NAME, --uidl UIDL, or --all")


def _retry(settings: Settings, config: Path | None, maildrop: str | None, uidl: str | None) -> dict[str, Any]:
    from mailferry.assembly.retry import retry_messages

    enabled = maildrop is None or settings.maildrop[maildrop].enabled
    if enabled:  # the daemon knows no other
        try:
            choice = {"maildrop": maildrop, "uidl": uidl}
            return daemon_of(config).post("retry", choice, patience_seconds=PATIENCE_SECONDS)
        except (NoDaemonError, ControlDeniedError):
            pass  # the ledger can be changed without it; whether we may, the next lines tell
    retried = retry_messages(settings.ledger_url, maildrop, uidl)
    return {"messages": retried.refused, "postponed": retried.postponed, "polling": []}


def _words(document: dict[str, Any]) -> str:
    refused, postponed = document["messages"], document["postponed"]
    if not refused and not postponed:
        return "No message that fits waits or was refused, and is still on its server."
    parts = [f"{counted(refused, 'message')} that had been refused"] if refused else []
    parts += [f"{counted(postponed, 'message')} that waited"] if postponed else []
    when = "tried now" if document["polling"] else "tried with the next poll"
    return f"{' and '.join(parts)} will be {when}."
