"""What one table says about another: inherited defaults, named destinations, common bounds.

Works on what was written, before validation, so that these problems are
reported together with all others: a value that cannot stand is replaced by
`Refused`, and its field reports the reason.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from mailferry.config.files import NAMED_SECTIONS
from mailferry.config.kinds import EnvText, Refused
from mailferry.config.maildrop import MaildropDefaults
from mailferry.config.network_kinds import parse_names
from mailferry.config.secrets import Secret
from mailferry.config.units import parse_octets
from mailferry.model import RECEIVER

Tables = dict[str, Any]
"""What TOML holds: its values are anything until they are validated."""

DEFAULT_MEMORY_BUDGET_OCTETS = 256 << 20

_SCHEDULE = ("every", "cron")
_MOST_NAMES_LISTED = 10


def prepare(data: Mapping[str, Any], *, check_secrets: bool = True) -> Tables:
    """Return the tables with defaults inherited and contradictions refused.

    Args:
        data: what all layers together say.
        check_secrets: refuse secrets that are not there, except where `enabled = false`.
    """
    tables: Tables = {name: _without_unset(value) for name, value in data.items()}
    for table in (tables.get("defaults"), *_named(tables, "maildrop"), *_named(tables, "etrn")):
        _refuse_double_schedule(table)
    _refuse_threshold_above_budget(tables.get("daemon"))
    for maildrop in _named(tables, "maildrop"):
        _inherit(maildrop, tables.get("defaults"))
        _refuse_unknown_destinations(maildrop, tables.get("destination"))
        _refuse_original_recipients(maildrop, tables.get("destination"))
    for table in (tables.get("receiver"), *_named(tables, "etrn")):
        if isinstance(table, dict):
            _refuse_unknown_destinations(table, tables.get("destination"))
    _refuse_name_of_received_mail(tables)
    _refuse_unknown_notice_way(tables.get("notice"), tables.get("destination"))
    if check_secrets:
        for section in NAMED_SECTIONS:
            for table in _named(tables, section):
                _refuse_absent_secrets(table)
        http = tables.get("http")
        if isinstance(http, dict) and http.get("listen") != "":
            _refuse_absent_secrets(http)
    return tables


def _without_unset(value: Any) -> Any:
    """Copy tables, leaving out the keys that a higher layer has unset (None)."""
    if not isinstance(value, dict):
        return value
    return {key: _without_unset(inner) for key, inner in value.items() if inner is not None}


def _named(tables: Tables, section: str) -> Iterator[Tables]:
    """Yield the tables `[section.NAME]`, passing over what is no table: its field complains."""
    named = tables.get(section)
    if isinstance(named, dict):
        yield from (table for table in named.values() if isinstance(table, dict))


def _refuse_absent_secrets(table: Tables) -> None:
    """Look for the secrets of what is in use."""
    if _is_disabled(table):
        return
    for key, value in table.items():
        if isinstance(value, Secret):
            try:
                value.check()
            except ValueError as error:
                table[key] = Refused(str(error))


def _is_disabled(table: Tables) -> bool:
    # EnvText compares as text; TOML has false only as such.
    enabled = table.get("enabled", True)
    return enabled is False or (
        isinstance(enabled, EnvText) and enabled.strip().lower() in {"false", "no", "off", "0"}
    )


def _refuse_double_schedule(table: Tables | None) -> None:
    if isinstance(table, dict) and all(key in table for key in _SCHEDULE):
        table["cron"] = Refused("must not be set together with every; keep one of the two")


def _inherit(maildrop: Tables, defaults: Tables | None) -> None:
    """Complete a maildrop's table; `every` and `cron` are one setting in two forms."""
    if not isinstance(defaults, dict):
        return
    hidden = _SCHEDULE if any(key in maildrop for key in _SCHEDULE) else ()
    for key, value in defaults.items():
        if key not in maildrop and key not in hidden and key in MaildropDefaults.model_fields:
            maildrop[key] = value


def _refuse_unknown_destinations(maildrop: Tables, destinations: object) -> None:
    defined = destinations if isinstance(destinations, dict) else {}
    try:
        names = parse_names(maildrop.get("deliver", ()))
    except ValueError:
        return  # the field itself says what is wrong
    for number, name in enumerate(names, 1):
        reason = _why_not(name, defined)
        if reason:
            maildrop["deliver"] = Refused(f"entry {number} {reason}")
            return


def _refuse_original_recipients(maildrop: Tables, destinations: object) -> None:
    """POP3 brings no envelope, so a maildrop cannot deliver to the recipients in it."""
    names = maildrop.get("deliver")
    if isinstance(names, Refused) or not isinstance(destinations, dict):
        return
    try:
        parsed = parse_names(names if names is not None else ())
    except ValueError:
        return
    for number, name in enumerate(parsed, 1):
        table = destinations.get(name)
        if isinstance(table, dict) and table.get("recipients") == "original":
            maildrop["deliver"] = Refused(
                f'entry {number} names the destination "{name}" with recipients = "original", '
                "which POP3 does not tell; give it addresses"
            )
            return


def _refuse_name_of_received_mail(tables: Tables) -> None:
    """What comes by SMTP has a name in the place of a maildrop's, in the ledger, in logs and metrics."""
    maildrops, receiver = tables.get("maildrop"), tables.get("receiver")
    if not isinstance(maildrops, dict) or RECEIVER not in maildrops:
        return
    refused = Refused(f"cannot be used beside [maildrop.{RECEIVER}]: mail that comes by SMTP bears that name")
    if isinstance(receiver, dict) and receiver.get("listen"):
        receiver["listen"] = refused
    for etrn in _named(tables, "etrn"):
        if etrn.get("mode") == "odmr":
            etrn["deliver"] = refused


def _refuse_unknown_notice_way(notice: object, destinations: object) -> None:
    """The summary needs an SMTP server; an archive has no reader."""
    if not isinstance(notice, dict) or not isinstance(notice.get("destination"), str):
        return
    name = notice["destination"]
    defined = destinations if isinstance(destinations, dict) else {}
    reason = _why_not(name, defined)
    table = defined.get(name)
    if not reason and isinstance(table, dict) and table.get("type", "smtp") == "maildir":
        reason = f'names the destination "{name}", which is no SMTP server'
    if reason:
        notice["destination"] = Refused(reason)


def _why_not(name: str, defined: Mapping[str, object]) -> str:
    if name not in defined:
        return f"names no destination{_hint(name, list(defined))}"
    table = defined[name]
    if isinstance(table, dict) and _is_disabled(table):
        return f'names the destination "{name}", which has enabled = false'
    return ""


def _hint(name: str, defined: list[str]) -> str:
    close = difflib.get_close_matches(name, defined, n=1)
    guess = f'; did you mean "{close[0]}"?' if close else ""
    listed = ", ".join(sorted(defined)[:_MOST_NAMES_LISTED]) or "none"
    more = ", …" if len(defined) > _MOST_NAMES_LISTED else ""
    return f"{guess or ';'} defined: {listed}{more}"


def _refuse_threshold_above_budget(daemon: object) -> None:
    """Refuse to hold messages whole that the budget has no room for; the default gives way by itself."""
    budget = _octets(daemon, "memory_budget", DEFAULT_MEMORY_BUDGET_OCTETS)
    threshold = _octets(daemon, "spool_threshold", 0)
    if isinstance(daemon, dict) and budget is not None and threshold is not None and threshold > budget:
        daemon["spool_threshold"] = Refused("must not be larger than memory_budget in [daemon]")


def _octets(table: object, key: str, default: int) -> int | None:
    """Return a size, None when it is malformed (its field says so)."""
    if not isinstance(table, dict) or key not in table:
        return default
    try:
        return parse_octets(table[key])
    except ValueError:
        return None
