"""Commands find the daemon though its configuration is wrong by now."""

from __future__ import annotations

from pathlib import Path

from mailferry.config.models import DEFAULT_STATE_DIR
from mailferry.config.places import load_places
from support.configs import ConfigFolder

WRONG = """
[daemon]
state_dir = "/srv/mail"
max_sessions = "many"
[http]
listen = "127.0.0.1:1234"
colour = "red"
[maildrop.ann]
every = "soon"
"""


def test_a_right_configuration_says_it_all(tmp_path: Path) -> None:
    folder = ConfigFolder(tmp_path)
    tables = {"maildrop.ann": folder.maildrop(110, "ann"), "destination.hop": folder.smtp(25)}
    places = load_places(folder.write(tables, http_port=4321), {})
    assert (places.daemon.state_dir, places.http.port) == (folder.state, 4321)


def test_of_a_wrong_one_every_key_that_is_right_counts(tmp_path: Path) -> None:
    path = tmp_path / "mailferry.toml"
    path.write_text(WRONG)
    places = load_places(path, {"MAILFERRY_HTTP__LISTEN": "127.0.0.1:99"})
    assert (places.daemon.state_dir, places.daemon.max_sessions) == (Path("/srv/mail"), 64)
    assert places.http.listen == "127.0.0.1:99", "the environment lies over the file"


def test_of_one_that_cannot_be_read_the_defaults_and_systemds_directory_count(tmp_path: Path) -> None:
    path = tmp_path / "mailferry.toml"
    path.write_text("[daemon\n")
    assert load_places(path, {}).daemon.state_dir == DEFAULT_STATE_DIR
    assert load_places(path, {"STATE_DIRECTORY": "/srv/state"}).daemon.state_dir == Path("/srv/state")
    assert load_places(tmp_path / "absent.toml", {}).http.port == 9465
