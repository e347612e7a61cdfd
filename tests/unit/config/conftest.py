"""Directories that hold a configuration and the secrets that it names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mailferry.config import Settings, load_settings
from mailferry.errors import ConfigError, ConfigProblem

SECRETS = {
    "alice": (b"correct horse\n", 0o600),
    "relay": (b"battery staple\n", 0o400),
    "open": (b"readable by all\n", 0o644),
    "empty": (b"\n", 0o600),
    "two-lines": (b"first\nsecond\n", 0o600),
}

DESTINATION = '[destination.office]\nhost = "smtp.example.org"\nrecipients = ["alice@example.org"]\n'
MAILDROP = (
    '[maildrop.alice]\nhost = "pop.example.net"\nusername = "alice"\n'
    'password = { file = "secrets/alice" }\ndeliver = ["office"]\n'
)
VALID = f"{DESTINATION}\n{MAILDROP}"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A configuration directory with secrets in it, and no configuration yet."""
    (tmp_path / "secrets").mkdir()
    for name, (content, mode) in SECRETS.items():
        path = tmp_path / "secrets" / name
        path.write_bytes(content)
        path.chmod(mode)
    return tmp_path


@pytest.fixture
def load(directory: Path) -> Callable[..., Settings]:
    """Load a configuration from text, drop-ins by name and environment."""

    def load_text(text: str | bytes, environ: dict[str, str] | None = None, **drop_ins: str) -> Settings:
        path = directory / "mailferry.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        for name, content in drop_ins.items():
            (directory / "conf.d").mkdir(exist_ok=True)
            (directory / "conf.d" / f"{name}.toml").write_text(content)
        return load_settings(path, environ=environ or {})

    return load_text


@pytest.fixture
def problems(load: Callable[..., Settings]) -> Callable[..., tuple[ConfigProblem, ...]]:
    """Load as `load` does and return what was wrong; fails when nothing was."""

    def load_problems(*args: str | bytes, **kwargs: object) -> tuple[ConfigProblem, ...]:
        with pytest.raises(ConfigError) as caught:
            load(*args, **kwargs)
        return caught.value.problems

    return load_problems
