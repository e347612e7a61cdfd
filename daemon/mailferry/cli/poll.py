"""`mailferry poll`: let the running daemon poll maildrops now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from mailferry.cli.control import PATIENCE_SECONDS, daemon_of, names_or_all
from mailferry.cli.exit_codes import ExitCode
from mailferry.cli.options import ConfigOption, JsonOption
from mailferry.cli.screen import print_json, screen, table

MAX_WAIT_SECONDS = 3600.0
_NUMBERS = ("listed", "relayed", "deferred", "rejected", "skipped", "deleted", "waiting")
_WORDS = {
    "under way": "polling",
    "paused": "paused by hand: mailferry resume it first",
    "stopping": "not polled: the daemon is stopping",
    "cancelled": "broken off: the daemon is stopping, or somebody has paused it",
}

Row = dict[str, Any]  # Any: whatever JSON holds


def poll(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Maildrops, as in [maildrop.NAME].")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All that are enabled.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", "-w", help="Wait for the end, and say what came of it; an hour at most.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let the running daemon poll maildrops now, whatever their schedule says.

    Pauses that follow from failures do not count, those by hand do. A poll that is under way is not
    begun again. With --wait the exit code is that of `once`: 0, 75 for later, 77 for a refused login, 1.
    """
    choice = names_or_all(names, every)
    patience = PATIENCE_SECONDS
    if wait:
        choice["wait_seconds"] = MAX_WAIT_SECONDS
        patience += MAX_WAIT_SECONDS
    document = daemon_of(config).post("poll", choice, patience_seconds=patience)
    rows: list[Row] = document["polls"]
    if as_json:
        print_json(document)
    else:
        _show(rows, waited=wait)
    raise typer.Exit(_exit_code(rows, waited=wait))


def _show(rows: Sequence[Row], *, waited: bool) -> None:
    console = screen()
    ended = [row for row in rows if row["state"] == "ended"]
    if waited and ended:
        polls = table(("maildrop", "result", *_NUMBERS), numbers=_NUMBERS)
        for row in ended:
            polls.add_row(row["maildrop"], row["result"], *(str(row[number] or "") for number in _NUMBERS))
        console.print(polls)
    for row in rows:
        if row["state"] != "ended":
            console.print(f"{row['maildrop']}: {_WORDS.get(row['state'], row['state'])}", soft_wrap=True)
        elif row["error"]:
            console.print(f"{row['maildrop']}: {row['error']}", soft_wrap=True)
    if not rows:
        console.print("No maildrop is enabled.")


def _exit_code(rows: Sequence[Row], *, waited: bool) -> ExitCode:
    """The gravest thing that happened gives the code."""
    codes = {_row_code(row, waited=waited) for row in rows}
    order = (ExitCode.STORE, ExitCode.NO_PERMISSION, ExitCode.FAILED, ExitCode.TEMPORARY)
    return next((code for code in order if code in codes), ExitCode.OK)


def _row_code(row: Row, *, waited: bool) -> ExitCode:
    from mailferry.cli.once_report import TEMPORARY

    if row["state"] == "paused":
        return ExitCode.FAILED
    if row["state"] != "ended":
        return ExitCode.TEMPORARY if waited or row["state"] != "under way" else ExitCode.OK
    match row["result"]:
        case "ok":
            return _left_over(row)
        case "auth_rejected":
            return ExitCode.NO_PERMISSION
        case "store_failed":
            return ExitCode.STORE
        case _:
            return ExitCode.TEMPORARY if row["result"] in TEMPORARY else ExitCode.FAILED


def _left_over(row: Row) -> ExitCode:
    if row["rejected"]:
        return ExitCode.FAILED
    return ExitCode.TEMPORARY if row["deferred"] else ExitCode.OK
