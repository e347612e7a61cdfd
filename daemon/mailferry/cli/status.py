"""`mailferry status`: how every maildrop, destination and ETRN node fares, by the ledger.

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
    from rich.table import Table

    from mailferry.assembly.standing import Overview, Standing
    from mailferry.config import Settings


def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show how every maildrop, destination and ETRN node fares, daemon running or not.

    Exit code 1 when a maildrop fails, was never polled or is late, a destination is paused, or a
    node is not accepted, was never asked for or is late.
    """
    settings = settings_from(config, check_secrets=False)
    from mailferry.assembly.standing import overview
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
    if seen.etrn:
        console.print(_etrn_table(seen, now))
    for each in (*seen.maildrops, *seen.destinations, *seen.etrn):
        if line := _trouble(each, now):
            console.print(line, soft_wrap=True)
    console.print(_overall(seen))


def _etrn_table(seen: Overview, now: float) -> Table:
    columns = ("etrn", "node", "state", "last asked", "last accepted", "failures", "next due", "last reply")
    nodes = table(columns, numbers=("failures",))
    for node in seen.etrn:
        asked, accepted = ago(node.last_attempt_at, now), ago(node.last_success_at, now)
        due = "" if node.due_at is None else _ahead(node.due_at, now)
        failures = str(node.failures or "")
        nodes.add_row(node.etrn, node.node, node.state, asked, accepted, failures, due, node.last_reply)
    return nodes


def _ahead(then: float, now: float) -> str:
    return f"in {span(then - now)}" if then > now else "now"


def _trouble(each: Standing, now: float) -> str:
    from mailferry.assembly.standing import EtrnStanding

    if each.failures and each.last_error:
        again = f"; tried again in {span(each.not_before - now)}" if each.not_before > now else ""
        return f"{each.name}: {each.last_error} ({ago(each.last_error_at, now)}{again})"
    if each.state == "late":
        done = "asked for" if isinstance(each, EtrnStanding) else "polled"
        return f"{each.name}: not {done} for longer than its schedule says: is the daemon running?"
    if each.state == "silent":
        return f"{each.name}: accepted, and no mail came since (noticed {ago(each.last_error_at, now)})"
    return ""


def _overall(seen: Overview) -> str:
    drops = [drop for drop in seen.maildrops if drop.state != "disabled"]
    ill = [drop.name for drop in drops if not drop.well]
    paused = [place.name for place in seen.destinations if not place.well]
    said = [f"{len(ill)} of {counted(len(drops), 'maildrop')} not well" if ill else ""]
    said.append(f"{counted(len(paused), 'destination')} paused" if paused else "")
    unasked = [node.name for node in seen.etrn if not node.well]
    said.append(f"{counted(len(unasked), 'ETRN node')} not well" if unasked else "")
    standing = ((seen.deferred, "deferred"), (seen.rejected, "rejected"), (seen.quarantined, "in quarantine"))
    for number, word in standing:
        said.append(f"{counted(number, 'message')} {word}" if number else "")
    trouble = "; ".join(filter(None, said))
    if not seen.well:
        return f"{trouble[0].upper()}{trouble[1:]}."
    what = counted(len(drops), "maildrop")
    nodes = [node for node in seen.etrn if node.state != "disabled"]
    if nodes:
        what += f" and {counted(len(nodes), 'ETRN node')}"
    return f"All is well with {what}{'; ' + trouble if trouble else ''}."
