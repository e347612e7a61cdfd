"""Settings: models, loading, secrets, and errors that say where and what to do.

`load_settings` is the way in; `json_schema` and `reference_markdown` describe
what it takes.
"""

from mailferry.config.loading import DEFAULT_PATH, config_path, load_settings
from mailferry.config.models import (
    DaemonSettings,
    DestinationSettings,
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
from mailferry.config.reference import reference_markdown
from mailferry.config.schema import json_schema
from mailferry.config.secrets import Secret

__all__ = [
    "DEFAULT_PATH",
    "DaemonSettings",
    "DestinationSettings",
    "EtrnSettings",
    "HttpSettings",
    "LedgerSettings",
    "LmtpDestinationSettings",
    "MaildirDestinationSettings",
    "MaildropDefaults",
    "MaildropSettings",
    "NoticeSettings",
    "ReceiverSettings",
    "Secret",
    "Settings",
    "SmtpDestinationSettings",
    "config_path",
    "json_schema",
    "load_settings",
    "reference_markdown",
]
