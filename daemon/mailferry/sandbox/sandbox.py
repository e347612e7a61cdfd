"""POP3 server, SMTP sink and a configuration that ties mailferry to both."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mailferry.sandbox.maildrop import SandboxMaildrop
from mailferry.sandbox.pop3_server import SandboxPop3Server
from mailferry.sandbox.samples import sample_messages
from mailferry.sandbox.smtp_sink import SinkMessage, SmtpSink

LOOPBACK = "127.0.0.1"
PASSWORD = "not-a-secret"  # noqa: S105 - it guards invented mail on loopback
PASSWORD_FILE = "sandbox-password"  # noqa: S105 - a file's name
_KEEP = {"sandbox": "true", "sandbox-emptied": "false", "sandbox-week": '"7d"'}
"""The maildrops, and for how long each keeps what was delivered."""


@dataclass(frozen=True, slots=True)
class SandboxPorts:
    """Where to listen; 0 takes a free port. `http` is only written into the configuration."""

    pop: int = 0
    smtp: int = 0
    http: int = 9465


class Sandbox:
    """Both servers, with three maildrops: all samples in one, a few in the others.

    `sink_directory` is where the sink also writes what it accepts; `on_message`
    is told of each message.

    Attributes:
        maildrops: by user name, which is also the maildrop's name in the configuration.
    """

    def __init__(
        self,
        *,
        sink_directory: Path | None = None,
        on_message: Callable[[SinkMessage], None] | None = None,
    ) -> None:
        samples = sample_messages()
        contents = dict(zip(_KEEP, (samples, samples[:4], samples[5:9]), strict=True))
        self.maildrops = {name: SandboxMaildrop(PASSWORD, contents[name]) for name in _KEEP}
        self.pop3 = SandboxPop3Server(self.maildrops)
        self.sink = SmtpSink(directory=sink_directory, on_message=on_message)

    @property
    def message_count(self) -> int:
        """Messages that are in the maildrops now."""
        return sum(len(maildrop.messages) for maildrop in self.maildrops.values())

    @property
    def pop_port(self) -> int:
        """The POP3 server's port."""
        return self.pop3.port

    @property
    def smtp_port(self) -> int:
        """The sink's port."""
        return self.sink.port

    async def start(self, *, pop_port: int = 0, smtp_port: int = 0) -> None:
        """Start both servers on loopback; port 0 takes a free one.

        Raises:
            OSError: a port is taken or not allowed; nothing is left running.
        """
        await self.pop3.start(LOOPBACK, pop_port)
        try:
            await self.sink.start(LOOPBACK, smtp_port)
        except OSError:
            await self.pop3.stop()
            raise

    async def stop(self) -> None:
        """Stop both servers; safe to call twice."""
        await self.pop3.stop()
        await self.sink.stop()

    def write_config(self, folder: Path, *, http_port: int) -> Path:
        """Write `mailferry.toml` and the password's file into a folder; return the former's path."""
        folder.mkdir(parents=True, exist_ok=True)
        state_dir = folder / "state"
        state_dir.mkdir(mode=0o700, exist_ok=True)
        secret = folder / PASSWORD_FILE
        secret.touch(mode=0o600)
        secret.write_text(PASSWORD + "\n", encoding="utf-8")
        path = folder / "mailferry.toml"
        text = config_text(self.pop_port, self.smtp_port, state_dir, http_port, password_file=secret)
        path.write_text(text, encoding="utf-8")
        return path


async def run_sandbox(
    sandbox: Sandbox,
    folder: Path,
    ports: SandboxPorts,
    *,
    ready: Callable[[Path], None],
    until: asyncio.Event,
) -> None:
    """Run a sandbox until an event is set; `ready` gets the path of the configuration for it.

    Raises:
        OSError: a port is taken, or the folder cannot be written.
    """
    await sandbox.start(pop_port=ports.pop, smtp_port=ports.smtp)
    try:
        ready(sandbox.write_config(folder, http_port=ports.http))
        await until.wait()
    finally:
        await sandbox.stop()


def config_text(
    pop_port: int, smtp_port: int, state_dir: Path, http_port: int, *, password_file: Path | None = None
) -> str:
    """Return a configuration (TOML) for a sandbox on these ports.

    The password is read from `password_file`, by default `sandbox-password` in
    `state_dir`; `Sandbox.write_config` writes it.
    """
    secret = password_file or state_dir / PASSWORD_FILE
    sections = [
        f"[daemon]\nstate_dir = {_quoted(state_dir)}\n",
        f'[http]\nlisten = "{LOOPBACK}:{http_port}"\n',
        *(_maildrop_section(name, keep, pop_port, secret) for name, keep in _KEEP.items()),
        _smtp_section(smtp_port),
        f'[destination.archive]\ntype = "maildir"\npath = {_quoted(state_dir / "archive")}\n',
    ]
    return "\n".join(
        ["# Written by `mailferry sandbox`; every name and password in it is invented.", *sections]
    )


def _maildrop_section(name: str, keep: str, pop_port: int, secret: Path) -> str:
    # Cleartext is right here and nowhere else: both ends are on loopback.
    return f"""\
[maildrop.{name}]
host = "{LOOPBACK}"
port = {pop_port}
tls = "none"
allow_cleartext = true
username = "{name}"
password = {{ file = {_quoted(secret)} }}
every = "5s"
keep = {keep}
deliver = ["sink", "archive"]
"""


def _smtp_section(smtp_port: int) -> str:
    return f"""\
[destination.sink]
type = "smtp"
host = "{LOOPBACK}"
port = {smtp_port}
tls = "none"
recipients = ["everything@example.org"]
sender = "original"
"""


def _quoted(path: Path) -> str:
    """Return a TOML basic string; JSON's escapes are TOML's, DEL excepted."""
    return json.dumps(str(path), ensure_ascii=False).replace("\x7f", "\\u007f")
