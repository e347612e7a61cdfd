"""`mailferry quarantine list|show|retry|drop`: messages that were refused for good and taken off their server.

All of it works beside a running daemon and without one.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from mailferry.cli.loop import run_in_loop
from mailferry.cli.options import ConfigOption, JsonOption, settings_from
from mailferry.cli.screen import print_json, screen
from mailferry.cli.wording import counted
from mailferry.errors import StoreError

if TYPE_CHECKING:
    from mailferry.cli.quarantine_report import RetryReport
    from mailferry.config import Settings
    from mailferry.quarantine.reader import StoredMessage
    from mailferry.quarantine.store import QuarantineStore

TOLD_TOGETHER = 20
"""After so many messages the ledger is told: of so many `history` knows nothing if the command is killed."""

NamesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="NAME", help="Names of messages, or their beginnings where that is enough."),
]


def list_messages(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the messages in the quarantine, the oldest first, each with why it is there."""
    from mailferry.cli.quarantine_report import listed, show_list

    store = _store(settings_from(config, check_secrets=False))
    stored = store.all()
    foreign = store.foreign_files()
    if as_json:
        print_json({"messages": [listed(each) for each in stored], "foreign_files": foreign})
        return
    show_list(screen(), stored, time.time())
    if foreign:
        typer.echo(
            f"{counted(foreign, 'file')} in {store.path} that mailferry did not put there: left alone."
        )


def show_message(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Its name, or the beginning of it where that is enough.")
    ],
    headers: Annotated[bool, typer.Option("--headers", help="Print the message's header, too.")] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="Write the message's octets to stdout, and nothing else.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show all that is known of a message: where it came from, and each destination's refusal."""
    from mailferry.cli.quarantine_report import described, header_lines, show_entry

    if raw and (headers or as_json):
        raise typer.BadParameter("writes the message alone: leave the other options away", param_hint="--raw")
    store = _store(settings_from(config, check_secrets=False))
    stored = _chosen(store, [name])[0]
    if raw:
        _write_octets(store, stored)
        return
    lines = header_lines(_beginning(store, stored)) if headers else None
    if as_json:
        print_json(described(stored, lines))
    else:
        show_entry(screen(), stored, lines)


def retry_messages(
    names: NamesArgument = None,
    every: Annotated[bool, typer.Option("--all", help="Every message in the quarantine.")] = False,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="DESTINATION", help="Only this one of those that have not accepted."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Deliver messages now, to those destinations that have not accepted them.

    A message leaves the quarantine when all have. Exit code 1: a destination refused again, or
    a message cannot be delivered; 75: a destination was not reached, or defers.
    """
    from mailferry.cli.quarantine_report import RetryReport

    _all_or_named(names, every)
    settings = settings_from(config)
    _check_destination(settings, to)
    store = _store(settings)
    report = RetryReport(screen(), silent=as_json)
    with store.exclusive():
        chosen = store.all() if every else _chosen(store, names or ())
        try:
            run_in_loop(_deliver(settings, store, chosen, to, report))
        finally:
            _tell_ledger(settings, report)
    if as_json:
        print_json(report.document())
    else:
        report.show_end()
    raise typer.Exit(report.exit_code())


def drop_messages(
    names: NamesArgument = None,
    every: Annotated[bool, typer.Option("--all", help="Every message in the quarantine.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete messages for good; there is no other copy of them here."""
    _all_or_named(names, every)
    store = _store(settings_from(config, check_secrets=False))
    with store.exclusive():
        chosen = store.all() if every else _chosen(store, names or ())
        if chosen and not yes:
            _ask(chosen)
        for stored in chosen:
            store.remove(stored)
    if as_json:
        print_json({"dropped": [stored.name for stored in chosen]})
    else:
        typer.echo(f"{counted(len(chosen), 'message')} deleted.")


COMMANDS: dict[str, Callable[..., None]] = {
    "list": list_messages,
    "show": show_message,
    "retry": retry_messages,
    "drop": drop_messages,
}


# -- which messages -------------------------------------------------------------


def _beginning(store: QuarantineStore, stored: StoredMessage) -> bytes:
    with store.opened(stored) as pieces:
        return next(iter(pieces), b"")


def _write_octets(store: QuarantineStore, stored: StoredMessage) -> None:
    with store.opened(stored) as pieces:
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()


def _store(settings: Settings) -> QuarantineStore:
    from mailferry.quarantine.store import quarantine_in

    return quarantine_in(settings.daemon.state_dir)


def _all_or_named(names: Sequence[str] | None, every: bool) -> None:
    if every and names:
        raise typer.BadParameter("means every message: name none beside it", param_hint="--all")
    if not every and not names:
        raise typer.BadParameter("name a message (see `mailferry quarantine list`), or use --all")


def _chosen(store: QuarantineStore, wanted: Sequence[str]) -> list[StoredMessage]:
    """Return the messages that are meant, each once, in the order of the names."""
    from mailferry.quarantine.naming import matching

    names = store.names()
    chosen: dict[str, StoredMessage] = {}
    for text in wanted:
        found = matching(names, text)
        if not found:
            raise typer.BadParameter(
                f"no such message: {text}; see `mailferry quarantine list`", param_hint="NAME"
            )
        if len(found) > 1:
            shown = ", ".join(found[:3]) + (", ..." if len(found) > 3 else "")
            raise typer.BadParameter(f"{text} can mean {len(found)} messages: {shown}", param_hint="NAME")
        chosen[found[0]] = store.get(found[0])
    return list(chosen.values())


def _check_destination(settings: Settings, name: str | None) -> None:
    enabled = [each for each, destination in settings.destination.items() if destination.enabled]
    if name is not None and name not in enabled:
        known = ", ".join(enabled) or "none"
        raise typer.BadParameter(
            f"no such destination, or disabled: {name}; known are: {known}", param_hint="--to"
        )


def _ask(chosen: Sequence[StoredMessage]) -> None:
    if not sys.stdin.isatty():
        raise typer.BadParameter(
            "nobody can be asked here: say --yes to delete messages for good", param_hint="--yes"
        )
    what = chosen[0].name if len(chosen) == 1 else counted(len(chosen), "message")
    typer.confirm(f"Delete {what} for good?", abort=True, err=True)


# -- what is done with them -------------------------------------------------------


async def _deliver(
    settings: Settings,
    store: QuarantineStore,
    chosen: Sequence[StoredMessage],
    to: str | None,
    report: RetryReport,
) -> None:
    from mailferry.app import Application
    from mailferry.model import DestinationName
    from mailferry.quarantine.redelivery import Redelivery

    application = Application(settings, log_stream=sys.stderr)
    only = DestinationName(to) if to is not None else None
    async with application.destinations() as destinations:
        redelivery = Redelivery(store, destinations, memory_octets=settings.daemon.spool_threshold)
        for number, stored in enumerate(chosen, 1):
            report.add(stored, await redelivery.retry(stored, only))
            if number % TOLD_TOGETHER == 0:
                _tell_ledger(settings, report)


def _tell_ledger(settings: Settings, report: RetryReport) -> None:
    """Write what was accepted into the ledger, so that `history` knows; it may know nothing of it any more."""
    from mailferry.ledger.writer import open_writer

    if not report.accepted:
        return
    try:
        with open_writer(settings.ledger_url) as ledger:
            ledger.record(report.accepted)
        report.accepted.clear()
        report.ledger_problem = ""  # what failed before has been told now
    except StoreError as error:
        report.ledger_problem = str(error)
