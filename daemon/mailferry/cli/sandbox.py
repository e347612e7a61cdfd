"""`mailferry sandbox`: something to try mailferry on, without risk."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from mailferry.cli.exit_codes import ExitCode
from mailferry.cli.screen import screen
from mailferry.cli.wording import counted

if TYPE_CHECKING:
    from mailferry.sandbox import Sandbox, SandboxPorts, SinkMessage

LOOPBACK = "127.0.0.1"

_Port = typer.Option(metavar="PORT", min=0, max=65535, help="0 takes a free one.")


def sandbox(
    directory: Annotated[
        Path | None,
        typer.Option(
            "--dir", metavar="DIR", help="Where to put configuration and state; a temporary one by default."
        ),
    ] = None,
    pop_port: Annotated[int, _Port] = 0,
    smtp_port: Annotated[int, _Port] = 0,
    http_port: Annotated[int, _Port] = 0,
    demo: Annotated[
        bool, typer.Option("--demo", help="Run the daemon against it, check what arrives, and show it.")
    ] = False,
) -> None:
    """Run a local POP3 server with sample mail and an SMTP sink, on loopback.

    Writes a configuration for them and stays until Ctrl-C.
    """
    from mailferry.sandbox import SandboxPorts

    if demo and directory is not None and (directory / "state").exists():
        raise typer.BadParameter(
            "must not hold the state of another run when --demo is given", param_hint="--dir"
        )
    with _folder(directory) as folder:
        ports = SandboxPorts(pop_port, smtp_port, http_port or free_port())
        code = _run_demo(folder, ports) if demo else _serve(folder, ports, kept=directory is not None)
    raise typer.Exit(code)


@contextmanager
def _folder(wanted: Path | None) -> Iterator[Path]:
    if wanted is not None:
        yield wanted.absolute()
        return
    with TemporaryDirectory(prefix="mailferry-sandbox-") as made:
        yield Path(made)


def free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def own_command() -> str:
    """Return how to call this program from the same shell."""
    if shutil.which("mailferry"):
        return "mailferry"
    script = Path(sys.executable).with_name("mailferry")
    if not script.exists():
        return f"{shlex.quote(sys.executable)} -m mailferry"
    return shlex.quote(os.path.relpath(script) if script.is_relative_to(Path.cwd()) else str(script))


def _run_demo(folder: Path, ports: SandboxPorts) -> ExitCode:
    from mailferry.cli.demo import run_demo

    stays = sys.stdout.isatty() and sys.stdin.isatty() and not os.environ.get("CI")
    try:
        return asyncio.run(run_demo(screen(), folder, ports, stays=stays))
    except asyncio.CancelledError:
        return ExitCode.TERMINATED


def _serve(folder: Path, ports: SandboxPorts, *, kept: bool) -> ExitCode:
    from mailferry.sandbox import Sandbox

    server = Sandbox(on_message=_tell_arrival)
    asyncio.run(_until_signal(server, folder, ports, kept=kept))
    return ExitCode.OK


async def _until_signal(server: Sandbox, folder: Path, ports: SandboxPorts, *, kept: bool) -> None:
    from mailferry.sandbox import run_sandbox

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    def ready(config: Path) -> None:
        _tell_ready(server, config, kept=kept)

    await run_sandbox(server, folder, ports, ready=ready, until=stop)


def _tell_ready(server: Sandbox, config: Path, *, kept: bool) -> None:
    command, where = own_command(), shlex.quote(str(config))
    held = f"{counted(server.message_count, 'message')} in {counted(len(server.maildrops), 'maildrop')}"
    lines = [
        f"POP3 on {LOOPBACK}:{server.pop_port}: {held}. SMTP sink on {LOOPBACK}:{server.smtp_port}.",
        f"Configuration: {config}",
        "",
        "In another terminal:",
        *(f"  {command} {words} -c {where}" for words in ("once", "run", "status", "history")),
        "",
        f"Ctrl-C ends it{'' if kept else ' and removes the folder'}. What arrives:",
    ]
    screen().print("\n".join(lines), soft_wrap=True)


def _tell_arrival(message: SinkMessage) -> None:
    from mailferry.message.headers import split_header
    from mailferry.message.summary import summarise

    summary = summarise(split_header(message.content)[0])
    words = f"{message.number:>4}  {summary.sender or '(no From)'}: {summary.subject or '(no Subject)'}"
    screen().print(words, soft_wrap=True)
