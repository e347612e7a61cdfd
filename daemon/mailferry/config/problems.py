"""From pydantic's errors to sentences for an administrator, each with its place.

Built from locations, types and our own validators' words only. pydantic's text
and input are never used: they quote values, and a neighbour may be a password.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mailferry.config.destination import DESTINATION_TYPES
from mailferry.config.files import NAMED_SECTIONS, FileSet
from mailferry.config.key_lines import KeyPath
from mailferry.config.kinds import key_order, kind_of
from mailferry.config.layers import DELIMITER, PREFIX, EnvironmentTables
from mailferry.config.models import (
    DaemonSettings,
    EtrnSettings,
    HttpSettings,
    LedgerSettings,
    LmtpDestinationSettings,
    MaildirDestinationSettings,
    MaildropDefaults,
    MaildropSettings,
    NoticeSettings,
    ReceiverSettings,
    Settings,
    SmtpDestinationSettings,
)
from mailferry.errors import ConfigProblem

_OTHER_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "user": "username",
        "login": "username",
        "server": "host",
        "hostname": "host",
        "pass": "password",
        "passwd": "password",
        "password_file": "password",
        "interval": "every",
        "poll": "every",
        "ssl": "tls",
        "to": "recipients",
        "destination": "deliver",
        "destinations": "deliver",
    }
)
"""What other programs call our keys."""

_TAG_TYPES = frozenset({"union_tag_invalid", "union_tag_not_found"})
_MODELS: Mapping[str, type[BaseModel]] = MappingProxyType(
    {
        "daemon": DaemonSettings,
        "http": HttpSettings,
        "ledger": LedgerSettings,
        "notice": NoticeSettings,
        "receiver": ReceiverSettings,
        "defaults": MaildropDefaults,
        "maildrop": MaildropSettings,
        "etrn": EtrnSettings,
    }
)
_TABLE_TYPES = frozenset({"model_type", "model_attributes_type", "dict_type", "dataclass_type"})


class Reporter:
    """Turns validation errors into problems with file, line and key."""

    def __init__(self, files: FileSet, environment: EnvironmentTables, lowest: Mapping[KeyPath, str]) -> None:
        self._files = files
        self._environment = environment
        self._lowest = lowest

    def problems(self, error: ValidationError) -> list[ConfigProblem]:
        """Return one problem per error, without repeats from inherited defaults."""
        # Neither input nor URL: the one may be secret, the other explains pydantic.
        details = error.errors(include_url=False, include_input=False)
        told = (detail for detail in details if not self._is_told_in_defaults(detail))
        return list(dict.fromkeys(self._problem(detail) for detail in told))

    def _is_told_in_defaults(self, detail: ErrorDetails) -> bool:
        """Whether a maildrop lacks what stands in `[defaults]` and is refused there: one mistake, one line."""
        path = _path(detail)
        if path[0] != "maildrop" or len(path) != 3 or path[2] in MaildropDefaults.model_fields:
            return False
        return not self._is_set(path) and self._is_set(("defaults", path[2]))

    def _problem(self, detail: ErrorDetails) -> ConfigProblem:
        path = self._where_set(_path(detail))
        file, line = self._place(path)
        return ConfigProblem(file, dotted(path), _sentence(detail, path), line)

    def _where_set(self, path: KeyPath) -> KeyPath:
        """Blame `[defaults]` for what a maildrop has only inherited."""
        inherited = ("defaults", *path[2:3])
        if path[0] == "maildrop" and len(path) > 2 and not self._is_set(path[:3]) and self._is_set(inherited):
            return inherited + path[3:]
        return path

    def _is_set(self, path: KeyPath) -> bool:
        return self._variable(path) is not None or _holds(self._file_tables(path), path)

    def _file_tables(self, path: KeyPath) -> Mapping[str, Any]:
        owner = self._files.owners.get(path[:2])
        return owner.tables if owner else self._files.main.tables

    def _variable(self, path: KeyPath) -> str | None:
        """Return the variable that sets this key, a part of it, or a table around it."""
        variables = self._environment.variables
        for length in range(len(path), 0, -1):
            if path[:length] in variables:
                return variables[path[:length]]
        if len(path) <= 2 and self._is_in_a_file(path[0]):
            return None  # a table that variables only add to
        return next((name for known, name in variables.items() if known[: len(path)] == path), None)

    def _is_in_a_file(self, section: str) -> bool:
        return any(section in file.tables for file in (self._files.main, *self._files.drop_ins))

    def _place(self, path: KeyPath) -> tuple[str, int | None]:
        variable = self._variable(path)
        if variable:
            return variable, None
        owner = self._files.owners.get(path[:2])
        if owner:
            return owner.name, self._files.line(owner, path)
        if path in self._lowest and not _holds(self._files.main.tables, path):
            return self._lowest[path], None
        if path[0] in NAMED_SECTIONS and len(path) > 2:
            # Defined by the environment alone: name the variable that would set the key.
            return PREFIX + DELIMITER.join(path).upper(), None
        return self._files.main.name, self._files.line(self._files.main, path)


def _holds(tables: Mapping[str, Any], path: KeyPath) -> bool:
    value: Any = tables
    for part in path:
        if not isinstance(value, Mapping) or part not in value:
            return False
        value = value[part]
    return True


def _path(detail: ErrorDetails) -> KeyPath:
    """Return the configuration's own path: without the names of pydantic's inner parts."""
    path = tuple(str(part) for part in detail["loc"])
    if path[:1] == ("destination",) and len(path) > 2 and path[2] in DESTINATION_TYPES:
        path = path[:2] + path[3:]
    if detail["type"] in _TAG_TYPES:
        path += ("type",)
    return path[:-1] if path[-1:] == ("[key]",) else path


def _sentence(detail: ErrorDetails, path: KeyPath) -> str:
    kind = detail["type"]
    if kind == "value_error":
        return _own_words(detail)
    if kind == "extra_forbidden":
        return _unknown(path, allowed_keys(detail))
    if kind == "missing":
        return _missing(detail, path[-1])
    if kind in _TAG_TYPES:
        return "must be one of " + ", ".join(f'"{name}"' for name in DESTINATION_TYPES)
    if kind in _TABLE_TYPES:
        return f"must be a table, such as [{dotted(path)}] with its keys below it"
    return f"is not valid ({kind})"


def _own_words(detail: ErrorDetails) -> str:
    reason = str(detail.get("ctx", {}).get("error", "is not valid"))
    if detail["loc"][-1] == "[key]":
        return f"this name {reason}"
    return reason


def _unknown(path: KeyPath, allowed: Sequence[str]) -> str:
    key, what = path[-1], "key" if len(path) > 1 else "table"
    if path[0] == "defaults" and key in MaildropSettings.model_fields:
        return "cannot be a default; set it in each [maildrop.NAME]"
    other = _OTHER_WORDS.get(key, "")
    close = [other] if other in allowed else difflib.get_close_matches(key, allowed, n=1)
    guess = f" did you mean '{close[0]}'?" if close else ""
    return f"unknown {what};{guess} allowed: {', '.join(allowed)}"


def _missing(detail: ErrorDetails, key: str) -> str:
    field = _model(detail).model_fields.get(key)
    kind = kind_of(field) if field else None
    return f"is missing; it takes: {kind.label}" if kind else "is missing"


_DESTINATIONS: Mapping[str, type[BaseModel]] = {
    "lmtp": LmtpDestinationSettings,
    "maildir": MaildirDestinationSettings,
}


def allowed_keys(detail: ErrorDetails) -> list[str]:
    """Return the keys that the table of the error may hold."""
    return key_order(_model(detail))


def _model(detail: ErrorDetails) -> type[BaseModel]:
    location = detail["loc"]
    if len(location) == 1:
        return Settings
    if location[0] == "destination":
        return _DESTINATIONS.get(str(location[2]), SmtpDestinationSettings)
    return _MODELS[str(location[0])]


def dotted(path: Iterable[str]) -> str:
    """Write a path the way TOML does, with quotes where they are needed."""
    return ".".join(
        part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else f'"{_printable(part)}"' for part in path
    )


def _printable(part: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in part[:100])
