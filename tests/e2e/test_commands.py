"""The commands as an administrator meets them: processes, signals, exit codes, real sockets."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

import mailferry
from support.configs import PASSWORD, ConfigFolder
from support.daemon import DaemonProcess
from support.processes import Child, wait_until

PROGRAM = (sys.executable, "-m", "mailferry")
HEAVY = ("pydantic", "sqlalchemy", "aiohttp", "structlog", "apscheduler", "aiosmtpd", "prometheus_client")


def nobody_listens(folder: ConfigFolder, **more) -> Path:
    """A configuration whose servers are not there."""
    return folder.write(
        {"maildrop.alice": folder.maildrop(1, "alice"), "destination.hop": folder.smtp(1)}, **more
    )


def relayed(events: DaemonProcess) -> int:
    return len(events.named("message.relayed"))


# run


def test_the_daemon_relays_serves_metrics_and_ends_with_0_on_sigterm(sandbox, program) -> None:
    with DaemonProcess(sandbox.config) as daemon:
        daemon.wait_for(lambda: relayed(daemon) == 84, "84 deliveries")
        daemon.wait_for(lambda: len(daemon.named("poll.finished")) >= 3, "three polls")

        url = f"http://127.0.0.1:{sandbox.http_port}/metrics"
        with urllib.request.urlopen(url, timeout=5) as response:
            metrics = response.read().decode()
        assert 'mailferry_deliveries_total{destination="sink",outcome="accepted"} 42.0' in metrics

        # Commands that look work beside it; one that polls is refused.
        status = program("status", "-c", sandbox.config)
        assert (status.code, status.err) == (0, "")
        assert "All is well with 3 maildrops." in status.out
        found = program("history", "отчёт", "--maildrop", "sandbox", "-c", sandbox.config)
        assert (found.code, found.out.count("Отчёт за июнь")) == (0, 6)
        history = program("history", "--json", "-n", "100", "-c", sandbox.config).document["messages"]
        assert len(history) == 42
        assert {delivery["state"] for message in history for delivery in message["deliveries"]} == {
            "accepted"
        }
        once = program("once", "-c", sandbox.config)
        assert once.code == 74
        assert f"another mailferry (process {daemon.process.pid}) uses this ledger: stop it" in once.err

        assert daemon.stop() == 0
    assert daemon.named("daemon.stopped")[0]["clean"] is True
    assert "Traceback" not in "".join(daemon.raw)


def test_a_bad_configuration_ends_with_78_and_every_problem(tmp_path, program) -> None:
    folder = ConfigFolder(tmp_path)
    drop = folder.maildrop(1, "alice", keep=14, evry="5m")
    ended = program("run", "-c", folder.write({"maildrop.alice": drop, "destination.hop": folder.smtp(1)}))
    assert (ended.code, ended.out) == (78, "")
    assert re.search(r"mailferry\.toml:\d+: maildrop\.alice\.keep: ", ended.err)
    assert re.search(r"mailferry\.toml:\d+: maildrop\.alice\.evry: unknown key", ended.err)
    assert len(ended.err.splitlines()) == 2


def test_a_state_directory_that_cannot_be_written_ends_with_74(tmp_path, program) -> None:
    # Not even root can create a file there.
    ended = program("run", "-c", nobody_listens(ConfigFolder(tmp_path), state_dir="/sys"))
    assert (ended.code, ended.out) == (74, "")
    assert ended.err.startswith("mailferry: /sys/")
    assert len(ended.err.splitlines()) == 1


def test_a_missing_state_directory_ends_with_74_and_what_to_do(tmp_path, program) -> None:
    ended = program("run", "-c", nobody_listens(ConfigFolder(tmp_path), state_dir=tmp_path / "none"))
    assert ended.code == 74
    assert "create its directory and give it to the user that runs mailferry" in ended.err


def test_a_taken_http_port_ends_with_69_and_what_to_do(tmp_path, program) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = program("run", "-c", nobody_listens(ConfigFolder(tmp_path), http_port=port))
    assert ended.code == 69
    assert ended.err == (
        f"mailferry: cannot serve HTTP on 127.0.0.1:{port}: "
        "another program listens there; stop it or choose another port in http.listen\n"
    )


# once


def test_once_relays_everything_and_then_nothing(sandbox, program) -> None:
    first = program("once", "-c", sandbox.config)
    assert (first.code, first.err) == (0, "")
    rows = {words[0]: words[1:9] for line in first.out.splitlines() if (words := line.split())}
    assert rows["sandbox"] == ["ok", "34", "34", "0", "0", "0", "0", "0"]
    assert rows["sandbox-emptied"] == ["ok", "4", "4", "0", "0", "0", "4", "0"]
    wait_until(
        lambda: sandbox.process.tail(9000).count("example.org>: ") >= 30, "the sandbox to tell of them"
    )

    second = program("once", "--json", "-c", sandbox.config)
    assert (second.code, second.err) == (0, "")
    assert second.document["ok"] is True
    assert [row["relayed"] for row in second.document["maildrops"]] == [0, 0, 0]
    assert [row["listed"] for row in second.document["maildrops"]] == [34, 0, 4]

    third = program("once", "sandbox-week", "--quiet", "--verbose", "-c", sandbox.config)
    assert (third.code, third.out) == (0, "")
    assert '"event":"poll.finished"' in third.err


def test_a_wrong_password_ends_with_77_and_stays_secret(sandbox, program) -> None:
    sandbox.password_file.write_text(PASSWORD)
    ended = program("once", "sandbox-week", "-c", sandbox.config)
    assert ended.code == 77
    assert "sandbox-week: auth_rejected: " in ended.out
    assert PASSWORD not in ended.out + ended.err
    assert program("status", "-c", sandbox.config).code == 1


def test_a_server_that_is_not_there_is_temporary(tmp_path, program) -> None:
    ended = program("once", "--json", "-c", nobody_listens(ConfigFolder(tmp_path)))
    assert ended.code == 75
    assert ended.document["maildrops"][0]["result"] == "connect_failed"
    assert '"event":"poll.failed"' in ended.err


# sandbox


def test_the_demonstration_checks_itself_and_ends_without_a_terminal(program) -> None:
    ended = program("sandbox", "--demo")
    assert (ended.code, ended.err) == (0, "")
    assert "All 42 messages arrived by SMTP once, octet for octet" in ended.out
    assert "Вложение с русским именем" in ended.out
    assert 'mailferry_polls_total{maildrop="sandbox",result="ok"} 2' in ended.out
    assert "All is well with 3 maildrops." in ended.out
    assert "ended with exit code 0" in ended.out


def test_a_demonstration_that_goes_wrong_says_so(tmp_path, program) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = program("sandbox", "--demo", "--http-port", str(taken.getsockname()[1]))
    assert ended.code == 1
    assert "The demonstration FAILED: the daemon ended with exit code 69" in ended.out
    assert "another program listens there" in ended.out


def test_a_demonstration_takes_no_folder_with_a_past(tmp_path, program) -> None:
    (tmp_path / "state").mkdir()
    ended = program("sandbox", "--demo", "--dir", tmp_path)
    assert ended.code == 2
    assert "state of another run" in " ".join(ended.err.replace("│", " ").split())


def test_a_taken_sandbox_port_is_told(program) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = program("sandbox", "--pop-port", str(taken.getsockname()[1]))
    assert ended.code == 69
    assert "already in use" in ended.err
    assert "Traceback" not in ended.err


# The program as such


def test_the_installed_script_is_the_same_program() -> None:
    script = Path(sys.executable).with_name("mailferry")
    done = subprocess.run([script, "--version"], capture_output=True, timeout=10, check=False)
    assert done.stdout.decode() == f"mailferry {mailferry.__version__}\n"


def test_help_and_version_import_none_of_the_rooms(program) -> None:
    code = f"import sys, mailferry.cli.main; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=10, check=False)
    assert done.stdout.decode().strip() == "[]", done.stderr.decode()


@pytest.mark.parametrize("ending", ["| head -n 1", ">&-", "2>&-"])
def test_a_reader_who_has_seen_enough_is_no_error(tmp_path, ending) -> None:
    shell = Child(["bash", "-c", f"{sys.executable} -m mailferry schema {ending}"], tmp_path / "output")
    wait_until(lambda: not shell.running, "the pipe")
    assert shell.stop() == 0
    assert "Traceback" not in shell.tail()
    assert "Exception ignored" not in shell.tail()


def test_output_that_cannot_be_written_is_an_error() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*PROGRAM, "schema"], stdout=full, stderr=subprocess.PIPE, timeout=10, check=False
        )
    assert (done.returncode, done.stderr) == (71, b"mailferry: No space left on device\n")
