"""Where the running daemon can be reached, also when its configuration on the disk is wrong by now.

A daemon goes on under the configuration that it read when it was right. Commands that
talk to it must find it even so: the very command that asks it to reload is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from mailferry.config.files import read_files
from mailferry.config.kinds import Table
from mailferry.config.layers import EnvironmentTables, file_layer, systemd_layer
from mailferry.config.loading import config_path, load_settings
from mailferry.config.models import DaemonSettings, HttpSettings
from mailferry.errors import ConfigError

T = TypeVar("T", bound=Table)


@dataclass(frozen=True, slots=True)
class Places:
    """The tables that tell where the daemon listens, as far as they can be read."""

    daemon: DaemonSettings
    http: HttpSettings


def load_places(path: Path | None, environ: Mapping[str, str]) -> Places:
    """Read the whole configuration, or of a wrong one every key that is right; never raises `ConfigError`."""
    try:
        settings = load_settings(path, environ=environ, check_secrets=False)
    except ConfigError:
        tables = _tables(path, environ)
        return Places(
            _what_is_right(DaemonSettings, tables, "daemon"), _what_is_right(HttpSettings, tables, "http")
        )
    return Places(settings.daemon, settings.http)


def _tables(path: Path | None, environ: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Lay the two tables of all layers over one another, the lowest first."""
    files = read_files(config_path(path, environ), may_be_absent=True)
    merged: dict[str, dict[str, Any]] = {"daemon": {}, "http": {}}
    for layer in (systemd_layer(environ), file_layer(files, environ), EnvironmentTables(environ).layer()):
        tables = layer()
        for name, table in merged.items():
            if isinstance(tables.get(name), dict):
                table.update(tables[name])
    return merged


def _what_is_right(model: type[T], tables: Mapping[str, Mapping[str, Any]], name: str) -> T:
    right: dict[str, Any] = {}
    for key, value in tables[name].items():
        try:
            model.model_validate({key: value})
        except ValidationError:
            continue  # `mailferry check` tells of it; its default holds here
        right[key] = value
    return model.model_validate(right)
