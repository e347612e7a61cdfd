"""`mailferry check`: is the configuration right, and what does it say?

It connects to nothing, unless `--live` is asked for. Problems end it with exit code
78; warnings are what is allowed and still may not be meant, or what the daemon would
stumble over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mailferry.cli.exit_codes import ExitCode
from mailferry.cli.loop import run_in_loop
from mailferry.cli.options import ConfigOption, JsonOption, settings_from
from mailferry.cli.screen import print_json, screen, table
from mailferry.cli.wording import counted
from mailferry.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from mailferry.config import (
        DestinationSettings,
        EtrnSettings,
        MaildropSettings,
        ReceiverSettings,
        Settings,
    )


def check(
    config: ConfigOption = None,
    live: Annotated[
        bool,
        typer.Option(
            "--live",
            help="Connect to every server, log in, and leave: no mail is fetched, sent or asked for.",
        ),
    ] = False,
    patience: Annotated[
        float,
        typer.Option(
            "--patience",
            metavar="SECONDS",
            min=0.1,
            max=3600,
            help="With --live: longest time for one server.",
        ),
    ] = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Check the configuration and show what it sets up; connects to nothing without --live."""
    try:
        settings = settings_from(config)
    except ConfigError as error:
        if as_json:
            print_json({"ok": False, "problems": [_problem(each) for each in error.problems]})
            raise typer.Exit(ExitCode.CONFIG) from error
        raise
    from mailferry.cli.warnings_of import warnings_of

    warnings = warnings_of(settings)
    if live:
        _go_live(settings, warnings, patience, as_json=as_json)
    elif as_json:
        print_json({"ok": True, **_document(settings), "warnings": warnings})
    else:
        _show(settings, warnings)


def _go_live(settings: Settings, warnings: list[str], patience_seconds: float, *, as_json: bool) -> None:
    from mailferry.assembly.live import LiveCheck
    from mailferry.cli.check_live import all_well, live_document, show_live, summary

    results = run_in_loop(LiveCheck(settings, patience_seconds).run())
    well = all_well(results)
    if as_json:
        print_json({"ok": well, **_document(settings), "warnings": warnings, "live": live_document(results)})
    else:
        console = screen()
        show_live(results, console)
        for warning in warnings:
            console.print(f"warning: {warning}", soft_wrap=True)
        console.print(f"The configuration is good. {summary(results)}")
    raise typer.Exit(ExitCode.OK if well else ExitCode.FAILED)


def _problem(problem: object) -> dict[str, object]:
    return {name: getattr(problem, name) for name in ("file", "line", "key", "problem")}


def _document(settings: Settings) -> dict[str, object]:
    return {
        "state_dir": str(settings.daemon.state_dir),
        "http": settings.http.listen,
        "maildrops": [_maildrop(name, each) for name, each in settings.maildrop.items()],
        "destinations": [_destination(name, each) for name, each in settings.destination.items()],
        "etrn": [_etrn(name, each) for name, each in settings.etrn.items()],
        "receiver": _receiver(settings.receiver) if settings.receiver.listen else None,
    }


def _maildrop(name: str, settings: MaildropSettings) -> dict[str, object]:
    return {
        "name": name,
        "enabled": settings.enabled,
        "server": f"{settings.host}:{settings.resolved_port}",
        "tls": settings.tls,
        "username": settings.username,
        "when": _when(settings),
        "keep": _keep(settings.keep),
        "deliver": list(settings.deliver),
    }


def _etrn(name: str, settings: EtrnSettings) -> dict[str, object]:
    return {
        "name": name,
        "enabled": settings.enabled,
        "mode": settings.mode,
        "server": f"{settings.host}:{settings.resolved_port}",
        "tls": settings.tls,
        "username": settings.username,
        "nodes": list(settings.nodes),
        "when": _when(settings),
        "check_listener": settings.check_listener,
        "deliver": list(settings.deliver),
    }


def _receiver(settings: ReceiverSettings) -> dict[str, object]:
    return {
        "listen": settings.listen,
        "tls": "starttls" if settings.tls_certificate else "none",
        "domains": list(settings.domains),
        "allow_from": list(settings.allow_from),
        "deliver": list(settings.deliver),
    }


def _when(settings: MaildropSettings | EtrnSettings) -> str:
    from mailferry.config.units import format_duration

    return f"cron {settings.cron}" if settings.cron else f"every {format_duration(settings.every)}"


def _keep(keep: bool | float) -> str:
    from mailferry.config.units import format_duration

    if isinstance(keep, bool):
        return "for ever" if keep else "until delivered"
    return format_duration(keep)


def _destination(name: str, settings: DestinationSettings) -> dict[str, object]:
    common: dict[str, object] = {"name": name, "enabled": settings.enabled, "type": settings.type}
    if settings.type == "maildir":
        return {**common, "where": str(settings.path)}
    return {
        **common,
        "where": settings.where,
        "tls": settings.tls,
        "sender": settings.sender,
        "recipients": list(settings.recipients) or "original",
    }


def _show(settings: Settings, warnings: list[str]) -> None:
    console = screen()
    maildrops = table(("maildrop", "server", "tls", "user", "polled", "kept", "delivers to"))
    for name, drop in settings.maildrop.items():
        facts = _maildrop(name, drop)
        when = str(facts["when"]) if drop.enabled else "disabled"
        kept, user = str(facts["keep"]), drop.username
        maildrops.add_row(name, str(facts["server"]), drop.tls, user, when, kept, ", ".join(drop.deliver))
    destinations = table(("destination", "type", "where", "tls", "sender", "recipients"))
    for name, destination in settings.destination.items():
        destinations.add_row(name, *_destination_cells(destination))
    console.print(maildrops, destinations)
    if settings.etrn:
        console.print(_etrn_table(settings))
    if settings.receiver.listen:
        console.print(_receiver_table(settings.receiver))
    for warning in warnings:
        console.print(f"warning: {warning}", soft_wrap=True)
    console.print(f"The configuration is good: {_counts(settings)}.")


def _counts(settings: Settings) -> str:
    said = [counted(len(settings.maildrop), "maildrop"), counted(len(settings.destination), "destination")]
    if settings.etrn:
        said.append(counted(len(settings.etrn), "server to ask for mail", "servers to ask for mail"))
    return ", ".join(said)


def _etrn_table(settings: Settings) -> Table:
    servers = table(("etrn", "server", "tls", "user", "asked", "nodes", "the mail comes"))
    for name, each in settings.etrn.items():
        facts = _etrn(name, each)
        when = str(facts["when"]) if each.enabled else "disabled"
        nodes, way = ", ".join(each.nodes), each.check_listener or ""
        if each.mode == "odmr":
            way = f"with the answer, for {', '.join(each.deliver)}"
        servers.add_row(name, str(facts["server"]), each.tls, each.username or "", when, nodes, way)
    return servers


def _receiver_table(settings: ReceiverSettings) -> Table:
    door = table(("receiver", "tls", "takes mail for", "from", "delivers to"))
    facts = _receiver(settings)
    networks = ", ".join(settings.allow_from) or "everybody"
    door.add_row(
        settings.listen, str(facts["tls"]), ", ".join(settings.domains), networks, ", ".join(settings.deliver)
    )
    return door


def _destination_cells(settings: DestinationSettings) -> list[str]:
    where = str(_destination("", settings)["where"])
    if settings.type == "maildir":
        return [settings.type, where, "", "", ""]
    recipients = ", ".join(settings.recipients) or "original"
    return [settings.type, where, settings.tls, settings.sender, recipients]
