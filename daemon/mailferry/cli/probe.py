"""`mailferry probe pop3|smtp NAME`: a dialogue with a server of the configuration, by hand.

The session is opened as the daemon opens it. Nothing is deleted and no mail is sent; the
ledger is not touched.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from mailferry.cli.options import ConfigOption, JsonOption, settings_from

if TYPE_CHECKING:
    from mailferry.assembly.probe import ProbeChanges
    from mailferry.protocol.pop3_commands import Command as Pop3Command
    from mailferry.protocol.smtp_commands import Command as SmtpCommand

T = TypeVar("T")

HELP = "Talk to a server of the configuration by hand, command by command."

MOST_LISTED = 1000
_LISTED = 10

DoOption = Annotated[
    list[str] | None,
    typer.Option("--do", metavar="COMMAND", help="Send this command; may be repeated, they go in order."),
]
NoLoginOption = Annotated[
    bool, typer.Option("--no-login", help="Do not log in: see what the server says before it knows us.")
]
TimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        min=0.1,
        max=3600,
        help="Longest wait for the connection and for each reply; as configured when not given.",
    ),
]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", "-v", help="Show the dialogue behind the listing, too.")
]


def pop3(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The maildrop's name in the configuration.")],
    *,
    do: DoOption = None,
    listing: Annotated[
        bool, typer.Option("--list", "-l", help="List messages, the newest ones, and end.")
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            metavar="N",
            min=0,
            max=MOST_LISTED,
            help=f"List so many messages; {_LISTED} by default.",
        ),
    ] = None,
    no_login: NoLoginOption = False,
    allow_delete: Annotated[
        bool,
        typer.Option(
            "--allow-delete", help="Let --do send DELE. What it marks is gone when the session ends."
        ),
    ] = False,
    timeout: TimeoutOption = None,
    verbose: VerboseOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Log in to a maildrop as the daemon does, show what its server says and can, and talk to it.

    Without --do and --list it lists the newest messages and, on a terminal, asks for
    commands. Nothing is deleted: RSET goes before QUIT, unless DELE was asked for.

    A session locks its maildrop: while this one is open, the daemon's poll is refused
    ([IN-USE]), and while the daemon polls, this one is.
    """
    from mailferry.cli.probe_run import Pop3Plan, probe_pop3

    settings = settings_from(config, check_secrets=not no_login)
    if name not in settings.maildrop:
        raise _unknown("maildrop", name, settings.maildrop)
    commands = _pop3_commands(do or [], allow_delete=allow_delete)
    wanted = listing or limit is not None or not commands
    plan = Pop3Plan(
        commands,
        listed=0 if no_login or not wanted else _LISTED if limit is None else limit,
        asks=_may_ask(do, as_json) and not listing,
        shows_all=verbose,
    )
    raise typer.Exit(probe_pop3(name, settings, _changes(no_login, timeout), plan, as_json=as_json))


def smtp(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="A destination's or an etrn table's name; etrn.NAME where both have it."
        ),
    ],
    *,
    do: DoOption = None,
    no_login: NoLoginOption = False,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Open an SMTP session as the daemon does, show what the server says and can, and talk to it.

    Any verb that carries no message may be sent: VRFY, EXPN, HELP, ETRN, MAIL and RCPT
    (which show whether it would take a recipient), others. Without --do it asks for
    commands when it runs on a terminal.
    """
    from mailferry.assembly.probe import smtp_tables
    from mailferry.cli.probe_run import SmtpPlan, probe_smtp

    settings = settings_from(config, check_secrets=not no_login)
    known = smtp_tables(settings)
    if name not in known:
        raise _unknown("SMTP server", name, sorted(set(known.values())))
    plan = SmtpPlan(_smtp_commands(do or []), asks=_may_ask(do, as_json))
    changes = _changes(no_login, timeout)
    raise typer.Exit(probe_smtp(known[name], settings, changes, plan, as_json=as_json))


COMMANDS: dict[str, Callable[..., None]] = {"pop3": pop3, "smtp": smtp}


def _unknown(what: str, name: str, known: Iterable[str]) -> typer.BadParameter:
    return typer.BadParameter(
        f"no such {what}: {name}; known are: {', '.join(known) or 'none'}", param_hint="NAME"
    )


def _changes(no_login: bool, timeout: float | None) -> ProbeChanges:
    from mailferry.assembly.probe import ProbeChanges

    return ProbeChanges(log_in=not no_login, timeout_seconds=timeout)


def _may_ask(do: list[str] | None, as_json: bool) -> bool:
    """Whether somebody sits there who can be asked for commands."""
    return not do and not as_json and sys.stdin.isatty() and sys.stdout.isatty()


def _pop3_commands(lines: Sequence[str], *, allow_delete: bool) -> list[Pop3Command]:
    from mailferry.protocol.pop3_by_hand import command_by_hand
    from mailferry.protocol.pop3_commands import Dele

    commands = [_read(command_by_hand, line) for line in lines]
    if not allow_delete and any(isinstance(command, Dele) for command in commands):
        raise typer.BadParameter("DELE deletes mail; say --allow-delete, too", param_hint="--do")
    return commands


def _smtp_commands(lines: Sequence[str]) -> list[SmtpCommand]:
    from mailferry.protocol.smtp_by_hand import command_by_hand

    return [_read(command_by_hand, line) for line in lines]


def _read(read: Callable[[str], T], line: str) -> T:
    from mailferry.errors import LocalProtocolError

    try:
        return read(line)
    except LocalProtocolError as error:
        raise typer.BadParameter(str(error), param_hint="--do") from error
