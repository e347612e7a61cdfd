"""What a reload has to do: only what differs, and a word about what cannot be changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mailferry.config import Settings, load_settings
from mailferry.config.changes import Changes, TableChanges, compare
from mailferry.config.source import ConfigSource
from mailferry.config.stamps import file_stamps
from support.certificates import LocalAuthority
from support.configs import ConfigFolder, Tables, Value, toml

NOTHING = TableChanges()


class Before:
    """A configuration in force, and what another one would change."""

    def __init__(self, folder: Path) -> None:
        self.folder = ConfigFolder(folder)
        self.daemon: dict[str, Value] = {}
        self.tables: dict[str, dict[str, Value]] = {
            "maildrop.ann": self.folder.maildrop(110, "ann"),
            "maildrop.bob": self.folder.maildrop(110, "bob"),
            "destination.hop": self.folder.smtp(25),
        }
        self.old = self.load()
        self.stamps = file_stamps(self.old)

    def load(self, extra: Tables | None = None) -> Settings:
        path = self.folder.write({**self.tables, **(extra or {})}, **self.daemon)
        return load_settings(path, environ={})

    def changes(self, extra: Tables | None = None) -> Changes:
        new = self.load(extra)
        return compare(self.old, new, self.stamps, file_stamps(new))


@pytest.fixture
def before(tmp_path: Path) -> Before:
    return Before(tmp_path)


def test_the_same_file_changes_nothing(before: Before) -> None:
    changes = before.changes()
    assert (changes.maildrops, changes.destinations, changes.etrn) == (NOTHING, NOTHING, NOTHING)
    assert (changes.keys, changes.needs_restart, changes.in_force) == ((), (), before.old)


def test_tables_that_came_went_or_differ(before: Before) -> None:
    del before.tables["maildrop.ann"]
    before.tables["maildrop.bob"]["every"] = "7m"
    before.tables["maildrop.eve"] = before.folder.maildrop(110, "eve")
    changes = before.changes()
    assert changes.maildrops == TableChanges(added=("eve",), changed=("bob",), removed=("ann",))
    assert changes.destinations == NOTHING
    assert changes.in_force.maildrop["bob"].every == 420


def test_to_disable_is_to_remove_and_back(before: Before) -> None:
    before.tables["maildrop.ann"]["enabled"] = False
    changes = before.changes()
    assert changes.maildrops == TableChanges(removed=("ann",))
    before.old, before.stamps = changes.in_force, file_stamps(changes.in_force)
    before.tables["maildrop.ann"]["enabled"] = True
    assert before.changes().maildrops == TableChanges(added=("ann",))


def test_a_default_changes_those_that_inherit_it(before: Before) -> None:
    before.tables["maildrop.ann"]["every"] = "5m"
    before.old = before.load()
    changes = before.changes({"defaults": {"every": "9m"}})
    assert changes.maildrops == TableChanges(changed=("bob",))
    assert changes.keys == ()


def test_keys_that_count_at_once_and_keys_that_need_a_restart(before: Before, tmp_path: Path) -> None:
    before.daemon = {
        "log_level": "debug",
        "memory_budget": "64M",
        "control_socket": str(tmp_path / "c.sock"),
    }
    changes = before.changes({"ledger": {"url": f"sqlite:///{tmp_path}/other.sqlite3"}})
    assert changes.keys == ("daemon.memory_budget", "daemon.log_level")
    assert changes.needs_restart == ("daemon.control_socket", "ledger.url")
    in_force = changes.in_force
    assert (in_force.daemon.log_level, in_force.daemon.control_socket, in_force.ledger.url) == (
        "debug",
        None,
        None,
    )
    before.old = in_force
    again = before.changes({"ledger": {"url": f"sqlite:///{tmp_path}/other.sqlite3"}})
    assert again.needs_restart == changes.needs_restart, "it is said until it is done"
    assert again.keys == ()


def test_a_destination_stays_as_long_as_the_receiver_that_runs_delivers_to_it(before: Before) -> None:
    before.tables["destination.vault"] = before.folder.smtp(26)
    receiver = {"listen": "127.0.0.1:2525", "domains": ["example.org"], "deliver": ["vault"]}
    before.old = before.load({"receiver": receiver})
    del before.tables["destination.vault"]
    changes = before.changes()
    assert changes.destinations == NOTHING
    assert "vault" in changes.in_force.destination
    assert changes.needs_restart[-1] == "destination.vault"
    assert "receiver.listen" in changes.needs_restart


def test_a_file_that_was_written_anew_renews_the_tables_that_name_it(before: Before) -> None:
    other = before.folder.folder / "other"
    other.write_text("secret\n")
    other.chmod(0o600)
    before.tables["maildrop.bob"]["password"] = {"file": str(other)}
    before.old = before.load()
    before.stamps = file_stamps(before.old)
    os.utime(other, (1, 1))
    assert before.changes().maildrops == TableChanges(renewed=("bob",))
    before.tables["maildrop.bob"]["every"] = "9m"
    assert before.changes().maildrops == TableChanges(changed=("bob",)), "one reason is enough"


def test_an_authority_that_was_replaced_through_a_link_renews_its_destination(
    before: Before, tmp_path: Path
) -> None:
    first, second, link = tmp_path / "1.pem", tmp_path / "2.pem", tmp_path / "ca.pem"
    for each in (first, second):
        each.write_bytes(LocalAuthority().ca_pem)
    link.symlink_to(first)
    before.tables["destination.hop"] |= {"tls": "implicit", "tls_ca_file": str(link)}
    before.old = before.load()
    before.stamps = file_stamps(before.old)
    link.unlink()
    link.symlink_to(second)
    assert before.changes().destinations == TableChanges(renewed=("hop",))


def test_the_fingerprint_follows_files_and_drop_ins(tmp_path: Path) -> None:
    main = tmp_path / "mailferry.toml"
    source = ConfigSource(main, {})
    seen = [source.fingerprint()]
    main.write_text(toml({}))
    seen.append(source.fingerprint())
    (tmp_path / "conf.d").mkdir()
    seen.append(source.fingerprint())
    (tmp_path / "conf.d" / "a.toml").write_text("")
    seen.append(source.fingerprint())
    (tmp_path / "conf.d" / "a.toml").write_text("# more")
    seen.append(source.fingerprint())
    assert len(set(seen)) == len(seen)
    assert source.fingerprint() == seen[-1]
