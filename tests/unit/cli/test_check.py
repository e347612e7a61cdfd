from __future__ import annotations

import json
import os
from pathlib import Path

from mailferry.cli.exit_codes import ExitCode
from support.configs import PASSWORD


def test_a_good_configuration_is_shown(command, config: Path) -> None:
    ended = command("check", "-c", config)
    assert ended.code == 0
    for words in (
        "alice",
        "127.0.0.1:1",
        "every 5m",
        "until delivered",
        "disabled",
        "14d",
        "all@example.org",
    ):
        assert words in ended.out
    assert "The configuration is good: 2 maildrops, 1 destination." in ended.out
    assert "warning" not in ended.out
    assert PASSWORD not in ended.out + ended.err


def test_all_problems_are_told_at_once(command, folder) -> None:
    drop = folder.maildrop(99999, "alice", evry="5m")
    ended = command("check", "-c", folder.write({"maildrop.alice": drop, "destination.hop": folder.smtp(1)}))
    assert (ended.code, ended.out) == (ExitCode.CONFIG, "")
    lines = ended.err.splitlines()
    assert len(lines) == 2
    assert any("maildrop.alice.port: " in line for line in lines)
    assert any("maildrop.alice.evry: unknown key" in line for line in lines)


def test_problems_as_json_have_file_and_line(command, folder) -> None:
    path = folder.write(
        {"maildrop.alice": folder.maildrop(1, "alice", evry="5m"), "destination.hop": folder.smtp(1)}
    )
    ended = command("check", "--json", "-c", path)
    assert ended.code == ExitCode.CONFIG
    document = json.loads(ended.out)
    (problem,) = document["problems"]
    assert not document["ok"]
    assert (problem["file"], problem["key"]) == (str(path), "maildrop.alice.evry")
    assert path.read_text().splitlines()[problem["line"] - 1].startswith("evry")


def test_a_missing_file_is_a_problem_of_the_configuration(command, tmp_path: Path) -> None:
    ended = command("check", "-c", tmp_path / "none.toml")
    assert ended.code == ExitCode.CONFIG
    assert "none.toml" in ended.err


def test_json_describes_what_is_set_up(command, config: Path) -> None:
    document = json.loads(command("check", "--json", "-c", config).out)
    assert document["ok"]
    assert [drop["name"] for drop in document["maildrops"]] == ["alice", "bob"]
    assert document["maildrops"][0]["deliver"] == ["hop"]
    assert document["destinations"][0]["where"] == "127.0.0.1:1"
    assert document["warnings"] == []


def warnings_for(command, path: Path) -> list[str]:
    found: list[str] = json.loads(command("check", "--json", "-c", path).out)["warnings"]
    return found


def test_what_the_daemon_would_stumble_over_is_told(command, folder) -> None:
    path = folder.write(
        {
            "maildrop.alice": {**folder.maildrop(1, "alice"), "host": "pop.example.net"},
            "destination.hop": folder.smtp(1),
            "destination.idle": {"type": "maildir", "path": folder.folder / "mail"},
        },
        trace=True,
    )
    folder.state.rmdir()
    keys = [warning.partition(": ")[0] for warning in warnings_for(command, path)]
    assert keys == ["daemon.state_dir", "maildrop.alice.tls", "destination.idle", "daemon.trace"]


def test_an_open_http_port_and_idle_maildrops_are_told(command, folder) -> None:
    drop = folder.maildrop(1, "alice", enabled=False)
    path = folder.write({"maildrop.alice": drop, "destination.hop": folder.smtp(1)})
    path.write_text(path.read_text().replace('listen = ""', 'listen = "0.0.0.0:9465"'))
    keys = [warning.partition(": ")[0] for warning in warnings_for(command, path)]
    assert keys == ["maildrop", "http.listen"]


def test_folders_that_cannot_be_written_are_told(command, folder, monkeypatch) -> None:
    archive = folder.folder / "mail" / "deep"
    path = folder.write(
        {
            "maildrop.alice": folder.maildrop(1, "alice", deliver=["vault"]),
            "destination.vault": {"type": "maildir", "path": archive},
            "ledger": {"url": "sqlite:////nowhere/ledger.sqlite3"},
        }
    )
    monkeypatch.setattr("os.access", lambda _path, mode: not mode & os.W_OK)  # root may write everywhere
    state, ledger, vault = warnings_for(command, path)
    assert state.startswith(f"daemon.state_dir: {folder.state} is not writable for this user")
    assert ledger.startswith("ledger.url: /nowhere is not there")
    assert vault.startswith(f"destination.vault.path: {folder.folder} is not writable")


def refuse_to_look(monkeypatch, closed: Path) -> None:
    """Act as a system does whose folder `closed` this user may not enter."""
    exists = Path.exists

    def look(path: Path) -> bool:
        if path.is_relative_to(closed):
            raise PermissionError(13, "Permission denied", str(path))
        return exists(path)

    monkeypatch.setattr(Path, "exists", look)


def test_a_state_folder_that_cannot_be_looked_at_is_told(command, config, folder, monkeypatch) -> None:
    refuse_to_look(monkeypatch, folder.state)
    (warning,) = warnings_for(command, config)
    assert warning.startswith(f"daemon.state_dir: {folder.state} cannot be looked at: permission denied; ")


def test_a_ledger_that_cannot_be_looked_at_ends_with_74(command, config, folder, monkeypatch) -> None:
    refuse_to_look(monkeypatch, folder.state)
    ended = command("status", "-c", config)
    assert (ended.code, ended.out) == (ExitCode.STORE, "")
    assert (
        "ledger.sqlite3: cannot be looked at: Permission denied: run this as the daemon's user" in ended.err
    )


def test_lmtp_servers_are_shown(command, folder) -> None:
    store = {"type": "lmtp", "recipients": ["bob@example.org"]}
    path = folder.write(
        {
            "maildrop.alice": folder.maildrop(1, "alice", deliver=["store", "far"]),
            "destination.store": {**store, "socket": "/run/dovecot/lmtp"},
            "destination.far": {**store, "host": "127.0.0.1"},
            "destination.as-addressed": {**store, "host": "127.0.0.1", "recipients": "original"},
        }
    )
    shown = command("check", "-c", path).out
    assert "/run/dovecot/lmtp" in shown
    assert "127.0.0.1:24" in shown
    document = json.loads(command("check", "--json", "-c", path).out)
    facts = {
        each["name"]: (each["type"], each["where"], each["recipients"]) for each in document["destinations"]
    }
    assert facts == {
        "store": ("lmtp", "/run/dovecot/lmtp", ["bob@example.org"]),
        "far": ("lmtp", "127.0.0.1:24", ["bob@example.org"]),
        "as-addressed": ("lmtp", "127.0.0.1:24", "original"),
    }


def test_servers_that_are_asked_for_mail_are_shown(command, folder) -> None:
    etrn = {"host": "smtp.example.net", "nodes": ["example.org", "#slow"]}
    path = folder.write(
        {
            "maildrop.alice": folder.maildrop(1, "alice"),
            "destination.hop": folder.smtp(1),
            "etrn.up": {**etrn, "check_listener": "mx.example.org:25", "every": "15m"},
            "etrn.off": {**etrn, "enabled": False},
        }
    )
    assert warnings_for(command, path) == []
    shown = command("check", "-c", path).out
    assert "1 maildrop, 1 destination, 2 servers to ask for mail." in shown
    assert "mx.example.org:25" in shown
    assert "disabled" in shown
    up, off = json.loads(command("check", "--json", "-c", path).out)["etrn"]
    assert up == {
        "name": "up",
        "enabled": True,
        "mode": "etrn",
        "server": "smtp.example.net:25",
        "tls": "starttls",
        "username": None,
        "nodes": ["example.org", "#slow"],
        "when": "every 15m",
        "check_listener": "mx.example.org:25",
        "deliver": [],
    }
    assert off["enabled"] is False


def test_a_receiver_is_shown_and_needs_no_maildrop(command, folder) -> None:
    receiver = {"listen": "127.0.0.1:2525", "domains": ["example.org", ".example.org"], "deliver": ["hop"]}
    path = folder.write({"receiver": receiver, "destination.hop": folder.smtp(1, recipients="original")})
    ended = command("check", "-c", path)
    for words in ("127.0.0.1:2525", "example.org, .example.org", "everybody", "hop"):
        assert words in ended.out
    assert (ended.code, "warning" in ended.out) == (0, False)
    document = json.loads(command("check", "--json", "-c", path).out)
    assert document["receiver"] == {**receiver, "tls": "none", "allow_from": []}


def test_a_receivers_certificate_that_cannot_be_used_is_told(command, folder) -> None:
    folder.secret.write_text("no certificate")
    receiver = {
        "listen": "127.0.0.1:2525", "domains": ["example.org"], "deliver": ["hop"], "tls_certificate": folder.secret,
    }  # fmt: skip
    ended = command("check", "-c", folder.write({"receiver": receiver, "destination.hop": folder.smtp(1)}))
    assert f"warning: receiver.tls_certificate: {folder.secret} cannot be used" in ended.out
