"""Configurations for tests, written as an administrator would write them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

Value = str | int | float | bool | Sequence[str] | Mapping[str, str] | Path
Tables = Mapping[str, Mapping[str, Value]]

PASSWORD = "correct horse"  # invented


def toml(tables: Tables) -> str:
    """Return tables as TOML; keys of `tables` are whole table names."""
    lines: list[str] = []
    for name, table in tables.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {_value(value)}" for key, value in table.items()]
        lines.append("")
    return "\n".join(lines)


def _value(value: Value) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_value(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, Path):
        return json.dumps(str(value))
    return json.dumps(value)


class ConfigFolder:
    """A folder with a configuration, a state directory and a password file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.state.mkdir(parents=True, mode=0o700)
        self.secret = folder / "password"
        self.secret.touch(mode=0o600)
        self.secret.write_text(PASSWORD + "\n")

    def maildrop(self, port: int, user: str, **more: Value) -> dict[str, Value]:
        """Return a maildrop's table: cleartext on loopback unless `more` says otherwise."""
        table: dict[str, Value] = {
            "host": "127.0.0.1",
            "port": port,
            "tls": "none",
            "username": user,
            "password": {"file": str(self.secret)},
            "deliver": ["hop"],
        }
        table.update(more)
        if table["tls"] == "none":
            table["allow_cleartext"] = True
        return table

    def smtp(self, port: int, **more: Value) -> dict[str, Value]:
        """Return an SMTP destination's table."""
        table: dict[str, Value] = {
            "type": "smtp",
            "host": "127.0.0.1",
            "port": port,
            "tls": "none",
            "recipients": ["all@example.org"],
        }
        return table | more

    def write(self, tables: Tables, *, http_port: int | None = None, **daemon: Value) -> Path:
        """Write `mailferry.toml` and return its path."""
        listen = f"127.0.0.1:{http_port}" if http_port is not None else ""
        head: dict[str, Mapping[str, Value]] = {
            "daemon": {"state_dir": self.state, "hostname": "relay.example.org", **daemon},
            "http": {"listen": listen},
        }
        path = self.folder / "mailferry.toml"
        path.write_text(toml({**head, **tables}), encoding="utf-8")
        return path
