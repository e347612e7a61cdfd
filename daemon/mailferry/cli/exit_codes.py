"""What the exit codes mean to a script; `docs/commands.md` has the same table.

Above 63 they are those of sysexits.h. systemd knows 78 as the one after which a
restart is of no use.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """How a command ended."""

    OK = 0
    """All was done and all is well."""
    FAILED = 1
    """Something failed that a person must look at."""
    USAGE = 2
    """The command line makes no sense; nothing was done."""
    UNAVAILABLE = 69
    """A port or the control socket cannot be had, or no daemon runs that could do it (EX_UNAVAILABLE)."""
    SOFTWARE = 70
    """A fault of mailferry's own (EX_SOFTWARE)."""
    SYSTEM = 71
    """The operating system refused something (EX_OSERR)."""
    STORE = 74
    """The ledger or the quarantine cannot be read or written (EX_IOERR)."""
    TEMPORARY = 75
    """Not everything was done; the same command may succeed later (EX_TEMPFAIL)."""
    NO_PERMISSION = 77
    """A server refused the login, or the system refused access (EX_NOPERM)."""
    CONFIG = 78
    """The configuration is wrong; nothing was done (EX_CONFIG)."""
    TERMINATED = 143
    """SIGTERM ended a command that is not the daemon."""
