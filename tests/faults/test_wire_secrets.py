"""No secret comes out of the program, whatever way it logs in, and whatever the server says back."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import get_args

import pytest
from prometheus_client import generate_latest

from mailferry.config.logins import MaildropAuth, SmtpAuth
from mailferry.events import MaildropAuthRejected, RoutePaused, WireTraced
from mailferry.net.credentials import Credentials, SecretMask
from mailferry.sandbox.maildrop import SandboxMaildrop
from support.clients import running
from support.daemon import DaemonProcess
from support.login_server import LoginServer, Verdict
from support.relay import Relay
from support.scripted_pop3 import ScriptedPop3Server
from support.wiretap import shown

SECRET = "Tr0ub4dor&3 'ü\" \\horse"
VERDICTS: list[Verdict] = ["granted", "refused", "echoed"]
OFFERED = ("PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", "XOAUTH2", "OAUTHBEARER")
# Not those without a secret of ours, and those that need TLS.
OTHERS = {"auto", "rpop", "external", "scram-sha-1-plus", "scram-sha-256-plus"}
POP3_WAYS = [way for way in get_args(MaildropAuth) if way not in OTHERS]
SMTP_WAYS = [way for way in get_args(SmtpAuth) if way not in OTHERS]
TOKEN = {"xoauth2", "oauthbearer"}
TELLING = {"user", "plain", "login", *TOKEN}
"""What sends the secret itself, so that the search can be seen to find it on the wire."""


def secret_file(folder: Path) -> dict[str, str]:
    path = folder / "secret"
    path.touch(mode=0o600)
    path.write_text(SECRET + "\n", encoding="utf-8")
    return {"file": str(path)}


def everything(relay: Relay, capfd: pytest.CaptureFixture[str]) -> bytes:
    """All that the program printed and wrote, but for the file in which the secret was given."""
    printed = capfd.readouterr()
    written = [path.read_bytes() for path in relay.folder.state.rglob("*") if path.is_file()]
    told = relay.log.getvalue() + printed.out + printed.err + repr(relay.events)
    return b"\n".join([told.encode("utf-8", "surrogatepass"), *written])


def nothing_shows(octets: bytes) -> None:
    assert shown(SECRET, octets) == []
    assert b"Tr0ub4dor" not in octets


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("way", POP3_WAYS)
@pytest.mark.parametrize("form", ["json", "console"])
async def test_a_pop3_login_shows_no_secret(
    way: str, verdict: Verdict, form: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server = LoginServer("pop3", SECRET, verdict, *OFFERED)
    async with server.running():
        relay = Relay(tmp_path)
        relay.daemon |= {"log_format": form, "log_level": "debug", "trace": True}
        secret = secret_file(tmp_path)
        relay.maildrop(server.port, auth=way)
        if way in TOKEN:
            table = dict(relay.tables["maildrop.ann"])
            del table["password"]
            relay.tables["maildrop.ann"] = table | {"oauth2_token": secret}
        else:
            relay.tables["maildrop.ann"] = dict(relay.tables["maildrop.ann"]) | {"password": secret}
        relay.tables["destination.hop"] = {"type": "maildir", "path": tmp_path / "Maildir"}
        application = relay.application()
        await application.run_once([], lambda _name, _report: None)
    assert server.logins == 1
    assert bool(shown(SECRET, server.heard)) == (way in TELLING)
    assert bool(relay.told(MaildropAuthRejected)) == (verdict != "granted")
    assert any("***" in event.text for event in relay.told(WireTraced))
    nothing_shows(everything(relay, capfd))
    nothing_shows(generate_latest(application.registry))


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("way", SMTP_WAYS)
@pytest.mark.parametrize("form", ["json", "console"])
async def test_an_smtp_login_shows_no_secret(
    way: str, verdict: Verdict, form: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    box = SandboxMaildrop("correct horse", [b"Subject: x\r\n\r\nx\r\n"])
    pop3, hop = ScriptedPop3Server({"ann": box}), LoginServer("smtp", SECRET, verdict, *OFFERED)
    async with running(pop3), hop.running():
        relay = Relay(tmp_path)
        relay.daemon |= {"log_format": form, "log_level": "debug", "trace": True}
        relay.maildrop(pop3.port)
        key = "oauth2_token" if way in TOKEN else "password"
        relay.destination(hop.port, username="carol", auth=way, **{key: secret_file(tmp_path)})
        application = relay.application()
        await application.run_once([], lambda _name, _report: None)
    assert hop.logins == 1
    assert bool(shown(SECRET, hop.heard, "carol")) == (way in TELLING)
    assert bool(relay.told(RoutePaused)) == (verdict != "granted")
    assert (len(box.messages) == 0) == (verdict == "granted")
    nothing_shows(everything(relay, capfd))
    nothing_shows(generate_latest(application.registry))


class Parrot(LoginServer):
    """Grants the login, and says the secret again in every refusal after that."""

    def _answer(self, transport: asyncio.Transport, line: bytes) -> bytes:
        if self.logins and line[:4] in (b"RCPT", b"RETR"):
            no = b"-ERR" if line[:4] == b"RETR" else b"450 4.2.0"
            return no + b" not for " + SECRET.encode() + b" as in " + self.lines[-2] + b"\r\n"
        reply = super()._answer(transport, line)
        one = {b"STAT": b"+OK 1 9\r\n", b"LIST": b"+OK\r\n1 9\r\n.\r\n", b"UIDL": b"+OK\r\n1 a\r\n.\r\n"}
        return one.get(line, reply)


async def test_a_secret_that_is_said_back_after_the_login_is_not_shown(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    box = SandboxMaildrop("correct horse", [b"Subject: x\r\n\r\nx\r\n"])
    pop3, hop, other = (
        ScriptedPop3Server({"ann": box}),
        Parrot("smtp", SECRET, "granted", "PLAIN"),
        Parrot("pop3", SECRET, "granted", "PLAIN"),
    )
    async with running(pop3), hop.running(), other.running():
        relay = Relay(tmp_path)
        relay.daemon |= {"log_format": "json", "log_level": "debug", "trace": True}
        relay.maildrop(pop3.port)
        secret = secret_file(tmp_path)
        relay.maildrop(other.port, "bob", auth="plain", password=secret)
        relay.destination(hop.port, username="carol", auth="plain", password=secret)
        await relay.application().run_once([], lambda _name, _report: None)
    heard = everything(relay, capfd)
    assert b"450 4.2.0 not for ***" in heard
    assert b"-ERR not for ***" in heard
    nothing_shows(heard)


def test_no_command_line_and_no_child_shows_a_secret(tmp_path: Path) -> None:
    """The real program, its secret from a command: looked at in /proc while it runs."""
    teller = tmp_path / "teller.py"
    teller.write_text(f"import time; time.sleep(1); print({SECRET!r})", encoding="utf-8")

    async def work() -> None:
        server = LoginServer("pop3", SECRET, "echoed", *OFFERED)
        async with server.running():
            relay = Relay(tmp_path / "relay")
            relay.daemon |= {"log_level": "debug", "trace": True}
            command = {"command": f"{sys.executable} {teller}"}
            relay.maildrop(server.port, password=command, auth="plain")
            relay.tables["destination.hop"] = {"type": "maildir", "path": tmp_path / "Maildir"}
            config = relay.config()
            await asyncio.to_thread(watch, config, server)

    def watch(config: Path, server: LoginServer) -> None:
        seen = 0
        with DaemonProcess(config) as program:
            deadline = time.monotonic() + 20
            while not server.logins and time.monotonic() < deadline:
                for path in Path("/proc").glob("[0-9]*/cmdline"):
                    try:
                        line = path.read_bytes()
                    except OSError:  # it has just ended
                        continue
                    seen += str(teller).encode() in line
                    assert shown(SECRET, line) == []
            program.wait_for(lambda: bool(program.named("maildrop.auth_rejected")), "refusal")
            assert program.stop() == 0
            nothing_shows("".join(program.raw).encode())
        assert seen, "the command was never seen at work"
        assert server.logins == 1

    asyncio.run(work())


@pytest.mark.parametrize("short", ["a", "abc"])
def test_a_secret_that_is_too_short_to_hide_garbles_no_text(short: str) -> None:
    mask = SecretMask()
    credentials = mask.watching(Credentials("ann", lambda: short))
    assert credentials.password is not None
    credentials.password()
    assert mask.text("abc and a banana") == "abc and a banana"


def test_before_a_secret_is_read_nothing_is_masked() -> None:
    assert SecretMask().text("anything") == "anything"
    assert json.dumps(SecretMask().text("{}")) == '"{}"'
