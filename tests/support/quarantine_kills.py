"""Where a program can be killed on a refused message's way into the quarantine, and out of it again.

As `support.killpoints`: prepared in the process that is to die, and in no other.
"""

from __future__ import annotations

from typing import Any, Final

from support import killpoints

_STORE = "mailferry.quarantine.store"

POINTS: Final[dict[str, tuple[str, str, str]]] = {
    "refusal read, not noted": ("mailferry.ledger.store", "SqlLedger.note", "before"),
    "refusal noted": ("mailferry.ledger.store", "SqlLedger.note", "after"),
    "put begun": (_STORE, "QuarantineStore._put", "before"),
    "file not written": (_STORE, "write_synced", "before"),
    "file written": (_STORE, "write_synced", "after"),
    "named, folder not synced": (_STORE, "sync_folder", "before"),
    "folder synced": (_STORE, "sync_folder", "after"),
    "put ended": (_STORE, "QuarantineStore._put", "after"),
    "row made": ("mailferry.services.quarantine", "Quarantining._moved", "after"),
    "row ordered": ("mailferry.ledger.store", "SqlLedger.commit", "after"),
    "row written, not committed": ("mailferry.ledger.worker", "write_records", "after"),
    "row committed, nobody told": ("mailferry.ledger.store", "SqlLedger._settle", "before"),
    "told, no DELE": ("mailferry.services.deletions", "Deletions.mark", "before"),
    "DELE ordered": ("mailferry.services.deletions", "Deletions.mark", "after"),
    "QUIT not sent": ("mailferry.net.pop3_session", "Pop3Session.quit", "before"),
    "QUIT confirmed, no row": ("mailferry.net.pop3_session", "Pop3Session.quit", "after"),
    "ledger closed": ("mailferry.ledger.store", "SqlLedger.close", "after"),
    # `mailferry quarantine retry`
    "answer read, not written down": ("mailferry.quarantine.redelivery", "_Notebook.write_down", "before"),
    "answer written down": ("mailferry.quarantine.redelivery", "_Notebook.write_down", "after"),
    "removal begun": (_STORE, "QuarantineStore.remove", "before"),
    "removed": (_STORE, "QuarantineStore.remove", "after"),
    "ledger not told": ("mailferry.ledger.writer", "LedgerWriter.record", "before"),
    "ledger told": ("mailferry.ledger.writer", "LedgerWriter.record", "after"),
}
"""Module, function, which end of the call."""


def die_at(order: dict[str, Any]) -> None:
    """Arrange for death at the `nth` (from 1) passage of a `point`."""
    killpoints.POINTS.update(POINTS)  # of this process, which is about to die
    killpoints.die_at(order)
