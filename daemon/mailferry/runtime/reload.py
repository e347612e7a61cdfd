"""What a reload of the configuration came to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReloadReport:
    """What a reload did; nothing at all when the configuration was refused.

    Tables are named as in the files: `maildrop.alice`, `destination.office`, `etrn.head-office`.

    Attributes:
        accepted: whether the configuration on disk is the one in force now.
        problems: why it was refused, in the words of `mailferry check`, one line each.
        changed: tables, and keys outside of named tables, that are in force with new values.
        renewed: tables that are the same, while a file that they name was written anew.
        needs_restart: keys with a new value that counts after a restart only.
        finishing: maildrops whose last session under the old settings goes on.
    """

    accepted: bool
    problems: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    renewed: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()
    finishing: tuple[str, ...] = ()

    @property
    def is_news(self) -> bool:
        """Whether anything differs from before."""
        return any((self.added, self.changed, self.removed, self.renewed, self.needs_restart))


Reload = Callable[[], Awaitable[ReloadReport]]
"""Reads the configuration and puts it in force; concurrent calls wait for one another."""
