"""`mailferry status`: how every maildrop, destination and ETRN node fares.

The daemon that runs is asked; without one the ledger tells. The words and the exit code are
decided in `assembly.standing`; here they are shown.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mailferry.cli.control import Document, daemon_of, moment
from mailferry.cli.exit_codes import ExitCode
from mailferry.cli.options import ConfigOption, JsonOption, settings_from
from mailferry.cli.screen import print_json, screen, table
from mailferry.cli.wording import ago, counted, local_time, span
from mailferry.errors import ControlError, NoDaemonError, QuarantineError

if TYPE_CHECKING:
    from rich.table import Table

    from mailferry.config import Settings

Row = dict[str, Any]  # Any: whatever JSON holds


def status(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Look into the ledger, and do not ask the daemon.")
    ] = False,
) -> None:
    """Show how every maildrop, destination and ETRN node fares, daemon running or not.

    Exit code 1 when a maildrop fails, was never polled or is late, a destination is paused, a
    node is not accepted, was never asked for or is late, or something is paused by hand.
    """
    document, remark = (None, "") if offline else _from_daemon(config)
    if document is None:
        document = _from_ledger(settings_from(config, check_secrets=False))
    if as_json:
        print_json(document)
    else:
        _show(document, time.time())
    if remark:
        typer.echo(f"mailferry: the daemon was not asked: {remark}", err=True)
    if not document["ok"]:
        raise typer.Exit(ExitCode.FAILED)


def _from_daemon(config: Path | None) -> tuple[Document | None, str]:
    """Return what the daemon says; or None, and why it could not be asked if one seems to be there."""
    try:
        return daemon_of(config).get("status"), ""
    except NoDaemonError:
        return None, ""
    except ControlError as error:
        return None, str(error)


def _from_ledger(settings: Settings) -> Document:
    from mailferry.assembly.standing import overview
    from mailferry.ledger.reader import open_reader

    quarantined, problem = _quarantined(settings)
    with open_reader(settings.ledger_url) as reader:
        seen = overview(settings, reader.standings(), reader.counts(), time.time(), quarantined=quarantined)
    if problem:
        typer.echo(f"mailferry: the quarantine cannot be read: {problem}", err=True)
    return {"source": "ledger", **seen.document()}


def _quarantined(settings: Settings) -> tuple[int | None, str]:
    """Return how many messages lie there; or None, and why that cannot be told."""
    from mailferry.quarantine.store import quarantine_in

    try:
        return quarantine_in(settings.daemon.state_dir).count(), ""
    except QuarantineError as error:
        return None, str(error)


def _show(document: Document, now: float) -> None:
    console = screen()
    live = document["source"] == "daemon"
    console.print(_headline(document), soft_wrap=True)
    console.print(_maildrop_table(document, now, live=live), _destination_table(document, now))
    if document["etrn"]:
        console.print(_etrn_table(document, now))
    for each in _rows(document):
        for line in filter(None, (_trouble(each, now, live=live), _by_hand(each, now))):
            console.print(line, soft_wrap=True)
    console.print(_overall(document))


def _rows(document: Document) -> list[Row]:
    return [*document["maildrops"], *document["destinations"], *document["etrn"]]


def _headline(document: Document) -> str:
    from rich.filesize import decimal

    if document["source"] != "daemon":
        return "By the ledger; no daemon was asked."
    daemon = document["daemon"]
    memory = f", {decimal(daemon['resident_octets'])} of memory" if daemon["resident_octets"] else ""
    waiting = f", {counted(daemon['polls_waiting'], 'poll')} waiting" if daemon["polls_waiting"] else ""
    return (
        f"mailferry {daemon['version']}, process {daemon['pid']}, running for {span(daemon['uptime_seconds'])}: "
        f"{counted(daemon['pop3_sessions'], 'POP3 session')}{waiting}, "
        f"{decimal(daemon['mail_octets'])} of mail under way{memory}"
        f"{', stopping' if daemon['stopping'] else ''}."
    )


def _maildrop_table(document: Document, now: float, *, live: bool) -> Table:
    counts = ("failures", "deferred", "rejected", "skipped", "kept")
    nexts = ("next poll",) if live else ()
    maildrops = table(("maildrop", "state", "last success", *nexts, *counts), numbers=counts)
    for drop in document["maildrops"]:
        cells = [drop["name"], drop["state"], ago(moment(drop["last_success_at"]), now)]
        cells += [_next_poll(drop, now)] if live else []
        maildrops.add_row(*cells, *(str(drop[count] or "") for count in counts))
    return maildrops


def _next_poll(drop: Row, now: float) -> str:
    if drop["polling"]:
        return "polling"
    then = moment(drop["next_poll_at"])
    return "" if then is None else _ahead(then, now)


def _destination_table(document: Document, now: float) -> Table:
    destinations = table(("destination", "route", "last success", "failures"), numbers=("failures",))
    for place in document["destinations"]:
        success = ago(moment(place["last_success_at"]), now)
        destinations.add_row(place["name"], place["state"], success, str(place["failures"] or ""))
    return destinations


def _etrn_table(document: Document, now: float) -> Table:
    columns = ("etrn", "node", "state", "last asked", "last accepted", "failures", "next due", "last reply")
    nodes = table(columns, numbers=("failures",))
    for node in document["etrn"]:
        asked, accepted = (ago(moment(node[key]), now) for key in ("last_attempt_at", "last_success_at"))
        due_at = moment(node["due_at"])
        due = "" if due_at is None else _ahead(due_at, now)
        failures = str(node["failures"] or "")
        nodes.add_row(
            node["etrn"], node["node"], node["state"], asked, accepted, failures, due, node["last_reply"]
        )
    return nodes


def _ahead(then: float, now: float) -> str:
    return f"in {span(then - now)}" if then > now else "now"


def _trouble(each: Row, now: float, *, live: bool) -> str:
    error_at, not_before = moment(each["last_error_at"]), moment(each["not_before"]) or 0.0
    if each["failures"] and each["last_error"]:
        again = f"; tried again in {span(not_before - now)}" if not_before > now else ""
        return f"{each['name']}: {each['last_error']} ({ago(error_at, now)}{again})"
    if each["state"] == "late":
        done = "asked for" if "node" in each else "polled"
        running = "" if live else ": is the daemon running?"
        return f"{each['name']}: not {done} for longer than its schedule says{running}"
    if each["state"] == "silent":
        return f"{each['name']}: accepted, and no mail came since (noticed {ago(error_at, now)})"
    return ""


def _by_hand(each: Row, now: float) -> str:
    """Say what somebody has done to it; only the daemon knows."""
    said = []
    if each.get("paused_by_hand"):
        ends_at = moment(each["pause_ends_at"])
        until = f"until {local_time(ends_at)}, in {span(ends_at - now)}" if ends_at else "until it is resumed"
        said.append(f"paused by hand {until}")
    if each.get("traced"):
        said.append("its sessions are traced")
    return f"{each['name']}: {'; '.join(said)}" if said else ""


def _overall(document: Document) -> str:
    drops = [drop for drop in document["maildrops"] if drop["state"] != "disabled"]
    ill = [drop for drop in drops if not drop["well"]]
    paused = [place for place in document["destinations"] if not place["well"]]
    said = [f"{len(ill)} of {counted(len(drops), 'maildrop')} not well" if ill else ""]
    said.append(f"{counted(len(paused), 'destination')} paused" if paused else "")
    unasked = [node for node in document["etrn"] if not node["well"]]
    said.append(f"{counted(len(unasked), 'ETRN node')} not well" if unasked else "")
    deferred, rejected = (
        sum(each[key] for each in (*document["maildrops"], document["received"]))
        for key in ("deferred", "rejected")
    )
    standing = ((deferred, "deferred"), (rejected, "rejected"), (document["quarantined"], "in quarantine"))
    for number, word in standing:
        said.append(f"{counted(number, 'message')} {word}" if number else "")
    trouble = "; ".join(filter(None, said))
    if not document["ok"]:
        return f"{trouble[0].upper()}{trouble[1:]}."
    what = counted(len(drops), "maildrop")
    nodes = [node for node in document["etrn"] if node["state"] != "disabled"]
    if nodes:
        what += f" and {counted(len(nodes), 'ETRN node')}"
    return f"All is well with {what}{'; ' + trouble if trouble else ''}."
