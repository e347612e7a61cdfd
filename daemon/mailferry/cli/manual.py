"""The manual page mailferry(1), made from what the commands say of themselves.

`python -m mailferry.cli.manual` prints it; docs/man/mailferry.1 holds what it prints.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from typer.core import TyperGroup
from typer.main import get_command

from mailferry.cli.main import app

_HEAD = """\
.\\" Made by `python -m mailferry.cli.manual`; do not edit.
.TH MAILFERRY 1 "" "mailferry" "User commands"
.SH NAME
mailferry \\- ferry mail from POP3 maildrops to SMTP
.SH SYNOPSIS
.B mailferry
.I command
.RI [ options ]
.SH DESCRIPTION
mailferry is a daemon that fetches mail from POP3 maildrops and relays it by SMTP or LMTP, or files it in a
Maildir. It asks servers for queued mail with ETRN and ODMR. A ledger remembers every message and every
destination's answer: a message leaves its maildrop only after all its destinations have accepted it and the row
that says so is on disk.
.PP
The configuration is a TOML file and the drop-ins in
.I conf.d
beside it.
.B mailferry check
says whether it is right,
.B mailferry run
is the daemon.
.SH COMMANDS
"""

_TAIL = """\
.SH EXIT STATUS
.TP
.B 0
All was done and all is well.
.TP
.B 1
Something failed that a person must look at.
.TP
.B 2
The command line makes no sense.
.TP
.B 69
A port cannot be had, or no daemon answers.
.TP
.B 70
A fault of mailferry's own.
.TP
.B 71, 74
The operating system refused something, such as room on a disk.
.TP
.B 75
Some server could not be reached, or asked to come later.
.TP
.B 77
A password or a file was refused.
.TP
.B 78
The configuration is wrong; a restart mends nothing.
.SH ENVIRONMENT
.TP
.B MAILFERRY_CONFIG
The configuration's file, in place of
.BR \\-\\-config .
.TP
.B MAILFERRY_...
Any setting:
.B MAILFERRY_HTTP__LISTEN
is
.B listen
in
.BR [http] .
.TP
.B MAILFERRY_DEBUG
1: show where an error comes from.
.SH FILES
.TP
.I /etc/mailferry/mailferry.toml
The configuration.
.TP
.I /var/lib/mailferry
The ledger, its copies, and the quarantine.
.SH SIGNALS
SIGTERM and SIGINT: let messages under way reach a safe point and end. SIGHUP: read the configuration again.
.SH SEE ALSO
.BR fetchmail (1),
.BR systemd.service (5)
"""


def manual_page() -> str:
    """Return the manual page in the man macros of troff."""
    root = get_command(app)
    assert isinstance(root, TyperGroup)  # it has commands
    return _HEAD + "".join(_entries(root, "mailferry")) + _TAIL


def _entries(group: TyperGroup, path: str) -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from _entries(command, f"{path} {name}")
        elif not command.hidden:
            yield _entry(command, f"{path} {name}")


def _entry(command: Any, path: str) -> str:  # Any: typer brings its own click or uses the public one
    arguments = [_argument(p) for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
    title = " ".join([path, *arguments, *(["[options]"] if options else [])])
    body = "\n.sp\n".join(_plain(part) for part in (command.help or "").split("\n\n"))
    return f".SS {_plain(title)}\n{body}\n" + "".join(_option(option) for option in options)


def _argument(argument: Any) -> str:
    name = (argument.metavar or argument.human_readable_name).strip("[].")
    dots = "..." if argument.nargs == -1 else ""
    return f"{name}{dots}" if argument.required else f"[{name}{dots}]"


def _option(option: Any) -> str:
    names = ", ".join([*option.opts, *option.secondary_opts])
    value = "" if option.is_flag else f" {option.metavar or option.type.name.upper()}"
    return f".TP\n.B {_plain(names + value)}\n{_plain(option.help or '')}\n"


def _plain(text: str) -> str:
    """Return text as one line that troff prints as it is."""
    line = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + line if line[:1] in (".", "'") else line


if __name__ == "__main__":
    sys.stdout.write(manual_page())
