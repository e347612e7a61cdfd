"""`mailferry ledger check|backup|restore|export`: the state as a whole.

All but `restore` work beside a running daemon.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from mailferry.cli.exit_codes import ExitCode
from mailferry.cli.options import ConfigOption, JsonOption, settings_from
from mailferry.cli.screen import as_json_line, print_json, screen, table
from mailferry.cli.wording import counted, local_time
from mailferry.model import DeliveryRecord, KnownMessage, MessageRecord, StandingRecord

if TYPE_CHECKING:
    from mailferry.config import Settings
    from mailferry.ledger.upkeep import Part

HELP: Final = "Look after the ledger: what was delivered, and what is still to be."


def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Look at every page and row of the ledger and of what belongs to it.

    Exit code 0: all is whole; 1: the ledger is, but something beside it is not; 74: the ledger is not.
    """
    from mailferry.ledger.upkeep import check_ledger

    settings = settings_from(config, check_secrets=False)
    parts = check_ledger(settings.ledger_url, settings.journal_path)
    if as_json:
        print_json(
            {"ok": not any(part.problem for part in parts), "parts": [_part_json(part) for part in parts]}
        )
    else:
        _show(parts)
    if parts[0].problem:
        raise typer.Exit(ExitCode.STORE)
    if any(part.problem for part in parts):
        raise typer.Exit(ExitCode.FAILED)


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write the copy.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a copy of the ledger into a file, checked and synced to disk.

    It may be made while the daemon runs; the file holds one moment.
    """
    from rich.filesize import decimal

    from mailferry.ledger.upkeep import back_up

    settings = settings_from(config, check_secrets=False)
    made = back_up(settings.ledger_url, file, force=force)
    if as_json:
        print_json({"file": str(made.path), "octets": made.octets})
    else:
        screen().print(f"{made.path}: {decimal(made.octets or 0)}, checked and synced.", soft_wrap=True)


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A backup, or a copy that mailferry made.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a file in the ledger's place, with all that is known to have changed since.

    Not while the daemon runs. The file is checked first, and the present ledger is put aside.
    """
    from mailferry.ledger.upkeep import restore_ledger

    settings = settings_from(config, check_secrets=False)
    done = restore_ledger(settings.ledger_url, settings.journal_path, file)
    if as_json:
        print_json(
            {
                "ledger": str(_ledger(settings)),
                "put_aside": str(done.aside) if done.aside else None,
                "records": done.records,
                "complete": not done.missing,
            }
        )
        return
    console = screen()
    console.print(f"{_ledger(settings)}: put back from {file}.", soft_wrap=True)
    console.print(f"{counted(done.records, 'row')} that changed since came from the log of changes.")
    if done.aside:
        console.print(f"What was there is {done.aside}.", soft_wrap=True)
    if done.missing:
        console.print(
            "Not all that happened since is known: mail that was relayed meanwhile and is "
            "still on its server will be relayed again.",
            soft_wrap=True,
        )


def export(config: ConfigOption = None) -> None:
    """Print every message with its deliveries, then every standing: one JSON object per line.

    Works beside a running daemon and takes no more memory for many rows than for few.
    """
    from mailferry.ledger.reader import open_reader

    settings = settings_from(config, check_secrets=False)
    with open_reader(settings.ledger_url) as reader:
        for known in reader.messages():
            typer.echo(as_json_line(_message_json(known)))
        for standing in reader.standings().values():
            typer.echo(as_json_line({"is": "standing", **_record_json(standing)}))


COMMANDS: Final[dict[str, Callable[..., None]]] = {
    "check": check,
    "backup": backup,
    "restore": restore,
    "export": export,
}


def _ledger(settings: Settings) -> Path:
    from mailferry.ledger.location import database_path

    return database_path(settings.ledger_url).absolute()


def _show(parts: list[Part]) -> None:
    from rich.filesize import decimal

    console = screen()
    shown = table(("part", "state", "size", "written", "file"), numbers=("size",))
    for part in parts:
        shown.add_row(
            part.name,
            "not well" if part.problem else "ok",
            decimal(part.octets) if part.octets is not None else "",
            local_time(part.made_at) if part.made_at else part.detail,
            part.path.name,
        )
    console.print(shown)
    for part in parts:
        if part.problem:
            console.print(f"{part.path}: {part.problem}", soft_wrap=True)
    if not any(part.problem for part in parts):
        console.print("All is whole.")


def _part_json(part: Part) -> dict[str, object]:
    from mailferry.telemetry.rendering import iso_time

    return {
        "part": part.name,
        "file": str(part.path),
        "ok": not part.problem,
        "problem": part.problem or None,
        "octets": part.octets,
        "written_at": iso_time(part.made_at) if part.made_at else None,
        "detail": part.detail or None,
    }


def _message_json(known: KnownMessage) -> dict[str, object]:
    deliveries = [_record_json(delivery) for delivery in known.deliveries]
    return {"is": "message", **_record_json(known.message), "deliveries": deliveries}


def _record_json(record: MessageRecord | DeliveryRecord | StandingRecord) -> dict[str, object]:
    return {field.name: _value(field.name, getattr(record, field.name)) for field in fields(record)}


def _value(name: str, value: object) -> object:
    """Return what JSON can hold: times as text, digests in hexadecimal, a UIDL's odd octets as escapes."""
    from mailferry.telemetry.rendering import iso_time

    if isinstance(value, bytes):
        return value.decode("ascii", "backslashreplace") if name == "uidl" else value.hex()
    if isinstance(value, float) and (name.endswith("_at") or name == "not_before"):
        try:
            return iso_time(value) if value else None
        except (ValueError, OverflowError):  # beyond the year 9999: a damaged or a playful clock
            return repr(value)
    return value
