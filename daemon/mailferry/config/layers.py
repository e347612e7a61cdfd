"""The layers of the configuration: environment over files over systemd's directory.

pydantic-settings lays them over one another. Its own TOML source passes over a
missing file in silence, and its own environment source turns the password 0123
into a number, so both are replaced here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from mailferry.config.files import NAMED_SECTIONS, ConfigFile, FileSet, claim_tables
from mailferry.config.key_lines import KeyPath
from mailferry.config.kinds import EnvText, Refused, kind_of
from mailferry.config.models import (
    DaemonSettings,
    EtrnSettings,
    HttpSettings,
    LmtpDestinationSettings,
    MaildirDestinationSettings,
    MaildropSettings,
    Settings,
    SmtpDestinationSettings,
)
from mailferry.config.secrets import Secret
from mailferry.errors import ConfigProblem

PREFIX = "MAILFERRY_"
DELIMITER = "__"
CONFIG_VARIABLE = "MAILFERRY_CONFIG"

_FIELDS: dict[str, FieldInfo] = {
    name: field
    for model in (
        DaemonSettings,
        HttpSettings,
        MaildropSettings,
        SmtpDestinationSettings,
        LmtpDestinationSettings,
        MaildirDestinationSettings,
        EtrnSettings,
    )
    for name, field in model.model_fields.items()
}
_PATH_KEYS = frozenset(name for name, field in _FIELDS.items() if (kind := kind_of(field)) and kind.is_path)
_SECRET_KEYS = frozenset(name for name, field in _FIELDS.items() if "Secret" in str(field.annotation))

# Kubernetes and Docker set these by themselves for a service named "mailferry".
_NOT_OURS = re.compile(r"MAILFERRY_(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_.*)?|NAME|ENV_.*)", re.ASCII)

Tables = dict[str, Any]


class Layer(PydanticBaseSettingsSource):
    """Tables for pydantic-settings to lay over those of lower layers."""

    def __init__(self, settings_cls: type[BaseSettings], tables: Tables) -> None:
        super().__init__(settings_cls)
        self.tables = tables

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        """Return one top-level table; the library's interface asks for it."""
        return self.tables.get(field_name), field_name, False

    def __call__(self) -> Tables:
        """Return all tables of this layer."""
        return self.tables


def file_layer(files: FileSet, environ: Mapping[str, str]) -> Layer:
    """Put the main file and its drop-ins together; double names become problems of `files`."""
    tables: Tables = {}
    for section, value in files.main.tables.items():
        named = section in NAMED_SECTIONS and isinstance(value, dict)
        tables[section] = {} if named else _located(value, files.main, environ)
    for section, name, value, file in claim_tables(files):
        named_tables = tables.setdefault(section, {})
        if isinstance(named_tables, dict):
            named_tables[name] = _located(value, file, environ)
    return Layer(Settings, tables)


def _located(table: Any, file: ConfigFile, environ: Mapping[str, str]) -> Any:
    return locate(table, file.path.absolute().parent, environ)


def locate(table: Any, base: Path, environ: Mapping[str, str]) -> Any:
    """Copy a table with relative paths made absolute and secrets found, which are looked at later.

    Done for each layer by itself, since a path counts from the file that names it.
    """
    if not isinstance(table, dict):
        return table
    located = dict(table)
    for key in _PATH_KEYS & table.keys():
        if isinstance(table[key], str) and table[key].isprintable() and table[key]:
            located[key] = str(base / table[key])
    for key in _SECRET_KEYS & table.keys():
        located[key] = _secret(table[key], base, environ)
    return located


def _secret(value: object, base: Path, environ: Mapping[str, str]) -> Secret | Refused:
    try:
        return Secret.from_table(value, base=base, environ=environ)
    except ValueError as error:
        return Refused(str(error))


class EnvironmentTables:
    """What the variables `MAILFERRY_TABLE__KEY` and `MAILFERRY_TABLE__NAME__KEY` say.

    Attributes:
        tables: their values in the form of the configuration.
        variables: which variable gave which key.
        problems: variables that cannot be placed.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.tables: Tables = {}
        self.variables: dict[KeyPath, str] = {}
        self.problems: list[ConfigProblem] = []
        for variable in sorted(environ):
            ours = variable.startswith(PREFIX) and variable != CONFIG_VARIABLE
            if ours and not _NOT_OURS.fullmatch(variable):
                self._add(variable, EnvText(environ[variable]))
        self._each_table(_unset_other_schedule)
        self._each_table(_decode_secrets)
        self._each_table(lambda table: locate(table, Path.cwd(), environ))

    def layer(self) -> Layer:
        """Return the tables as a layer."""
        return Layer(Settings, self.tables)

    def _add(self, variable: str, value: EnvText) -> None:
        if not variable.isprintable():  # octets that are no UTF-8 among it: no table has such a name
            shown = "".join(c if c.isprintable() else "?" for c in variable)
            self._refuse(shown, "has a name with octets that are no printable text")
            return
        path = tuple(variable.removeprefix(PREFIX).lower().split(DELIMITER))
        if not all(path):
            self._refuse(
                variable, f"must look like {PREFIX}DAEMON__STATE_DIR, two underscores between its parts"
            )
            return
        table = self._table(path[:-1])
        if table is None or path[-1] in table:
            self._refuse(variable, "sets what another variable sets too; keep one of them")
            return
        table[path[-1]] = value
        self.variables[path] = variable

    def _refuse(self, variable: str, problem: str) -> None:
        self.problems.append(ConfigProblem(variable, "", problem))

    def _table(self, path: Sequence[str]) -> Tables | None:
        """Return the table at the path, making it; None when a value stands in its way."""
        table = self.tables
        for part in path:
            inner = table.setdefault(part, {})
            if not isinstance(inner, dict):
                return None
            table = inner
        return table

    def _each_table(self, change: Callable[[Tables], Tables]) -> None:
        """Change every table that holds keys: `[section]` or `[section.NAME]`."""
        for section, value in self.tables.items():
            if not isinstance(value, dict):
                continue
            if section in NAMED_SECTIONS:
                self.tables[section] = {
                    name: change(table) if isinstance(table, dict) else table for name, table in value.items()
                }
            else:
                self.tables[section] = change(value)


def _unset_other_schedule(table: Tables) -> Tables:
    """Let `cron` here hide `every` of a lower layer, and the other way round (None unsets)."""
    if ("every" in table) == ("cron" in table):
        return table
    return {"every": None, "cron": None, **table}


def _decode_secrets(table: Tables) -> Tables:
    """Let a secret's table be JSON in one variable too: `{"file": "/run/secrets/alice"}`."""
    decoded = {key: _json_table(table[key]) for key in _SECRET_KEYS & table.keys()}
    return {**table, **decoded}


def _json_table(value: Any) -> Any:
    if not (isinstance(value, EnvText) and value.lstrip().startswith("{")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value  # refused as a bare text, with the help that fits


def systemd_layer(environ: Mapping[str, str]) -> Layer:
    """Return the lowest layer: the directory that `StateDirectory=` made (systemd.exec(5))."""
    directory = environ.get("STATE_DIRECTORY", "").split(":")[0]
    return Layer(Settings, {"daemon": {"state_dir": EnvText(directory)}} if directory else {})
