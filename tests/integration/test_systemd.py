"""The unit under a real systemd with its whole sandbox: start, reload, watchdog, restart, stop."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailferry.sandbox.maildrop import SandboxMaildrop
from mailferry.sandbox.pop3_server import SandboxPop3Server
from support.configs import PASSWORD, toml
from support.faults import Delay, Fault
from support.mailset import make_messages
from support.processes import NO_REAL_SERVER, require
from support.scripted_smtp import FINAL, ScriptedSmtpServer
from support.systemd_box import SystemdBox, why_not

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "systemd" / "mailferry.service"
SCRIPT = ROOT / "tools" / "service.sh"
CONFIG = "/etc/mailferry/mailferry.toml"
QUICK = """[Service]
LoadCredential=ann:/etc/mailferry/secrets/ann
WatchdogSec=2s
TimeoutAbortSec=500ms
RestartSec=100ms
"""


@pytest.fixture
def box(tmp_path: Path) -> Iterator[SystemdBox]:
    missing = why_not()
    if missing:
        pytest.skip(f"{NO_REAL_SERVER}: systemd ({missing})")
    with SystemdBox(tmp_path) as booted:
        booted.write("/etc/systemd/system/mailferry.service.d/quick.conf", QUICK)
        booted.write("/etc/mailferry/secrets/ann", PASSWORD + "\n", 0o600)
        booted.systemctl("daemon-reload")
        yield booted


def configuration(pop3: int, smtp: int, *, every: str = "1s") -> str:
    maildrop = {
        "host": "127.0.0.1",
        "port": pop3,
        "tls": "none",
        "allow_cleartext": True,
        "username": "ann",
        "password": {"credential": "ann"},
        "every": every,
        "deliver": ["hop"],
    }
    hop = {
        "type": "smtp",
        "host": "127.0.0.1",
        "port": smtp,
        "tls": "none",
        "recipients": ["all@example.org"],
    }
    daemon = {"hostname": "relay.example.org"}
    return toml({"daemon": daemon, "http": {"listen": ""}, "maildrop.ann": maildrop, "destination.hop": hop})


@pytest.mark.real_server
async def test_the_life_of_the_service(box: SystemdBox) -> None:
    mail = make_messages(300, seed=5, sizes=(300, 2000))
    pop3 = SandboxPop3Server({"ann": SandboxMaildrop(PASSWORD, mail)})
    smtp = ScriptedSmtpServer(Fault(FINAL, Delay(0.05)))
    await pop3.start()
    await smtp.start()
    try:
        box.write(CONFIG, configuration(pop3.port, smtp.port))
        await asyncio.to_thread(live, box, smtp)
    finally:
        await pop3.stop()
        await smtp.stop()


def live(box: SystemdBox, smtp: ScriptedSmtpServer) -> None:
    verified = box.run("systemd-analyze", "verify", "mailferry.service")
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
    started = box.systemctl("start", "mailferry")
    assert started.returncode == 0, started.stderr
    assert box.facts("ActiveState", "SubState") == {"ActiveState": "active", "SubState": "running"}
    assert "of 1 maildrop" in box.facts("StatusText")["StatusText"], "told with READY=1"
    assert events(box, "daemon.started"), "started means that the schedule runs"
    box.wait_for(lambda: len(smtp.accepted) > 3, "mail under way")

    right = box.run("cat", CONFIG).stdout
    box.write(CONFIG, right.replace('"1s"', '"soon"'))
    refused = box.systemctl("reload", "mailferry")
    assert refused.returncode != 0
    assert box.facts("ActiveState")["ActiveState"] == "active"
    assert any("every: must be" in entry["MESSAGE"] for entry in box.journal())
    vault = {"destination.vault": {"type": "maildir", "path": "/var/lib/mailferry/vault"}}
    box.write(CONFIG, right + toml(vault))
    assert box.systemctl("reload", "mailferry").returncode == 0
    assert events(box, "config.reloaded"), "in force when systemctl returns"
    assert box.facts("ActiveState", "NRestarts") == {"ActiveState": "active", "NRestarts": "0"}

    process = box.facts("MainPID")["MainPID"]
    box.systemctl("kill", "--signal=KILL", "--kill-whom=main", "mailferry")
    box.wait_for(lambda: is_up(box, other_than=process), "restart after kill -9")
    process = box.facts("MainPID")["MainPID"]
    box.systemctl("kill", "--signal=STOP", "--kill-whom=main", "mailferry")
    box.wait_for(lambda: is_up(box, other_than=process), "restart by the watchdog")
    assert any("Watchdog timeout" in entry["MESSAGE"] for entry in box.journal())

    accepted = len(smtp.accepted)
    box.wait_for(lambda: len(smtp.accepted) > accepted, "mail under way again")
    assert box.run("systemctl", "stop", "mailferry", seconds=10).returncode == 0
    assert box.facts("ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}
    assert '"clean":true' in events(box, "daemon.stopped")[-1]["MESSAGE"]
    assert {entry["PRIORITY"] for entry in events(box, "daemon.started")} == {"6"}
    assert {entry["PRIORITY"] for entry in events(box, "config.reload_failed")} == {"3"}


@pytest.mark.real_server
def test_a_wrong_configuration_is_not_tried_again(box: SystemdBox) -> None:
    box.write(CONFIG, "[maildrop.ann]\n")
    assert box.systemctl("start", "mailferry").returncode != 0
    facts = box.facts("ActiveState", "ExecMainStatus", "NRestarts")
    assert facts == {"ActiveState": "failed", "ExecMainStatus": "78", "NRestarts": "0"}


def events(box: SystemdBox, name: str) -> list[dict[str, str]]:
    return [entry for entry in box.journal() if f'"event":"{name}"' in str(entry["MESSAGE"])]


def is_up(box: SystemdBox, *, other_than: str) -> bool:
    facts = box.facts("ActiveState", "MainPID")
    return facts["ActiveState"] == "active" and facts["MainPID"] not in {"0", other_than}


def test_the_unit_has_no_mistake_and_is_as_closed_as_it_says(tmp_path: Path) -> None:
    require("systemd-analyze")
    copy = tmp_path / "mailferry.service"
    copy.write_text(UNIT.read_text().replace("/opt/mailferry/bin/mailferry", "/bin/true"))
    verified = analyze("verify", "--man=no", str(copy))
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
    judged = analyze("security", "--offline=true", "--threshold=12", "--no-pager", str(copy))
    assert judged.returncode == 0, judged.stdout[-300:] + judged.stderr


def test_it_is_installed_and_taken_away_without_a_trace_but_what_is_the_administrators(
    tmp_path: Path,
) -> None:
    service("install", tmp_path, "/srv/mailferry")
    unit = tmp_path / "etc/systemd/system/mailferry.service"
    assert "ExecStart=/srv/mailferry/bin/mailferry run" in unit.read_text()
    assert "/opt/mailferry" not in unit.read_text()
    assert (tmp_path / "etc/mailferry/secrets").stat().st_mode & 0o777 == 0o700
    config = tmp_path / "etc/mailferry/mailferry.toml"
    config.write_text("mine")
    service("install", tmp_path, "/srv/mailferry")
    assert config.read_text() == "mine"
    other = tmp_path / "srv/mailferry/bin/mailferry"
    other.parent.mkdir(parents=True)
    other.touch(mode=0o755)
    assert "holds no mailferry" in service("uninstall", tmp_path, "/srv/mailferry"), "no virtual environment"
    (tmp_path / "srv/mailferry/pyvenv.cfg").touch()
    service("uninstall", tmp_path, "/srv/mailferry")
    assert not unit.exists()
    assert not (tmp_path / "srv/mailferry").exists()
    assert config.read_text() == "mine"


@pytest.mark.parametrize("prefix", ["/home/ann/mailferry", "/root/mailferry", "/tmp/mailferry"])
def test_no_unit_is_put_in_place_for_a_program_that_its_sandbox_would_hide(
    prefix: str, tmp_path: Path
) -> None:
    assert "could not see" in service("install", tmp_path, prefix)
    assert list(tmp_path.iterdir()) == []


def service(action: str, root: Path, prefix: str) -> str:
    command = ["bash", str(SCRIPT), action, prefix]
    environment = {"PATH": os.environ["PATH"], "DESTDIR": str(root)}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)
