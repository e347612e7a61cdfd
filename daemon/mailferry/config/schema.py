"""JSON Schema of the configuration, for editors that complete and check TOML.

Describes one file, main or drop-in, so nothing is required at the top. What
only all files together can show (a destination that nobody defines) is left
to `load_settings`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mailferry.config.kinds import key_order, kind_of
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
from mailferry.config.network_kinds import NAME_PATTERN
from mailferry.config.secrets import SECRET_SCHEMA

DIALECT = "https://json-schema.org/draft/2020-12/schema"

SINGLE_TABLES: Mapping[str, type[BaseModel]] = {
    "daemon": DaemonSettings,
    "http": HttpSettings,
    "ledger": LedgerSettings,
    "notice": NoticeSettings,
    "receiver": ReceiverSettings,
    "defaults": MaildropDefaults,
}
NAMED_TABLES: Mapping[str, tuple[type[BaseModel], ...]] = {
    "maildrop": (MaildropSettings,),
    "destination": (SmtpDestinationSettings, LmtpDestinationSettings, MaildirDestinationSettings),
    "etrn": (EtrnSettings,),
}


def json_schema() -> dict[str, Any]:
    """Return the schema, draft 2020-12."""
    sections = {name: _table(model) for name, model in SINGLE_TABLES.items()}
    sections |= {name: _named(models) for name, models in NAMED_TABLES.items()}
    for name, section in sections.items():
        section["description"] = Settings.model_fields[name].description
    return {
        "$schema": DIALECT,
        "title": "mailferry configuration",
        "type": "object",
        "properties": sections,
        "additionalProperties": False,
    }


def _named(models: tuple[type[BaseModel], ...]) -> dict[str, Any]:
    tables = [_table(model) for model in models]
    entry = tables[0] if len(tables) == 1 else {"oneOf": tables}
    return {"type": "object", "patternProperties": {NAME_PATTERN: entry}, "additionalProperties": False}


def _table(model: type[BaseModel]) -> dict[str, Any]:
    fields = {name: model.model_fields[name] for name in key_order(model)}
    table: dict[str, Any] = {
        "type": "object",
        "description": (model.__doc__ or "").partition("\n")[0],
        "properties": {name: _property(field) for name, field in fields.items()},
        "required": [name for name, field in fields.items() if field.is_required()],
        "additionalProperties": False,
    }
    if {"every", "cron"} <= fields.keys():
        table["not"] = {"required": ["every", "cron"]}
    return table


def _property(field: FieldInfo) -> dict[str, Any]:
    kind = kind_of(field)
    described: dict[str, Any] = {"description": field.description}
    if kind is None:
        return described | dict(SECRET_SCHEMA)
    described |= kind.schema
    if not field.is_required() and field.default is not None:
        # Shown as an administrator would write it: "5m", not 300.0.
        described["default"] = json.loads(kind.show(field.default))
    return described
