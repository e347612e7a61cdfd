"""`mailferry pause` and `mailferry resume`: let the running daemon leave something alone for a while."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from mailferry.cli.control import daemon_of, moment, names_or_all, span_seconds
from mailferry.cli.options import ConfigOption, JsonOption
from mailferry.cli.screen import print_json
from mailferry.cli.wording import local_time, span

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME",
        help="As in the configuration: alice, or maildrop.alice where others have that name, too.",
    ),
]


def pause(
    names: Names = None,
    every: Annotated[
        bool, typer.Option("--all", help="All maildrops and ETRN servers: nothing more is fetched.")
    ] = False,
    how_long: Annotated[
        str | None, typer.Option("--for", metavar="SPAN", help="How long: 30m, 2h. Else until it is resumed.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let the running daemon leave maildrops, destinations or ETRN servers alone.

    What is under way is finished, nothing new is begun. A pause outlives a reload, but not a
    restart; `enabled = false` does.
    """
    choice = names_or_all(names, every)
    document = daemon_of(config).post("pause", {**choice, "seconds": span_seconds(how_long)})
    if as_json:
        print_json(document)
        return
    ends_at = moment(document["ends_at"])
    until = (
        f"until {local_time(ends_at)}, in {span(ends_at - time.time())}" if ends_at else "until it is resumed"
    )
    for name in document["paused"]:
        typer.echo(f"{name}: paused {until}")
    if not document["paused"]:
        typer.echo("Nothing is there that could be paused.")


def resume(
    names: Names = None,
    every: Annotated[bool, typer.Option("--all", help="Everything that is paused by hand.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """End pauses by hand; maildrops are polled at once.

    For a destination the pause that follows from failures ends, too: the next message tries it.
    """
    document = daemon_of(config).post("resume", names_or_all(names, every))
    if as_json:
        print_json(document)
        return
    for name in document["resumed"]:
        typer.echo(f"{name}: resumed")
    if not document["resumed"]:
        typer.echo("Nothing of that was paused by hand.")
