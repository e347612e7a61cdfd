"""What differs between the configuration in force and the one that was read anew.

Values in, values out. Tables that are disabled count as absent, so that switching one
on or off is to add or to remove it. What inherits from `[defaults]` is compared as it
stands after that: a default that every maildrop overrides changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from mailferry.config.models import Settings
from mailferry.config.stamps import FileStamps

_FIXED_IN_DAEMON = ("state_dir", "hostname", "control_socket", "spool_threshold")
"""Places that are opened at the start, the name that every part bears, and what messages
under way are counted by."""

_FIXED_TABLES = ("http", "ledger", "receiver")
_APPLIED_TABLES = ("notice",)


@dataclass(frozen=True, slots=True)
class TableChanges:
    """The names of one section's tables, sorted; `renewed` ones differ in a file they name only."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    renewed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Changes:
    """What to do about a configuration that was read anew.

    Attributes:
        keys: keys outside of named tables whose new values count at once.
        needs_restart: keys whose new values count after a restart only.
        in_force: the new settings, with the old values of `needs_restart`.
    """

    in_force: Settings
    maildrops: TableChanges
    destinations: TableChanges
    etrn: TableChanges
    keys: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()


def compare(old: Settings, new: Settings, old_stamps: FileStamps, new_stamps: FileStamps) -> Changes:
    """Return what changes when `new` follows `old`.

    Args:
        old: the settings in force.
        new: those that were read.
        old_stamps: the files that the tables of `old` name, as they were then.
        new_stamps: the same of `new`, as they are now.
    """
    kept = _kept_destinations(old, new)
    in_force = _with_fixed(old, new, kept)
    renewed = {table for table, stamps in new_stamps.items() if old_stamps.get(table, stamps) != stamps}

    def of(section: str) -> TableChanges:
        return _tables(section, enabled(old, section), enabled(in_force, section), renewed)

    fixed = [f"daemon.{key}" for key in _differing(old.daemon, new.daemon) if key in _FIXED_IN_DAEMON]
    for table in _FIXED_TABLES:
        fixed += _keys(table, old, new)
    applied = _keys("daemon", old, in_force)
    for table in _APPLIED_TABLES:
        applied += _keys(table, old, in_force)
    fixed += [f"destination.{name}" for name in kept]
    return Changes(in_force, of("maildrop"), of("destination"), of("etrn"), tuple(applied), tuple(fixed))


def enabled(settings: Settings, section: str) -> Mapping[str, Any]:
    """Return the tables of a section that are in use."""
    tables: Mapping[str, Any] = getattr(settings, section)  # Any: each section has a model of its own
    return {name: table for name, table in tables.items() if table.enabled}


def _tables(
    section: str, old: Mapping[str, BaseModel], new: Mapping[str, BaseModel], renewed: set[str]
) -> TableChanges:
    both = sorted(old.keys() & new.keys())
    changed = tuple(name for name in both if old[name] != new[name])
    return TableChanges(
        added=tuple(sorted(new.keys() - old.keys())),
        changed=changed,
        removed=tuple(sorted(old.keys() - new.keys())),
        renewed=tuple(name for name in both if f"{section}.{name}" in renewed and name not in changed),
    )


def _keys(table: str, old: Settings, new: Settings) -> list[str]:
    return [f"{table}.{key}" for key in _differing(getattr(old, table), getattr(new, table))]


def _differing(old: BaseModel, new: BaseModel) -> list[str]:
    return [key for key in type(old).model_fields if getattr(old, key) != getattr(new, key)]


def _kept_destinations(old: Settings, new: Settings) -> list[str]:
    """Return destinations that the receiver, whose table stays as it was, still delivers to."""
    if not old.receiver.listen:
        return []
    here = enabled(old, "destination")
    there = enabled(new, "destination")
    return [name for name in dict.fromkeys(old.receiver.deliver) if name in here and name not in there]


def _with_fixed(old: Settings, new: Settings, kept: list[str]) -> Settings:
    fixed = {key: getattr(old.daemon, key) for key in _FIXED_IN_DAEMON}
    update: dict[str, Any] = {table: getattr(old, table) for table in _FIXED_TABLES}
    update["daemon"] = new.daemon.model_copy(update=fixed)
    if kept:
        update["destination"] = {**new.destination, **{name: old.destination[name] for name in kept}}
    return new.model_copy(update=update)
