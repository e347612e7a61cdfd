"""`mailferry status`: how every maildrop and destination fares, by the ledger.

It needs no running daemon and does not disturb one. The words and the exit code
are decided in `standing`; here they are shown.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import typer

from mailferry.cli.exit_codes import ExitCode
from mailferry.cli.options import ConfigOption, JsonOption, settings_from
from mailferry.cli.screen import print_json, screen, table
from mailferry.cli.wording import ago, counted, span
from mailferry.errors import QuarantineError

if TYPE_CHECKING:
    from mailferry.cli.standing import Overview, Standing
    from mailferry.config import Settings


def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show how every maildrop and destination fares, daemon running or not.

    Exit code 1 when a maildrop fails, was never polled or is late, or a destination is paused.
    """
    settings = settings_from(config, check_secrets=False)
    from mailferry.cli.standing import overview
    from mailferry.ledger.reader import open_reader

    now = time.time()
    quarantined, problem = _quarantined(settings)
    with open_reader(settings.ledger_url) as reader:
        seen = overview(settings, reader.standings(), reader.counts(), now, quarantined=quarantined)
    if as_json:
        print_json(seen.document())
    else:
        _show(seen, now)
    if problem:
        typer.echo(f"mailferry: the quarantine cannot be read: {problem}", err=True)
    if not seen.well:
        raise typer.Exit(ExitCode.FAILED)


def _quarantined(settings: Settings) -> tuple[int | None, str]:
    """Return how many messages lie there; or None, and why that cannot be told."""
    from mailferry.quarantine.store import quarantine_in

    try:
        return quarantine_in(settings.daemon.state_dir).count(), ""
    except QuarantineError as error:
        return None, str(error)


def _show(seen: Overview, now: float) -> None:
    console = screen()
    counts = ("failures", "deferred", "rejected", "skipped", "kept")
    maildrops = table(("maildrop", "state", "last success", *counts), numbers=counts)
    for drop in seen.maildrops:
        numbers = (drop.failures, drop.deferred, drop.rejected, drop.skipped, drop.kept)
        maildrops.add_row(
            drop.name, drop.state, ago(drop.last_success_at, now), *(str(number or "") for number in numbers)
        )
    destinations = table(("destination", "route", "last success", "failures"), numbers=("failures",))
    for place in seen.destinations:
        destinations.add_row(
            place.name, place.state, ago(place.last_success_at, now), str(place.failures or "")
        )
    console.print(maildrops, destinations)
    for each in (*seen.maildrops, *seen.destinations):
        if line := _trouble(each, now):
            console.print(line, soft_wrap=True)
    console.print(_overall(seen))


def _trouble(each: Standing, now: float) -> str:
    if each.failures and each.last_error:
        again = f"; tried again in {span(each.not_before - now)}" if each.not_before > now else ""
        return f"{each.name}: {each.last_error} ({ago(each.last_error_at, now)}{again})"
    if each.state == "late":
        return f"{each.name}: not polled for longer than its schedule says: is the daemon running?"
    return ""


def _overall(seen: Overview) -> str:
    drops = [drop for drop in seen.maildrops if drop.state != "disabled"]
    ill = [drop.name for drop in drops if not drop.well]
    paused = [place.name for place in seen.destinations if not place.well]
    said = [f"{len(ill)} of {counted(len(drops), 'maildrop')} not well" if ill else ""]
    said.append(f"{counted(len(paused), 'destination')} paused" if paused else "")
    standing = ((seen.deferred, "deferred"), (seen.rejected, "rejected"), (seen.quarantined, "in quarantine"))
    for number, word in standing:
        said.append(f"{counted(number, 'message')} {word}" if number else "")
    trouble = "; ".join(filter(None, said))
    if ill or paused:
        return f"{trouble[0].upper()}{trouble[1:]}."
    return f"All is well with {counted(len(drops), 'maildrop')}{'; ' + trouble if trouble else ''}."
