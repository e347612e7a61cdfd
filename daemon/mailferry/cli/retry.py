"""`mailferry retry`: messages that were refused for good and are still on their server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mailferry.cli.options import ConfigOption, JsonOption, settings_from
from mailferry.cli.screen import print_json
from mailferry.cli.wording import counted

if TYPE_CHECKING:
    from mailferry.config import Settings


def retry(
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
    """Let refused messages that are still on their server be tried again, with the next poll.

    Destinations that have accepted a message are not asked again. For messages that have been taken
    off their server see `mailferry quarantine retry`.
    """
    _check_choice(maildrop, uidl, every)
    settings = settings_from(config, check_secrets=False)
    if maildrop is not None and maildrop not in settings.maildrop:
        known = ", ".join(settings.maildrop) or "none"
        raise typer.BadParameter(f"no such maildrop: {maildrop}; known are: {known}", param_hint="--maildrop")
    number = _retry(settings, maildrop, uidl)
    if as_json:
        print_json({"messages": number})
    elif number:
        typer.echo(f"{counted(number, 'message')} will be tried again with the next poll.")
    else:
        typer.echo("No message that fits was refused and is still on its server.")


def _check_choice(maildrop: str | None, uidl: str | None, every: bool) -> None:
    if every and (maildrop is not None or uidl is not None):
        raise typer.BadParameter("means all of every maildrop: give no other choice", param_hint="--all")
    if not every and maildrop is None and uidl is None:
        raise typer.BadParameter("say which: --maildrop NAME, --uidl UIDL, or --all")


def _retry(settings: Settings, maildrop: str | None, uidl: str | None) -> int:
    from mailferry.ledger.writer import open_writer

    with open_writer(settings.ledger_url) as ledger:
        return ledger.retry_rejected(maildrop, _octets(uidl) if uidl is not None else None)


def _octets(shown: str) -> bytes:
    r"""Return a unique-id from what `history` shows: ASCII, other octets as `\xNN`."""
    import re

    octets = shown.encode("utf-8", "surrogateescape")
    return re.sub(rb"\\x([89a-f][0-9a-f])", lambda match: bytes.fromhex(match[1].decode()), octets)
