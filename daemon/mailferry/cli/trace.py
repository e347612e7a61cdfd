"""`mailferry trace`: log the dialogues of the running daemon's sessions for a while."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Annotated, Any

import typer

from mailferry.cli.control import daemon_of, moment, span_seconds
from mailferry.cli.options import ConfigOption, JsonOption
from mailferry.cli.screen import print_json
from mailferry.cli.wording import counted, local_time, span


class Switch(StrEnum):
    """Whether lines are wanted."""

    ON = "on"
    OFF = "off"


def trace(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="A maildrop, destination or ETRN server; without one: list what is on."
        ),
    ] = None,
    switch: Annotated[Switch | None, typer.Argument(metavar="on|off", help="Switch it on or off.")] = None,
    how_long: Annotated[
        str | None,
        typer.Option("--for", metavar="SPAN", help="How long: 10m, 1h; 15m by default, 24h at most."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Log every line of a maildrop's, a destination's or an ETRN server's sessions for a while.

    The lines are in the daemon's log, as event wire.traced; open sessions are traced from now on.
    Passwords and mail are masked, addresses are not.
    """
    daemon = daemon_of(config)
    if name is None:
        _list(daemon.get("trace"), as_json)
        return
    if switch is None:
        raise typer.BadParameter("say on or off", param_hint="on|off")
    seconds = span_seconds(how_long)
    document = daemon.post("trace", {"name": name, "on": switch is Switch.ON, "seconds": seconds})
    if as_json:
        print_json(document)
    elif switch is Switch.ON:
        typer.echo(_words(document, time.time()))
    else:
        typer.echo(f"{document['name']}: {'not traced any more' if document['was_on'] else 'was not traced'}")


def _list(document: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(document)
        return
    now = time.time()
    if document["always"]:
        typer.echo("Everything is traced: [daemon] trace = true")
        return
    for each in document["traces"]:
        left_out = f", {each['left_out']} left out" if each["left_out"] else ""
        typer.echo(f"{_words(each, now)}, {counted(each['lines'], 'line')} so far{left_out}")
    if not document["traces"]:
        typer.echo("Nothing is traced.")


def _words(trace: dict[str, Any], now: float) -> str:
    ends_at = moment(trace["ends_at"])
    until = f" until {local_time(ends_at)}, in {span(ends_at - now)}" if ends_at else ""
    return f"{trace['name']}: traced{until}"
