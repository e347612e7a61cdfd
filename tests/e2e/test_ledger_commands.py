"""`mailferry ledger`, as an administrator meets it: beside the daemon, and after its death."""

from __future__ import annotations

import json
from pathlib import Path

from support.configs import ConfigFolder
from support.daemon import DaemonProcess

MESSAGES = 42
"""What the sandbox's maildrops hold."""


def relayed(daemon: DaemonProcess) -> int:
    return len(daemon.named("message.relayed"))


def test_looking_and_backing_up_beside_the_daemon_and_putting_back_after_it(
    sandbox, program, tmp_path: Path
) -> None:
    config = ("-c", sandbox.config)
    backup = tmp_path / "ledger.backup"
    with DaemonProcess(sandbox.config) as daemon:
        daemon.wait_for(lambda: relayed(daemon) == 2 * MESSAGES, "all deliveries")

        checked = program("ledger", "check", "--json", *config)
        assert checked.code == 0, checked.err
        assert checked.document["ok"]
        assert {part["part"] for part in checked.document["parts"]} == {
            "ledger", "copy", "changes", "journal", "reserve",
        }  # fmt: skip
        made = program("ledger", "backup", backup, "--json", *config)
        assert (made.code, made.document["octets"]) == (0, backup.stat().st_size)
        again = program("ledger", "backup", backup, *config)
        assert again.code == 74
        assert "is there already" in again.err
        assert program("ledger", "backup", backup, "--force", *config).code == 0

        refused = program("ledger", "restore", backup, *config)
        assert refused.code == 74
        assert f"another mailferry (process {daemon.process.pid}) uses this ledger: stop it" in refused.err

        lines = [json.loads(line) for line in program("ledger", "export", *config).out.splitlines()]
        messages = [line for line in lines if line["is"] == "message"]
        assert len(messages) == MESSAGES
        assert all(len(message["deliveries"]) == 2 for message in messages)
        assert {line["name"] for line in lines if line["is"] == "standing"} > {"sandbox"}
        daemon.kill()

    ledger = next(Path(str(sandbox.folder)).rglob("ledger.sqlite3"))
    ledger.write_bytes(b"garbage" * 1000)
    bad = program("ledger", "check", *config)
    assert bad.code == 74
    assert "ledger.sqlite3: is damaged (" in bad.out
    assert "not well" in bad.out
    restored = program("ledger", "restore", backup, "--json", *config)
    assert restored.code == 0, restored.err
    assert restored.document["complete"]
    aside = Path(restored.document["put_aside"])
    assert aside.read_bytes() == b"garbage" * 1000
    checked = program("ledger", "check", *config)
    assert (checked.code, checked.out.strip().splitlines()[-1]) == (0, "All is whole.")

    # Everything is known: the next poll finds nothing to relay.
    with DaemonProcess(sandbox.config, "--verbose", command="once") as once:
        assert once.wait() == 0, "".join(once.raw)
        assert relayed(once) == 0


def test_without_a_ledger_each_command_says_so(tmp_path: Path, program) -> None:
    folder = ConfigFolder(tmp_path / "mailferry")
    path = folder.write({"maildrop.alice": folder.maildrop(1, "alice"), "destination.hop": folder.smtp(1)})
    for command in (("check",), ("backup", tmp_path / "b"), ("export",)):
        ended = program("ledger", *command, "-c", path)
        assert (ended.code, ended.out) == (74, "")
        assert "no ledger yet: start the daemon once" in ended.err
    ended = program("ledger", "restore", tmp_path / "b", "-c", path)
    assert ended.code == 74
    assert "b: is missing: choose another file; nothing was changed" in ended.err
