"""The tables of `docs/configuration.md`, written from the models so that they never drift."""

from __future__ import annotations

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
    SmtpDestinationSettings,
)

_SECTIONS: tuple[tuple[str, type[BaseModel], frozenset[str], str], ...] = (
    ("`[daemon]`", DaemonSettings, frozenset(), ""),
    ("`[http]`", HttpSettings, frozenset(), ""),
    ("`[ledger]`", LedgerSettings, frozenset(), ""),
    ("`[notice]`", NoticeSettings, frozenset(), ""),
    ("`[receiver]`", ReceiverSettings, frozenset(), ""),
    (
        "`[maildrop.NAME]`",
        MaildropSettings,
        frozenset(MaildropDefaults.model_fields),
        "Every key of `[defaults]` may stand here too, and wins over it.",
    ),
    ("`[defaults]`", MaildropDefaults, frozenset(), ""),
    ('`[destination.NAME]` with `type = "smtp"`', SmtpDestinationSettings, frozenset(), ""),
    ('`[destination.NAME]` with `type = "lmtp"`', LmtpDestinationSettings, frozenset(), ""),
    ('`[destination.NAME]` with `type = "maildir"`', MaildirDestinationSettings, frozenset(), ""),
    ("`[etrn.NAME]`", EtrnSettings, frozenset(), ""),
)


def reference_markdown() -> str:
    """Return a heading and a table of keys for every table of the configuration."""
    return "\n".join(_section(*section) for section in _SECTIONS)


def _section(title: str, model: type[BaseModel], elsewhere: frozenset[str], note: str) -> str:
    intro = " ".join(part for part in ((model.__doc__ or "").partition("\n")[0], note) if part)
    rows = [_row(name, model.model_fields[name]) for name in key_order(model) if name not in elsewhere]
    head = "| Key | Takes | Default | Meaning |\n|---|---|---|---|"
    return "\n".join((f"### {title}", "", intro, "", head, *rows, ""))


def _row(name: str, field: FieldInfo) -> str:
    kind = kind_of(field)
    takes = kind.label if kind else "secret"
    return f"| `{name}` | {takes} | {_default(field)} | {field.description} |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    kind = kind_of(field)
    return f"`{kind.show(field.default)}`" if kind and field.default is not None else "unset"
