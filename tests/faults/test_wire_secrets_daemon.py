"""No secret comes out of a running daemon, by whatever door somebody looks in.

A password and a token, refused by servers that say them back; a password that is
accepted; all of it traced. Then everything is searched that the daemon, its HTTP side
and its commands give out, its state, and its command line. What the operating system
shows of a process's environment to its own user is out of our hands: a secret that is
given as an environment variable stands in /proc/PID/environ as long as the process
lives, which is one reason why files and systemd credentials are the better places.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from mailferry.sandbox.maildrop import SandboxMaildrop
from support.clients import running
from support.configs import PASSWORD, ConfigFolder, Value
from support.daemon import SOURCE_ROOT, DaemonProcess
from support.login_server import LoginServer
from support.processes import free_port
from support.scripted_pop3 import ScriptedPop3Server
from support.wiretap import shown

REFUSED = "Tr0ub4dor&3 'ü\" \\horse"
CLAIMS = (
    base64.urlsafe_b64encode(json.dumps({"exp": 1_999_999_999, "sub": "carol"}).encode()).decode().rstrip("=")
)
TOKEN = f"eyJhbGciOiJub25lIn0.{CLAIMS}.c2lnbmF0dXJl"
SMARTHOST = "s3cret of the smarthost"
SECRETS = {"ann": REFUSED, "carol": TOKEN, "relay": SMARTHOST, "bob": PASSWORD}
COMMANDS = [
    ["status"],
    ["status", "--json"],
    ["history", "--json"],
    ["check"],
    ["ledger", "export"],
    ["trace", "maildrop.ann"],
    ["poll", "ann"],
    ["probe", "pop3", "ann"],
]
PAGES = ["/", "/metrics", "/healthz", "/readyz", "/api/overview", "/status", "/api/messages"]


def nothing_shows(what: str, octets: bytes) -> None:
    """Fail if a secret stands there, in any form in which it can be sent."""
    for user, secret in SECRETS.items():
        assert shown(secret, octets, user) == [], (what, user)


def secret_file(folder: Path, name: str) -> dict[str, Value]:
    path = folder / f"{name}.secret"
    path.touch(mode=0o600)
    path.write_text(SECRETS[name] + "\n", encoding="utf-8")
    return {"file": str(path)}


def page(port: int, path: str) -> bytes:
    """What HTTP gives, whether it is a page or an error."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
            octets: bytes = response.read()
    except urllib.error.HTTPError as error:
        octets = error.read()
    return octets


def command(config: Path, *words: str) -> bytes:
    """What a command prints, with its tracebacks if it has any."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MAILFERRY_")}
    done = subprocess.run(
        [sys.executable, "-m", "mailferry", *words, "-c", str(config)],
        env=kept | {"PYTHONPATH": str(SOURCE_ROOT), "MAILFERRY_DEBUG": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=40,
        check=False,
    )
    return done.stdout + done.stderr


def look_everywhere(daemon: DaemonProcess, config: Path, port: int) -> None:
    """Search what is given out while the daemon runs."""
    for event in ("maildrop.auth_rejected", "route.auth_rejected", "token.read"):
        daemon.wait_for(lambda event=event: bool(daemon.named(event)), event)  # type: ignore[misc]
    pages = {path: page(port, path) for path in PAGES}
    assert b"mailferry_credentials_refused" in pages["/metrics"]
    for path, octets in pages.items():
        nothing_shows(path, octets)
    for words in COMMANDS:
        nothing_shows(" ".join(words), command(config, *words))
    nothing_shows("command line", Path(f"/proc/{daemon.process.pid}/cmdline").read_bytes())


async def test_a_running_daemon_gives_no_secret_away(tmp_path: Path) -> None:
    refusing = LoginServer("pop3", REFUSED, "echoed", "PLAIN")
    wanting_tokens = LoginServer("pop3", TOKEN, "echoed", "XOAUTH2")
    smarthost = LoginServer("smtp", SMARTHOST, "echoed", "PLAIN", "LOGIN")
    good = ScriptedPop3Server({"bob": SandboxMaildrop(PASSWORD, [b"Subject: x\r\n\r\nx\r\n"])})
    folder = ConfigFolder(tmp_path / "site")
    port = free_port()
    async with refusing.running(), wanting_tokens.running(), smarthost.running(), running(good):
        carol = folder.maildrop(wanting_tokens.port, "carol", auth="xoauth2")
        del carol["password"]
        tables = {
            "maildrop.ann": folder.maildrop(
                refusing.port, "ann", password=secret_file(tmp_path, "ann"), auth="plain"
            ),
            "maildrop.carol": carol | {"oauth2_token": secret_file(tmp_path, "carol")},
            "maildrop.bob": folder.maildrop(good.port, "bob"),
            "destination.hop": folder.smtp(
                smarthost.port,
                username="relay",
                password=secret_file(tmp_path, "relay"),
                auth="plain",
                allow_cleartext=True,
            ),
        }
        config = folder.write(tables, http_port=port, log_format="json", log_level="debug", trace=True)
        with DaemonProcess(config) as daemon:
            await asyncio.to_thread(look_everywhere, daemon, config, port)
            assert await asyncio.to_thread(daemon.stop) == 0
    for server, user in ((refusing, "ann"), (wanting_tokens, "carol"), (smarthost, "relay")):
        assert shown(SECRETS[user], b"\n".join(server.lines), user), "the search would not find it"
    nothing_shows("log", "".join(daemon.raw).encode())
    for path in folder.state.rglob("*"):
        if path.is_file():
            nothing_shows(str(path), path.read_bytes())
